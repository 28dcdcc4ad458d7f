"""Classify iris flowers with a scikit-learn 0.24 pipeline.

Copy this folder as a start for your own service: keep the two functions, and put your own
pipeline in the place of ``model.joblib``. Keep scaling and encoding inside the pipeline, so that
what was trained is what is served. A joblib file is a pickle: load only files that you trust, and
only with the scikit-learn version that wrote them.

The server calls ``init()`` once in each worker and then ``run()`` for every request::

    curl --data @request.json http://localhost:5001/score
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import joblib
import numpy as np
from sklearn.pipeline import Pipeline

model: Pipeline


def init() -> None:
    """Load the model from ``AZUREML_MODEL_DIR``, or from beside this script where that is unset."""
    global model
    folder = Path(os.environ.get("AZUREML_MODEL_DIR") or Path(__file__).resolve().parent)
    model = joblib.load(folder / "model.joblib")


def run(data: str) -> dict[str, Any]:
    """Answer ``{"data": [[...], ...]}``, one row per flower, with labels and probabilities.

    A row holds the length and width of sepal and petal, in cm. The columns of
    ``probabilities`` are in the order of ``classes``.
    """
    probabilities = model.predict_proba(parse(data))
    return {
        "predictions": model.classes_[probabilities.argmax(axis=1)].tolist(),
        "classes": model.classes_.tolist(),
        "probabilities": probabilities.tolist(),
    }


def parse(data: str) -> np.ndarray:
    """Return the rows of a request as an array; a ValueError says what is wrong with them."""
    try:
        rows = np.array(json.loads(data)["data"], dtype=np.float64)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ValueError(f'expected {{"data": [[...], ...]}}: {error!r}') from error
    if rows.ndim != 2 or rows.shape[1] != model.n_features_in_:
        raise ValueError(f"expected rows of {model.n_features_in_} numbers, got shape {rows.shape}")
    if not np.isfinite(rows).all():
        raise ValueError("expected finite numbers")
    return rows
