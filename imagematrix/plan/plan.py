"""Which images have to be built, and why."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from imagematrix.matrix.variant import Variant
from imagematrix.plan.content import KEY_LABEL, Content
from imagematrix.plan.reasons import differences


class Action(StrEnum):
    """What `build` does with an image."""

    BUILD = "build"
    FRESH = "fresh"
    UNAVAILABLE = "unavailable"


@dataclass(frozen=True)
class Step:
    """One image of a plan. `reasons` is empty for a fresh image only."""

    variant: Variant
    action: Action
    reasons: tuple[str, ...]
    content: Content

    @property
    def key(self) -> str:
        """The key that the image has, or will have."""
        return self.content.key


def make_plan(
    variants: Sequence[Variant],
    contents: Mapping[str, Content],
    present_labels: Mapping[str, Mapping[str, str]],
    unavailable: Mapping[str, str],
    *,
    force: bool = False,
) -> tuple[Step, ...]:
    """One step for each image, parents before their children.

    `present_labels` holds the labels of the images that the engine has, `unavailable` the reason
    for each image that cannot be built on this machine.
    """
    steps: dict[str, Step] = {}
    for variant in variants:
        wanted = contents[variant.name]
        labels = present_labels.get(variant.name)
        parent = steps.get(variant.parent) if variant.parent else None
        reasons: tuple[str, ...]
        if labels is not None and labels.get(KEY_LABEL) == wanted.key and not force:
            action, reasons = Action.FRESH, ()
        elif parent is not None and parent.action is Action.UNAVAILABLE:
            reasons = (f"its parent {parent.variant.name} is unavailable",)
            action = Action.UNAVAILABLE
        elif variant.name in unavailable:
            action, reasons = Action.UNAVAILABLE, (unavailable[variant.name],)
        else:
            action, reasons = Action.BUILD, _reasons(variant, wanted, labels, force)
        steps[variant.name] = Step(variant, action, reasons, wanted)
    return tuple(steps.values())


def _reasons(
    variant: Variant, wanted: Content, labels: Mapping[str, str] | None, force: bool
) -> tuple[str, ...]:
    if labels is None:
        return ("no such image yet",)
    return ("forced",) if force else differences(variant, wanted, labels)
