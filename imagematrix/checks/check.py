"""What a check is, and which of them an image has: a check belongs to a layer; an image has the
checks of its own layer and of those that it is based on.
"""

from collections.abc import Callable, Iterable
from typing import TypeVar

from imagematrix.checks.running import RunningVariant
from imagematrix.matrix.schema import MINIMAL, Accelerator
from imagematrix.matrix.variant import Variant

# Some return what they found, for people.
Check = Callable[[RunningVariant], str | None]


class NoGpuError(Exception):
    """The check needs a GPU, and there is none: it is skipped, and counted."""


BY_LAYER: dict[str, list[Check]] = {MINIMAL: [], "framework": [], "cpu": [], "cuda": []}


def checks_of(variant: Variant) -> tuple[Check, ...]:
    """The checks of an image: those of its layer and its accelerator, after those of the layers
    below it."""
    layers = [MINIMAL] if variant.parent is None else [MINIMAL, "framework"]
    layers.append("cpu" if variant.accelerator is Accelerator.CPU else "cuda")
    return tuple(check for layer in layers for check in BY_LAYER[layer])


_Given = TypeVar("_Given", bound=Check)


def layer(name: str) -> Callable[[_Given], _Given]:
    def add(check: _Given) -> _Given:
        BY_LAYER[name].append(check)
        return check

    return add


def listing(paths: Iterable[str]) -> str:
    found = sorted(paths)
    more = f" and {len(found) - 8} more" if len(found) > 8 else ""
    return ", ".join(found[:8]) + more
