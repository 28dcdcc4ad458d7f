"""The price of a flat: an exact least-squares fit, in rational numbers."""

from __future__ import annotations

import json
import random
from fractions import Fraction
from pathlib import Path
from typing import Any

from examples import oracles

MODEL = "model.json"
FEATURES = ["area_m2", "rooms", "distance_km"]
ROWS = [
    [82.5, 3, 4.2],
    [0, 0, 0],
    [-40.25, 1, 12.75],
    [1e6, -250, 3.5e5],
    [1e-3, 2, 1e-9],
]
TRUTH = [3.25, 12.5, -1.75]
TRUTH_INTERCEPT = 20.0


def train(path: Path) -> None:
    """Fits noisy data by the normal equations, the last column of which is the intercept."""
    rng = random.Random(7)
    rows, targets = [], []
    for _ in range(50):
        x = [rng.uniform(20, 200), rng.randint(1, 7), rng.uniform(0, 30)]
        y = TRUTH_INTERCEPT + sum(t * v for t, v in zip(TRUTH, x)) + rng.gauss(0, 2)
        rows.append([Fraction(v) for v in (*x, 1)])
        targets.append(Fraction(y))
    size = len(FEATURES) + 1
    system = [
        [sum((r[i] * r[j] for r in rows), Fraction(0)) for j in range(size)]
        + [sum((r[i] * t for r, t in zip(rows, targets)), Fraction(0))]
        for i in range(size)
    ]
    for i in range(size):  # Gauss-Jordan; exact, so any pivot but zero will do
        pivot = next(k for k in range(i, size) if system[k][i])
        system[i], system[pivot] = system[pivot], system[i]
        system[i] = [v / system[i][i] for v in system[i]]
        for k in range(size):
            if k != i:
                system[k] = [a - system[k][i] * b for a, b in zip(system[k], system[i])]
    *coefficients, intercept = (round(float(line[-1]), 6) for line in system)
    model = {"features": FEATURES, "coefficients": coefficients, "intercept": intercept}
    path.write_text(json.dumps(model, indent=2) + "\n", encoding="utf-8")


def weights(path: Path) -> Any:
    """The coefficients and the intercept."""
    model = json.loads(path.read_text(encoding="utf-8"))
    return model["coefficients"], model["intercept"]


def respond(weights: Any, rows: Any) -> dict[str, Any]:
    """The response, without the arithmetic of score.py."""
    coefficients, intercept = weights
    return {"predictions": [oracles.linear(coefficients, intercept, row) for row in rows]}
