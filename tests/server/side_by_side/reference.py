"""The reference server, in a virtual environment of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from ..harness import Server

REQUIREMENT = "azureml-inference-server-http==1.5.1"


def install(folder: Path) -> Path:
    """Make the environment where it is missing; returns its folder."""
    done = folder / "installed"
    if not done.exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet"]
        subprocess.run([*pip, "--disable-pip-version-check", REQUIREMENT], check=True)
        done.touch()
    return folder


def packages(folder: Path) -> Path:
    """The folder of the installed packages."""
    [found] = folder.glob("lib/python*/site-packages")
    return found


class ReferenceServer(Server):
    """The reference, started as its manual says."""

    def __init__(self, folder: Path, root: Path, environ: Mapping[str, str]) -> None:
        self._folder = folder
        # Its own package must not be hidden by the import paths that we provide.
        super().__init__(root, {**environ, "PYTHONPATH": ""})

    def command(self) -> list[str]:
        program = str(self._folder / "bin" / "azmlinfsrv")
        return [program, "--entry_script", "main.py", "--port", str(self.port)]
