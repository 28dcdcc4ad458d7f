"""Horizontal, vertical and diagonal stripes: a small network of PyTorch, kept as its weights.

A CPU's kind decides the last bits of what is trained, so the weights are rounded to hundredths.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from examples import data, oracles

MODEL = "weights.pt"
ROWS = data.stripes_images()


def fit() -> nn.Sequential:
    """The network of score.py, trained for a second: it need not be good, only real."""
    torch.manual_seed(7)
    torch.set_num_threads(1)
    images, labels = map(torch.from_numpy, data.stripes())
    network = nn.Sequential(
        nn.Conv2d(1, 4, kernel_size=3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(36, 3),
    )
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    for _ in range(100):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(images.unsqueeze(1)), labels).backward()
        optimizer.step()
    with torch.no_grad():
        for weights in network.parameters():
            weights.copy_((weights * 100).round() / 100)
    return network


def train(path: Path) -> None:
    """Trains on made-up stripes."""
    torch.save(fit().state_dict(), path)


def weights(path: Path) -> Any:
    """The four weights."""
    return network_of(torch.load(path, weights_only=True))


def network_of(stored: Any) -> oracles.Network:
    """The four weights of a state_dict."""
    kernels, *others = (stored[n].tolist() for n in ("0.weight", "0.bias", "4.weight", "4.bias"))
    return oracles.Network([kernel for (kernel,) in kernels], *others)


def respond(weights: Any, rows: Any) -> dict[str, Any]:
    """The response, without PyTorch."""
    return oracles.classified(data.STRIPES, [oracles.convolution(weights, row) for row in rows])
