"""Forecast the hourly demand for hire bicycles with a LightGBM model.

Copy this folder as a start for your own service: keep the two functions, and put your own model,
as ``Booster.save_model`` writes it, in the place of ``model.txt``.

The server calls ``init()`` once in each worker and then ``run()`` for every request::

    curl --data @request.json http://localhost:5001/score
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import lightgbm as lgb
import numpy as np
from numpy.typing import NDArray

model: lgb.Booster


def init() -> None:
    """Load the model from ``AZUREML_MODEL_DIR``, or from beside this script where that is unset."""
    global model
    folder = Path(os.environ.get("AZUREML_MODEL_DIR") or Path(__file__).resolve().parent)
    model = lgb.Booster(model_file=folder / "model.txt")


def run(data: str) -> dict[str, Any]:
    """Answer ``{"data": [[...], ...]}``, one row per hour, with ``{"predictions": [...]}``.

    A row holds hour, temperature, humidity and wind speed; ``null`` is a missing value.
    """
    return {"predictions": np.asarray(model.predict(parse(data))).tolist()}


def parse(data: str) -> NDArray[np.float64]:
    """Return the rows of a request as an array; a ValueError says what is wrong with them."""
    try:
        # null becomes NaN, LightGBM's missing value
        rows = np.array(json.loads(data)["data"], dtype=np.float64)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ValueError(f'expected {{"data": [[...], ...]}}: {error!r}') from error
    width = model.num_feature()
    if rows.ndim != 2 or rows.shape[1] != width:
        raise ValueError(f"expected rows of {width} numbers, got shape {rows.shape}")
    if np.isinf(rows).any():
        raise ValueError("expected finite numbers, or null")
    return rows
