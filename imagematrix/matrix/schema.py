"""What matrix.yaml may say, and whether a given one is right.

`load_matrix` gives a Matrix that later stages may rely on, or every error of the file at once.
What the files beside it (templates, locks) say about a matrix is the business of `tree.py`.
"""

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache, cached_property, lru_cache
from pathlib import Path, PurePath, PurePosixPath
from typing import Annotated, Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from imagematrix.errors import Diagnostic, InputError
from imagematrix.matrix.document import Document, KeyPath, path_text, read_document
from imagematrix.matrix.messages import nearest, schema_diagnostics

# The framework that every other one is layered on.
MINIMAL = "minimal"

# Thousands of images share the folders of their frameworks.
_path = cache(PurePosixPath)


class Track(StrEnum):
    """How far an image is looked after."""

    CURRENT = "current"
    HISTORICAL = "historical"

    @property
    def support(self) -> str:
        """What consumers of an image of this track may expect."""
        return {
            Track.CURRENT: "supported",
            Track.HISTORICAL: "unsupported, known vulnerabilities, for reproducing old deployments",
        }[self]


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
    CUDA = "cuda"
    TENSORRT = "tensorrt"


def matching(pattern: str, example: str) -> AfterValidator:
    """Admits text of a form, which the error shows by an example."""
    compiled = re.compile(pattern)

    def check(value: str) -> str:
        if not compiled.fullmatch(value):
            raise ValueError(f"{value!r} is not of the form of {example}")
        return value

    return AfterValidator(check)


# Releases share most of their pins.
_parsed = lru_cache(maxsize=4096)(Requirement)


def _requirement(value: str) -> str:
    try:
        requirement = _parsed(value)
    except InvalidRequirement as error:
        raise ValueError(_no_requirement(value, error)) from None
    if not requirement.specifier:
        raise ValueError(f"{value!r} promises no version; write {requirement.name}==…")
    if requirement.url or requirement.marker or requirement.extras:
        raise ValueError(f"{value!r}: a pin is a name and its versions, nothing else")
    return value


def _dependency(value: str) -> str:
    try:
        _parsed(value)
    except InvalidRequirement as error:
        raise ValueError(_no_requirement(value, error)) from None
    return value


# What people write instead of https://packaging.python.org/en/latest/specifications/version-specifiers/
_SLIPS = (
    (r"=([<>])", r"\1="),  # numpy=>2
    (r"(?<![=<>!~])=(?![=])", "=="),  # numpy=2, as conda has it
    (r"^(\S+) +([0-9])", r"\1==\2"),  # numpy 2.5
    (r"\.x\b", ".*"),  # numpy==2.x
)


def _no_requirement(value: str, error: InvalidRequirement) -> str:
    """What is wrong with a text that is to be a requirement, and what it may be meant to be."""
    meant = value
    for slip, repair in _SLIPS:
        meant = re.sub(slip, repair, meant)
        try:
            _parsed(meant)
        except InvalidRequirement:
            continue
        return f"{value!r} is no valid requirement; write {meant}"
    return f"{value!r} is no valid requirement ({str(error).splitlines()[0]})"


def _version(value: str) -> str:
    try:
        Version(value)
    except InvalidVersion:
        raise ValueError(f"{value!r} is no valid version, such as 2.13.0+cpu") from None
    return value


PythonVersion = Annotated[str, matching(r"3\.[1-9][0-9]?", '"3.12"')]
FrameworkName = Annotated[str, matching(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", "scikit-learn")]
ReleaseVersion = Annotated[str, matching(r"[0-9]+(\.[0-9]+){0,2}", '"1.9"')]
Sha256 = Annotated[str, matching(r"[0-9a-f]{64}", "64 hexadecimal digits")]
IndexUrl = Annotated[str, matching(r"https://[^\s/@]+(/\S*)?", "https://host/path")]
IndexName = Annotated[str, matching(r"[a-z][a-z0-9-]*", "pytorch-cpu")]
# As indexes and locks write it: lower case, with hyphens.
PackageName = Annotated[str, matching(r"[a-z0-9]+(-[a-z0-9]+)*", "scikit-learn, in lower case")]
# https://www.debian.org/doc/debian-policy/ch-controlfields.html#source
DebianPackage = Annotated[str, matching(r"[a-z0-9][a-z0-9+.-]+", "libgomp1")]
# The images of https://hub.docker.com/r/nvidia/cuda, whose tags begin with the version of CUDA.
CudaImage = Annotated[
    str,
    matching(
        r"nvidia/cuda:[0-9]+\.[0-9]+\.[0-9]+-[a-z0-9.-]+",
        "nvidia/cuda:11.0.3-cudnn8-runtime-ubuntu20.04",
    ),
]
CudaVersion = Annotated[str, matching(r"[0-9]+\.[0-9]+", '"10.2"')]
ExampleName = Annotated[str, matching(r"example(-[0-9]+(\.[0-9]+)*)?", "example-0.24")]
Pin = Annotated[str, AfterValidator(_requirement)]
Dependency = Annotated[str, AfterValidator(_dependency)]
PackageVersion = Annotated[str, AfterValidator(_version)]
Title = Annotated[str, matching(r"[^\s\"$\\`|](?:[^\n\"$\\`|]*[^\s\"$\\`|])?", "ONNX Runtime")]


class Section(BaseModel):
    """A mapping of a document: keys that it does not name are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class PythonSpec(Section):
    """Where a Python comes from: `python:<x.y>-slim-<suite>` on `debian:<suite>-slim`."""

    suite: Annotated[Suite, Field(strict=False)]


class InstallerSpec(Section):
    """The release of uv that installs packages, and the hash of its manylinux x86_64 wheel."""

    version: PackageVersion
    sha256: Sha256


class IndexSpec(Section):
    """A package index beside PyPI, asked for the named packages."""

    url: IndexUrl
    packages: list[PackageName] = Field(min_length=1)


class WheelSpec(Section):
    """What an index would say of one release, for machines that cannot ask it."""

    name: PackageName
    version: PackageVersion
    sha256: dict[PythonVersion, Sha256] = Field(min_length=1)
    requires: list[Dependency]


class ReleaseSpec(Section):
    """One version of a framework, on the product of its axes."""

    version: ReleaseVersion | None = None
    track: Annotated[Track, Field(strict=False)]
    pythons: list[PythonVersion] = Field(min_length=1)
    accelerators: list[Annotated[Accelerator, Field(strict=False)]] = Field(min_length=1)
    index: IndexName | None = None
    pins: list[Pin] = Field(min_length=1)
    system: list[DebianPackage] = []
    sdists: list[PackageName] = []
    cuda_image: CudaImage | None = None
    bundled_cuda: CudaVersion | None = None
    example: ExampleName = "example"


class FrameworkSpec(Section):
    """A framework and its releases."""

    title: Title
    releases: list[ReleaseSpec] = Field(min_length=1)


class ExclusionSpec(Section):
    """A part of the product that is not built, and why. A key that is left out matches all."""

    reason: str = Field(min_length=1)
    framework: FrameworkName | None = None
    version: ReleaseVersion | None = None
    python: PythonVersion | None = None
    accelerator: Annotated[Accelerator, Field(strict=False)] | None = None


class MatrixSpec(Section):
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

    @property
    def is_root(self) -> bool:
        """Whether its image is layered on no other image of the matrix."""
        return self.framework == MINIMAL and self.accelerator is Accelerator.CPU


@dataclass(frozen=True)
class Matrix:
    """A valid matrix, with the document it was read from."""

    spec: MatrixSpec
    document: Document
    cells: tuple[Cell, ...]

    @cached_property
    def release_paths(self) -> dict[str, KeyPath]:
        """Where the release of each image stands in the document, by the name of its folder."""
        return {name_of(cell): cell.path for cell in self.cells}


def image_name(
    framework: str,
    version: str | None,
    python: str,
    accelerator: Accelerator,
    track: Track,
    cuda: str = "",
    tensorrt: str = "",
) -> str:
    """The name of an image as consumers know it; without the versions of CUDA and TensorRT, which
    only its lock tells, the name of its folder.

    >>> image_name("xgboost", "3.4", "3.12", Accelerator.CPU, Track.CURRENT)
    'xgboost3.4-py312-inference'
    >>> image_name("xgboost", "3.4", "3.12", Accelerator.CUDA, Track.CURRENT, "13.3")
    'xgboost3.4-py312-cuda13.3-inference'
    >>> image_name("xgboost", "0.9", "3.7", Accelerator.CPU, Track.HISTORICAL)
    'xgboost0.9-py3.7-inference-cpu'
    """
    release = f"{framework}{version or ''}"
    if track is Track.HISTORICAL:
        names = {Accelerator.CPU: "cpu", Accelerator.CUDA: "gpu", Accelerator.TENSORRT: "tensorrt"}
        return f"{release}-py{python}-inference-{names[accelerator]}"
    part = "" if accelerator is Accelerator.CPU else f"-cuda{cuda}"
    if accelerator is Accelerator.TENSORRT:
        part += f"-tensorrt{tensorrt}"
    return f"{release}-py{python.replace('.', '')}{part}-inference"


def load_matrix(path: Path, shown_as: PurePath | None = None) -> Matrix:
    """Reads and validates a matrix.

    Raises InputError with every error that can be told from the file alone.
    """
    document = read_document(path, shown_as or PurePath(path.name))
    errors = list(document.errors)
    spec = None
    try:
        spec = MatrixSpec.model_validate(document.data)
        parts = _parts_of(spec)
    except ValidationError as error:
        errors += schema_diagnostics(document, MatrixSpec, error)
        parts = _salvage(document.data)
    cells = tuple(_cells(parts))
    excluded, exclusion_errors = _exclude(parts, document, cells)
    errors += exclusion_errors
    errors += _undeclared(parts, document)
    errors += _pin_errors(parts, document)
    errors += _cuda_errors(parts, document)
    kept = tuple(cell for i, cell in enumerate(cells) if i not in excluded)
    if parts.all_exclusions:
        errors += _name_errors(document, kept)
        errors += _parent_errors(parts, document, kept)
    if spec is not None:
        errors += _unused(spec, document)
    if spec is None or errors:
        raise InputError(errors)
    return Matrix(spec, document, kept)


@dataclass(frozen=True)
class _Parts:
    """What can be read of a matrix, so that one error does not hide those of another kind.

    `releases` are (framework, index, release). `broken` names the frameworks that have a release
    which cannot be read, None stands for any; `pythons` and `indexes` are None likewise.
    """

    releases: Sequence[tuple[str, int, ReleaseSpec]]
    exclusions: Sequence[tuple[int, ExclusionSpec]]
    pythons: Sequence[str] | None
    indexes: Sequence[str] | None
    broken: frozenset[str] | None
    all_exclusions: bool

    def complete(self, framework: str | None) -> bool:
        """Whether every release of a framework could be read; of all frameworks for None."""
        if self.broken is None or framework is None:
            return self.broken == frozenset()
        return framework not in self.broken


def _parts_of(spec: MatrixSpec) -> _Parts:
    releases = [
        (name, i, release)
        for name, framework in spec.frameworks.items()
        for i, release in enumerate(framework.releases)
    ]
    exclusions = list(enumerate(spec.exclude))
    return _Parts(releases, exclusions, list(spec.pythons), list(spec.indexes), frozenset(), True)


def _salvage(data: Any) -> _Parts:
    data = data if isinstance(data, dict) else {}
    releases, exclusions, broken = [], [], set()
    frameworks = data.get("frameworks")
    for name, framework in frameworks.items() if isinstance(frameworks, dict) else ():
        items = framework.get("releases") if isinstance(framework, dict) else None
        for i, item in enumerate(items) if isinstance(items, list) else ():
            # Pins are looked at one by one: a wrong one does not make the release unreadable.
            read = _read(ReleaseSpec, item, pins=["any==0"])
            if isinstance(read, ReleaseSpec):
                releases.append((name, i, read))
            else:
                broken.add(name)
        if not items or not isinstance(items, list):
            broken.add(name)
    listed = data.get("exclude", [])
    for i, item in enumerate(listed) if isinstance(listed, list) else ():
        # Without a key that is unknown it would exclude more than it is meant to.
        if isinstance(item, dict) and item.keys() <= ExclusionSpec.model_fields.keys():
            exclusion = _read(ExclusionSpec, item)
            if isinstance(exclusion, ExclusionSpec):
                exclusions.append((i, exclusion))
    pythons, indexes = data.get("pythons"), data.get("indexes", {})
    return _Parts(
        releases,
        exclusions,
        list(pythons) if isinstance(pythons, dict) else None,
        list(indexes) if isinstance(indexes, dict) else None,
        frozenset(broken) if isinstance(frameworks, dict) else None,
        isinstance(listed, list) and len(exclusions) == len(listed),
    )


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
    for name, index, release in parts.releases:
        for python, accelerator in itertools.product(release.pythons, release.accelerators):
            yield Cell(name, index, release, python, accelerator)


def _exclude(
    parts: _Parts, document: Document, cells: tuple[Cell, ...]
) -> tuple[set[int], list[Diagnostic]]:
    excluded: set[int] = set()
    errors = []
    tables: dict[tuple[str, ...], dict[tuple[Any, ...], set[int]]] = {}
    for index, exclusion in parts.exclusions:
        path = ("exclude", index)
        criteria = exclusion.model_dump(exclude={"reason"}, exclude_none=True)
        if not criteria:
            errors.append(document.diagnostic(path, "excludes everything", "name what it excludes"))
            continue
        keys = tuple(criteria)
        if keys not in tables:
            tables[keys] = _cells_by(keys, cells)
        matched = tables[keys].get(tuple(criteria.values()), set())
        if not matched and parts.complete(exclusion.framework):
            wanted = ", ".join(f"{key} {value}" for key, value in criteria.items())
            near = nearest(exclusion.framework or "", {name for name, _, _ in parts.releases})
            hint = near or "correct or remove it"
            errors.append(document.diagnostic(path, f"matches no image ({wanted})", hint))
        excluded |= matched
    return excluded, errors


def _cells_by(keys: tuple[str, ...], cells: tuple[Cell, ...]) -> dict[tuple[Any, ...], set[int]]:
    """The places of the cells under their values of `keys`: one pass for many exclusions."""
    table: dict[tuple[Any, ...], set[int]] = {}
    for place, cell in enumerate(cells):
        values = {
            "framework": cell.framework,
            "version": cell.release.version,
            "python": cell.python,
            "accelerator": cell.accelerator,
        }
        table.setdefault(tuple(values[key] for key in keys), set()).add(place)
    return table


def _undeclared(parts: _Parts, document: Document) -> Iterator[Diagnostic]:
    for name, i, release in parts.releases:
        path: KeyPath = ("frameworks", name, "releases", i)
        for j, python in enumerate(release.pythons):
            if parts.pythons is not None and python not in parts.pythons:
                hint = f"add it under pythons (there: {', '.join(parts.pythons)})"
                at = (*path, "pythons", j)
                yield document.diagnostic(at, f"Python {python} is not declared", hint)
        index = release.index
        if index is not None and parts.indexes is not None and index not in parts.indexes:
            hint = nearest(index, list(parts.indexes)) or "add it under indexes"
            yield document.diagnostic((*path, "index"), f"index {index} is not declared", hint)


def _unused(spec: MatrixSpec, document: Document) -> Iterator[Diagnostic]:
    releases = [release for f in spec.frameworks.values() for release in f.releases]
    used: dict[str, set[str]] = {
        "pythons": {python for release in releases for python in release.pythons},
        "indexes": {release.index for release in releases if release.index is not None},
    }
    for section, names in used.items():
        for name in getattr(spec, section).keys() - names:
            at = (section, name)
            yield document.diagnostic(at, "no image uses it", "remove it", at_key=True)
    for i, wheel in enumerate(spec.wheels):
        pin = f"{wheel.name}=={wheel.version}"
        users = [
            release
            for release in releases
            if pin in release.pins
            and release.index in spec.indexes
            and wheel.name in spec.indexes[release.index].packages
        ]
        if not users:
            yield _unused_wheel(spec, document, i)
            continue
        for python in wheel.sha256.keys() - {python for user in users for python in user.pythons}:
            message = f"no image with Python {python} uses it"
            path = ("wheels", i, "sha256", python)
            yield document.diagnostic(path, message, "remove it", at_key=True)


def _unused_wheel(spec: MatrixSpec, document: Document, place: int) -> Diagnostic:
    """What is wrong with a wheel that no release pins: most often another version of it is."""
    wheel = spec.wheels[place]
    pin = f"{wheel.name}=={wheel.version}"
    for name, framework in spec.frameworks.items():
        for i, release in enumerate(framework.releases):
            if release.index is None:
                continue
            index = spec.indexes.get(release.index)
            others = [pin for pin in release.pins if pin.startswith(f"{wheel.name}==")]
            if index is None or wheel.name not in index.packages or not others:
                continue
            where = path_text(("frameworks", name, "releases", i))
            return document.diagnostic(
                ("wheels", place, "version"),
                f"is of {pin}, but {where} pins {others[0]}",
                "write that version and the sha256 of its wheels, which are on"
                f" {index.url}/{wheel.name}/",
            )
    message = f"no release with an index that holds {wheel.name} pins {pin}"
    return document.diagnostic(("wheels", place), message, "correct or remove it")


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
            hint = "remove it" if cell.framework == MINIMAL else "add it"
            yield document.diagnostic(cell.path, message, hint)
            continue
        name = name_of(cell)
        if name in first:
            line = document.places[first[name].path][0]
            message = f"a second image of the name {name}, first on line {line}"
            yield document.diagnostic(cell.path, message, "remove one, or change its version")
        first.setdefault(name, cell)


def name_of(cell: Cell, cuda: str = "", tensorrt: str = "") -> str:
    """The image name of a cell; without versions of CUDA and TensorRT, that of its folder."""
    release = cell.release
    return image_name(
        cell.framework,
        release.version,
        cell.python,
        cell.accelerator,
        release.track,
        cuda,
        tensorrt,
    )


def home_of(framework: str) -> PurePosixPath:
    """The folder of a framework: template, examples, and a folder per image."""
    return _path("base") if framework == MINIMAL else _path("frameworks", framework)


def parent_of(cell: Cell) -> str | None:
    """The name of the image that a cell's is layered on: the minimal CPU image of its Python and
    track. CUDA comes with each image's own packages, so images with and without it share that."""
    if cell.is_root:
        return None
    return image_name(MINIMAL, None, cell.python, Accelerator.CPU, cell.release.track)


def _pin_errors(parts: _Parts, document: Document) -> Iterator[Diagnostic]:
    for name, i, _ in parts.releases:
        seen: dict[str, str] = {}
        path: KeyPath = ("frameworks", name, "releases", i, "pins")
        pins = document.data["frameworks"][name]["releases"][i].get("pins")
        for j, pin in enumerate(pins) if isinstance(pins, list) else ():
            try:
                package = canonicalize_name(_parsed(pin).name)
            except (InvalidRequirement, TypeError):
                continue
            if package in seen:
                message = f"{package} is pinned twice ({seen[package]} and {pin})"
                yield document.diagnostic((*path, j), message, "keep one of them")
            seen.setdefault(package, pin)


def _parent_errors(
    parts: _Parts, document: Document, cells: tuple[Cell, ...]
) -> Iterator[Diagnostic]:
    if not parts.complete(MINIMAL):
        return
    roots = {(cell.python, cell.release.track) for cell in cells if cell.is_root}
    for cell in cells:
        parent = parent_of(cell)
        if parent is not None and (cell.python, cell.release.track) not in roots:
            hint = f"add Python {cell.python} to frameworks.{MINIMAL}"
            yield document.diagnostic(cell.path, f"its parent {parent} is not declared", hint)


def _cuda_errors(parts: _Parts, document: Document) -> Iterator[Diagnostic]:
    for name, i, release in parts.releases:
        path: KeyPath = ("frameworks", name, "releases", i)
        on_cpu = Accelerator.CPU in release.accelerators
        if release.cuda_image is not None and on_cpu:
            message = "CUDA libraries are of no use to an image on the CPU"
            hint = "give the images with CUDA a release of their own"
            yield document.diagnostic((*path, "cuda_image"), message, hint)
        if release.bundled_cuda is not None and release.accelerators != [Accelerator.CPU]:
            message = "is for images on the CPU: what others hold, their lock tells"
            yield document.diagnostic((*path, "bundled_cuda"), message, "remove it")
