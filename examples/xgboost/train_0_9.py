"""The same trees as `train`, in the binary format of XGBoost 0.x."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

from examples import oracles
from examples.xgboost.train import ROWS, respond, train

__all__ = ["MODEL", "ROWS", "respond", "train", "weights"]

MODEL = "pump.model"


def weights(path: Path) -> Any:
    """The margin that all rows start from, and the trees.

    The file is what the learner, the booster and each tree hold in memory, one after the other.
    """
    content = path.read_bytes()
    (base,) = struct.unpack_from("<f", content)
    offset = 136
    for expected in (b"binary:logistic", b"gbtree"):
        (length,) = struct.unpack_from("<Q", content, offset)
        name = content[offset + 8 : offset + 8 + length]
        assert name == expected, name
        offset += 8 + length
    (number,) = struct.unpack_from("<i", content, offset)
    offset += 160
    trees = []
    for _ in range(number):
        _, size = struct.unpack_from("<2i", content, offset)
        offset += 148
        end = offset + 20 * size
        # Parent, left, right, feature, and a leaf's value or another node's threshold.
        trees.append(tree(list(struct.iter_unpack("<3iIf", content[offset:end])), 0))
        offset = end + 16 * size  # the statistics of each node
    assert len(content) == offset + 4 * number, "the group of each tree should be all the rest"
    return base, trees


def tree(nodes: Any, node: int) -> Any:
    """A node, and all below it; the highest bit of its feature says where a missing value goes."""
    _, left, right, feature, value = nodes[node]
    if left == -1:
        return value
    below, above = tree(nodes, left), tree(nodes, right)
    return oracles.Split(feature & 0x7FFFFFFF, value, below, above, bool(feature >> 31))
