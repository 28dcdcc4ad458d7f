"""Reads an inference configuration and the files that it names."""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path, PurePath, PurePosixPath
from typing import Any

from pydantic import ValidationError

from imagematrix.environments.conda_file import CondaReader, read_variables
from imagematrix.environments.entries import Findings, has_login
from imagematrix.environments.environment_file import read_into
from imagematrix.environments.inference_config import (
    DockerSection,
    EnvironmentSection,
    InferenceConfig,
    PythonSection,
    RegistrySection,
)
from imagematrix.environments.model import Decisions, Deployment, Environment, Registry
from imagematrix.environments.scripts import check_docker_steps, check_script
from imagematrix.errors import InputError
from imagematrix.files import Reader, read_text
from imagematrix.matrix.document import Document, KeyPath, parse_json
from imagematrix.matrix.messages import schema_diagnostics

# The form of https://github.com/distribution/reference, of which this admits a little more.
_REFERENCE = re.compile(
    r"([A-Za-z0-9.-]+(:[0-9]+)?/)?[a-z0-9._-]+(/[a-z0-9._-]+)*"
    r"(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(@sha256:[0-9a-f]{64})?"
)
_ADDRESS = re.compile(r"[A-Za-z0-9.-]+(:[0-9]+)?(/[a-z0-9._-]+)*")
_MUSL = re.compile(r"(?<![a-z])(alpine|musl)(?![a-z])", re.IGNORECASE)
_CUDA = re.compile(r"[0-9]+(\.[0-9]+){0,2}")
_INLINE = ("environment",)


def read_deployment_into(
    path: Path, shown_as: PurePath, decisions: Decisions, findings: Findings, read: Reader
) -> Deployment | None:
    """The deployment of a file; None, with an error among the findings, where it has none."""
    try:
        document = parse_json(read_text(path, shown_as, read), shown_as)
    except InputError as error:
        findings.take(error)
        return None
    for diagnostic in document.errors:
        findings.error(diagnostic)
    try:
        config = InferenceConfig.model_validate(document.data)
    except ValidationError as error:
        for diagnostic in schema_diagnostics(document, InferenceConfig, error):
            findings.error(diagnostic)
        return None
    return _DeploymentReader(document, config, path.parent, decisions, findings, read).deployment()


class _DeploymentReader:
    """Reads what a configuration names; `home` is the folder that it is in."""

    def __init__(
        self,
        document: Document,
        config: InferenceConfig,
        home: Path,
        decisions: Decisions,
        findings: Findings,
        read: Reader,
    ) -> None:
        self._document = document
        self._config = config
        self._folder = home / (config.source_directory or "")
        self._shown_in = document.file.parent / (config.source_directory or "")
        self._decisions = decisions
        self._findings = findings
        self._read = read

    def deployment(self) -> Deployment:
        """The deployment; what is wrong with it is among the findings."""
        config = self._config
        environment = self._environment()
        image, registry = self._base()
        default = "" if image else self._decisions.python or self._decisions.default_python
        if config.runtime not in (None, "python"):
            message = f"there is no runtime {config.runtime!r} here"
            self._error(("runtime",), message, 'write "python"')
        if "\\" in (config.source_directory or ""):
            message = f"{config.source_directory!r} has \\ between its folders"
            self._error(("sourceDirectory",), message, "write /")
        if config.cuda_version and not _CUDA.fullmatch(config.cuda_version):
            message = f"{config.cuda_version!r} is no version of CUDA, such as 12.5"
            self._error(("cudaVersion",), message)
        if config.cuda_version and not config.enable_gpu:
            self._note(("cudaVersion",), "nothing uses CUDA: enableGpu is not true")
        return Deployment(
            self._document.file,
            self._folder,
            source=self._folder if config.source_directory else None,
            script=self._script(environment.series if environment else default),
            environment=environment,
            docker_steps=self._docker_steps(),
            enable_gpu=bool(config.enable_gpu),
            cuda_version=config.cuda_version or "",
            base_image=image,
            registry=registry,
            description=config.description or "",
        )

    def _script(self, series: str) -> str:
        at, name = ("entryScript",), self._config.entry_script
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or not name.strip():
            hint = "write its path relative to that"
            self._error(at, f"{name!r} is not below {self._start}", hint)
        elif (source := self._content(at, name)) is not None:
            check_script(source, self._shown_in / name, series, self._findings)
        return str(path)

    def _docker_steps(self) -> str:
        config = self._config
        at, name = ("extraDockerfileSteps",), config.docker_steps
        if name and config.docker_file_steps:
            message = "stands here with a second spelling, extraDockerFileSteps"
            self._error(at, message, "keep one of them", at_key=True)
            return ""
        if not name:
            at, name = ("extraDockerFileSteps",), config.docker_file_steps
        if not name or self._content(at, name) is None:
            return ""
        shown_as = self._shown_in / name
        try:
            text = read_text(self._folder / name, shown_as, self._read)
        except InputError as error:
            self._findings.take(error)
            return ""
        check_docker_steps(text, shown_as, self._findings)
        return text

    def _environment(self) -> Environment | None:
        config = self._config
        if config.environment is None:
            return self._of_file(("condaFile",), config.conda_file)
        for key, value in (
            ("condaFile", config.conda_file),
            ("baseImage", config.base_image),
            ("baseImageRegistry", config.base_image_registry),
        ):
            if value:
                message = f"{key} and environment exclude each other"
                self._error((key,), message, "keep one of them", at_key=True)
        return self._inline(config.environment)

    def _of_file(self, at: KeyPath, name: str | None) -> Environment | None:
        if not name or self._content(at, name) is None:
            return None
        path, shown_as = self._folder / name, self._shown_in / name
        return read_into(path, shown_as, self._decisions, self._findings, self._read)

    def _inline(self, section: EnvironmentSection) -> Environment:
        """The environment that stands in the configuration itself."""
        python = section.python or PythonSection.model_validate({})
        at = (*_INLINE, "python")
        found: Environment | None = None
        if python.user_managed:
            if python.conda_dependencies or python.conda_dependencies_file:
                where = (*at, "userManagedDependencies")
                self._note(where, "the base image has the packages: condaDependencies is ignored")
        elif python.conda_dependencies and python.conda_dependencies_file:
            message = "condaDependencies and condaDependenciesFile exclude each other"
            self._error((*at, "condaDependenciesFile"), message, "keep one of them", at_key=True)
        elif python.conda_dependencies:
            below = (*at, "condaDependencies")
            reader = CondaReader(
                self._document, below, self._folder, self._decisions, self._findings, self._read
            )
            found = reader.environment(python.conda_dependencies)
        else:
            where = (*at, "condaDependenciesFile")
            found = self._of_file(where, python.conda_dependencies_file)
        if python.base_conda_environment:
            message = "environments of a base image are not extended"
            self._error((*at, "baseCondaEnvironment"), message, "name the packages that it has")
        self._ignored(section)
        path = (*_INLINE, "environmentVariables")
        variables = read_variables(self._document, path, section.variables, self._findings)
        series = self._decisions.python or self._decisions.default_python
        found = found or Environment(self._document.file, series=series)
        both = {**found.variables, **variables}
        return replace(found, name=section.name or found.name, variables=both)

    def _ignored(self, section: EnvironmentSection) -> None:
        """Notes what has no meaning for an image that serves."""
        for key in ("spark", "databricks", "r"):
            if not _is_empty(getattr(section, key)):
                self._note((*_INLINE, key), "has no meaning for an image that serves")
        docker = section.docker or DockerSection.model_validate({})
        options = {"arguments": docker.arguments, "shmSize": docker.shm_size}
        for key, value in options.items():
            if not _is_empty(value):
                message = "is for starting a container: give it to `docker run`"
                self._note((*_INLINE, "docker", key), message)

    def _base(self) -> tuple[str, Registry | None]:
        """The base image that is named, empty if none, and its registry."""
        config = self._config
        docker = (config.environment and config.environment.docker) or None
        if docker is None:
            return self._image((), config.base_image, config.base_image_registry)
        at = (*_INLINE, "docker")
        if docker.base_dockerfile:
            message = "a Dockerfile as base is not built here"
            hint = "build it by `docker build -t NAME`, and name that in baseImage"
            self._error((*at, "baseDockerfile"), message, hint)
        if docker.platform is not None:
            named = (docker.platform.os or "linux", docker.platform.architecture or "amd64")
            if tuple(map(str.lower, named)) != ("linux", "amd64"):
                message = f"images are for linux and amd64, not {' and '.join(named)}"
                self._error((*at, "platform"), message, "remove it")
        return self._image(at, docker.base_image, docker.base_image_registry)

    def _image(
        self, at: KeyPath, image: str | None, section: RegistrySection | None
    ) -> tuple[str, Registry | None]:
        registry = self._registry((*at, "baseImageRegistry"), section)
        here = (*at, "baseImage")
        if not image:
            if registry is not None:
                message = "names a registry, and there is no baseImage"
                self._error((*at, "baseImageRegistry"), message, "add it, or remove this")
            return "", registry
        if not _REFERENCE.fullmatch(image):
            self._error(here, f"{image!r} is no image", "write host/name:tag")
        elif _MUSL.search(image):
            hint = "wheels and conda need glibc: take an image of Debian or Ubuntu"
            self._error(here, f"{image} is an image with musl, by its name", hint)
        host, slash, _ = image.partition("/")
        has_host = bool(slash) and (any(mark in host for mark in ".:") or host == "localhost")
        if registry is None or image.startswith(f"{registry.address}/"):
            return image, registry
        if has_host:
            message = f"{image} is of {host}, and baseImageRegistry names {registry.address}"
            self._error(here, message, "correct one of them")
        return f"{registry.address}/{image}", registry

    def _registry(self, at: KeyPath, section: RegistrySection | None) -> Registry | None:
        if section is None or not section.address:
            if section is not None and (section.username or section.password):
                self._error(at, "the address is missing", 'add "address"')
            return None
        address = re.sub(r"^https?://", "", section.address).rstrip("/")
        if has_login(section.address):
            message = f"{section.address} has a password in it"
            hint = 'write "username" and "password", or give them in the environment'
            self._error((*at, "address"), message, hint)
        elif not _ADDRESS.fullmatch(address):
            message = f"{section.address!r} is no registry"
            self._error((*at, "address"), message, "write host or host:port")
        if section.password:
            message = "the password stands in this file"
            self._note((*at, "password"), f"{message}: in the environment it is safer")
        return Registry(address, section.username or "", section.password or "")

    def _content(self, at: KeyPath, name: str) -> bytes | None:
        """The content of a file that the configuration names; None if there is none to read."""
        if "\\" in name:
            self._error(at, f"{name!r} has \\ between its folders", "write /")
            return None
        try:
            return self._read(self._folder / name)
        except OSError as error:
            message = f"{name} cannot be read: {error.strerror}"
        except ValueError:
            message = f"{name!r} is no path"
        self._error(at, message, f"its path is relative to {self._start}")
        return None

    @property
    def _start(self) -> str:
        """What relative paths are relative to, in words."""
        source = self._config.source_directory
        return f"sourceDirectory, {source}" if source else "the folder of this file"

    def _error(self, at: KeyPath, message: str, hint: str = "", *, at_key: bool = False) -> None:
        self._findings.error(self._document.diagnostic(at, message, hint, at_key=at_key))

    def _note(self, at: KeyPath, message: str) -> None:
        self._findings.note(self._document.diagnostic(at, message, at_key=True))


def _is_empty(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(map(_is_empty, value.values()))
    return value in (None, "", [], True, False)
