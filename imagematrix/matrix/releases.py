"""The releases of a matrix, each with what it has of its track and its sets.

They are read from a document that may be wrong, so that one error does not hide those of another
kind: what can be read is here, and what cannot is known to be missing.
"""

import datetime
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from packaging.requirements import InvalidRequirement
from packaging.utils import canonicalize_name
from pydantic import TypeAdapter, ValidationError

from imagematrix.matrix.document import KeyPath
from imagematrix.matrix.names import Cell, Pinned
from imagematrix.matrix.schema import (
    MINIMAL,
    Accelerator,
    Pythons,
    ReleaseSpec,
    Section,
    Track,
    TrackSpec,
    parsed_requirement,
)


@dataclass(frozen=True)
class Release:
    """A release, with what it has of its track and its sets.

    `pythons` are pairs of a Python and the place where it is written. `supported_until` stands at
    `support_path`, or should; that is None where the track cannot be read. Pins and sets that
    cannot be read are left out; `whole` says that there are none.
    """

    framework: str
    path: KeyPath
    spec: ReleaseSpec
    package: str
    pythons: tuple[tuple[str, KeyPath], ...]
    accelerators: tuple[Accelerator, ...]
    supported_until: datetime.date | None
    support_path: KeyPath | None
    pins: tuple[Pinned, ...]
    whole: bool


@dataclass(frozen=True)
class Parts:
    """What can be read of a matrix, so that one error does not hide those of another kind.

    `broken` names the frameworks that have a release which cannot be read. It is None where the
    frameworks themselves cannot be, and so are the names of the other sections.
    """

    releases: Sequence[Release]
    pythons: Sequence[str] | None
    tracks: Sequence[str] | None
    indexes: Sequence[str] | None
    sets: Sequence[str] | None
    broken: frozenset[str] | None

    @property
    def has_all_of_minimal(self) -> bool:
        """Whether every release that others are based on could be read."""
        return self.broken is not None and MINIMAL not in self.broken


def read_parts(data: Any) -> Parts:
    """What can be read of the data of a matrix, whatever that is."""
    data = data if isinstance(data, dict) else {}
    releases, broken = [], set()
    sections = {
        **{key: data.get(key) for key in ("debian", "tracks")},
        **{key: data.get(key, {}) for key in ("indexes", "sets")},
    }
    frameworks = data.get("frameworks")
    for name, framework in frameworks.items() if isinstance(frameworks, dict) else ():
        items = framework.get("releases") if isinstance(framework, dict) else None
        for i in range(len(items) if isinstance(items, list) else 0):
            release = _release(name, i, framework, sections)
            if release is not None:
                releases.append(release)
            else:
                broken.add(name)
        if not items or not isinstance(items, list):
            broken.add(name)
    names = {
        key: list(section) if isinstance(section, dict) else None
        for key, section in sections.items()
    }
    # What stands under a wrong name may be what a release asks for.
    if not names["tracks"] or not set(names["tracks"]) <= set(Track):
        names["tracks"] = None
    return Parts(
        releases,
        _pythons(sections["debian"]),
        names["tracks"],
        names["indexes"],
        names["sets"],
        frozenset(broken) if isinstance(frameworks, dict) else None,
    )


def _pythons(debian: Any) -> Sequence[str] | None:
    try:
        read = TypeAdapter(dict[str, Pythons]).validate_python(debian)
    except ValidationError:
        return None
    return [python for of_suite in read.values() for python in of_suite] or None


def _release(
    framework: str, place: int, section: Mapping[str, Any], sections: Mapping[str, Any]
) -> Release | None:
    """A release as far as it can be read; None where its images cannot be known."""
    path: KeyPath = ("frameworks", framework, "releases", place)
    item = section["releases"][place]
    # Pins are looked at one by one: a wrong one does not make the release unreadable.
    spec = _read(ReleaseSpec, item, pins=["any==0"])
    if not isinstance(spec, ReleaseSpec):
        return None
    pythons, accelerators, of_python = spec.pythons, spec.accelerators, path
    until = spec.supported_until
    of_until: KeyPath | None = (*path, "supported_until")
    if pythons is None or accelerators is None or until is None:
        tracks = sections["tracks"]
        declared = tracks.get(str(spec.track)) if isinstance(tracks, dict) else None
        track = _read(TrackSpec, declared)
        of_track: KeyPath = ("tracks", str(spec.track))
        if isinstance(track, TrackSpec):
            if pythons is None:
                pythons, of_python = track.pythons, of_track
            accelerators = accelerators or track.accelerators
            if until is None:
                until, of_until = track.supported_until, (*of_track, "supported_until")
        elif pythons is None or accelerators is None:
            return None
        elif until is None:
            of_until = None
    package = section.get("package") or framework
    named = isinstance(package, str) and package == canonicalize_name(package)
    placed = list(_placed_pins(path, item, dict.fromkeys(spec.sets), sections["sets"]))
    pins = [pin for pin in placed if _is_requirement(pin.text)]
    return Release(
        framework,
        path,
        spec,
        package if named else framework,
        tuple((python, (*of_python, "pythons", i)) for i, python in enumerate(pythons)),
        tuple(accelerators),
        until,
        of_until,
        tuple(pins),
        pins == placed and bool(item.get("pins")) and named,
    )


def _placed_pins(
    path: KeyPath, item: Mapping[str, Any], used: Iterable[str], sets: Any
) -> Iterator[Pinned]:
    """The pins of a release, its own before those of its sets; also what is no pin at all."""
    lists: list[tuple[KeyPath, Any]] = [((*path, "pins"), item.get("pins"))]
    lists += [(("sets", name), sets.get(name) if isinstance(sets, dict) else None) for name in used]
    for where, pins in lists:
        for i, pin in enumerate(pins if isinstance(pins, list) else [None]):
            yield Pinned(pin, (*where, i))


def _is_requirement(pin: Any) -> bool:
    try:
        parsed_requirement(pin)
    except (InvalidRequirement, TypeError):
        return False
    return True


def _read(section: type[Section], value: Any, **instead: Any) -> Section | None:
    """A section without the keys that are unknown, None where it still cannot be read."""
    if not isinstance(value, dict):
        return None
    known = {key: value[key] for key in value if key in section.model_fields}
    try:
        return section.model_validate({**known, **instead})
    except ValidationError:
        return None


def cells_of(parts: Parts) -> Iterator[Cell]:
    """The images of the releases: one for each of their Pythons on each of their accelerators."""
    for release in parts.releases:
        for (python, _), accelerator in itertools.product(release.pythons, release.accelerators):
            yield Cell(
                release.framework,
                release.path,
                release.spec,
                python,
                accelerator,
                release.pins,
                release.supported_until,
                release.support_path or release.path,
            )


def release_items(frameworks: Any) -> Iterator[tuple[KeyPath, Mapping[str, Any]]]:
    """The releases as they were typed, those that cannot be read as well, with their places."""
    for name, framework in frameworks.items() if isinstance(frameworks, dict) else ():
        items = framework.get("releases") if isinstance(framework, dict) else None
        for i, item in enumerate(items) if isinstance(items, list) else ():
            if isinstance(item, dict):
                yield ("frameworks", name, "releases", i), item
