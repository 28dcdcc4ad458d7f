"""What matrix.yaml may say, and whether a given one is right.

`load_matrix` gives a Matrix that later stages may rely on, or every error of the file at once.
What the files beside it (templates, locks) say about a matrix is the business of `tree.py`.
"""

import difflib
import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path, PurePath
from typing import Annotated, Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from imagematrix.document import Document, KeyPath, read_document
from imagematrix.errors import Diagnostic, InputError

# The framework that every other one is layered on.
MINIMAL = "minimal"


class Track(StrEnum):
    """How far an image is looked after."""

    CURRENT = "current"
    HISTORICAL = "historical"


class Suite(StrEnum):
    """The Debian release under an image."""

    BOOKWORM = "bookworm"
    TRIXIE = "trixie"

    @property
    def glibc(self) -> str:
        """The glibc of the suite, which bounds the manylinux wheels that run on it."""
        return {Suite.BOOKWORM: "2.36", Suite.TRIXIE: "2.41"}[self]


class Accelerator(StrEnum):
    """What the image computes on."""

    CPU = "cpu"


def _matching(pattern: str, example: str) -> AfterValidator:
    compiled = re.compile(pattern)

    def check(value: str) -> str:
        if not compiled.fullmatch(value):
            raise ValueError(f"{value!r} is not of the form of {example}")
        return value

    return AfterValidator(check)


def _requirement(value: str) -> str:
    try:
        requirement = Requirement(value)
    except InvalidRequirement as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{value!r} is no valid requirement ({reason})") from None
    if not requirement.specifier:
        raise ValueError(f"{value!r} promises no version; write {requirement.name}==…")
    if requirement.url or requirement.marker or requirement.extras:
        raise ValueError(f"{value!r}: a pin is a name and its versions, nothing else")
    return value


def _dependency(value: str) -> str:
    try:
        Requirement(value)
    except InvalidRequirement as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{value!r} is no valid requirement ({reason})") from None
    return value


def _version(value: str) -> str:
    try:
        Version(value)
    except InvalidVersion:
        raise ValueError(f"{value!r} is no valid version, such as 2.13.0+cpu") from None
    return value


PythonVersion = Annotated[str, _matching(r"3\.\d{1,2}", '"3.12"')]
FrameworkName = Annotated[str, _matching(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", "scikit-learn")]
ReleaseVersion = Annotated[str, _matching(r"\d+(\.\d+){0,2}", '"1.9"')]
Sha256 = Annotated[str, _matching(r"[0-9a-f]{64}", "64 hexadecimal digits")]
IndexUrl = Annotated[str, _matching(r"https://[^\s/@]+(/\S*)?", "https://host/path")]
IndexName = Annotated[str, _matching(r"[a-z][a-z0-9-]*", "pytorch-cpu")]
# A shell pattern for `find -path`, below site-packages; it must never reach out of there.
TrimPath = Annotated[
    str,
    _matching(r"(?!/)(?!.*\.\.)[A-Za-z0-9_.*?/+-]*[A-Za-z0-9_.+-][A-Za-z0-9_.*?/+-]*", "*/tests"),
]
Pin = Annotated[str, AfterValidator(_requirement)]
Dependency = Annotated[str, AfterValidator(_dependency)]
PackageVersion = Annotated[str, AfterValidator(_version)]
Title = Annotated[str, _matching(r"[^\s\"$\\`|](?:[^\n\"$\\`|]*[^\s\"$\\`|])?", "ONNX Runtime")]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class PythonSpec(_Section):
    """Where a Python comes from: `python:<x.y>-slim-<suite>` on `debian:<suite>-slim`."""

    suite: Annotated[Suite, Field(strict=False)]


class InstallerSpec(_Section):
    """The release of uv that installs packages, and the hash of its manylinux x86_64 wheel."""

    version: PackageVersion
    sha256: Sha256


class IndexSpec(_Section):
    """A package index beside PyPI, asked for the named packages."""

    url: IndexUrl
    packages: list[str] = Field(min_length=1)


class WheelSpec(_Section):
    """What an index would say of one release, for machines that cannot ask it."""

    name: str
    version: PackageVersion
    sha256: dict[PythonVersion, Sha256] = Field(min_length=1)
    requires: list[Dependency]


class TrimSpec(_Section):
    """What is removed from the installed packages."""

    what: Title
    path: TrimPath


class ReleaseSpec(_Section):
    """One version of a framework, on the product of its axes."""

    version: ReleaseVersion | None = None
    track: Annotated[Track, Field(strict=False)]
    pythons: list[PythonVersion] = Field(min_length=1)
    accelerators: list[Annotated[Accelerator, Field(strict=False)]] = Field(min_length=1)
    index: IndexName | None = None
    pins: list[Pin] = Field(min_length=1)


class FrameworkSpec(_Section):
    """A framework and its releases."""

    title: Title
    trim: list[TrimSpec] = []
    releases: list[ReleaseSpec] = Field(min_length=1)


class ExclusionSpec(_Section):
    """A part of the product that is not built, and why. A key that is left out matches all."""

    reason: str = Field(min_length=1)
    framework: FrameworkName | None = None
    version: ReleaseVersion | None = None
    python: PythonVersion | None = None
    accelerator: Annotated[Accelerator, Field(strict=False)] | None = None


class MatrixSpec(_Section):
    """The whole of matrix.yaml."""

    pythons: dict[PythonVersion, PythonSpec] = Field(min_length=1)
    installer: InstallerSpec
    indexes: dict[IndexName, IndexSpec] = {}
    wheels: list[WheelSpec] = []
    frameworks: dict[FrameworkName, FrameworkSpec] = Field(min_length=1)
    exclude: list[ExclusionSpec] = []


@dataclass(frozen=True)
class Cell:
    """One combination of the axes, and the release that it comes from."""

    framework: str
    release_index: int
    release: ReleaseSpec
    python: str
    accelerator: Accelerator

    @property
    def path(self) -> KeyPath:
        """Where the release of this cell stands in the document."""
        return ("frameworks", self.framework, "releases", self.release_index)


@dataclass(frozen=True)
class Matrix:
    """A valid matrix, with the document it was read from."""

    spec: MatrixSpec
    document: Document
    cells: tuple[Cell, ...]


def image_name(
    framework: str, version: str | None, python: str, accelerator: Accelerator, track: Track
) -> str:
    """The name of an image as consumers know it.

    >>> image_name("xgboost", "3.4", "3.12", Accelerator.CPU, Track.CURRENT)
    'xgboost3.4-py312-inference'
    >>> image_name("xgboost", "0.9", "3.7", Accelerator.CPU, Track.HISTORICAL)
    'xgboost0.9-py3.7-inference-cpu'
    """
    release = f"{framework}{version or ''}"
    if track is Track.HISTORICAL:
        return f"{release}-py{python}-inference-{accelerator}"
    return f"{release}-py{python.replace('.', '')}-inference"


def load_matrix(path: Path, shown_as: PurePath | None = None) -> Matrix:
    """Reads and validates a matrix.

    Raises InputError with every error that can be told from the file alone.
    """
    document = read_document(path, shown_as or PurePath(path.name))
    try:
        spec = MatrixSpec.model_validate(document.data)
    except ValidationError as error:
        # The mapping itself may be of another kind: pydantic then has one error at the root.
        raise InputError([_schema_diagnostic(document, item) for item in error.errors()]) from None
    cells = tuple(_cells(spec))
    excluded, errors = _exclude(spec, document, cells)
    kept = tuple(cell for i, cell in enumerate(cells) if i not in excluded)
    errors += _dangling_references(spec, document)
    errors += _name_errors(document, kept)
    errors += _pin_errors(spec, document)
    errors += _parent_errors(document, kept)
    if errors:
        raise InputError(errors)
    return Matrix(spec, document, kept)


def _cells(spec: MatrixSpec) -> Iterator[Cell]:
    for name, framework in spec.frameworks.items():
        for index, release in enumerate(framework.releases):
            for python, accelerator in itertools.product(release.pythons, release.accelerators):
                yield Cell(name, index, release, python, accelerator)


def _schema_diagnostic(document: Document, error: Any) -> Diagnostic:
    path: KeyPath = tuple(key for key in error["loc"] if key != "[key]")
    at_key = "[key]" in error["loc"]
    kind, value = error["type"], error["input"]
    if kind == "extra_forbidden":
        return _unknown_key(document, path)
    if kind == "missing":
        message = f"the key {path[-1]} is missing"
        return document.diagnostic(path[:-1], message, "add it")
    typed = document.scalars.get(path)
    if kind == "string_type" and typed is not None and isinstance(value, int | float):
        hint = f'write "{typed}" in quotes'
        return document.diagnostic(path, f"{typed} is a number for YAML, not text", hint)
    if kind == "string_type":
        shown = "null" if value is None else repr(value)
        return document.diagnostic(path, f"must be text, is {shown}")
    if kind == "enum":
        allowed = [str(item) for item in _enum_values(error)]
        hint = _nearest(str(value), allowed) or f"use one of: {', '.join(allowed)}"
        return document.diagnostic(path, f"{value!r} is unknown", hint)
    if kind == "too_short":
        return document.diagnostic(path, "must not be empty", "add an entry, or remove its parent")
    if kind in ("model_type", "dict_type", "model_attributes_type"):
        return document.diagnostic(path, f"must be a mapping of keys to values, is {value!r}")
    if kind == "list_type":
        return document.diagnostic(path, f"must be a list, is {value!r}", "write [ … ] around it")
    message = error["msg"].removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    return document.diagnostic(path, message, at_key=at_key)


def _enum_values(error: Any) -> list[str]:
    expected: str = error["ctx"]["expected"]
    return re.findall(r"'([^']*)'", expected)


_SECTIONS: dict[str, type[_Section]] = {
    "pythons": PythonSpec,
    "installer": InstallerSpec,
    "indexes": IndexSpec,
    "wheels": WheelSpec,
    "exclude": ExclusionSpec,
    "trim": TrimSpec,
    "releases": ReleaseSpec,
    "frameworks": FrameworkSpec,
}


def _unknown_key(document: Document, path: KeyPath) -> Diagnostic:
    names = [key for key in path[:-1] if key in _SECTIONS]
    section = _SECTIONS[str(names[-1])] if names else MatrixSpec
    known = list(section.model_fields)
    hint = _nearest(str(path[-1]), known) or f"known here: {', '.join(known)}"
    return document.diagnostic(path, f"unknown key {path[-1]}", hint, at_key=True)


def _nearest(value: str, known: list[str]) -> str:
    matches = difflib.get_close_matches(value, known, n=1)
    return f"did you mean {matches[0]}?" if matches else ""


def _exclude(
    spec: MatrixSpec, document: Document, cells: tuple[Cell, ...]
) -> tuple[set[int], list[Diagnostic]]:
    excluded: set[int] = set()
    errors = []
    for index, exclusion in enumerate(spec.exclude):
        path = ("exclude", index)
        criteria = exclusion.model_dump(exclude={"reason"}, exclude_none=True)
        if not criteria:
            errors.append(document.diagnostic(path, "excludes everything", "name what it excludes"))
            continue
        matched = {i for i, cell in enumerate(cells) if _matches(cell, criteria)}
        if not matched:
            wanted = ", ".join(f"{key} {value}" for key, value in criteria.items())
            hint = "correct or remove it"
            errors.append(document.diagnostic(path, f"matches no image ({wanted})", hint))
        excluded |= matched
    return excluded, errors


def _matches(cell: Cell, criteria: dict[str, Any]) -> bool:
    values = {
        "framework": cell.framework,
        "version": cell.release.version,
        "python": cell.python,
        "accelerator": cell.accelerator,
    }
    return all(values[key] == value for key, value in criteria.items())


def _dangling_references(spec: MatrixSpec, document: Document) -> Iterator[Diagnostic]:
    used_pythons, used_indexes = set(), set()
    for name, framework in spec.frameworks.items():
        for i, release in enumerate(framework.releases):
            path: KeyPath = ("frameworks", name, "releases", i)
            for j, python in enumerate(release.pythons):
                used_pythons.add(python)
                if python not in spec.pythons:
                    known = ", ".join(spec.pythons)
                    hint = f"add it under pythons (there: {known})"
                    at = (*path, "pythons", j)
                    yield document.diagnostic(at, f"Python {python} is not declared", hint)
            if release.index is None:
                continue
            used_indexes.add(release.index)
            if release.index not in spec.indexes:
                hint = _nearest(release.index, list(spec.indexes)) or "add it under indexes"
                at = (*path, "index")
                yield document.diagnostic(at, f"index {release.index} is not declared", hint)
    for python in spec.pythons.keys() - used_pythons:
        at = ("pythons", python)
        yield document.diagnostic(at, "no image uses it", "remove it", at_key=True)
    for index in spec.indexes.keys() - used_indexes:
        at = ("indexes", index)
        yield document.diagnostic(at, "no image uses it", "remove it", at_key=True)


def _name_errors(document: Document, cells: tuple[Cell, ...]) -> Iterator[Diagnostic]:
    first: dict[str, Cell] = {}
    for cell in cells:
        release = cell.release
        if (release.version is None) != (cell.framework == MINIMAL):
            message = (
                f"{MINIMAL} has no version: its name would not be {MINIMAL}-…"
                if cell.framework == MINIMAL
                else "the key version is missing"
            )
            yield document.diagnostic(cell.path, message)
            continue
        name = name_of(cell)
        if name in first:
            line = document.places[first[name].path][0]
            message = f"a second image of the name {name}, first on line {line}"
            yield document.diagnostic(cell.path, message, "remove one, or change its version")
        first.setdefault(name, cell)


def name_of(cell: Cell) -> str:
    """The image name of a cell."""
    release = cell.release
    return image_name(cell.framework, release.version, cell.python, cell.accelerator, release.track)


def _pin_errors(spec: MatrixSpec, document: Document) -> Iterator[Diagnostic]:
    for name, framework in spec.frameworks.items():
        for i, release in enumerate(framework.releases):
            seen: dict[str, str] = {}
            for j, pin in enumerate(release.pins):
                at = ("frameworks", name, "releases", i, "pins", j)
                package = canonicalize_name(Requirement(pin).name)
                if package in seen:
                    message = f"{package} is pinned twice ({seen[package]} and {pin})"
                    yield document.diagnostic(at, message, "keep one of them")
                seen.setdefault(package, pin)


def _parent_errors(document: Document, cells: tuple[Cell, ...]) -> Iterator[Diagnostic]:
    bases = {(c.python, c.accelerator, c.release.track) for c in cells if c.framework == MINIMAL}
    for cell in cells:
        if cell.framework == MINIMAL:
            continue
        if (cell.python, cell.accelerator, cell.release.track) not in bases:
            parent = image_name(MINIMAL, None, cell.python, cell.accelerator, cell.release.track)
            hint = f"add Python {cell.python} to frameworks.{MINIMAL}"
            yield document.diagnostic(cell.path, f"its parent {parent} is not declared", hint)
