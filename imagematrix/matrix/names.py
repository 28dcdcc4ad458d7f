"""The images of a matrix, one a cell, and what they and their folders are called."""

import datetime
from dataclasses import dataclass
from functools import cache
from pathlib import PurePosixPath

from imagematrix.matrix.document import KeyPath
from imagematrix.matrix.schema import MINIMAL, Accelerator, ReleaseSpec, Track

# What the image of a user's specification has for its framework.
ENVIRONMENT = "environment"

# Thousands of images share the folders of their frameworks.
_path = cache(PurePosixPath)


@dataclass(frozen=True)
class Pinned:
    """A pin of a release, and where it stands in the document: among its own, or in a set."""

    text: str
    path: KeyPath


@dataclass(frozen=True)
class Cell:
    """One combination of the axes, the release that it comes from, and where that stands in the
    document; the last day of its support, and where that stands."""

    framework: str
    path: KeyPath
    release: ReleaseSpec
    python: str
    accelerator: Accelerator
    pins: tuple[Pinned, ...]
    supported_until: datetime.date | None
    support_path: KeyPath

    @property
    def is_root(self) -> bool:
        """Whether its image is based on no other image of the matrix."""
        return self.framework == MINIMAL and self.accelerator is Accelerator.CPU


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
    only its lock has, the name of its folder.

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


def parent_of(cell: Cell) -> str | None:
    """The name of the image that a cell's is based on: the minimal CPU image of its Python and
    track. CUDA comes with each image's own packages, so images with and without it share that."""
    if cell.is_root:
        return None
    return image_name(MINIMAL, None, cell.python, Accelerator.CPU, cell.release.track)


def home_of(framework: str) -> PurePosixPath:
    """The folder of a framework: template, examples, and a folder per image."""
    return _path("base") if framework == MINIMAL else _path("frameworks", framework)


def example_of(cell: Cell) -> PurePosixPath:
    """The folder of the example that a cell's image serves."""
    version = cell.release.example
    if version is None and cell.release.track is Track.HISTORICAL:
        version = cell.release.version
    return _path(home_of(cell.framework), f"example-{version}" if version else "example")
