"""What matrix.yaml may say: its keys, and the form of each value.

These models are the JSON schema by which editors complete and check the file, too: what is said of
a key here is what they show.
"""

import datetime
import re
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Annotated, Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.version import InvalidVersion, Version
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
)
from pydantic_core import CoreSchema, core_schema

# The framework that every other one is based on.
MINIMAL = "minimal"


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
    def debian_image(self) -> str:
        """The image of the release, without what a container seldom needs."""
        return f"debian:{self}-slim"

    @property
    def glibc(self) -> str:
        """The glibc of the suite, which bounds the manylinux wheels that run on it."""
        return {Suite.BOOKWORM: "2.36", Suite.TRIXIE: "2.41"}[self]


class Accelerator(StrEnum):
    """What the image computes on."""

    CPU = "cpu"
    CUDA = "cuda"
    TENSORRT = "tensorrt"


@dataclass(frozen=True)
class Form:
    """Admits text of a form, which the error shows by an example."""

    pattern: str
    example: str

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        # Schemas match a part of the text, too.
        return {**handler(schema), "pattern": f"^(?:{self.pattern})$"}

    def _check(self, value: str) -> str:
        if not re.fullmatch(self.pattern, value):
            raise ValueError(f"{value!r} is not of the form of {self.example}")
        return value


# Releases share most of their pins.
parsed_requirement = lru_cache(maxsize=4096)(Requirement)


def _requirement(value: str) -> str:
    try:
        requirement = parsed_requirement(value)
    except InvalidRequirement as error:
        raise ValueError(why_no_requirement(value, error)) from None
    if not requirement.specifier:
        raise ValueError(f"{value!r} promises no version; write {requirement.name}==…")
    if requirement.url or requirement.marker or requirement.extras:
        raise ValueError(f"{value!r}: a pin is a name and its versions, nothing else")
    return value


def _dependency(value: str) -> str:
    try:
        parsed_requirement(value)
    except InvalidRequirement as error:
        raise ValueError(why_no_requirement(value, error)) from None
    return value


# What people write instead of https://packaging.python.org/en/latest/specifications/version-specifiers/
_SLIPS = (
    (r"=([<>])", r"\1="),  # numpy=>2
    (r"(?<![=<>!~])=(?![=])", "=="),  # numpy=2, as conda has it
    (r"^(\S+) +([0-9])", r"\1==\2"),  # numpy 2.5
    (r"\.x\b", ".*"),  # numpy==2.x
)


def why_no_requirement(value: str, error: InvalidRequirement) -> str:
    """What is wrong with a text that is to be a requirement, and what it may be meant to be."""
    meant = value
    for slip, repair in _SLIPS:
        meant = re.sub(slip, repair, meant)
        try:
            parsed_requirement(meant)
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


def _day(value: Any) -> datetime.date:
    """A date: YAML has a type for it, and in quotes it is text."""
    if type(value) is datetime.date:
        return value
    try:
        if isinstance(value, str) and re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", value):
            return datetime.date.fromisoformat(value)
    except ValueError as error:
        raise ValueError(f"{value} is no date ({error})") from None
    shown = value if isinstance(value, str | int | float) else type(value).__name__
    raise ValueError(f"{shown} is no date, such as 2027-10-31")


PythonVersion = Annotated[str, Form(r"3\.[1-9][0-9]?", '"3.12"')]
FrameworkName = Annotated[str, Form(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", "scikit-learn")]
ReleaseVersion = Annotated[str, Form(r"[0-9]+(\.[0-9]+){0,2}", '"1.9"')]
Sha256 = Annotated[str, Form(r"[0-9a-f]{64}", "64 hexadecimal digits")]
IndexUrl = Annotated[str, Form(r"https://[^\s/@]+(/\S*)?", "https://host/path")]
IndexName = Annotated[str, Form(r"[a-z][a-z0-9-]*", "pytorch-cpu")]
SetName = Annotated[str, Form(r"[a-z][a-z0-9]*([-.][a-z0-9]+)*", "cuda-13.0")]
# As indexes and locks write it: lower case, with hyphens.
PackageName = Annotated[str, Form(r"[a-z0-9]+(-[a-z0-9]+)*", "scikit-learn, in lower case")]
# https://www.debian.org/doc/debian-policy/ch-controlfields.html#source
DebianPackage = Annotated[str, Form(r"[a-z0-9][a-z0-9+.-]+", "libgomp1")]
# The images of https://hub.docker.com/r/nvidia/cuda, whose tags begin with the version of CUDA.
CudaImage = Annotated[
    str,
    Form(
        r"nvidia/cuda:[0-9]+\.[0-9]+\.[0-9]+-[a-z0-9.-]+",
        "nvidia/cuda:11.0.3-cudnn8-runtime-ubuntu20.04",
    ),
]
CudaVersion = Annotated[str, Form(r"[0-9]+\.[0-9]+", '"10.2"')]
Pin = Annotated[str, AfterValidator(_requirement)]
Dependency = Annotated[str, AfterValidator(_dependency)]
PackageVersion = Annotated[str, AfterValidator(_version)]
Title = Annotated[str, Form(r'[^\s"\$\\`|](?:[^\n"\$\\`|]*[^\s"\$\\`|])?', "ONNX Runtime")]
EnvironmentName = Annotated[str, Form(r"[A-Z][A-Z0-9_]*", "KERAS_HOME")]
Day = Annotated[datetime.date, BeforeValidator(_day)]
# It stands in an ENV instruction without quotes.
EnvironmentValue = Annotated[str, Form(r"[A-Za-z0-9_./:,=+-]+", "/tmp/keras")]


class Section(BaseModel):
    """A mapping of a document: keys that it does not name are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


Accelerators = Annotated[list[Annotated[Accelerator, Field(strict=False)]], Field(min_length=1)]
Pythons = Annotated[list[PythonVersion], Field(min_length=1)]
Pins = Annotated[list[Pin], Field(min_length=1)]


class TrackSpec(Section):
    """What a release of a track is where it says nothing else."""

    pythons: Pythons = Field(description="The Pythons of its images, each in quotes.")
    accelerators: Accelerators = Field(description="What its images compute on.")
    supported_until: Day | None = Field(
        None,
        description="For current: the last day on which its images are supported, such as"
        " 2027-10-31.",
    )


class ReleaseSpec(Section):
    """One version of a framework: an image for each of its Pythons on each of its accelerators."""

    version: ReleaseVersion | None = Field(
        None, description="The version in the image's name, in quotes; not for minimal."
    )
    package_version: ReleaseVersion | None = Field(
        None,
        description="What the version of the framework's package begins with, where that is not"
        " `version`.",
    )
    track: Annotated[Track, Field(strict=False)] = Field(
        Track.CURRENT,
        description="`current`, which it is unless it says otherwise, or `historical`: unsupported,"
        " for reproducing old deployments.",
    )
    pythons: Pythons | None = Field(
        None, description="Its Pythons, each in quotes; if left out, those of its track."
    )
    accelerators: Accelerators | None = Field(
        None, description="What its images compute on; if left out, that of its track."
    )
    supported_until: Day | None = Field(
        None,
        description="The last day on which its images are supported, such as 2027-10-31; if left"
        " out, that of its track. Historical images are unsupported.",
    )
    debian: list[DebianPackage] = Field(
        [], description="Debian packages that its wheels need beyond what minimal has."
    )
    cuda_image: CudaImage | None = Field(
        None,
        description="For cuda: the image of nvidia/cuda that the libraries of an old CUDA are"
        " copied from, when no package has them.",
    )
    bundled_cuda: CudaVersion | None = Field(
        None,
        description="For cpu: the version of a CUDA that a package carries inside although nothing"
        " uses it here.",
    )
    example: ReleaseVersion | None = Field(
        None,
        description="Which example serves it: that of the folder example-<version>. If left out,"
        " `example`, for a historical release that of its own version.",
    )
    index: IndexName | None = Field(
        None, description="Which of the `indexes` its packages may also come from."
    )
    sets: list[SetName] = Field([], description="Which of the `sets` of pins it has, too.")
    pins: Pins = Field(
        description="What is promised, as requirements: numpy==2.5.5, numpy>=2,<3 in quotes."
    )
    sdists: list[PackageName] = Field(
        [], description="Packages of which there is no wheel. They are built with the image."
    )


class FrameworkSpec(Section):
    """A framework and its releases."""

    title: Title = Field(description="Its name as people write it.")
    package: PackageName | None = Field(
        None,
        description="Its package, whose pin must be of a release's `version`; if left out, of the"
        " framework's name. <package>-cpu and <package>-gpu are taken for it, too.",
    )
    environment: dict[EnvironmentName, EnvironmentValue] = Field(
        {}, description="Variables that are set in its images."
    )
    releases: list[ReleaseSpec] = Field(min_length=1, description="Its versions.")


class IndexSpec(Section):
    """A package index beside PyPI, asked for the named packages."""

    url: IndexUrl = Field(description="Its address, as pip takes it for --extra-index-url.")
    packages: list[PackageName] = Field(
        min_length=1, description="What is taken from it, and nothing else is."
    )


class WheelSpec(Section):
    """What an index would say of one release, for machines that cannot ask it."""

    name: PackageName = Field(description="The package.")
    version: PackageVersion = Field(description="Its exact version, with the local part.")
    sha256: dict[PythonVersion, Sha256] = Field(
        min_length=1, description="The hash of its wheel for each Python."
    )
    requires: list[Dependency] = Field(description="Its dependencies, as in its metadata.")


class MatrixSpec(Section):
    """Every image of this repository; everything else that names one is derived from it."""

    debian: dict[Annotated[Suite, Field(strict=False)], Pythons] = Field(
        min_length=1, description="The Debian release under each Python."
    )
    tracks: dict[Annotated[Track, Field(strict=False)], TrackSpec] = Field(
        min_length=1, description="What a release is where it says nothing else, by track."
    )
    sets: dict[SetName, Pins] = Field({}, description="Pins that releases share, by name.")
    frameworks: dict[FrameworkName, FrameworkSpec] = Field(
        min_length=1,
        description="The frameworks, by the name that begins the names of their images. Every image"
        " is based on the one of `minimal` with its Python and its track.",
    )
    indexes: dict[IndexName, IndexSpec] = Field(
        {}, description="Package indexes beside PyPI, by a name of your choice."
    )
    wheels: list[WheelSpec] = Field(
        [],
        description="Wheels of an index that cannot be reached from everywhere: locks that hold"
        " them can be written without asking it.",
    )
