"""Write ``model.joblib``, ``request.json`` and ``response.json``: ``python make_example.py``.

Needs Python 3.7 with scikit-learn 0.24.1 and what it brings, as in the image. A pickled model is
bound to the version that wrote it.

The expected response is computed here in plain Python, from the numbers that the pipeline learned.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import score
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

HERE = Path(__file__).resolve().parent
REQUEST = [
    [5.02, 3.41, 1.47, 0.22],
    [6.02, 2.72, 4.06, 1.27],
    [6.52, 3.07, 5.62, 2.12],
    [5.98, 2.72, 5.07, 1.68],
    [-3.3, -1.1, -20.7, -0.9],
    [1e6, 2.5e4, 1e5, 9999.5],
]


def main() -> None:
    iris = load_iris()
    model = make_pipeline(
        StandardScaler(),
        RandomForestClassifier(n_estimators=12, max_depth=3, min_samples_leaf=6, random_state=7),
    )
    model.fit(iris.data, iris.target_names[iris.target])
    joblib.dump(model, HERE / "model.joblib", compress=3)
    write("request.json", lines({"data": REQUEST}))

    # What is checked is the file: the model that a consumer's process will load.
    expected = respond(joblib.load(HERE / "model.joblib"), REQUEST)
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


def respond(model: Pipeline, rows: list[list[float]]) -> dict[str, Any]:
    """Compute the response without scikit-learn: scale, walk every tree, average the leaves."""
    scaler, forest = model[0], model[1]
    classes = forest.classes_.tolist()
    trees = [tree.tree_ for tree in forest.estimators_]
    probabilities = []
    for row in rows:
        scaled = [
            (x - mean) / scale
            for x, mean, scale in zip(row, scaler.mean_.tolist(), scaler.scale_.tolist())
        ]
        leaves = [walk(tree, scaled) for tree in trees]
        probabilities.append([sum(column) / len(trees) for column in zip(*leaves)])
    return {
        "predictions": [classes[p.index(max(p))] for p in probabilities],
        "classes": classes,
        "probabilities": probabilities,
    }


def walk(tree: Any, row: list[float]) -> list[float]:
    """Return the class shares of the leaf that a scaled row falls into."""
    node = 0
    while tree.children_left[node] != -1:
        value, threshold = row[tree.feature[node]], float(tree.threshold[node])
        # The trees compare in float32; this close to a split, rounding could decide.
        assert abs(value - threshold) > 1e-3, f"{value} is too close to the split at {threshold}"
        children = tree.children_left if value <= threshold else tree.children_right
        node = int(children[node])
    counts = tree.value[node][0].tolist()
    return [count / sum(counts) for count in counts]


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
