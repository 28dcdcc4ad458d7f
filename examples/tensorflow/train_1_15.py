"""The same network as `train`, by graphs and sessions.

A CPU's kind decides the last bits of what is trained, so the weights are rounded to hundredths.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tensorflow.compat.v1 as tf

from examples import data
from examples.tensorflow.train import MODEL, ROWS, SAME_BYTES, network_of, respond

__all__ = ["MODEL", "ROWS", "SAME_BYTES", "respond", "train", "weights"]


def train(path: Path) -> None:
    """Trains on made-up stripes, and saves a graph without what only training needs."""
    with tf.Graph().as_default(), tf.Session() as session:
        images = tf.placeholder(tf.float32, [None, data.SIZE, data.SIZE, 1])
        probabilities = tf.nn.softmax(logits_of(images))
        for variable, value in zip(tf.trainable_variables(), fit()):
            variable.load(value.round(2), session)
        tf.saved_model.simple_save(
            session, str(path), {"images": images}, {"probabilities": probabilities}
        )


def fit() -> Any:
    """The four weights, trained for some seconds: they need not be good, only real."""
    images, labels = data.stripes()
    config = tf.ConfigProto(intra_op_parallelism_threads=1, inter_op_parallelism_threads=1)
    with tf.Graph().as_default(), tf.Session(config=config) as session:
        tf.set_random_seed(7)
        logits = logits_of(tf.constant(images[..., None]))
        loss = tf.losses.sparse_softmax_cross_entropy(labels, logits)
        step = tf.train.AdamOptimizer(0.01).minimize(loss)
        session.run(tf.global_variables_initializer())
        for _ in range(200):
            session.run(step)
        return session.run(tf.trainable_variables())


def logits_of(images: Any) -> Any:
    """The network up to its logits."""
    start = tf.glorot_uniform_initializer()
    kernels = tf.get_variable("kernels", [3, 3, 1, 4], initializer=start)
    offsets = tf.get_variable("offsets", [4], initializer=tf.zeros_initializer())
    dense = tf.get_variable("weights", [36, 3], initializer=start)
    bias = tf.get_variable("bias", [3], initializer=tf.zeros_initializer())
    edges = tf.nn.relu(tf.nn.conv2d(images, kernels, padding="VALID") + offsets)
    pooled = tf.nn.max_pool2d(edges, 2, 2, "VALID")
    return tf.reshape(pooled, [-1, 36]) @ dense + bias


def weights(path: Path) -> Any:
    """The four weights."""
    reader = tf.train.load_checkpoint(str(path / "variables" / "variables"))
    return network_of(*map(reader.get_tensor, ("kernels", "offsets", "weights", "bias")))
