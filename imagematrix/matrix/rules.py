"""Whether a matrix is right: what the form of its values alone does not say.

`load_matrix` gives a Matrix that later stages may rely on, or every error of the file at once.
What the files beside it (templates, locks) say about a matrix is the business of `tree.py`.
"""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePath
from typing import Any

from packaging.requirements import InvalidRequirement
from packaging.utils import canonicalize_name
from pydantic import TypeAdapter, ValidationError

from imagematrix.errors import Diagnostic, InputError
from imagematrix.matrix.document import Document, KeyPath, path_text, read_document
from imagematrix.matrix.messages import nearest, schema_diagnostics
from imagematrix.matrix.names import Cell, Pinned, name_of, parent_of
from imagematrix.matrix.schema import (
    MINIMAL,
    Accelerator,
    MatrixSpec,
    Pythons,
    ReleaseSpec,
    Section,
    Suite,
    Track,
    TrackSpec,
    parsed_requirement,
)


@dataclass(frozen=True)
class Matrix:
    """A valid matrix, with the document it was read from."""

    spec: MatrixSpec
    document: Document
    cells: tuple[Cell, ...]

    @cached_property
    def by_folder(self) -> dict[str, Cell]:
        """The cell of each image, by the name of its folder."""
        return {name_of(cell): cell for cell in self.cells}

    @cached_property
    def suites(self) -> dict[str, Suite]:
        """The Debian release under each Python."""
        return {python: suite for suite, pythons in self.spec.debian.items() for python in pythons}


def load_matrix(path: Path, shown_as: PurePath | None = None) -> Matrix:
    """Reads and validates a matrix.

    Raises InputError with every error that can be told from the file alone.
    """
    document = read_document(path, shown_as or PurePath(path.name))
    errors = list(document.errors)
    spec = None
    try:
        spec = MatrixSpec.model_validate(document.data)
    except ValidationError as error:
        errors += schema_diagnostics(document, MatrixSpec, error)
    parts = _parts(document.data)
    cells = tuple(_cells(parts))
    for rule in _RULES:
        errors += rule(parts, document)
    errors += _name_errors(document, cells)
    errors += _parent_errors(parts, document, cells)
    if spec is not None and not parts.broken:
        errors += _unused(spec, parts, document)
    if spec is None or errors:
        raise InputError(errors)
    return Matrix(spec, document, cells)


@dataclass(frozen=True)
class _Release:
    """A release, with what it has of its track and its sets.

    `pythons` and `accelerators` are pairs of a value and the place that it comes from. Pins and
    sets that cannot be read are left out; `whole` says that there are none.
    """

    framework: str
    path: KeyPath
    spec: ReleaseSpec
    package: str
    pythons: tuple[tuple[str, KeyPath], ...]
    accelerators: tuple[Accelerator, ...]
    pins: tuple[Pinned, ...]
    whole: bool


@dataclass(frozen=True)
class _Parts:
    """What can be read of a matrix, so that one error does not hide those of another kind.

    `broken` names the frameworks that have a release which cannot be read, None stands for any;
    the names of the sections are None likewise.
    """

    releases: Sequence[_Release]
    pythons: Sequence[str] | None
    tracks: Sequence[str] | None
    indexes: Sequence[str] | None
    sets: Sequence[str] | None
    broken: frozenset[str] | None

    @property
    def has_all_of_minimal(self) -> bool:
        """Whether every release that others are layered on could be read."""
        return self.broken is not None and MINIMAL not in self.broken


def _parts(data: Any) -> _Parts:
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
    return _Parts(
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
) -> _Release | None:
    """A release as far as it can be read; None where its images cannot be known."""
    path: KeyPath = ("frameworks", framework, "releases", place)
    item = section["releases"][place]
    # Pins are looked at one by one: a wrong one does not make the release unreadable.
    spec = _read(ReleaseSpec, item, pins=["any==0"])
    if not isinstance(spec, ReleaseSpec):
        return None
    pythons, accelerators, of_python = spec.pythons, spec.accelerators, path
    if pythons is None or accelerators is None:
        tracks = sections["tracks"]
        declared = tracks.get(str(spec.track)) if isinstance(tracks, dict) else None
        track = _read(TrackSpec, declared)
        if not isinstance(track, TrackSpec):
            return None
        if pythons is None:
            pythons, of_python = track.pythons, ("tracks", str(spec.track))
        accelerators = accelerators or track.accelerators
    package = section.get("package") or framework
    named = isinstance(package, str) and package == canonicalize_name(package)
    placed = list(_placed_pins(path, item, dict.fromkeys(spec.sets), sections["sets"]))
    pins = [pin for pin in placed if _is_requirement(pin.text)]
    return _Release(
        framework,
        path,
        spec,
        package if named else framework,
        tuple((python, (*of_python, "pythons", i)) for i, python in enumerate(pythons)),
        tuple(accelerators),
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


def _cells(parts: _Parts) -> Iterator[Cell]:
    for release in parts.releases:
        for (python, _), accelerator in itertools.product(release.pythons, release.accelerators):
            yield Cell(
                release.framework, release.path, release.spec, python, accelerator, release.pins
            )


def _undeclared(parts: _Parts, document: Document) -> Iterator[Diagnostic]:
    """Names that no section has."""
    declared: Mapping[str, Sequence[str] | None]
    declared = {"track": parts.tracks, "index": parts.indexes, "set": parts.sets}
    frameworks = document.data.get("frameworks") if isinstance(document.data, dict) else None
    for path, item in _release_items(frameworks):
        track = _text(item.get("track", Track.CURRENT.value))
        sets = item.get("sets")
        used = [
            ("track", track, (*path, "track")),
            ("index", _text(item.get("index")), (*path, "index")),
            *(
                ("set", _text(name), (*path, "sets", i))
                for i, name in enumerate(sets if isinstance(sets, list) else ())
            ),
        ]
        for kind, name, at in used:
            known = declared[kind]
            unknown_track = kind == "track" and name not in list(Track)
            if name is None or known is None or name in known or unknown_track:
                continue
            section = {"track": "tracks", "index": "indexes", "set": "sets"}[kind]
            hint = nearest(name, list(known)) if kind != "track" else ""
            message = f"{kind} {name} is not declared"
            yield document.diagnostic(at, message, hint or f"add it under {section}")
    for python, at in dict.fromkeys(pair for release in parts.releases for pair in release.pythons):
        if parts.pythons is not None and python not in parts.pythons:
            hint = f"add it under debian (there: {', '.join(map(str, parts.pythons))})"
            yield document.diagnostic(at, f"Python {python} is not declared", hint)


def _release_items(frameworks: Any) -> Iterator[tuple[KeyPath, Mapping[str, Any]]]:
    for name, framework in frameworks.items() if isinstance(frameworks, dict) else ():
        items = framework.get("releases") if isinstance(framework, dict) else None
        for i, item in enumerate(items) if isinstance(items, list) else ():
            if isinstance(item, dict):
                yield ("frameworks", name, "releases", i), item


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _pins_twice(parts: _Parts, document: Document) -> Iterator[Diagnostic]:
    for release in parts.releases:
        sets = release.spec.sets
        for i in (i for i, name in enumerate(sets) if name in sets[:i]):
            at = (*release.path, "sets", i)
            yield document.diagnostic(at, f"the set {sets[i]} is named twice", "keep one of them")
        first: dict[str, Pinned] = {}
        for pin in release.pins:
            package = canonicalize_name(parsed_requirement(pin.text).name)
            before = first.setdefault(package, pin)
            if before is pin:
                continue
            shown, at = pin.text, pin.path
            # What a set has is right by itself, and here it is one too many.
            if pin.path[:-1] != before.path[:-1]:
                shown += f" of the set {pin.path[1]}"
                at = (*release.path, "sets", sets.index(str(pin.path[1])))
            message = f"{package} is pinned twice ({before.text} and {shown})"
            yield document.diagnostic(at, message, "keep one of them")


def _other_versions(parts: _Parts, document: Document) -> Iterator[Diagnostic]:
    """The version of a release is in its images' names, and its framework's package is pinned."""
    for release in parts.releases:
        spec = release.spec
        if release.framework == MINIMAL or spec.version is None:
            continue
        packages = [release.package, f"{release.package}-cpu", f"{release.package}-gpu"]
        pins = [
            pin
            for pin in release.pins
            if canonicalize_name(parsed_requirement(pin.text).name) in packages
        ]
        if not pins and release.whole:
            message = f"pins none of {', '.join(packages)}"
            hint = f"pin it, or name the package of {release.framework} with `package`"
            yield document.diagnostic((*release.path, "pins"), message, hint)
        wanted = spec.package_version or spec.version
        key = "package_version" if spec.package_version else "version"
        for pin in pins:
            if not parsed_requirement(pin.text).specifier:
                continue
            held = _exact_version(pin.text)
            if held is None:
                message = f"{pin.text} may be of another version than {wanted}"
                yield document.diagnostic(pin.path, message, "pin it with ==")
            elif held.split(".")[: wanted.count(".") + 1] != wanted.split("."):
                message = f"{pin.text} is not of the {key} {wanted} of this release"
                yield document.diagnostic(pin.path, message, "change one of them")


def _exact_version(pin: str) -> str | None:
    """The one version that a pin admits, or its beginning (`==4.7.*`), without the local part."""
    specifiers = list(parsed_requirement(pin).specifier)
    if len(specifiers) != 1 or specifiers[0].operator not in ("==", "==="):
        return None
    return specifiers[0].version.removesuffix(".*").partition("+")[0]


def _cuda_errors(parts: _Parts, document: Document) -> Iterator[Diagnostic]:
    for release in parts.releases:
        on_cpu = Accelerator.CPU in release.accelerators
        if release.spec.cuda_image is not None and on_cpu:
            message = "CUDA libraries are of no use to an image on the CPU"
            hint = "give the images with CUDA a release of their own"
            yield document.diagnostic((*release.path, "cuda_image"), message, hint)
        if release.spec.bundled_cuda is not None and release.accelerators != (Accelerator.CPU,):
            message = "is for images on the CPU: what others hold, their lock tells"
            yield document.diagnostic((*release.path, "bundled_cuda"), message, "remove it")


def _of_minimal(parts: _Parts, document: Document) -> Iterator[Diagnostic]:
    """What the images that all others are layered on have in their template."""
    frameworks = document.data.get("frameworks") if isinstance(document.data, dict) else None
    minimal = frameworks.get(MINIMAL) if isinstance(frameworks, dict) else None
    if isinstance(minimal, dict) and minimal.get("environment"):
        at = ("frameworks", MINIMAL, "environment")
        message = "is for frameworks: the variables of every image stand in base/Dockerfile.j2"
        yield document.diagnostic(at, message, "remove it", at_key=True)


def _debian_twice(parts: _Parts, document: Document) -> Iterator[Diagnostic]:
    """Pythons that stand under two Debian releases, or twice under one."""
    if parts.pythons is None:
        return
    first: dict[Any, KeyPath] = {}
    for suite, pythons in document.data["debian"].items():
        for i, python in enumerate(pythons):
            path = ("debian", suite, i)
            if isinstance(python, str) and python in first:
                line = document.places[first[python]][0]
                message = f"Python {python} is declared twice, first on line {line}"
                yield document.diagnostic(path, message, "keep one of them")
            elif isinstance(python, str):
                first[python] = path


def _name_errors(document: Document, cells: Sequence[Cell]) -> Iterator[Diagnostic]:
    first: dict[str, Cell] = {}
    for cell in cells:
        release = cell.release
        if (release.version is None) != (cell.framework == MINIMAL):
            message = (
                f"{MINIMAL} has no version: its name would not be {MINIMAL}-…"
                if cell.framework == MINIMAL
                else "the key version is missing"
            )
            hint = "remove it" if cell.framework == MINIMAL else "add it"
            yield document.diagnostic(cell.path, message, hint)
            continue
        name = name_of(cell)
        if name in first:
            line = document.places[first[name].path][0]
            message = f"a second image of the name {name}, first on line {line}"
            yield document.diagnostic(cell.path, message, "remove one, or change its version")
        first.setdefault(name, cell)


def _parent_errors(
    parts: _Parts, document: Document, cells: Sequence[Cell]
) -> Iterator[Diagnostic]:
    if not parts.has_all_of_minimal:
        return
    roots = {(cell.python, cell.release.track) for cell in cells if cell.is_root}
    for cell in cells:
        parent = parent_of(cell)
        if parent is not None and (cell.python, cell.release.track) not in roots:
            hint = f"add Python {cell.python} to frameworks.{MINIMAL}"
            yield document.diagnostic(cell.path, f"its parent {parent} is not declared", hint)


def _unused(spec: MatrixSpec, parts: _Parts, document: Document) -> Iterator[Diagnostic]:
    pythons = {python for release in parts.releases for python, _ in release.pythons}
    for suite, of_suite in spec.debian.items():
        for i, python in enumerate(of_suite):
            if python not in pythons:
                yield document.diagnostic(("debian", suite, i), "no image uses it", "remove it")
    used: dict[str, set[str]] = {
        "tracks": {str(release.spec.track) for release in parts.releases},
        "indexes": {release.spec.index or "" for release in parts.releases},
        "sets": {name for release in parts.releases for name in release.spec.sets},
    }
    for section, names in used.items():
        for name in map(str, getattr(spec, section)):
            if name not in names:
                at = (section, name)
                yield document.diagnostic(at, "no image uses it", "remove it", at_key=True)
    for i in range(len(spec.wheels)):
        yield from _unused_wheel(spec, parts, document, i)


def _unused_wheel(
    spec: MatrixSpec, parts: _Parts, document: Document, place: int
) -> Iterator[Diagnostic]:
    """What is wrong with a wheel that no release pins, most often because another version of it is,
    or for a Python that none of those has."""
    wheel = spec.wheels[place]
    wanted = f"{wheel.name}=={wheel.version}"
    users: list[_Release] = []
    others: list[tuple[_Release, str]] = []
    for release in parts.releases:
        index = spec.indexes.get(release.spec.index or "")
        if index is None or wheel.name not in index.packages:
            continue
        pins = [pin.text for pin in release.pins if pin.text.startswith(f"{wheel.name}==")]
        if wanted in pins:
            users.append(release)
        elif pins:
            others.append((release, pins[0]))
    if users:
        used = {python for release in users for python, _ in release.pythons}
        for python in sorted(wheel.sha256.keys() - used):
            message = f"no image with Python {python} uses it"
            path = ("wheels", place, "sha256", python)
            yield document.diagnostic(path, message, "remove it", at_key=True)
    elif others:
        release, pin = others[0]
        index = spec.indexes[release.spec.index or ""]
        yield document.diagnostic(
            ("wheels", place, "version"),
            f"is of {wanted}, but {path_text(release.path)} pins {pin}",
            "write that version and the sha256 of its wheels, which are on"
            f" {index.url}/{wheel.name}/",
        )
    else:
        message = f"no release with an index that holds {wheel.name} pins {wanted}"
        yield document.diagnostic(("wheels", place), message, "correct or remove it")


_RULES = (_undeclared, _pins_twice, _other_versions, _cuda_errors, _of_minimal, _debian_twice)
