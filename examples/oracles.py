"""What a model must answer, computed another way than its framework does.

With the standard library alone, in 64 bits or exactly, from the numbers that the model's file
holds. A response that the framework computed would compare it with itself.
"""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import chain
from typing import Any, NamedTuple, Sequence

Row = Sequence[Any]  # Numbers; None is a missing value.


class Split(NamedTuple):
    """A node of a decision tree. What is no Split is a leaf: its value."""

    feature: int
    threshold: float
    below: Any
    above: Any
    missing_below: bool = True


class Network(NamedTuple):
    """One convolution without padding, ReLU, pooling, and one dense layer upon it."""

    kernels: list[list[list[float]]]
    offsets: list[float]
    # Its features are one kernel after the other, each row by row.
    dense: list[list[float]]
    bias: list[float]
    # The greatest of each 2 x 2, or the mean of all.
    pooling: str = "max"


def linear(coefficients: Row, intercept: float, row: Row) -> float:
    """What a linear model predicts, in rational numbers."""
    products = (Fraction(c) * Fraction(x) for c, x in zip(coefficients, row))
    return float(Fraction(intercept) + sum(products))


def additive(trees: Sequence[Any], row: Row) -> float:
    """The sum of the leaves that a row falls into."""
    return math.fsum(leaf(tree, row) for tree in trees)


def shares(trees: Sequence[Any], row: Row) -> list[float]:
    """The mean of the leaves that a row falls into, each of which has a share for each class."""
    leaves = [leaf(tree, row) for tree in trees]
    return [math.fsum(column) / len(trees) for column in zip(*leaves)]


def leaf(tree: Any, row: Row) -> Any:
    """The leaf that a row falls into.

    Raises ValueError for a value next to a threshold, where the framework's rounding to 32 bits
    could decide: such a row is no use in an example.
    """
    while isinstance(tree, Split):
        value = row[tree.feature]
        if value is None:
            below = tree.missing_below
        elif abs(value - tree.threshold) <= 1e-5 * max(1.0, abs(tree.threshold)):
            raise ValueError(f"{value} is too close to the split at {tree.threshold}")
        else:
            below = value < tree.threshold
        tree = tree.below if below else tree.above
    return tree


def logistic(margin: float) -> float:
    """The probability that belongs to a sum of log odds."""
    return 1 / (1 + math.exp(-margin))


def convolution(network: Network, image: Sequence[Row]) -> list[float]:
    """The probabilities of the classes, by loops over the positions."""
    features: list[float] = []
    for kernel, offset in zip(network.kernels, network.offsets):
        width = len(image) - len(kernel) + 1
        edges = [[_edge(kernel, offset, image, y, x) for x in range(width)] for y in range(width)]
        if network.pooling == "mean":
            features.append(math.fsum(chain.from_iterable(edges)) / width**2)
        else:
            steps = range(0, width, 2)
            features += [
                max(edges[y][x : x + 2] + edges[y + 1][x : x + 2]) for y in steps for x in steps
            ]
    logits = [
        math.fsum([bias, *(w * value for w, value in zip(weights, features))])
        for weights, bias in zip(network.dense, network.bias)
    ]
    powers = [math.exp(logit - max(logits)) for logit in logits]
    return [power / math.fsum(powers) for power in powers]


def _edge(kernel: Sequence[Row], offset: float, image: Sequence[Row], y: int, x: int) -> float:
    products = [
        weight * image[y + i][x + j]
        for i, weights in enumerate(kernel)
        for j, weight in enumerate(weights)
    ]
    return max(0.0, math.fsum([offset, *products]))


def classified(classes: Sequence[str], probabilities: Sequence[Sequence[float]]) -> dict[str, Any]:
    """The response of a classifier."""
    return {
        "predictions": [classes[row.index(max(row))] for row in probabilities],
        "classes": list(classes),
        "probabilities": probabilities,
    }
