"""Tell horizontal from vertical stripes in small grey images with ONNX Runtime.

Copy this folder as a start for your own service: keep the two functions, and put your own model
in the place of ``model.onnx``. The names and shapes of its inputs are in the file; here there is
one input of shape [any, 1, 8, 8] and one output, the probabilities.

The server calls ``init()`` once in each worker and then ``run()`` for every request::

    curl --data @request.json http://localhost:5001/score
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

CLASSES = ["horizontal", "vertical", "plain"]

session: ort.InferenceSession


def init() -> None:
    """Load the model from ``AZUREML_MODEL_DIR``, or from beside this script where that is unset."""
    global session
    folder = Path(os.environ.get("AZUREML_MODEL_DIR") or Path(__file__).resolve().parent)
    options = ort.SessionOptions()
    # It reads no variable; the server sets this one where the container may not use all processors.
    options.intra_op_num_threads = int(os.environ.get("OMP_NUM_THREADS") or 0)
    session = ort.InferenceSession(
        str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"]
    )


def run(data: str) -> dict[str, Any]:
    """Answer ``{"data": [image, ...]}``, 8 x 8 numbers each, with labels and probabilities.

    The columns of ``probabilities`` are in the order of ``classes``.
    """
    images = parse(data)[:, np.newaxis]  # one channel
    (probabilities,) = session.run(None, {session.get_inputs()[0].name: images})
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
