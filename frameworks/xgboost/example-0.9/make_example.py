"""Write ``pump.model``, ``request.json`` and ``response.json``: ``python make_example.py``.

Needs Python 3.7 with xgboost 0.90 and what it brings, as in the image.

The expected response is computed here in plain Python, from the trees in ``pump.model``.
"""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import score
import xgboost as xgb

HERE = Path(__file__).resolve().parent
REQUEST: list[list[float | None]] = [
    [61.3, 2.15, 4.33, 1210.0],
    [88.9, 6.72, 2.48, 7925.0],
    [74.1, 4.41, 3.52, 4015.0],
    [-40.5, -1.5, -3.25, -10.0],
    [1e6, 5e3, 9e4, 1e9],
    [79.7, None, 2.05, None],
    [None, None, None, None],
]


class Node(NamedTuple):
    """A node as the file holds it; a leaf has no left child."""

    parent: int
    left: int
    right: int
    feature: int  # the highest bit: a missing value goes left
    value: float  # of a leaf; of another node, where it splits


def main() -> None:
    features, labels = training_data()
    model = xgb.train(
        {"objective": "binary:logistic", "max_depth": 3, "eta": 0.4, "seed": 7, "nthread": 1},
        xgb.DMatrix(features, labels, feature_names=score.FEATURES),
        num_boost_round=12,
    )
    model.save_model(str(HERE / "pump.model"))
    write("request.json", lines({"data": REQUEST}))

    expected = respond((HERE / "pump.model").read_bytes(), REQUEST)
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


def respond(content: bytes, rows: list[list[float | None]]) -> dict[str, Any]:
    """Compute the response without XGBoost: walk every tree and add up the leaves."""
    base, trees = read_model(content)
    probabilities = []
    for row in rows:
        margin = base + sum(walk(tree, row) for tree in trees)
        probabilities.append(1 / (1 + math.exp(-margin)))
    return {"predictions": [int(p > 0.5) for p in probabilities], "probabilities": probabilities}


def read_model(content: bytes) -> tuple[float, list[list[Node]]]:
    """Read the margin that all rows start from, and the trees, from a file of XGBoost 0.90.

    The file is what the learner, the booster and each tree hold in memory, one after the other.
    """
    base, num_feature = struct.unpack_from("<fI", content)
    offset = 136
    for expected in (b"binary:logistic", b"gbtree"):
        (length,) = struct.unpack_from("<Q", content, offset)
        name = content[offset + 8 : offset + 8 + length]
        assert name == expected, name
        offset += 8 + length
    num_trees, _, same_num_feature = struct.unpack_from("<3i", content, offset)
    assert num_feature == same_num_feature == len(score.FEATURES), (num_feature, same_num_feature)
    offset += 160
    trees = []
    for _ in range(num_trees):
        _, num_nodes = struct.unpack_from("<2i", content, offset)
        offset += 148
        end = offset + 20 * num_nodes
        trees.append([Node(*node) for node in struct.iter_unpack("<3iIf", content[offset:end])])
        offset = end + 16 * num_nodes  # the statistics of each node
    assert len(content) == offset + 4 * num_trees, "the group of each tree should be all the rest"
    return base, trees


def walk(tree: list[Node], row: list[float | None]) -> float:
    """Return the value of the leaf that a row falls into."""
    node = tree[0]
    while node.left != -1:
        value = row[node.feature & 0x7FFFFFFF]
        if value is None:
            go_left = bool(node.feature >> 31)
        else:
            # XGBoost compares in float32; this close to a split, rounding could decide.
            margin = abs(value - node.value)
            assert margin > 1e-3 * max(1, abs(node.value)), (value, node.value)
            go_left = value < node.value
        node = tree[node.left if go_left else node.right]
    return node.value


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
