"""Reads specifications that stand in a test, and gives what is wrong with them."""

import errno
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from imagematrix.environments.specification import (
    Decisions,
    Deployment,
    Environment,
    Packages,
    read_deployment,
    read_environment,
)
from imagematrix.errors import InputError
from imagematrix.files import Reader

PYTHONS = ("3.7", "3.11", "3.12", "3.13")


def decisions(packages: Packages = Packages.CONDA, **given: Any) -> Decisions:
    """What the tests decide, unless they say otherwise: Python 3.12, packages of conda."""
    return Decisions(PYTHONS, "3.12", packages, **given)


def reader(files: Mapping[str, str | bytes]) -> Reader:
    """Reads files that are in no folder."""

    def read(path: Path | str) -> bytes:
        if "\0" in str(path):
            raise ValueError("embedded null byte")
        content = files.get(os.path.normpath(path))
        if content is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
        return content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass")

    return read


def environment(
    text: str | bytes,
    file: str = "env.yml",
    others: Mapping[str, str | bytes] | None = None,
    decided: Decisions | None = None,
) -> Environment:
    """The environment of a text."""
    read = reader({**(others or {}), file: text})
    return read_environment(Path(file), decided or decisions(), read=read)


def deployment(
    text: str | bytes,
    others: Mapping[str, str | bytes] | None = None,
    decided: Decisions | None = None,
) -> Deployment:
    """The deployment of a text, beside a script that serves."""
    script = "def init() -> None: ...\ndef run(data: object) -> object: return data\n"
    files = {"score.py": script, **(others or {}), "inferenceconfig.json": text}
    path = Path("inferenceconfig.json")
    return read_deployment(path, decided or decisions(), read=reader(files))


def errors_of(read: Any, *arguments: Any, **options: Any) -> list[str]:
    """The errors that reading raises, a line each."""
    try:
        read(*arguments, **options)
    except InputError as error:
        return [str(diagnostic) for diagnostic in error.diagnostics]
    return []


def conda(*dependencies: str, channels: str = "[conda-forge]", more: str = "") -> str:
    """An env.yml with these dependencies, from line 3 on, and column 5."""
    lines = "".join(f"  - {dependency}\n" for dependency in dependencies)
    return f"channels: {channels}\ndependencies:\n{lines}{more}"


def texts(entries: Any) -> list[str]:
    """What entries say, without their places."""
    return [entry.text for entry in entries]
