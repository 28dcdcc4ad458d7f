"""Tell horizontal, vertical and diagonal stripes apart with a PyTorch network.

Copy this folder as a start for your own service: keep the two functions, put your own network in
``network()`` and its weights in the place of ``weights.pt``.

The weights are a ``state_dict``: it outlives a change of the PyTorch version, and read with
``weights_only`` it can run no code. TorchScript is deprecated, and a ``torch.export`` file is not
promised to load in another version of PyTorch than the one that wrote it.

The server calls ``init()`` once in each worker and then ``run()`` for every request::

    curl --data @request.json http://localhost:5001/score
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from torch import nn

CLASSES = ["horizontal", "vertical", "diagonal"]

model: nn.Module


def network() -> nn.Module:
    """Build the network as it was trained, still without its weights."""
    return nn.Sequential(
        nn.Conv2d(1, 4, kernel_size=3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(36, 3),
    )


def init() -> None:
    """Load the model from ``AZUREML_MODEL_DIR``, or from beside this script where that is unset."""
    global model
    folder = Path(os.environ.get("AZUREML_MODEL_DIR") or Path(__file__).resolve().parent)
    model = network()
    model.load_state_dict(torch.load(folder / "weights.pt", map_location="cpu", weights_only=True))
    model.eval()


def run(data: str) -> dict[str, Any]:
    """Answer ``{"data": [image, ...]}``, 8 x 8 numbers each, with labels and probabilities.

    The columns of ``probabilities`` are in the order of ``classes``.
    """
    images = parse(data).unsqueeze(1)  # one channel
    with torch.inference_mode():
        probabilities = model(images).softmax(dim=1)
    return {
        "predictions": [CLASSES[i] for i in probabilities.argmax(dim=1).tolist()],
        "classes": CLASSES,
        "probabilities": probabilities.tolist(),
    }


def parse(data: str) -> torch.Tensor:
    """Return the images of a request as a tensor; a ValueError says what is wrong with them."""
    try:
        images = torch.tensor(json.loads(data)["data"], dtype=torch.float32)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ValueError(f'expected {{"data": [image, ...]}}: {error!r}') from error
    if images.dim() != 3 or images.shape[1:] != (8, 8):
        raise ValueError(f"expected images of 8 x 8 numbers, got shape {tuple(images.shape)}")
    if not images.isfinite().all():
        raise ValueError("expected finite numbers that fit into 32 bits")
    return images
