"""Write ``model.json``, ``request.json`` and ``response.json``: ``python make_example.py``.

Needs Python 3.7 or later, and no package. The model is an exact least-squares fit, and the expected
response is computed in rational numbers, so that it shares no arithmetic with ``score.py``.
"""

from __future__ import annotations

import json
import math
import random
from fractions import Fraction
from pathlib import Path
from typing import Any

import score

HERE = Path(__file__).resolve().parent
FEATURES = ["area_m2", "rooms", "distance_km"]
TRUTH = [3.25, 12.5, -1.75]
TRUTH_INTERCEPT = 20.0
REQUEST: list[list[float]] = [
    [82.5, 3, 4.2],
    [0, 0, 0],
    [-40.25, 1, 12.75],
    [1e6, -250, 3.5e5],
    [1e-3, 2, 1e-9],
]


def main() -> None:
    model = fit()
    write("model.json", json.dumps(model, indent=2))
    write("request.json", lines("data", REQUEST))

    weights = [Fraction(c) for c in model["coefficients"]]
    offset = Fraction(model["intercept"])
    expected = [
        float(offset + sum(w * Fraction(x) for w, x in zip(weights, row))) for row in REQUEST
    ]
    write("response.json", json.dumps({"predictions": expected}, indent=2))

    score.init()
    actual = score.run((HERE / "request.json").read_text(encoding="utf-8"))["predictions"]
    assert len(actual) == len(expected), (actual, expected)
    for a, e in zip(actual, expected):
        assert math.isclose(a, e, rel_tol=1e-5, abs_tol=1e-6), (a, e)
    print("max abs diff:", max(abs(a - e) for a, e in zip(actual, expected)))


def fit() -> dict[str, Any]:
    """Fit noisy data by solving the normal equations exactly, last column the intercept."""
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
    for i in range(size):  # Gauss-Jordan; exact, so any non-zero pivot will do
        pivot = next(k for k in range(i, size) if system[k][i])
        system[i], system[pivot] = system[pivot], system[i]
        system[i] = [v / system[i][i] for v in system[i]]
        for k in range(size):
            if k != i:
                system[k] = [a - system[k][i] * b for a, b in zip(system[k], system[i])]
    solution = [round(float(line[-1]), 6) for line in system]
    return {"features": FEATURES, "coefficients": solution[:-1], "intercept": solution[-1]}


def lines(key: str, items: list[list[float]]) -> str:
    """One item a line: short enough to read, and a change shows as a line in a diff."""
    return f'{{"{key}": [\n  ' + ",\n  ".join(json.dumps(item) for item in items) + "\n]}"


def write(name: str, text: str) -> None:
    (HERE / name).write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
