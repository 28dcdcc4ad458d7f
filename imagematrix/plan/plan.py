"""Which images have to be built, and why."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from imagematrix.matrix.variant import Variant
from imagematrix.plan.content import KEY_LABEL, Content, Present
from imagematrix.plan.reasons import differences, parent_changes


class Action(StrEnum):
    """What `build` does with an image."""

    BUILD = "build"
    FRESH = "fresh"
    UNAVAILABLE = "unavailable"


@dataclass(frozen=True)
class Step:
    """One image of a plan. `reasons` is empty for a fresh image only, of which `layers` are those
    that it has, where they are known."""

    variant: Variant
    action: Action
    reasons: tuple[str, ...]
    content: Content
    layers: tuple[str, ...] | None = None

    @property
    def key(self) -> str:
        """The key that the image has, or will have."""
        return self.content.key


def make_plan(
    variants: Sequence[Variant],
    contents: Mapping[str, Content],
    present: Mapping[str, Present],
    unavailable: Mapping[str, str],
    *,
    force: bool = False,
) -> tuple[Step, ...]:
    """One step for each image, parents before their children.

    `present` holds the images that are there, `unavailable` the reason for each image that cannot
    be built on this machine. An image whose own content is as described is built all the same where
    its parent is, or where it is not on the layers that its parent has now.
    """
    steps: dict[str, Step] = {}
    for variant in variants:
        wanted, image = contents[variant.name], present.get(variant.name)
        parent = steps.get(variant.parent) if variant.parent else None
        reasons = _reasons(variant, wanted, image, parent, present, force)
        layers = None
        if not reasons:
            action, layers = Action.FRESH, image.layers if image else None
        elif parent is not None and parent.action is Action.UNAVAILABLE:
            reasons = (f"its parent {parent.variant.name} is unavailable",)
            action = Action.UNAVAILABLE
        elif variant.name in unavailable:
            action, reasons = Action.UNAVAILABLE, (unavailable[variant.name],)
        else:
            action = Action.BUILD
        steps[variant.name] = Step(variant, action, reasons, wanted, layers)
    return tuple(steps.values())


def _reasons(
    variant: Variant,
    wanted: Content,
    image: Present | None,
    parent: Step | None,
    present: Mapping[str, Present],
    force: bool,
) -> tuple[str, ...]:
    """Why an image is to be built, nothing for a fresh one."""
    if image is None:
        return ("no such image yet",)
    if force:
        return ("forced",)
    found: list[str] = []
    if image.labels.get(KEY_LABEL) != wanted.key:
        found += differences(variant, wanted, image.labels)
    if parent is not None and parent.action is Action.BUILD:
        found.append(parent_changes(variant))
    elif parent is not None and parent.action is Action.FRESH:
        name = parent.variant.name
        if not image.is_on(present[name]):
            found.append(f"its parent {name} was rebuilt")
    return tuple(dict.fromkeys(found))
