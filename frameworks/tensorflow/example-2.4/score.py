"""Tell horizontal, vertical and diagonal stripes apart with a SavedModel of TensorFlow 2.4.

Copy this folder as a start for your own service: keep the two functions, and put your own
SavedModel in the place of ``model/``. With Keras, that is what ``model.save("model")`` writes; it
holds the computation itself, so serving does not need the Python code of the model. It is the same
for TensorFlow with and without CUDA.

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

CLASSES = ["horizontal", "vertical", "diagonal"]

model: Any


def init() -> None:
    """Load the model from ``AZUREML_MODEL_DIR``, or from beside this script where that is unset."""
    global model
    folder = Path(os.environ.get("AZUREML_MODEL_DIR") or Path(__file__).resolve().parent)
    # Else a GPU that can would round factors to 10 bits, and answer a little differently.
    tf.config.experimental.enable_tensor_float_32_execution(False)
    model = tf.saved_model.load(str(folder / "model"))
    # The first call of a graph is slow; better here than in somebody's request.
    predict(np.zeros([1, 8, 8], dtype=np.float32))


def run(data: str) -> dict[str, Any]:
    """Answer ``{"data": [image, ...]}``, 8 x 8 numbers each, with labels and probabilities.

    The columns of ``probabilities`` are in the order of ``classes``.
    """
    probabilities = predict(parse(data))
    return {
        "predictions": [CLASSES[i] for i in probabilities.argmax(axis=1)],
        "classes": CLASSES,
        "probabilities": probabilities.tolist(),
    }


def predict(images: np.ndarray) -> np.ndarray:
    """Return a row of probabilities for each image."""
    channel = tf.constant(images[..., np.newaxis])
    return model.signatures["serving_default"](images=channel)["probabilities"].numpy()


def parse(data: str) -> np.ndarray:
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
