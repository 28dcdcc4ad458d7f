"""What users bring: a conda specification, requirements, or an inference configuration.

Sources of the formats:
env.yml: https://docs.conda.io/projects/conda/en/stable/user-guide/tasks/manage-environments.html
requirements.txt: https://pip.pypa.io/en/stable/reference/requirements-file-format/
inferenceconfig.json: https://learn.microsoft.com/azure/machine-learning/v1/reference-azure-machine-learning-cli
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from imagematrix.errors import Diagnostic
from imagematrix.files import Reader, read_bytes


@dataclass(frozen=True)
class Entry:
    """A text and the place where it is written. Line and column count from 1."""

    text: str
    file: PurePath
    line: int
    column: int

    def __str__(self) -> str:
        return self.text

    def diagnostic(self, message: str, hint: str = "") -> Diagnostic:
        """An error at this place."""
        return Diagnostic(self.file, self.line, self.column, "", message, hint)


@dataclass(frozen=True)
class Environment:
    """An environment as it is asked for.

    `name` is the name that the file gives, empty if none. `python` is what the file asks of Python:
    "3.12", "3.10.4", a range such as ">=3.8,<3.11", empty if it says nothing; `series` is the
    Python that it is built for, "3.12". `channels` are conda channels in their order, `defaults`
    replaced as decided. `conda` are match specs as written, with that of Python. `pip` are
    requirements in the form of PEP 508 (a marker and an URL stay, options and hashes do not).
    `constraints` are those of `-c`. `pip_options` are the options that hold for all requirements
    ("--index-url https://…"), `hashes` what `--hash` admits under the text of the requirement.
    `variables` are set in the image.
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

    `source` is the folder whose files are copied, None if only the script is. `script` is the
    path of the entry script relative to `folder`, which is `source` or the folder of the file.
    `environment` comes from the conda file or stands in the configuration; None if it has neither.
    `docker_steps` is the text of the additional steps, empty if there are none.
    `base_image` has no registry in front of it: that is `registry`.
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


@dataclass(frozen=True)
class Decisions:
    """What the reader of a specification has to know from elsewhere.

    `pythons` are the Pythons on which the server runs, oldest first ("3.7" … "3.13"). `python` is
    the one that is asked for by option, empty if none, and `default_python` that of a specification
    that asks for none. `channels` replaces channels: {"defaults": "conda-forge"}.
    """

    pythons: tuple[str, ...]
    default_python: str
    python: str = ""
    channels: Mapping[str, str] = field(default_factory=dict)


def read_environment(
    path: Path, decisions: Decisions, *, shown_as: PurePath | None = None, read: Reader = read_bytes
) -> Environment:
    """The environment of an env.yml (*.yml, *.yaml) or of requirements (*.txt).

    `shown_as` is the path that messages name, `path` if left out. Raises InputError with every
    error of the file, and of those that it includes, at once.
    """
    raise NotImplementedError


def read_deployment(
    path: Path, decisions: Decisions, *, shown_as: PurePath | None = None, read: Reader = read_bytes
) -> Deployment:
    """The deployment of an inferenceconfig.json; its script, conda file and Docker steps are read
    and checked as well.

    Raises InputError with every error of all these files at once.
    """
    raise NotImplementedError


def content_of(environment: Environment) -> str:
    """The environment in a normal form: the same text for files that ask for the same, whatever
    their comments, the order of their keys, of their packages, and their own name."""
    raise NotImplementedError


def name_of(environment: Environment) -> str:
    """`azureml_` and a hash of the content: the name of the image and of the conda environment."""
    raise NotImplementedError


def mutated_specification(environment: Environment) -> str:
    """The text of `mutated_conda_dependencies.yml`: the specification that was used, named as the
    image."""
    raise NotImplementedError
