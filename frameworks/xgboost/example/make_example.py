"""Write ``model.json``, ``request.json`` and ``response.json``: ``python make_example.py``.

Needs xgboost-cpu (or xgboost) and what it brings, as in the image.

The expected response is computed here in plain Python, from the trees in ``model.json``.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import score
import xgboost as xgb

HERE = Path(__file__).resolve().parent
FEATURES = ["temperature", "vibration", "pressure", "hours"]
REQUEST: list[list[float | None]] = [
    [61.3, 2.15, 4.33, 1210.0],
    [88.9, 6.72, 2.48, 7925.0],
    [74.1, 4.41, 3.52, 4015.0],
    [-40.5, -1.5, -3.25, -10.0],
    [1e6, 5e3, 9e4, 1e9],
    [79.7, None, 2.05, None],
    [None, None, None, None],
]


def main() -> None:
    features, labels = training_data()
    model = xgb.train(
        {"objective": "binary:logistic", "max_depth": 3, "eta": 0.4, "seed": 7, "nthread": 1},
        xgb.DMatrix(features, labels, feature_names=FEATURES),
        num_boost_round=12,
    )
    model.save_model(HERE / "model.json")
    write("request.json", lines({"data": REQUEST}))

    expected = respond(json.loads((HERE / "model.json").read_text(encoding="utf-8")), REQUEST)
    write("response.json", lines(expected))

    score.init()
    actual = score.run((HERE / "request.json").read_text(encoding="utf-8"))
    assert actual["predictions"] == expected["predictions"], actual
    np.testing.assert_allclose(
        actual["probabilities"], expected["probabilities"], rtol=1e-5, atol=1e-6
    )
    difference = np.abs(np.subtract(actual["probabilities"], expected["probabilities"]))
    print("max abs diff:", difference.max())


def training_data() -> tuple[Any, Any]:
    """Make up pumps: heat, vibration and age wear them; one value in ten is missing."""
    rng = np.random.default_rng(7)
    features = np.column_stack(
        [
            rng.normal(72, 10, 600),
            rng.gamma(4, 1, 600),
            rng.normal(3.5, 0.8, 600),
            rng.uniform(0, 9000, 600),
        ]
    )
    wear = (
        0.08 * (features[:, 0] - 72)
        + 0.7 * (features[:, 1] - 4)
        - 0.9 * (features[:, 2] - 3.5)
        + (features[:, 3] - 4500) / 3000
    )
    labels = (wear + rng.logistic(0, 1, 600) > 0).astype(int)
    features[rng.random(features.shape) < 0.1] = np.nan
    return features, labels


def respond(model: dict[str, Any], rows: list[list[float | None]]) -> dict[str, Any]:
    """Compute the response without XGBoost: walk every tree and add up the leaves."""
    learner = model["learner"]
    # Recent versions write a list of one value per target, older ones a number.
    base = json.loads(learner["learner_model_param"]["base_score"])
    base = base[0] if isinstance(base, list) else base
    trees = learner["gradient_booster"]["model"]["trees"]
    probabilities = []
    for row in rows:
        margin = math.log(base / (1 - base)) + sum(walk(tree, row) for tree in trees)
        probabilities.append(1 / (1 + math.exp(-margin)))
    return {"predictions": [int(p > 0.5) for p in probabilities], "probabilities": probabilities}


def walk(tree: dict[str, Any], row: list[float | None]) -> float:
    """Return the value of the leaf that a row falls into."""
    node = 0
    while (left := tree["left_children"][node]) != -1:
        value, threshold = row[tree["split_indices"][node]], tree["split_conditions"][node]
        if value is None:
            go_left = bool(tree["default_left"][node])
        else:
            # XGBoost compares in float32; this close to a split, rounding could decide.
            assert abs(value - threshold) > 1e-3 * max(1, abs(threshold)), (value, threshold)
            go_left = value < threshold
        node = left if go_left else tree["right_children"][node]
    return float(tree["split_conditions"][node])  # a leaf keeps its value there


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
