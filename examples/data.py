"""What the models of the examples learn from, made up and always the same, and what they are asked.

It needs numpy, which every image of a framework has. The random numbers are the same with every
numpy from 1.19 to 2.5.
"""

from __future__ import annotations

from typing import Any

import numpy as np

IRIS_ROWS = [
    [5.02, 3.41, 1.47, 0.22],
    [6.02, 2.72, 4.06, 1.27],
    [6.52, 3.07, 5.62, 2.12],
    [5.98, 2.72, 5.07, 1.68],
    [-3.3, -1.1, -20.7, -0.9],
    [1e6, 2.5e4, 1e5, 9999.5],
]

PUMP_FEATURES = ["temperature", "vibration", "pressure", "hours"]
PUMP_ROWS = [
    [61.3, 2.15, 4.33, 1210.0],
    [88.9, 6.72, 2.48, 7925.0],
    [74.1, 4.41, 3.52, 4015.0],
    [-40.5, -1.5, -3.25, -10.0],
    [1e6, 5e3, 9e4, 1e9],
    [79.7, None, 2.05, None],
    [None, None, None, None],
]

DEMAND_FEATURES = ["hour", "temperature", "humidity", "wind"]
DEMAND_ROWS = [
    [8.25, 17.31, 55.2, 11.7],
    [17.8, 24.63, 41.4, 6.1],
    [3.1, 4.27, 88.3, 21.2],
    [-5.2, -60.1, -10.3, -3.7],
    [1e6, 2.5e4, 1e9, 9e5],
    [12.2, None, 62.3, None],
    [None, None, None, None],
]

STRIPES = ["horizontal", "vertical", "diagonal"]
SIZE = 8


def pumps() -> tuple[Any, Any]:
    """Pumps, and which failed: heat, vibration and age wear them; one value in ten is missing."""
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


def demand() -> tuple[Any, Any]:
    """Hours of a year, and how many bicycles were hired: most when people go to work and back, and
    more when it is warm, dry and calm; one value in ten is missing."""
    rng = np.random.default_rng(7)
    hour = rng.uniform(0, 24, 800)
    temperature = rng.normal(14, 8, 800)
    humidity = rng.uniform(20, 100, 800)
    wind = rng.gamma(3, 4, 800)
    hired = (
        180 * np.exp(-((hour - 8) ** 2) / 4)
        + 240 * np.exp(-((hour - 17.5) ** 2) / 6)
        + 6 * temperature
        - 0.8 * humidity
        - 1.5 * wind
        + rng.normal(120, 15, 800)
    )
    features = np.column_stack([hour, temperature, humidity, wind])
    features[rng.random(features.shape) < 0.1] = np.nan
    return features, hired


def stripes() -> tuple[Any, Any]:
    """600 images of stripes, and which of STRIPES each shows, as a number."""
    rng = np.random.default_rng(7)
    labels = rng.integers(0, len(STRIPES), 600)
    return np.stack([_draw(rng, label) for label in labels]).astype(np.float32), labels


def stripes_images() -> Any:
    """One image of each class, two faint ones, a negative one and a glaring one."""
    rng = np.random.default_rng(11)
    images = [_draw(rng, label) for label in (0, 1, 2)]
    images += [_draw(rng, 0, 0.15), _draw(rng, 2, 0.1), -2 * _draw(rng, 1), 1000 * _draw(rng, 2)]
    return np.stack(images).round(2).tolist()


def _draw(rng: np.random.Generator, label: int, contrast: float = 0.5) -> Any:
    """Stripes across, down or slanted, at a random phase, with noise."""
    y, x = np.mgrid[:SIZE, :SIZE]
    along = (y, x, (x + y) * 0.7)[label]
    wave = np.sin(along * 1.3 + rng.uniform(0, 2 * np.pi))
    return 0.5 + contrast * wave + rng.normal(0, 0.15, (SIZE, SIZE))


def edge_images() -> Any:
    """Two clear images, a faint one, an empty one, a negative one and a glaring one."""
    rng = np.random.default_rng(7)
    down = np.repeat(np.sin(np.arange(SIZE) * 1.3)[:, np.newaxis], SIZE, axis=1)
    images = [
        0.5 + 0.5 * down,
        0.5 + 0.5 * down.T,
        0.5 + 0.07 * down.T,
        np.zeros((SIZE, SIZE)),
        -3 + 0.4 * down,
        1000 * down.T,
    ]
    return (rng.normal(0, 0.1, (6, SIZE, SIZE)) + np.stack(images)).round(2).tolist()
