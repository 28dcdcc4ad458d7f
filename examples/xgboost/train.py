"""The failure of a pump: gradient-boosted trees of XGBoost."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import xgboost as xgb

from examples import data, oracles

MODEL = "model.json"
ROWS = data.PUMP_ROWS
PARAMETERS = {"objective": "binary:logistic", "max_depth": 3, "eta": 0.4, "seed": 7, "nthread": 1}


def train(path: Path) -> None:
    """Trains on made-up pumps."""
    features, labels = data.pumps()
    dataset = xgb.DMatrix(features, labels, feature_names=data.PUMP_FEATURES)
    xgb.train(PARAMETERS, dataset, num_boost_round=12).save_model(str(path))


def weights(path: Path) -> Any:
    """The margin that all rows start from, and the trees."""
    learner = json.loads(path.read_text(encoding="utf-8"))["learner"]
    (base,) = json.loads(learner["learner_model_param"]["base_score"])
    trees = learner["gradient_booster"]["model"]["trees"]
    return math.log(base / (1 - base)), [tree(stored, 0) for stored in trees]


def tree(stored: dict[str, Any], node: int) -> Any:
    """A node, and all below it; a leaf keeps its value where another node has its threshold."""
    left, right = stored["left_children"][node], stored["right_children"][node]
    value = stored["split_conditions"][node]
    if left == -1:
        return value
    feature, missing_below = stored["split_indices"][node], bool(stored["default_left"][node])
    return oracles.Split(feature, value, tree(stored, left), tree(stored, right), missing_below)


def respond(weights: Any, rows: Any) -> dict[str, Any]:
    """The response, without XGBoost."""
    base, trees = weights
    probabilities = [oracles.logistic(base + oracles.additive(trees, row)) for row in rows]
    return {"predictions": [int(p > 0.5) for p in probabilities], "probabilities": probabilities}
