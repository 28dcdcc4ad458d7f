"""Tell horizontal, vertical and diagonal stripes apart with a TensorFlow SavedModel.

Copy this folder as a start for your own service: keep the two functions, and put your own
SavedModel in the place of ``model/``. With Keras, that is what ``model.export("model")`` writes;
it holds the computation itself, so serving does not need the Python code of the model.

The server calls ``init()`` once in each worker and then ``run()`` for every request::

    curl --data @request.json http://localhost:5001/score
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

CLASSES = ["horizontal", "vertical", "diagonal"]

model: Any


def init() -> None:
    """Load the model from ``AZUREML_MODEL_DIR``, or from beside this script where that is unset."""
    global model
    folder = Path(os.environ.get("AZUREML_MODEL_DIR") or Path(__file__).resolve().parent)
    model = tf.saved_model.load(str(folder / "model"))
    # The first call of a graph is slow; better here than in somebody's request.
    model.serve(tf.zeros([1, 8, 8, 1]))


def run(data: str) -> dict[str, Any]:
    """Answer ``{"data": [image, ...]}``, 8 x 8 numbers each, with labels and probabilities.

    The columns of ``probabilities`` are in the order of ``classes``.
    """
    images = parse(data)[..., np.newaxis]  # one channel
    probabilities = model.serve(tf.constant(images)).numpy()
    return {
        "predictions": [CLASSES[i] for i in probabilities.argmax(axis=1)],
        "classes": CLASSES,
        "probabilities": probabilities.tolist(),
    }


def parse(data: str) -> NDArray[np.float32]:
    """Return the images of a request as an array; a ValueError says what is wrong with them."""
    try:
        images = np.array(json.loads(data)["data"], dtype=np.float32)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ValueError(f'expected {{"data": [image, ...]}}: {error!r}') from error
    if images.ndim != 3 or images.shape[1:] != (8, 8):
        raise ValueError(f"expected images of 8 x 8 numbers, got shape {images.shape}")
    if not np.isfinite(images).all():
        raise ValueError("expected finite numbers that fit into 32 bits")
    return images
