"""An environment of conda's packages: which they are, and what pip adds to them, both locked."""

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

import uv
import yaml
from packaging.utils import canonicalize_name

from imagematrix.console import say
from imagematrix.environments.condarc import DEFAULTS, OFFICIAL, CondaSettings
from imagematrix.environments.specification import Entry, Environment
from imagematrix.errors import Diagnostic, InputError, UserError, WorkError
from imagematrix.host.config import HostConfig
from imagematrix.repository.locking import GROUP_LOCKS, Provided, lock_of_pip, uv_environ

# The lock of py-rattler, which is in an environment of its own, and its program.
RATTLER_LOCK = GROUP_LOCKS["rattler"]
RATTLER = PurePosixPath("imagematrix/environments/rattler.py")

# Conda packages that are a project of PyPI under another name.
_ON_PYPI = {
    "matplotlib-base": "matplotlib",
    "msgpack-python": "msgpack",
    "py-opencv": "opencv-python",
    "py-xgboost": "xgboost",
    "pytables": "tables",
    "python-flatbuffers": "flatbuffers",
    "python-graphviz": "graphviz",
    "pytorch": "torch",
    "tensorflow-base": "tensorflow",
}
# The server needs it, and the image has it for its own Python only.
_PARSER = "httptools>=0.6,<0.10"
_KINDS_OF_INPUT = {"invalid", "missing", "version", "build"}


class UnavailableError(WorkError):
    """A channel that cannot be reached from here: nothing is wrong with the request."""


@dataclass(frozen=True)
class CondaPackage:
    """A locked conda package. `size` is that of its file, in bytes."""

    name: str
    version: str
    build: str
    url: str
    sha256: str
    size: int
    depends: tuple[str, ...]

    @property
    def of_python(self) -> bool:
        """Whether it brings modules of Python, as far as its dependencies tell."""
        return any(re.split(r"[ =<>!]", spec)[0] == "python" for spec in self.depends)


@dataclass(frozen=True)
class CondaLock:
    """The locks of an environment.

    `conda` is the text of a lock that rattler and pixi read, `requirements` that of what pip adds,
    with hashes. `python` is CPython's full version.
    """

    conda: str
    requirements: str
    packages: tuple[CondaPackage, ...]
    python: str

    @property
    def series(self) -> str:
        """The Python as `3.12`."""
        return ".".join(self.python.split(".")[:2])


def lock_conda(
    root: Path,
    environment: Environment,
    host: HostConfig,
    settings: CondaSettings,
    *,
    glibc: str,
    image_python: str,
    cuda: str = "",
    present: CondaLock | None = None,
) -> CondaLock:
    """Solves an environment and locks it.

    `glibc` is the version that the image has, `image_python` its Python (`3.12`), and `cuda` the
    version that a driver offers, empty on CPU. What `present` has is kept where it fits.
    Raises InputError with every package that does not exist, WorkError with the solver's words if
    there is no solution, UnavailableError for a channel that cannot be reached, and UserError for
    one that does not exist.
    """
    specs = _with_python(environment)
    virtual = {
        "__unix": ("0", "0"),
        "__linux": ("5.10", "0"),
        "__glibc": (glibc, "0"),
        "__archspec": ("1", "x86_64"),
    }
    if cuda:
        virtual["__cuda"] = (cuda, "0")
    request = {
        "channels": channel_urls(environment.channels, settings),
        "specs": [entry.text for entry in specs],
        "virtual": virtual,
        "mirrors": settings.mirrors,
        "present": present.conda if present else "",
    }
    answer = _solve(root, request, environment, specs, host, settings)
    packages = tuple(
        CondaPackage(**{**row, "depends": tuple(row["depends"])}) for row in answer["packages"]
    )
    python = next((p.version for p in packages if p.name == "python"), "")
    if not python:
        raise UserError(f"{environment.file}: no package needs Python, and the server runs on it")
    requirements = _lock_pip(environment, packages, python, image_python, glibc, host, present)
    return CondaLock(answer["lock"], requirements, packages, python)


def read_conda_lock(conda: str, requirements: str) -> CondaLock:
    """The locks of an environment, from their texts."""
    packages = []
    for row in yaml.safe_load(conda)["packages"]:
        # https://docs.conda.io/projects/conda-build/en/stable/concepts/package-naming-conv.html
        stem = row["conda"].rpartition("/")[2].removesuffix(".conda").removesuffix(".tar.bz2")
        name, version, build = unquote(stem).rsplit("-", 2)
        depends = tuple(row.get("depends", ()))
        size = row.get("size", 0)
        packages.append(
            CondaPackage(name, version, build, row["conda"], row["sha256"], size, depends)
        )
    packages.sort(key=lambda package: package.name)
    python = next(package.version for package in packages if package.name == "python")
    return CondaLock(conda, requirements, tuple(packages), python)


def channel_urls(channels: Sequence[Entry], settings: CondaSettings) -> list[str]:
    """The official URLs of channels, each once, in their order.

    `defaults` stands for the channels that this host has chosen for it. Raises InputError with
    every channel that has credentials in its URL, and for `defaults` where nothing is chosen.
    """
    urls: list[str] = []
    errors = []
    for entry in channels:
        text = entry.text.strip()
        if text == "nodefaults":
            continue
        if text == "defaults":
            urls += settings.defaults
            if not settings.defaults:
                hint = "say what it is: `--channel defaults=conda-forge`, or `default_channels`"
                message = f"the channels of {DEFAULTS} are under terms of their owner"
                errors.append(entry.diagnostic(message, f"{hint} in .condarc"))
        elif "://" in text:
            parts = urlsplit(text)
            if "@" in parts.netloc or parts.path.startswith("/t/"):
                hint = "put them into a netrc file; the lock names the URL"
                errors.append(entry.diagnostic("the URL of a channel holds credentials", hint))
            urls.append(text.rstrip("/") + "/")
        else:
            urls.append(f"{OFFICIAL}{text.strip('/')}/")
    if errors:
        raise InputError(errors)
    if not urls:
        raise UserError("no channel is named, so there is nowhere to take conda packages from")
    return list(dict.fromkeys(urls))


def _with_python(environment: Environment) -> list[Entry]:
    """The specs, with the Python that the environment is built for."""
    pattern = re.compile(r"(\S+::)?python(?![\w.-])")
    specs = list(environment.conda)
    if environment.series:
        own = next((entry for entry in specs if pattern.match(entry.text)), None)
        place = own or Entry("", environment.file, 0, 0)
        text = f"python={environment.series}"
        specs.append(Entry(text, place.file, place.line, place.column))
    return specs


def _solve(
    root: Path,
    request: Mapping[str, object],
    environment: Environment,
    specs: Sequence[Entry],
    host: HostConfig,
    settings: CondaSettings,
) -> dict[str, Any]:
    python = rattler_python(root, host)
    # Its folder is not on the path: there, the program has the name of the library.
    command = [str(python), "-P", str(root / RATTLER), "solve"]
    result = subprocess.run(
        command,
        input=json.dumps(request),
        env={**os.environ, **settings.environ},
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        answer: dict[str, Any] = json.loads(result.stdout)
    except ValueError:
        reason = result.stderr.strip().rpartition("\n")[2] or f"exit status {result.returncode}"
        raise WorkError(f"the solver failed: {reason}") from None
    if "errors" not in answer:
        return answer
    raise _error(answer["errors"], environment, specs)


def _error(
    errors: Sequence[Mapping[str, object]], environment: Environment, specs: Sequence[Entry]
) -> UserError:
    kinds = {str(error["kind"]) for error in errors}
    if kinds <= _KINDS_OF_INPUT:
        return InputError([_diagnostic(error, specs) for error in errors])
    lines = [str(e["message"]) + (f"; {e['hint']}" if e["hint"] else "") for e in errors]
    text = "\n".join(lines)
    if kinds == {"unavailable"}:
        return UnavailableError(f"unavailable: {text}")
    if "unsolvable" in kinds:
        hint = "\n`--accelerator cuda` offers it" if "__cuda" in text else ""
        message = f"{environment.file}: these packages have no solution together\n{text}{hint}"
        return WorkError(message)
    return UserError(f"{text}\nnothing was changed")


def _diagnostic(error: Mapping[str, object], specs: Sequence[Entry]) -> Diagnostic:
    place = error["spec"]
    assert isinstance(place, int)
    hint = str(error["hint"])
    if error["kind"] == "missing":
        hint = (
            "an export of another system lists its own packages: `conda env export --from-history`"
            " lists those that were asked for"
        )
    return specs[place].diagnostic(str(error["message"]), hint)


def rattler_python(root: Path, host: HostConfig) -> Path:
    """The Python that has py-rattler, in an environment of its own below .nox, which is made from
    its lock where it is not there yet."""
    lock = (root / RATTLER_LOCK).read_text(encoding="utf-8")
    folder = root / Path(os.environ.get("NOX_ENVDIR") or ".nox", "rattler")
    python, stamp = folder / "bin" / "python", folder / "lock"
    wanted = f"{sys.version}\n{lock}"
    if _is_made(stamp, wanted):
        return python
    say("Installing py-rattler, once.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Made beside it, so that no other process finds half of it.
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".rattler.") as work:
        new = Path(work, "new")
        program = uv.find_uv_bin()
        commands = (
            [program, "venv", "--quiet", "--python", sys.executable, str(new)],
            [
                *(program, "pip", "install", "--quiet", "--python", str(new / "bin" / "python")),
                *("--require-hashes", "--no-deps", "--requirement", str(root / RATTLER_LOCK)),
            ],
        )
        for command in commands:
            result = subprocess.run(
                command, env=uv_environ(host), capture_output=True, text=True, check=False
            )
            if result.returncode != 0:
                raise WorkError(f"py-rattler cannot be installed\n  {result.stderr.strip()}")
        (new / stamp.name).write_text(wanted, encoding="utf-8")
        if folder.exists() and not _is_made(stamp, wanted):
            folder.replace(Path(work, "old"))
        try:
            new.replace(folder)
        except OSError:
            # Another process was faster.
            if not _is_made(stamp, wanted):
                raise
    return python


def _is_made(stamp: Path, wanted: str) -> bool:
    return stamp.is_file() and stamp.read_text(encoding="utf-8") == wanted


def _lock_pip(
    environment: Environment,
    packages: Sequence[CondaPackage],
    python: str,
    image_python: str,
    glibc: str,
    host: HostConfig,
    present: CondaLock | None,
) -> str:
    """The lock of what pip adds to conda's packages, which it leaves as they are."""
    provided = [
        Provided(canonicalize_name(_ON_PYPI.get(p.name, p.name)), p.version)
        for p in packages
        if p.of_python
    ]
    requirements = [entry.text for entry in environment.pip]
    if image_python != ".".join(python.split(".")[:2]):
        requirements.append(_PARSER)
    if not requirements:
        return ""
    return lock_of_pip(
        str(environment.file),
        requirements,
        [entry.text for entry in environment.constraints],
        [word for entry in environment.pip_options for word in entry.text.split(maxsplit=1)],
        provided,
        python,
        glibc,
        host,
        present.requirements if present else "",
    )
