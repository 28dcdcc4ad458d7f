"""Tell horizontal, vertical and diagonal stripes apart with a PyTorch network in TorchScript.

Copy this folder as a start for your own service: keep the two functions, and put your own network
in the place of ``model.pt``, as ``torch.jit.script(network).save("model.pt")`` writes it. The file
holds the computation itself, so serving does not need the Python code of the network; later
releases load it too.

The server calls ``init()`` once in each worker and then ``run()`` for every request::

    curl --data @request.json http://localhost:5001/score
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch

CLASSES = ["horizontal", "vertical", "diagonal"]

model: torch.jit.ScriptModule


def init() -> None:
    """Load the model from ``AZUREML_MODEL_DIR``, or from beside this script where that is unset."""
    global model
    folder = Path(os.environ.get("AZUREML_MODEL_DIR") or Path(__file__).resolve().parent)
    model = torch.jit.load(str(folder / "model.pt"), map_location="cpu")
    model.eval()
    # The first call is observed and the second compiled for what was seen: better here than in
    # somebody's request.
    with torch.no_grad():
        for _ in range(2):
            model(torch.zeros(1, 1, 8, 8))


def run(data: str) -> dict[str, Any]:
    """Answer ``{"data": [image, ...]}``, 8 x 8 numbers each, with labels and probabilities.

    The columns of ``probabilities`` are in the order of ``classes``.
    """
    images = parse(data).unsqueeze(1)  # one channel
    with torch.no_grad():
        probabilities = model(images)
    return {
        "predictions": [CLASSES[i] for i in probabilities.argmax(dim=1).tolist()],
        "classes": CLASSES,
        "probabilities": probabilities.tolist(),
    }


def parse(data: str) -> torch.Tensor:
    """Return the images of a request as a tensor; a ValueError says what is wrong with them."""
    try:
        images = torch.tensor(json.loads(data)["data"], dtype=torch.float32)
    except (KeyError, TypeError, ValueError, OverflowError, RuntimeError) as error:
        raise ValueError(f'expected {{"data": [image, ...]}}: {error!r}') from error
    if images.dim() != 3 or images.shape[1:] != (8, 8):
        raise ValueError(f"expected images of 8 x 8 numbers, got shape {tuple(images.shape)}")
    if not torch.isfinite(images).all():
        raise ValueError("expected finite numbers that fit into 32 bits")
    return images
