"""The images of a matrix, each with all that later stages need to know of it."""

import difflib
import fnmatch
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePosixPath

from imagematrix.errors import UserError
from imagematrix.matrix import (
    MINIMAL,
    Accelerator,
    Cell,
    Matrix,
    Suite,
    Track,
    TrimSpec,
    image_name,
    name_of,
)


@dataclass(frozen=True)
class Index:
    """A package index beside PyPI, and the packages that are taken from it."""

    name: str
    url: str
    packages: tuple[str, ...]


@dataclass(frozen=True)
class DeclaredWheel:
    """A wheel whose metadata and hash the matrix states."""

    name: str
    version: str
    sha256: str
    requires: tuple[str, ...]


@dataclass(frozen=True)
class Installer:
    """The release of uv that installs packages while an image is built."""

    version: str
    sha256: str


@dataclass(frozen=True)
class Trim:
    """`find -path` pattern below site-packages, and what it is that is removed or stripped."""

    what: str
    path: str


@dataclass(frozen=True)
class Variant:
    """One image. `parent` is the name of the image that it is layered on, None for a root."""

    name: str
    framework: str
    title: str
    version: str | None
    track: Track
    python: str
    suite: Suite
    accelerator: Accelerator
    pins: tuple[str, ...]
    installer: Installer
    trim: tuple[Trim, ...]
    strip: tuple[Trim, ...]
    index: Index | None
    wheels: tuple[DeclaredWheel, ...]
    parent: str | None

    @property
    def description(self) -> str:
        """What the image is, in a sentence."""
        content = self.title if self.version is None else f"{self.title} {self.version}"
        return f"Inference image: {content}, Python {self.python}, {self.accelerator.upper()}"

    @cached_property
    def home(self) -> PurePosixPath:
        """The folder of its framework: template, example, and a folder per image."""
        return PurePosixPath("base") if self.parent is None else _framework_home(self.framework)

    @cached_property
    def folder(self) -> PurePosixPath:
        """The folder of its rendered Dockerfile and its lock, relative to the repository."""
        return self.home / self.name

    @property
    def dockerfile(self) -> PurePosixPath:
        """Its rendered Dockerfile, relative to the repository."""
        return self.folder / "Dockerfile"

    @property
    def lock(self) -> PurePosixPath:
        """Its hash-locked requirements, relative to the repository."""
        return self.folder / "requirements.txt"

    @property
    def template(self) -> PurePosixPath:
        """The template of its Dockerfile, relative to the repository."""
        return self.home / "Dockerfile.j2"

    @property
    def example(self) -> PurePosixPath:
        """A score.py with its model, a request and the response to it."""
        return self.home / "example"

    @property
    def context(self) -> PurePosixPath:
        """The build context: an image without a parent copies the server, which is beside it."""
        return self.home if self.parent is None else self.folder


def _framework_home(framework: str) -> PurePosixPath:
    return PurePosixPath("frameworks") / framework


def expand(matrix: Matrix) -> tuple[Variant, ...]:
    """Every image of the matrix, parents before their children."""
    variants = [_variant(matrix, cell) for cell in matrix.cells]
    return tuple(sorted(variants, key=lambda variant: variant.parent is not None))


def _variant(matrix: Matrix, cell: Cell) -> Variant:
    spec, release = matrix.spec, cell.release
    framework = spec.frameworks[cell.framework]
    parent = (
        None
        if cell.framework == MINIMAL
        else image_name(MINIMAL, None, cell.python, cell.accelerator, release.track)
    )
    index = None
    wheels: tuple[DeclaredWheel, ...] = ()
    if release.index is not None:
        index_spec = spec.indexes[release.index]
        index = Index(release.index, index_spec.url.rstrip("/"), tuple(index_spec.packages))
        wheels = tuple(
            DeclaredWheel(
                wheel.name, wheel.version, wheel.sha256[cell.python], tuple(wheel.requires)
            )
            for wheel in spec.wheels
            if wheel.name in index.packages
            and cell.python in wheel.sha256
            and f"{wheel.name}=={wheel.version}" in release.pins
        )
    return Variant(
        name=name_of(cell),
        framework=cell.framework,
        title=framework.title,
        version=release.version,
        track=release.track,
        python=cell.python,
        suite=spec.pythons[cell.python].suite,
        accelerator=cell.accelerator,
        pins=tuple(release.pins),
        installer=Installer(spec.installer.version, spec.installer.sha256),
        trim=_trims((*spec.trim, *framework.trim)),
        strip=_trims(framework.strip),
        index=index,
        wheels=wheels,
        parent=parent,
    )


def _trims(specs: Iterable[TrimSpec]) -> tuple[Trim, ...]:
    return tuple(Trim(spec.what, spec.path) for spec in specs)


@dataclass(frozen=True)
class Selection:
    """Which images a command is about: names or shell patterns, a track, an accelerator.

    With nothing given it is the current CPU images; `everything` lifts that.
    """

    patterns: tuple[str, ...] = ()
    everything: bool = False
    track: Track | None = None
    accelerator: Accelerator | None = None


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
    accelerator = selection.accelerator or (None if anything else Accelerator.CPU)
    chosen = tuple(
        variant
        for variant in variants
        if (not selection.patterns or _matches_any(variant.name, selection.patterns))
        and track in (None, variant.track)
        and accelerator in (None, variant.accelerator)
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
    """The chosen images and all that they are layered on, in the order of `variants`."""
    by_name = {variant.name: variant for variant in variants}
    needed: set[str] = set()
    for variant in chosen:
        current: Variant | None = variant
        while current is not None and current.name not in needed:
            needed.add(current.name)
            current = by_name[current.parent] if current.parent else None
    return tuple(variant for variant in variants if variant.name in needed)
