"""An environment and a deployment as they are asked for, and what decides how they are read."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path, PurePath

from imagematrix.environments.entries import Entry
from imagematrix.errors import Diagnostic


class Packages(StrEnum):
    """Where the packages of an environment come from."""

    CONDA = "conda"
    PYPI = "pypi"


@dataclass(frozen=True)
class Decisions:
    """What the reader of a specification has to know from elsewhere.

    `pythons` are those with a minimal image, oldest first ("3.7", "3.11" …): the server runs on all
    from the first to the last of them. `default_python` is taken where nothing else is asked for.
    `packages` is where they come from: only conda brings a Python without a minimal image.
    `python` is the one that an option asks for, empty if none. `channels` replaces channels, as
    options say: {"defaults": ("conda-forge",)}.
    """

    pythons: tuple[str, ...]
    default_python: str
    packages: Packages = Packages.PYPI
    python: str = ""
    channels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def served(self) -> tuple[str, ...]:
        """The Pythons on which the server runs."""
        first, last = (int(series.split(".")[1]) for series in (self.pythons[0], self.pythons[-1]))
        return tuple(f"3.{minor}" for minor in range(first, last + 1))

    @property
    def possible(self) -> tuple[str, ...]:
        """The Pythons that an environment may have."""
        return self.served if self.packages is Packages.CONDA else self.pythons


@dataclass(frozen=True)
class Environment:
    """An environment as it is asked for.

    `name` is the name that the file gives, empty if none. `python` is what the file asks of Python:
    "3.12", "3.10.4", a range such as ">=3.8,<3.11", empty if it says nothing; `series` is the
    Python that it is built for, "3.12". `channels` are conda channels in their order, `defaults`
    replaced as decided. `conda` are match specs as written, with that of Python. `pip` are
    requirements in the form of PEP 508. `constraints` are those of `-c`. `pip_options` are options
    for all requirements ("--index-url https://…"), `hashes` what `--hash` admits, under the text of
    the requirement. `variables` are set in the image. `notes` are what is ignored, and why.
    """

    file: PurePath
    name: str = ""
    python: str = ""
    series: str = ""
    channels: tuple[Entry, ...] = ()
    conda: tuple[Entry, ...] = ()
    pip: tuple[Entry, ...] = ()
    constraints: tuple[Entry, ...] = ()
    pip_options: tuple[Entry, ...] = ()
    hashes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    variables: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[Diagnostic, ...] = ()


@dataclass(frozen=True)
class Registry:
    """A registry of base images; user name and password are empty where none are given."""

    address: str
    username: str = ""
    password: str = field(default="", repr=False)


@dataclass(frozen=True)
class Deployment:
    """An inference configuration: what is served, and in which environment.

    Relative paths start at `folder`: `source` if there is one, else the folder of the file.
    `source` is the folder whose files are copied, None if only the script is; `script` is relative
    to `folder`. `environment` comes from the conda file or stands in the configuration; None if it
    has neither. `docker_steps` is the text of the additional steps, empty if there are none.
    `base_image` is a whole reference, with its registry; empty if none is named.
    """

    file: PurePath
    folder: Path
    source: Path | None
    script: str
    environment: Environment | None = None
    docker_steps: str = ""
    enable_gpu: bool = False
    cuda_version: str = ""
    base_image: str = ""
    registry: Registry | None = None
    description: str = ""
    notes: tuple[Diagnostic, ...] = ()
