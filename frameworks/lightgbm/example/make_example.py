"""Write ``model.txt``, ``request.json`` and ``response.json``: ``python make_example.py``.

Needs lightgbm and what it brings, as in the image.

The expected response is computed here in plain Python, from the trees in ``model.txt``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import lightgbm as lgb
import numpy as np
import score

HERE = Path(__file__).resolve().parent
FEATURES = ["hour", "temperature", "humidity", "wind"]
REQUEST: list[list[float | None]] = [
    [8.25, 17.31, 55.2, 11.7],
    [17.8, 24.63, 41.4, 6.1],
    [3.1, 4.27, 88.3, 21.2],
    [-5.2, -60.1, -10.3, -3.7],
    [1e6, 2.5e4, 1e9, 9e5],
    [12.2, None, 62.3, None],
    [None, None, None, None],
]

# The bits of decision_type: 0 categorical, 1 missing goes left, 2 and 3 what counts as missing.
DEFAULT_LEFT = 2
MISSING_IS_NAN = 2 << 2


def main() -> None:
    features, demand = training_data()
    model = lgb.train(
        {
            "objective": "regression",
            "num_leaves": 8,
            "learning_rate": 0.3,
            "seed": 7,
            "deterministic": True,
            "num_threads": 1,
            "verbosity": -1,
        },
        lgb.Dataset(features, demand, feature_name=FEATURES),
        num_boost_round=12,
    )
    model.save_model(HERE / "model.txt")
    write("request.json", lines({"data": REQUEST}))

    trees = read_trees((HERE / "model.txt").read_text(encoding="utf-8"))
    expected: dict[str, list[Any]] = {
        "predictions": [sum(walk(tree, row) for tree in trees) for row in REQUEST]
    }
    write("response.json", lines(expected))

    score.init()
    actual = score.run((HERE / "request.json").read_text(encoding="utf-8"))
    np.testing.assert_allclose(actual["predictions"], expected["predictions"], rtol=1e-5, atol=1e-6)
    difference = np.abs(np.subtract(actual["predictions"], expected["predictions"]))
    print("max abs diff:", difference.max())


def training_data() -> tuple[Any, Any]:
    """Make up a year: two rush hours, warm and dry and calm is better; some values are missing."""
    rng = np.random.default_rng(7)
    hour = rng.uniform(0, 24, 800)
    temperature = rng.normal(14, 8, 800)
    humidity = rng.uniform(20, 100, 800)
    wind = rng.gamma(3, 4, 800)
    demand = (
        180 * np.exp(-((hour - 8) ** 2) / 4)
        + 240 * np.exp(-((hour - 17.5) ** 2) / 6)
        + 6 * temperature
        - 0.8 * humidity
        - 1.5 * wind
        + rng.normal(120, 15, 800)
    )
    features = np.column_stack([hour, temperature, humidity, wind])
    features[rng.random(features.shape) < 0.1] = np.nan
    return features, demand


def read_trees(text: str) -> list[dict[str, list[float]]]:
    """Parse the trees of a model file: a block for each, of ``name=value value ...`` lines."""
    blocks = text.partition("end of trees")[0].split("Tree=")[1:]
    return [
        {
            name: [float(value) for value in values.split()]
            for name, _, values in (line.partition("=") for line in block.splitlines()[1:])
        }
        for block in blocks
    ]


def walk(tree: dict[str, list[float]], row: list[float | None]) -> float:
    """Return the value of the leaf that a row falls into."""
    node = 0
    while node >= 0:
        value, threshold = row[int(tree["split_feature"][node])], tree["threshold"][node]
        kind = int(tree["decision_type"][node])
        if value is None and kind & MISSING_IS_NAN:
            go_left = bool(kind & DEFAULT_LEFT)
        else:
            value = value or 0.0  # a feature that was never missing in training: NaN counts as 0
            assert abs(value - threshold) > 1e-3, f"{value} is too close to {threshold}"
            go_left = value <= threshold
        node = int(tree["left_child" if go_left else "right_child"][node])
    return tree["leaf_value"][~node]  # leaf n is written as child -n-1


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
