"""Write ``model.pt``, ``request.json`` and ``response.json``: ``python make_example.py``.

Needs Python 3.7 with torch 1.6.0 and what it brings, as in the image.

The expected response is computed here in plain Python, in 64 bits, from the weights in
``model.pt``.
"""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import score
import torch
from torch import nn

HERE = Path(__file__).resolve().parent
SIZE = 8


def main() -> None:
    torch.manual_seed(7)
    torch.set_num_threads(1)  # for the same weights on every machine of one kind
    torch.jit.script(train()).save(str(HERE / "model.pt"))
    images = request()
    write("request.json", lines({"data": images}))

    stored = torch.jit.load(str(HERE / "model.pt")).state_dict()
    expected = respond({name: tensor.tolist() for name, tensor in stored.items()}, images)
    write("response.json", lines(expected))

    score.init()
    actual = score.run((HERE / "request.json").read_text(encoding="utf-8"))
    assert actual["predictions"] == expected["predictions"], actual
    assert actual["classes"] == expected["classes"], actual
    np.testing.assert_allclose(
        actual["probabilities"], expected["probabilities"], rtol=1e-5, atol=1e-6
    )
    difference = np.abs(np.subtract(actual["probabilities"], expected["probabilities"]))
    print("max abs diff:", difference.max())


def train() -> nn.Module:
    """Train a small network for a few seconds; it need not be good, only real."""
    rng = random.Random(7)
    labels = [rng.randrange(3) for _ in range(600)]
    images = torch.tensor([draw(rng, label) for label in labels]).unsqueeze(1)
    targets = torch.tensor(labels)
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
        loss = nn.functional.cross_entropy(network(images), targets)
        loss.backward()
        optimizer.step()
    return nn.Sequential(*network, nn.Softmax(dim=1)).eval()


def draw(rng: random.Random, label: int, contrast: float = 0.5) -> list[list[float]]:
    """Draw stripes across, down or slanted, at a random phase, with noise."""
    phase = rng.uniform(0, 2 * math.pi)
    return [
        [
            0.5
            + contrast * math.sin((y, x, (x + y) * 0.7)[label] * 1.3 + phase)
            + rng.gauss(0, 0.15)
            for x in range(SIZE)
        ]
        for y in range(SIZE)
    ]


def request() -> list[list[list[float]]]:
    """One image of each class, two faint ones, a negative one and a glaring one."""
    rng = random.Random(11)
    choices = [(0, 0.5, 1), (1, 0.5, 1), (2, 0.5, 1), (0, 0.15, 1), (2, 0.1, 1)]
    choices += [(1, 0.5, -2), (2, 0.5, 1000)]
    return [
        [[round(scale * value, 2) for value in row] for row in draw(rng, label, contrast)]
        for label, contrast, scale in choices
    ]


def respond(stored: dict[str, Any], images: list[list[list[float]]]) -> dict[str, Any]:
    """Compute the response without PyTorch, by loops over the positions."""
    probabilities = []
    for image in images:
        flat = []  # pooled values, one kernel after the other, each row by row
        for kernel, offset in zip(stored["0.weight"], stored["0.bias"]):
            edges = [
                [
                    max(
                        0.0,
                        offset
                        + sum(
                            kernel[0][i][j] * image[y + i][x + j]
                            for i in range(3)
                            for j in range(3)
                        ),
                    )
                    for x in range(6)
                ]
                for y in range(6)
            ]
            flat += [
                max(edges[y][x], edges[y][x + 1], edges[y + 1][x], edges[y + 1][x + 1])
                for y in range(0, 6, 2)
                for x in range(0, 6, 2)
            ]
        logits = [
            bias + sum(w * value for w, value in zip(weights, flat))
            for weights, bias in zip(stored["4.weight"], stored["4.bias"])
        ]
        powers = [math.exp(logit - max(logits)) for logit in logits]
        probabilities.append([power / sum(powers) for power in powers])
    return {
        "predictions": [score.CLASSES[p.index(max(p))] for p in probabilities],
        "classes": score.CLASSES,
        "probabilities": probabilities,
    }


def lines(body: dict[str, list[Any]]) -> str:
    """One item a line: short enough to read, and a change shows as a line in a diff."""
    parts = (
        f'  "{key}": [\n    ' + ",\n    ".join(json.dumps(item) for item in items) + "\n  ]"
        for key, items in body.items()
    )
    return "{\n" + ",\n".join(parts) + "\n}"


def write(name: str, text: str) -> None:
    (HERE / name).write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
