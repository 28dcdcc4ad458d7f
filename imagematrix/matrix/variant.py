"""The images of a matrix, each with all that later stages need to know of it."""

import datetime
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import PurePosixPath

from imagematrix.matrix.cuda import Cuda, cuda_of_image, cuda_of_lock
from imagematrix.matrix.lockfile import Lock
from imagematrix.matrix.names import ENVIRONMENT, Cell, example_of, home_of, name_of, parent_of
from imagematrix.matrix.rules import Matrix
from imagematrix.matrix.schema import Accelerator, Suite, Track
from imagematrix.matrix.slim import Slim, SlimRule, Verb

LOCK_NAME = "requirements.txt"
SLIM_NAME = "slim.txt"

# Thousands of images share the folders of their frameworks, their templates and their examples.
_path = cache(PurePosixPath)


@dataclass(frozen=True)
class Index:
    """A package index beside PyPI, and the packages that are taken from it.

    That of a user's specification may be several, in `url` with spaces between, and has no
    `packages`: any may come from there.
    """

    name: str
    url: str
    packages: tuple[str, ...]

    @property
    def urls(self) -> tuple[str, ...]:
        """The URL of each."""
        return tuple(self.url.split())


@dataclass(frozen=True)
class DeclaredWheel:
    """A wheel whose metadata and hash the matrix states."""

    name: str
    version: str
    sha256: str
    requires: tuple[str, ...]


@dataclass(frozen=True)
class Conda:
    """A conda environment that an image has beside its own Python.

    `prefix` is its folder in the image, `builder` the name of the image in which it is installed,
    of which nothing stays. `digest` is that of the files that say what is installed, and how,
    `python` CPython's full version.
    """

    prefix: str
    builder: str
    digest: str
    python: str


@dataclass(frozen=True)
class Variant:
    """One image. `parent` is the name of the image that it is based on, None for a root.

    `folder` is that of its rendered Dockerfile and its lock, relative to the repository. `slim` is
    what it does without of its interpreter and its packages. `environment` are variables with their
    values, `debian` packages of Debian, `sdists` packages without a wheel. `cuda` is what the image
    holds of it; with an accelerator that needs it, None means that no lock says it yet.
    `cuda_image` is where its libraries are taken from, None for its own packages. `bundled_cuda` is
    the version of a CUDA that a package carries inside although the image is for the CPU.
    `supported_until` is the last day of its support, None where it is unsupported. With `conda`,
    its packages are in a conda environment, whose Python runs the server.
    """

    name: str
    folder: PurePosixPath
    framework: str
    title: str
    version: str | None
    track: Track
    supported_until: datetime.date | None
    python: str
    suite: Suite
    accelerator: Accelerator
    pins: tuple[str, ...]
    slim: tuple[SlimRule, ...]
    environment: tuple[tuple[str, str], ...]
    index: Index | None
    wheels: tuple[DeclaredWheel, ...]
    debian: tuple[str, ...]
    sdists: tuple[str, ...]
    cuda: Cuda | None
    cuda_image: str | None
    bundled_cuda: str | None
    example: PurePosixPath
    parent: str | None
    conda: Conda | None = None

    @property
    def description(self) -> str:
        """What the image is, in a sentence."""
        content = self.title if self.version is None else f"{self.title} {self.version}"
        text = f"Inference image: {content}, Python {self.python}, {self.platform}"
        return text if self.track is Track.CURRENT else f"{text} ({self.track.support})"

    @property
    def platform(self) -> str:
        """What it computes on, with versions."""
        if self.accelerator is Accelerator.CPU:
            return "CPU"
        cuda = f"CUDA {self.cuda.version}" if self.cuda else "CUDA"
        if self.accelerator is Accelerator.TENSORRT and self.cuda:
            return f"{cuda}, TensorRT {self.cuda.tensorrt}"
        return cuda

    @property
    def is_environment(self) -> bool:
        """Whether it is made of a user's specification, not declared by the matrix."""
        return self.framework == ENVIRONMENT

    @property
    def rendered_by(self) -> str:
        """The session that writes its rendered files."""
        return "environment" if self.is_environment else "render"

    @property
    def home(self) -> PurePosixPath:
        """The folder of its framework: template, examples, and a folder per image."""
        return home_of(self.framework)

    @cached_property
    def dockerfile(self) -> PurePosixPath:
        """Its rendered Dockerfile, relative to the repository."""
        return self.folder / "Dockerfile"

    @cached_property
    def lock(self) -> PurePosixPath:
        """Its hash-locked requirements, relative to the repository."""
        return self.folder / LOCK_NAME

    @cached_property
    def slim_file(self) -> PurePosixPath:
        """The rendered list of its slim rules, relative to the repository."""
        return self.folder / SLIM_NAME

    def patterns(self, verb: Verb) -> tuple[str, ...]:
        """What its slim rules name for one verb."""
        return tuple(rule.pattern for rule in self.slim if rule.verb == verb)

    @property
    def template(self) -> PurePosixPath:
        """The template of its Dockerfile, relative to the repository."""
        if self.conda is not None:
            return _path("base", "conda.Dockerfile.j2")
        if self.is_environment:
            return _path("base", "environment.Dockerfile.j2")
        return _path("base" if self.parent is None else "frameworks", "Dockerfile.j2")

    @property
    def system_image(self) -> str:
        """The image of Debian as all images without a parent start from it."""
        return f"system-{self.suite}"

    @property
    def system_dockerfile(self) -> PurePosixPath:
        """The Dockerfile of that image, relative to the repository."""
        return _path("base", self.system_image, "Dockerfile")

    @property
    def debian_image(self) -> str:
        """The image of Debian that it is based on, directly or by its parent."""
        return self.suite.debian_image

    @property
    def python_image(self) -> str:
        """The image that its CPython is copied from, directly or by its parent."""
        return f"python:{self.python}-slim-{self.suite}"

    @property
    def base_images(self) -> tuple[str, ...]:
        """The images of other makers that its Dockerfile starts from or copies from."""
        if self.parent is not None:
            return (self.cuda_image,) if self.cuda_image else ()
        return self.debian_image, self.python_image

    @property
    def context(self) -> PurePosixPath:
        """The build context: an image without a parent copies the server, which is beside it."""
        return self.home if self.parent is None else self.folder


def expand(
    matrix: Matrix,
    read_lock: Callable[[PurePosixPath], Lock | None] = lambda _: None,
    slim: Slim | None = None,
) -> tuple[Variant, ...]:
    """Every image of the matrix, parents before their children.

    `slim` has the rules by which they are slimmed. `read_lock` gives the lock at a path relative to
    the repository, None where there is none that can be read: the locks of images with CUDA say
    which, and their names have it.
    """
    rules = slim or Slim()
    variants = [_variant(matrix, cell, read_lock, rules) for cell in matrix.cells]
    return tuple(sorted(variants, key=lambda variant: variant.parent is not None))


def _variant(
    matrix: Matrix,
    cell: Cell,
    read_lock: Callable[[PurePosixPath], Lock | None],
    slim: Slim,
) -> Variant:
    spec, release = matrix.spec, cell.release
    framework = spec.frameworks[cell.framework]
    folder = home_of(cell.framework) / name_of(cell)
    pins = tuple(pin.text for pin in cell.pins)
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
            and f"{wheel.name}=={wheel.version}" in pins
        )
    cuda = _cuda(cell, folder, read_lock)
    return Variant(
        name=name_of(cell, cuda.version, cuda.tensorrt or "") if cuda else folder.name,
        folder=folder,
        framework=cell.framework,
        title=framework.title,
        version=release.version,
        track=release.track,
        supported_until=cell.supported_until,
        python=cell.python,
        suite=matrix.suites[cell.python],
        accelerator=cell.accelerator,
        pins=pins,
        slim=slim.rules_of(cell),
        index=index,
        wheels=wheels,
        environment=tuple(framework.environment.items()),
        debian=tuple(release.debian),
        sdists=tuple(release.sdists),
        cuda=cuda,
        cuda_image=release.cuda_image,
        bundled_cuda=release.bundled_cuda,
        example=example_of(cell),
        parent=parent_of(cell),
    )


def _cuda(
    cell: Cell, folder: PurePosixPath, read_lock: Callable[[PurePosixPath], Lock | None]
) -> Cuda | None:
    if cell.accelerator is Accelerator.CPU:
        return None
    if cell.release.cuda_image is not None:
        return cuda_of_image(cell.release.cuda_image)
    lock = read_lock(folder / LOCK_NAME)
    return cuda_of_lock(lock) if lock is not None else None
