"""Reads a conda specification: env.yml, or `condaDependencies` of an inference configuration.

Format: https://docs.conda.io/projects/conda/en/stable/user-guide/tasks/manage-environments.html
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from imagematrix.environments.entries import Entry, Findings, has_login
from imagematrix.environments.inference_config import CondaFile
from imagematrix.environments.matchspec import MatchSpec, asks_for, differ, parse_match_spec
from imagematrix.environments.model import Decisions, Environment, Packages
from imagematrix.environments.requirements import NO_PATHS, RequirementsReader
from imagematrix.files import Reader
from imagematrix.matrix.document import Document, KeyPath
from imagematrix.matrix.messages import nearest

# https://repo.anaconda.com is asked for all of them.
_TERMS = (
    "`defaults` is Anaconda's repository, whose terms of service apply"
    " (https://www.anaconda.com/legal); decide: --channel defaults=conda-forge takes another one,"
    " --channel defaults=https://repo.anaconda.com/pkgs/main accepts them"
)
_VARIABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# The image sets what it finds its programs by, and libraries are found by their own paths.
_RESERVED = {"PATH", "LD_LIBRARY_PATH", "LD_PRELOAD", "PYTHONHOME", "VIRTUAL_ENV"}
_BUILT_FOR = re.compile(r"py(?P<major>[23])(?P<minor>\d{1,2})(?![0-9])")


class CondaReader:
    """Reads a conda specification that begins at `path` of a document."""

    def __init__(
        self,
        document: Document,
        path: KeyPath,
        folder: Path,
        decisions: Decisions,
        findings: Findings,
        read: Reader,
    ) -> None:
        self._document = document
        self._path = path
        self._folder = folder
        self._decisions = decisions
        self._findings = findings
        self._requirements = RequirementsReader(findings, read)
        self._specs: dict[str, tuple[Entry, MatchSpec]] = {}

    def environment(self, section: CondaFile) -> Environment:
        """The environment; what is wrong with it is among the findings."""
        conda = [entry for entry in self._dependencies(section.dependencies) if entry]
        channels = self._channels(section)
        python, series = self._python()
        self._contradictions()
        self._builds(series)
        self._platforms(section.platforms or [])
        if section.prefix is not None:
            message = "`prefix` is a path of the machine that wrote this"
            at = (*self._path, "prefix")
            self._findings.note(self._document.diagnostic(at, message, "ignored", at_key=True))
        environment = Environment(
            self._document.file,
            name=section.name or "",
            python=python,
            series=series,
            channels=channels,
            conda=tuple(conda),
            variables=read_variables(
                self._document, (*self._path, "variables"), section.variables, self._findings
            ),
        )
        return with_requirements(environment, self._requirements)

    def _dependencies(self, items: Sequence[Any]) -> Iterator[Entry]:
        if not items:
            self._error(("dependencies",), "must not be empty", "name at least python")
        for i, item in enumerate(items):
            at: KeyPath = ("dependencies", i)
            if isinstance(item, str):
                if (entry := self._spec(self._entry(at, item))) is not None:
                    yield entry
            elif isinstance(item, dict):
                self._section(at, item)
            elif (*self._path, *at) not in self._document.unreadable:
                typed = self._document.scalars.get((*self._path, *at), "a list")
                hint = "remove the hyphen" if item is None else f'write "{typed}" in quotes'
                self._error(at, "must be a package, such as numpy=2.5", hint)

    def _section(self, at: KeyPath, section: Mapping[str, Any]) -> None:
        for key, values in section.items():
            if key != "pip":
                scalar = isinstance(values, str | int | float)
                typed = self._document.scalars.get((*self._path, *at, key), "")
                hint = f"write {key}={typed}" if scalar else nearest(key, ["pip"])
                hint = hint or "`pip:` is the only section of dependencies"
                self._error((*at, key), f"unknown section {key}", hint, at_key=True)
            elif not isinstance(values, list):
                self._error((*at, key), "must be a list of requirements", "begin each with `- `")
            else:
                for i, value in enumerate(values):
                    self._pip((*at, key, i), value)

    def _pip(self, at: KeyPath, value: Any) -> None:
        if isinstance(value, str) and value.strip():
            folder, shown_in = self._folder, self._document.file.parent
            self._requirements.read_entry(self._entry(at, value), folder, shown_in)
        elif (*self._path, *at) not in self._document.unreadable:
            self._error(at, "must be a requirement, such as numpy==2.5.5", "correct or remove it")

    def _spec(self, entry: Entry) -> Entry | None:
        """The match spec of an entry, with its channel as decided."""
        if has_login(entry.text):
            self._refuse_login(entry)
            return None
        if re.match(r"\.{0,2}/|file:|~|[A-Za-z]:\\|-", entry.text):
            self._findings.error(entry.diagnostic(f"{entry.text} is no package", NO_PATHS))
            return None
        try:
            spec = parse_match_spec(entry.text)
        except ValueError as error:
            self._findings.error(entry.diagnostic(str(error)))
            return None
        if "+unknown" in spec.version:
            message = f"{spec.name} {spec.pin}: this version is that of a working copy, and in no"
            hint = "name a version that was released, or remove it"
            self._findings.error(entry.diagnostic(f"{message} channel", hint))
        if (first := self._specs.get(spec.name)) is not None:
            message = f"{spec.name} is here twice, first on line {first[0].line}"
            self._findings.error(entry.diagnostic(message, "keep one of them"))
            return None
        if spec.channel:
            channels = self._decided(replace(entry, text=spec.channel))
            if channels and channels[0].text != spec.channel:
                text = entry.text.replace(f"{spec.channel}::", f"{channels[0].text}::", 1)
                entry = replace(entry, text=text)
        self._specs[spec.name] = (entry, spec)
        return entry

    def _channels(self, section: CondaFile) -> tuple[Entry, ...]:
        found: dict[str, Entry] = {}
        for i, text in enumerate(section.channels):
            entry = self._entry(("channels", i), text)
            if text == "nodefaults":
                continue
            for channel in self._decided(entry):
                found.setdefault(channel.text, channel)
        wanted = self._specs.keys() - {"python", "pip"}
        if not section.channels and self._decisions.packages is Packages.CONDA:
            at = "channels" if "channels" in section.model_fields_set else "dependencies"
            entry = self._entry((at,), "defaults")
            if wanted or "defaults" in self._decisions.channels:
                return tuple(self._decided(entry, "names no channel, so conda takes `defaults`; "))
        return tuple(found.values())

    def _decided(self, entry: Entry, why: str = "") -> list[Entry]:
        """The channels that are taken for one that is named."""
        if has_login(entry.text):
            self._refuse_login(entry)
            return []
        if re.match(r"\.{0,2}/|~|[A-Za-z]:\\", entry.text) or not entry.text.strip():
            message = f"{entry.text!r} is no channel"
            self._findings.error(entry.diagnostic(message, "name one by its address"))
            return []
        if entry.text.startswith("file:"):
            self._findings.note(entry.diagnostic("only this machine reaches that channel"))
        instead = self._decisions.channels.get(entry.text)
        if instead is not None:
            return [replace(entry, text=channel) for channel in instead]
        if entry.text == "defaults" and self._decisions.packages is Packages.CONDA:
            message = f"{why}`defaults` needs a decision"
            self._findings.error(entry.diagnostic(message, _TERMS))
        return [entry]

    def _refuse_login(self, entry: Entry) -> None:
        message = f"{entry.text} has a password or a token in it"
        hint = "it would be in the lock; write the address without it, and the password in ~/.netrc"
        self._findings.error(entry.diagnostic(message, hint))

    def _python(self) -> tuple[str, str]:
        """What is asked of Python, and the Python that the environment is built for."""
        decisions = self._decisions
        if "python" not in self._specs:
            return "", decisions.python or decisions.default_python
        entry, spec = self._specs["python"]
        asked = spec.pin or spec.version
        fitting = [series for series in decisions.possible if _fits(spec, series)]
        if decisions.python and not _fits(spec, decisions.python):
            message = f"Python {decisions.python} is asked for by --python, and {asked} here"
            self._findings.error(entry.diagnostic(message, "change one of them"))
        elif not fitting:
            self._findings.error(entry.diagnostic(*self._no_python(asked, spec)))
        elif spec.pin.count(".") > 1 and decisions.packages is Packages.PYPI:
            message = f"Python {asked}: the image has the newest patch of its Python"
            self._findings.note(entry.diagnostic(message, "--packages conda has that one"))
        preferred = (decisions.python, decisions.default_python)
        chosen = next((one for one in preferred if one in fitting), fitting[-1] if fitting else "")
        return asked, chosen or ".".join(spec.pin.split(".")[:2])

    def _no_python(self, asked: str, spec: MatchSpec) -> tuple[str, str]:
        served = self._decisions.served
        if not any(_fits(spec, series) for series in served):
            message = f"Python {asked}: the server runs on Python {served[0]} to {served[-1]}"
            return message, f"write python={self._decisions.default_python}"
        pythons = ", ".join(self._decisions.pythons)
        message = f"Python {asked}: images with packages of PyPI have Python {pythons}"
        return message, "choose one of them, or --packages conda, which brings its own Python"

    def _contradictions(self) -> None:
        """Packages that both conda and pip are to install, in versions that differ."""
        for entry in self._requirements.result.pip:
            requirement = Requirement(entry.text)
            found = self._specs.get(canonicalize_name(requirement.name))
            if found is not None and differ(found[1], requirement.specifier):
                message = (
                    f"{entry.text} contradicts {found[0].text} of conda on line {found[0].line}"
                )
                self._findings.error(entry.diagnostic(message, "keep one of them"))

    def _builds(self, series: str) -> None:
        """Builds that are for another Python than the one that is asked for."""
        if "python" not in self._specs or not series:
            return
        for entry, spec in self._specs.values():
            built = _BUILT_FOR.match(spec.build)
            if built and f"{built['major']}.{built['minor']}" != series:
                python = f"{built['major']}.{built['minor']}"
                message = f"{entry.text} is a build for Python {python}, and Python {series} is"
                hint = f"leave the build out: {spec.name}={spec.pin}" if spec.pin else ""
                self._findings.error(entry.diagnostic(f"{message} asked for", hint))

    def _platforms(self, platforms: Sequence[str]) -> None:
        if platforms and "linux-64" not in platforms:
            at = ("platforms", 0)
            self._error(at, "the images are for linux-64", "add linux-64, or remove `platforms`")

    def _entry(self, at: KeyPath, text: str) -> Entry:
        diagnostic = self._document.diagnostic((*self._path, *at), "")
        return Entry(text.strip(), diagnostic.file, diagnostic.line, diagnostic.column)

    def _error(self, at: KeyPath, message: str, hint: str = "", *, at_key: bool = False) -> None:
        path = (*self._path, *at)
        self._findings.error(self._document.diagnostic(path, message, hint, at_key=at_key))


def _fits(spec: MatchSpec, series: str) -> bool:
    """Whether some patch of a Python is what a match spec asks for."""
    return asks_for(spec, [f"{series}.{patch}" for patch in range(50)])


def with_requirements(environment: Environment, reader: RequirementsReader) -> Environment:
    """The environment, with what a reader found."""
    found = reader.result
    return replace(
        environment,
        pip=tuple(found.pip),
        constraints=tuple(found.constraints),
        pip_options=tuple(found.options),
        hashes=found.hashes,
    )


def read_variables(
    document: Document, path: KeyPath, values: Mapping[str, Any] | None, findings: Findings
) -> Mapping[str, str]:
    """Variables with their values as they were typed; what is wrong is among the findings."""
    variables: dict[str, str] = {}
    for name, value in (values or {}).items():
        at = (*path, name)
        variables[name] = value if isinstance(value, str) else document.scalars.get(at, str(value))
        if not _VARIABLE_NAME.fullmatch(name):
            message, hint = f"{name!r} is no name of a variable", "letters, digits and _ only"
            findings.error(document.diagnostic(at, message, hint, at_key=True))
        elif name in _RESERVED:
            message = f"{name} is set by the image"
            findings.error(document.diagnostic(at, message, "remove it", at_key=True))
        elif value is None or isinstance(value, dict | list):
            if at not in document.unreadable:
                findings.error(document.diagnostic(at, "must be text", 'write "" if it is empty'))
        elif not variables[name].isprintable():
            message = "has a character that a Dockerfile cannot hold, such as the end of a line"
            findings.error(document.diagnostic(at, message))
    return variables
