"""Predict the failure of a pump with an XGBoost model in the binary format of the releases 0.x.

Copy this folder as a start for your own service: keep the two functions, and put your own model,
as ``Booster.save_model`` writes it, in the place of ``pump.model``. XGBoost 1.x reads such a file
as well, and says in the log that it comes from before 1.0.

The server calls ``init()`` once in each worker and then ``run()`` for every request::

    curl --data @request.json http://localhost:5001/score
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import xgboost as xgb

# The file does not hold their names.
FEATURES = ["temperature", "vibration", "pressure", "hours"]

model: xgb.Booster


def init() -> None:
    """Load the model from ``AZUREML_MODEL_DIR``, or from beside this script where that is unset."""
    global model
    folder = Path(os.environ.get("AZUREML_MODEL_DIR") or Path(__file__).resolve().parent)
    model = xgb.Booster(model_file=str(folder / "pump.model"))


def run(data: str) -> dict[str, Any]:
    """Answer ``{"data": [[...], ...]}``, one row per pump, with 0 or 1 and the probability of 1.

    A row holds temperature, vibration, pressure and operating hours; ``null`` is a missing value.
    """
    probabilities = model.predict(xgb.DMatrix(parse(data)))
    return {
        "predictions": (probabilities > 0.5).astype(int).tolist(),
        "probabilities": probabilities.tolist(),
    }


def parse(data: str) -> np.ndarray:
    """Return the rows of a request as an array; a ValueError says what is wrong with them."""
    try:
        # null becomes NaN, XGBoost's missing value
        rows = np.array(json.loads(data)["data"], dtype=np.float32)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ValueError(f'expected {{"data": [[...], ...]}}: {error!r}') from error
    if rows.ndim != 2 or rows.shape[1] != len(FEATURES):
        raise ValueError(f"expected rows of {len(FEATURES)} numbers, got shape {rows.shape}")
    if np.isinf(rows).any():
        raise ValueError("expected finite numbers that fit into 32 bits, or null")
    return rows
