"""Horizontal, vertical and diagonal stripes: a small network of Keras, as a SavedModel.

A CPU's kind decides the last bits of what is trained, so the weights are rounded to hundredths.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tensorflow as tf

from examples import data, oracles

MODEL = "model"
# It holds a UUID, and its variables in the order of their addresses in memory.
SAME_BYTES = False
ROWS = data.stripes_images()


def train(path: Path) -> None:
    """Trains on made-up stripes for some seconds: it need not be good, only real."""
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    images, labels = data.stripes()
    start = tf.keras.initializers.GlorotUniform(seed=7)
    layers = tf.keras.layers
    model = tf.keras.Sequential(
        [
            tf.keras.Input((data.SIZE, data.SIZE, 1), name="images"),
            layers.Conv2D(4, 3, activation="relu", kernel_initializer=start),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dense(3, activation="softmax", kernel_initializer=start, name="probabilities"),
        ]
    )
    model.compile(tf.keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
    model.fit(images[..., None], labels, batch_size=50, epochs=16, shuffle=False, verbose=0)
    model.set_weights([weights.round(2) for weights in model.get_weights()])
    if hasattr(model, "export"):
        model.export(path, verbose=False)
    else:
        # Keras 2: the same network without its optimizer, of which serving has no need.
        tf.keras.Model(model.inputs, model.outputs).save(path)


def weights(path: Path) -> Any:
    """The four weights, each of which has a shape of its own."""
    reader = tf.train.load_checkpoint(str(path / "variables" / "variables"))
    names = {tuple(shape): name for name, shape in reader.get_variable_to_shape_map().items()}
    shapes = [(3, 3, 1, 4), (4,), (36, 3), (3,)]
    return network_of(*(reader.get_tensor(names[shape]) for shape in shapes))


def network_of(kernels: Any, offsets: Any, dense: Any, bias: Any) -> oracles.Network:
    """The four weights as the oracle takes them: TensorFlow has the kernels last, classes too."""
    return oracles.Network(
        kernels[:, :, 0].transpose(2, 0, 1).tolist(),
        offsets.tolist(),
        dense.reshape(3, 3, 4, 3).transpose(3, 2, 0, 1).reshape(3, 36).tolist(),
        bias.tolist(),
    )


def respond(weights: Any, rows: Any) -> dict[str, Any]:
    """The response, without TensorFlow."""
    return oracles.classified(data.STRIPES, [oracles.convolution(weights, row) for row in rows])
