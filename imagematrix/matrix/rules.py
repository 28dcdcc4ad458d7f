"""Whether a matrix is right: what the form of its values alone does not say.

`load_matrix` gives a Matrix that later stages may rely on, or every error of the file at once.
What the files beside it (templates, locks) say about a matrix is the business of `tree.py`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePath
from typing import Any

from packaging.utils import canonicalize_name
from pydantic import ValidationError

from imagematrix.errors import Diagnostic, InputError
from imagematrix.matrix.document import Document, KeyPath, path_text, read_document
from imagematrix.matrix.messages import nearest, schema_diagnostics
from imagematrix.matrix.names import Cell, Pinned, name_of, parent_of
from imagematrix.matrix.releases import Parts, Release, cells_of, read_parts, release_items
from imagematrix.matrix.schema import (
    MINIMAL,
    Accelerator,
    MatrixSpec,
    Suite,
    Track,
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

    Raises InputError with every error that the file alone shows.
    """
    document = read_document(path, shown_as or PurePath(path.name))
    errors = list(document.errors)
    spec = None
    try:
        spec = MatrixSpec.model_validate(document.data)
    except ValidationError as error:
        errors += schema_diagnostics(document, MatrixSpec, error)
    parts = read_parts(document.data)
    cells = tuple(cells_of(parts))
    for rule in _RULES:
        errors += rule(parts, document)
    errors += _name_errors(document, cells)
    errors += _parent_errors(parts, document, cells)
    if spec is not None and not parts.broken:
        errors += _unused(spec, parts, document)
    if spec is None or errors:
        raise InputError(errors)
    return Matrix(spec, document, cells)


def _undeclared(parts: Parts, document: Document) -> Iterator[Diagnostic]:
    """Names that no section has."""
    declared: Mapping[str, Sequence[str] | None]
    declared = {"track": parts.tracks, "index": parts.indexes, "set": parts.sets}
    frameworks = document.data.get("frameworks") if isinstance(document.data, dict) else None
    for path, item in release_items(frameworks):
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


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _pins_twice(parts: Parts, document: Document) -> Iterator[Diagnostic]:
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


def _other_versions(parts: Parts, document: Document) -> Iterator[Diagnostic]:
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


def _cuda_errors(parts: Parts, document: Document) -> Iterator[Diagnostic]:
    for release in parts.releases:
        on_cpu = Accelerator.CPU in release.accelerators
        if release.spec.cuda_image is not None and on_cpu:
            message = "CUDA libraries are of no use to an image on the CPU"
            hint = "give the images with CUDA a release of their own"
            yield document.diagnostic((*release.path, "cuda_image"), message, hint)
        if release.spec.bundled_cuda is not None and release.accelerators != (Accelerator.CPU,):
            message = "is for images on the CPU: that of others is in their lock"
            yield document.diagnostic((*release.path, "bundled_cuda"), message, "remove it")


def _support(parts: Parts, document: Document) -> Iterator[Diagnostic]:
    """A date of which no image knows, or none where each needs one."""
    for release in parts.releases:
        path, until, track = release.support_path, release.supported_until, release.spec.track
        if path is None or path in document.unreadable:
            continue
        if track is Track.HISTORICAL and until is not None:
            message = f"{track} images are {track.support}"
            yield document.diagnostic(path, message, "remove it", at_key=True)
        elif track is Track.CURRENT and until is None:
            message = "the key supported_until is missing"
            hint = "add the last day on which its images are supported, such as 2027-10-31"
            yield document.diagnostic(path[:-1], message, hint)


def _of_minimal(parts: Parts, document: Document) -> Iterator[Diagnostic]:
    """What the images that all others are based on have in their template."""
    frameworks = document.data.get("frameworks") if isinstance(document.data, dict) else None
    minimal = frameworks.get(MINIMAL) if isinstance(frameworks, dict) else None
    if isinstance(minimal, dict) and minimal.get("environment"):
        at = ("frameworks", MINIMAL, "environment")
        message = "is for frameworks: the variables of every image stand in base/Dockerfile.j2"
        yield document.diagnostic(at, message, "remove it", at_key=True)


def _debian_twice(parts: Parts, document: Document) -> Iterator[Diagnostic]:
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


def _parent_errors(parts: Parts, document: Document, cells: Sequence[Cell]) -> Iterator[Diagnostic]:
    if not parts.has_all_of_minimal:
        return
    roots = {(cell.python, cell.release.track) for cell in cells if cell.is_root}
    for cell in cells:
        parent = parent_of(cell)
        if parent is not None and (cell.python, cell.release.track) not in roots:
            hint = f"add Python {cell.python} to frameworks.{MINIMAL}"
            yield document.diagnostic(cell.path, f"its parent {parent} is not declared", hint)


def _unused(spec: MatrixSpec, parts: Parts, document: Document) -> Iterator[Diagnostic]:
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
    spec: MatrixSpec, parts: Parts, document: Document, place: int
) -> Iterator[Diagnostic]:
    """What is wrong with a wheel that no release pins, most often because another version of it is,
    or for a Python that none of those has."""
    wheel = spec.wheels[place]
    wanted = f"{wheel.name}=={wheel.version}"
    users: list[Release] = []
    others: list[tuple[Release, str]] = []
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


_RULES = (
    _undeclared,
    _pins_twice,
    _other_versions,
    _cuda_errors,
    _support,
    _of_minimal,
    _debian_twice,
)
