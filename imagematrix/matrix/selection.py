"""Which images of a matrix a command is about."""

import difflib
import fnmatch
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from packaging.version import Version

from imagematrix.errors import UserError
from imagematrix.matrix.schema import Accelerator, Track
from imagematrix.matrix.variant import Variant


@dataclass(frozen=True)
class Selection:
    """Which images a command is about: names or shell patterns, a track, accelerators.

    With nothing given it is the current CPU images; `everything` lifts that. Accelerators alone are
    those of the current track, a track alone is all of it.
    """

    patterns: tuple[str, ...] = ()
    everything: bool = False
    track: Track | None = None
    accelerators: tuple[Accelerator, ...] = ()


def select(variants: Sequence[Variant], selection: Selection) -> tuple[Variant, ...]:
    """The selected images, in the order of `variants`.

    Raises UserError for a pattern that matches no image, with the nearest names, and for a
    selection that is empty.
    """
    names = [variant.name for variant in variants]
    unmatched = [p for p in selection.patterns if not fnmatch.filter(names, p)]
    if unmatched:
        raise UserError("\n".join(_no_match(pattern, names) for pattern in unmatched))
    anything = bool(selection.patterns) or selection.everything
    track = selection.track or (None if anything else Track.CURRENT)
    accelerators = selection.accelerators
    if not (accelerators or anything or selection.track):
        accelerators = (Accelerator.CPU,)
    chosen = tuple(
        variant
        for variant in variants
        if (not selection.patterns or _matches_any(variant.name, selection.patterns))
        and track in (None, variant.track)
        and (not accelerators or variant.accelerator in accelerators)
    )
    if not chosen:
        raise UserError("the selection holds no image; see `nox -s build -- --help`")
    return chosen


def _matches_any(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def _no_match(pattern: str, names: list[str]) -> str:
    near = difflib.get_close_matches(pattern, names, n=3, cutoff=0.3)
    near = near or [name for name in names if pattern.strip("*?") in name][:3] or names[:3]
    return f"no image matches {pattern!r}; the nearest names: {', '.join(near)}"


def with_parents(chosen: Iterable[Variant], variants: Sequence[Variant]) -> tuple[Variant, ...]:
    """The chosen images and all that they are based on, in the order of `variants`."""
    by_name = {variant.name: variant for variant in variants}
    needed: set[str] = set()
    for variant in chosen:
        current: Variant | None = variant
        while current is not None and current.name not in needed:
            needed.add(current.name)
            current = by_name[current.parent] if current.parent else None
    return tuple(variant for variant in variants if variant.name in needed)


def newest(
    variants: Sequence[Variant],
    framework: str,
    accelerator: Accelerator = Accelerator.CPU,
    track: Track = Track.CURRENT,
) -> Variant | None:
    """The newest image of a kind, on the Python that most images of its track have; None where
    there is no image of that kind."""
    of_track = [variant for variant in variants if variant.track is track]
    pythons = Counter(variant.python for variant in of_track)
    of_kind = [v for v in of_track if (v.framework, v.accelerator) == (framework, accelerator)]
    return max(
        of_kind,
        key=lambda variant: (Version(variant.version or "0"), pythons[variant.python]),
        default=None,
    )


def successor(variant: Variant, variants: Sequence[Variant]) -> Variant | None:
    """The current image that replaces a historical one: the newest of its framework and
    accelerator. None where there is no such image, and for a current image."""
    if variant.track is Track.CURRENT:
        return None
    return newest(variants, variant.framework, variant.accelerator)
