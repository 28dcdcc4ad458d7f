"""Score a linear model with the standard library alone.

Copy this folder as a start for your own service: keep the two functions, and put your own model
in the place of ``model.json``. It needs no installed package and runs on Python 3.7 and later.

The server calls ``init()`` once in each worker and then ``run()`` for every request::

    curl --data @request.json http://localhost:5001/score
"""

from __future__ import annotations

import json
import math
import operator
import os
from pathlib import Path
from typing import Any

coefficients: list[float]
intercept: float


def init() -> None:
    """Load the model from ``AZUREML_MODEL_DIR``, or from beside this script where that is unset."""
    global coefficients, intercept
    folder = Path(os.environ.get("AZUREML_MODEL_DIR") or Path(__file__).resolve().parent)
    model = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    coefficients, intercept = model["coefficients"], model["intercept"]


def run(data: str) -> dict[str, Any]:
    """Answer ``{"data": [[...], ...]}``, one row per example, with ``{"predictions": [...]}``."""
    return {
        # fsum keeps full precision where large terms cancel; a plain sum() would not.
        "predictions": [
            math.fsum([intercept, *map(operator.mul, coefficients, row)]) for row in parse(data)
        ]
    }


def parse(data: str) -> list[list[float]]:
    """Return the rows of a request; a ValueError says what is wrong with them."""
    body = json.loads(data)
    rows = body.get("data") if isinstance(body, dict) else None
    if not isinstance(rows, list) or not rows:
        raise ValueError('expected {"data": [[...], ...]} with at least one row')
    for number, row in enumerate(rows):
        if not isinstance(row, list) or len(row) != len(coefficients):
            raise ValueError(f"row {number}: expected {len(coefficients)} numbers")
        for value in row:
            if type(value) not in (int, float) or not math.isfinite(value):
                raise ValueError(f"row {number}: {value!r} is not a finite number")
    return rows
