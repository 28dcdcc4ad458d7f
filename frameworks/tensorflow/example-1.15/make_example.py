"""Write ``model/``, ``request.json`` and ``response.json``: ``python make_example.py``.

Needs Python 3.7 with tensorflow-cpu 1.15.0 (or tensorflow) and what it brings, as in the image.

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
import tensorflow.compat.v1 as tf

HERE = Path(__file__).resolve().parent
SIZE = 8


def main() -> None:
    shutil.rmtree(HERE / "model", ignore_errors=True)
    save(train())
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


def train() -> list[np.ndarray]:
    """Train a small network for a few seconds; it need not be good, only real."""
    rng = np.random.default_rng(7)
    labels = rng.integers(0, 3, 600)
    images = np.stack([draw(rng, label) for label in labels])[..., np.newaxis]
    # One thread, for the same weights on every machine of one kind.
    config = tf.ConfigProto(intra_op_parallelism_threads=1, inter_op_parallelism_threads=1)
    with tf.Graph().as_default(), tf.Session(config=config) as session:
        tf.set_random_seed(7)
        logits = network(tf.constant(images, tf.float32))
        loss = tf.losses.sparse_softmax_cross_entropy(labels, logits)
        step = tf.train.AdamOptimizer(0.01).minimize(loss)
        session.run(tf.global_variables_initializer())
        for _ in range(200):
            session.run(step)
        return session.run(tf.trainable_variables())


def save(weights: list[np.ndarray]) -> None:
    """Save a graph without what was needed for training."""
    with tf.Graph().as_default(), tf.Session() as session:
        images = tf.placeholder(tf.float32, [None, SIZE, SIZE, 1])
        probabilities = tf.nn.softmax(network(images))
        for variable, value in zip(tf.trainable_variables(), weights):
            variable.load(value, session)
        tf.saved_model.simple_save(
            session, str(HERE / "model"), {"images": images}, {"probabilities": probabilities}
        )


def network(images: tf.Tensor) -> tf.Tensor:
    """Build the network up to the logits."""
    start = tf.glorot_uniform_initializer()
    kernels = tf.get_variable("kernels", [3, 3, 1, 4], initializer=start)
    offsets = tf.get_variable("offsets", [4], initializer=tf.zeros_initializer())
    weights = tf.get_variable("weights", [36, 3], initializer=start)
    bias = tf.get_variable("bias", [3], initializer=tf.zeros_initializer())
    edges = tf.nn.relu(tf.nn.conv2d(images, kernels, padding="VALID") + offsets)
    pooled = tf.nn.max_pool2d(edges, 2, 2, "VALID")
    return tf.reshape(pooled, [-1, 36]) @ weights + bias


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
    """Read the four weights from the SavedModel's checkpoint."""
    reader = tf.train.load_checkpoint(str(HERE / "model" / "variables" / "variables"))
    names = ("kernels", "offsets", "weights", "bias")
    return [reader.get_tensor(name).astype(float) for name in names]


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
