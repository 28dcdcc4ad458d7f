"""Kinds of iris: scaling and a random forest, in a pipeline of scikit-learn.

A pickle is bound to the version that wrote it: where that moves, `--write` writes the model again.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import joblib
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from examples import data, oracles

MODEL = "model.joblib"
ROWS = data.IRIS_ROWS


def train(path: Path) -> None:
    """Trains on the flowers that come with scikit-learn."""
    iris = load_iris()
    model = make_pipeline(
        StandardScaler(),
        RandomForestClassifier(n_estimators=12, max_depth=3, min_samples_leaf=6, random_state=7),
    )
    model.fit(iris.data, iris.target_names[iris.target])
    joblib.dump(model, path, compress=3)


def weights(path: Path) -> Any:
    """The classes, the means and scales of the features, and the trees."""
    scaler, forest = (step for _, step in joblib.load(path).steps)
    trees = [tree(estimator.tree_, 0) for estimator in forest.estimators_]
    return forest.classes_.tolist(), scaler.mean_.tolist(), scaler.scale_.tolist(), trees


def tree(stored: Any, node: int) -> Any:
    """A node, and all below it; a leaf has the share of each class."""
    left, right = int(stored.children_left[node]), int(stored.children_right[node])
    if left == -1:
        counts = stored.value[node][0].tolist()
        return [count / sum(counts) for count in counts]
    feature, threshold = int(stored.feature[node]), float(stored.threshold[node])
    return oracles.Split(feature, threshold, tree(stored, left), tree(stored, right))


def respond(weights: Any, rows: Any) -> dict[str, Any]:
    """The response, without scikit-learn."""
    classes, means, scales, trees = weights
    scaled = [[(x - m) / s for x, m, s in zip(row, means, scales)] for row in rows]
    return oracles.classified(classes, [oracles.shares(trees, row) for row in scaled])
