"""Tell horizontal, vertical and diagonal stripes apart with a SavedModel of TensorFlow 1.15.

Copy this folder as a start for your own service: keep the two functions, and put your own
SavedModel in the place of ``model/``. The file holds the computation itself, and a signature that
names its inputs and outputs, so serving does not need the Python code of the model.

The server calls ``init()`` once in each worker and then ``run()`` for every request::

    curl --data @request.json http://localhost:5001/score
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow.compat.v1 as tf  # the same as ``tensorflow``, without its notes on renamed things

CLASSES = ["horizontal", "vertical", "diagonal"]

session: tf.Session
inputs: str
outputs: str


def init() -> None:
    """Load the model from ``AZUREML_MODEL_DIR``, or from beside this script where that is unset."""
    global session, inputs, outputs
    folder = Path(os.environ.get("AZUREML_MODEL_DIR") or Path(__file__).resolve().parent)
    session = tf.Session(graph=tf.Graph())
    saved = tf.saved_model.load(session, [tf.saved_model.SERVING], str(folder / "model"))
    signature = saved.signature_def[tf.saved_model.DEFAULT_SERVING_SIGNATURE_DEF_KEY]
    inputs, outputs = signature.inputs["images"].name, signature.outputs["probabilities"].name
    # The first run of a graph is slow; better here than in somebody's request.
    session.run(outputs, {inputs: np.zeros([1, 8, 8, 1])})


def run(data: str) -> dict[str, Any]:
    """Answer ``{"data": [image, ...]}``, 8 x 8 numbers each, with labels and probabilities.

    The columns of ``probabilities`` are in the order of ``classes``.
    """
    images = parse(data)[..., np.newaxis]  # one channel
    probabilities = session.run(outputs, {inputs: images})
    return {
        "predictions": [CLASSES[i] for i in probabilities.argmax(axis=1)],
        "classes": CLASSES,
        "probabilities": probabilities.tolist(),
    }


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
