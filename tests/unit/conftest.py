"""What the unit tests share: a repository in a folder of its own, and a host without settings."""

import os
from pathlib import Path

import pytest

from tests.unit.helpers import Repository


@pytest.fixture(autouse=True)
def _plain_host(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Takes away what this host says of indexes, proxies and engines; no test asks for it."""
    for name in os.environ:
        if name.startswith(("PIP_", "UV_", "DOCKER_", "XDG_")) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "no-home"))
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """A small repository whose check passes."""
    root = tmp_path / "repository"
    root.mkdir()
    return Repository.write(root)
