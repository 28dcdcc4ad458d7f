"""The hourly demand for hire bicycles: gradient-boosted trees of LightGBM."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightgbm as lgb

from examples import data, oracles

MODEL = "model.txt"
ROWS = data.DEMAND_ROWS
PARAMETERS = {
    "objective": "regression",
    "num_leaves": 8,
    "learning_rate": 0.3,
    "seed": 7,
    "deterministic": True,
    "num_threads": 1,
    "verbosity": -1,
}
# Bits of decision_type: a missing value goes left, and NaN is what counts as missing.
DEFAULT_LEFT = 2
MISSING_IS_NAN = 2 << 2


def train(path: Path) -> None:
    """Trains on a made-up year."""
    features, hired = data.demand()
    names = data.DEMAND_FEATURES
    dataset = lgb.Dataset(features, hired, feature_name=names)
    lgb.train(PARAMETERS, dataset, num_boost_round=12).save_model(path)


def weights(path: Path) -> Any:
    """The trees: a block for each in the file, of lines `name=value value …`."""
    text = path.read_text(encoding="utf-8").partition("end of trees")[0]
    blocks = [block.splitlines()[1:] for block in text.split("Tree=")[1:]]
    return [
        tree({k: v.split() for k, _, v in (line.partition("=") for line in block)}, 0)
        for block in blocks
    ]


def tree(stored: dict[str, list[str]], node: int) -> Any:
    """A node, and all below it; a leaf n is written as child -n-1."""
    if node < 0:
        return float(stored["leaf_value"][~node])
    threshold, kind = float(stored["threshold"][node]), int(stored["decision_type"][node])
    # Of a feature that was never missing in training, a missing value counts as 0.
    missing_below = bool(kind & DEFAULT_LEFT) if kind & MISSING_IS_NAN else threshold >= 0
    below, above = (tree(stored, int(stored[f"{side}_child"][node])) for side in ("left", "right"))
    return oracles.Split(int(stored["split_feature"][node]), threshold, below, above, missing_below)


def respond(weights: Any, rows: Any) -> dict[str, Any]:
    """The response, without LightGBM."""
    return {"predictions": [oracles.additive(weights, row) for row in rows]}
