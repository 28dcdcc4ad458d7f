"""Write ``model/``, ``request.json`` and ``response.json``: ``python make_example.py``.

Needs Python 3.7 with tensorflow-cpu 2.4 (or tensorflow) and what it brings, as in the image.

The expected response is computed here with numpy alone, in 64 bits, from the weights in
``model/variables``.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import score
import tensorflow as tf

HERE = Path(__file__).resolve().parent
SIZE = 8


def main() -> None:
    # One thread, for the same weights on every machine of one kind.
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    tf.random.set_seed(7)
    shutil.rmtree(HERE / "model", ignore_errors=True)
    train().save(HERE / "model")
    images = request()
    write("request.json", lines({"data": images.tolist()}))

    expected = respond(stored_weights(), images)
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


def train() -> tf.keras.Model:
    """Train a small network for a few seconds; it need not be good, only real."""
    rng = np.random.default_rng(7)
    labels = rng.integers(0, 3, 600)
    images = np.stack([draw(rng, label) for label in labels])[..., np.newaxis]
    model = tf.keras.Sequential(
        [
            tf.keras.Input((SIZE, SIZE, 1), name="images"),
            tf.keras.layers.Conv2D(4, 3, activation="relu"),
            tf.keras.layers.MaxPooling2D(2),
            tf.keras.layers.Flatten(),
            tf.keras.layers.Dense(3, activation="softmax", name="probabilities"),
        ]
    )
    model.compile(tf.keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
    model.fit(images, labels, batch_size=50, epochs=16, shuffle=False, verbose=0)
    # The same network without its optimizer, of which serving has no need.
    return tf.keras.Model(model.inputs, model.outputs)


def draw(rng: np.random.Generator, label: int, contrast: float = 0.5) -> np.ndarray:
    """Draw stripes across, down or slanted, at a random phase, with noise."""
    y, x = np.mgrid[:SIZE, :SIZE]
    along = (y, x, (x + y) * 0.7)[label]
    stripes = np.sin(along * 1.3 + rng.uniform(0, 2 * np.pi))
    return 0.5 + contrast * stripes + rng.normal(0, 0.15, (SIZE, SIZE))


def request() -> np.ndarray:
    """One image of each class, two faint ones, a negative one and a glaring one."""
    rng = np.random.default_rng(11)
    images = [draw(rng, label) for label in (0, 1, 2)]
    images += [draw(rng, 0, 0.15), draw(rng, 2, 0.1), -2 * draw(rng, 1), 1000 * draw(rng, 2)]
    return np.stack(images).round(2)


def stored_weights() -> list[np.ndarray]:
    """Read the four weights from the SavedModel's checkpoint; each has a shape of its own."""
    reader = tf.train.load_checkpoint(str(HERE / "model" / "variables" / "variables"))
    names = {tuple(shape): name for name, shape in reader.get_variable_to_shape_map().items()}
    shapes = ((3, 3, 1, 4), (4,), (36, 3), (3,))
    return [reader.get_tensor(names[shape]).astype(float) for shape in shapes]


def respond(stored: list[np.ndarray], images: np.ndarray) -> dict[str, Any]:
    """Compute the response without TensorFlow, by loops over the positions."""
    kernels, offsets, weights, bias = stored
    probabilities = []
    for image in images:
        edges = np.empty((6, 6, 4))
        for y, x, k in np.ndindex(edges.shape):
            patch = image[y : y + 3, x : x + 3]
            edges[y, x, k] = max(0.0, (patch * kernels[:, :, 0, k]).sum() + offsets[k])
        pooled = np.empty((3, 3, 4))
        for y, x, k in np.ndindex(pooled.shape):
            pooled[y, x, k] = edges[2 * y : 2 * y + 2, 2 * x : 2 * x + 2, k].max()
        logits = pooled.reshape(-1) @ weights + bias
        powers = np.exp(logits - logits.max())
        probabilities.append((powers / powers.sum()).tolist())
    return {
        "predictions": [score.CLASSES[int(np.argmax(p))] for p in probabilities],
        "classes": score.CLASSES,
        "probabilities": probabilities,
    }


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
