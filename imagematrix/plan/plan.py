"""The plan: which images have to be built, and why."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from imagematrix.matrix.variant import Variant
from imagematrix.plan.content import KEY_LABEL, Content, Present
from imagematrix.plan.reasons import differences, parent_changes


class Action(StrEnum):
    """What `build` does with an image."""

    BUILD = "build"
    UP_TO_DATE = "up to date"
    UNAVAILABLE = "unavailable"


@dataclass(frozen=True)
class Step:
    """One image of a plan.

    Only an image that is up to date has no `reasons`; `layers` are then its layers, where known.
    With `no_cache` it takes no step from BuildKit's cache, which has the packages of another day.
    """

    variant: Variant
    action: Action
    reasons: tuple[str, ...]
    content: Content
    layers: tuple[str, ...] | None = None
    no_cache: bool = False

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
    pending: Mapping[str, str] | None = None,
) -> tuple[Step, ...]:
    """One step for each image, parents before their children.

    `present` holds the existing images, `unavailable` the reason for each image that cannot be
    built on this machine. An image with the right key is built all the same if its parent is built,
    if it is not based on the present layers of its parent, or if `pending` has a reason for it: the
    security fixes that it lacks.
    """
    pending = pending or {}
    steps: dict[str, Step] = {}
    for variant in variants:
        wanted, image = contents[variant.name], present.get(variant.name)
        parent = steps.get(variant.parent) if variant.parent else None
        fixes = pending.get(variant.name, "") if image is not None else ""
        reasons = _reasons(variant, wanted, image, parent, present, force, fixes)
        layers = None
        if not reasons:
            action, layers = Action.UP_TO_DATE, image.layers if image else None
        elif parent is not None and parent.action is Action.UNAVAILABLE:
            reasons = (f"its parent {parent.variant.name} is unavailable",)
            action = Action.UNAVAILABLE
        elif variant.name in unavailable:
            action, reasons = Action.UNAVAILABLE, (unavailable[variant.name],)
        else:
            action = Action.BUILD
        no_cache = bool(fixes) and action is Action.BUILD
        steps[variant.name] = Step(variant, action, reasons, wanted, layers, no_cache)
    return tuple(steps.values())


def _reasons(
    variant: Variant,
    wanted: Content,
    image: Present | None,
    parent: Step | None,
    present: Mapping[str, Present],
    force: bool,
    fixes: str,
) -> tuple[str, ...]:
    """Why an image has to be built; nothing if it is up to date."""
    if image is None:
        return ("no such image yet",)
    if force:
        return ("forced",)
    found = [fixes] if fixes else []
    if image.labels.get(KEY_LABEL) != wanted.key:
        found += differences(variant, wanted, image.labels)
    if parent is not None and parent.action is Action.BUILD:
        found.append(parent_changes(variant))
    elif parent is not None and parent.action is Action.UP_TO_DATE:
        name = parent.variant.name
        if not image.is_on(present[name]):
            found.append(f"its parent {name} was rebuilt")
    return tuple(dict.fromkeys(found))
