"""Servers that end with their test.

``INFERENCE_SERVER_TEST_PYTHON`` names another interpreter for the servers, one with httptools.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

import pytest

from .harness import Server


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "reference: compares with the reference server (installs it)"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The comparison with the reference has to be asked for: ``-m reference``."""
    if "reference" in str(config.option.markexpr):
        return
    kept = [item for item in items if item.get_closest_marker("reference") is None]
    if len(kept) < len(items):
        config.hook.pytest_deselected(items=[item for item in items if item not in kept])
        items[:] = kept


class Serve(Protocol):
    """Start a server on a script; further files and environment variables by name."""

    def __call__(
        self,
        script: str | None,
        *,
        files: dict[str, str] | None = None,
        ready: bool = True,
        **env: str,
    ) -> Server: ...


def starter(folder: Path, stack: ExitStack) -> Serve:
    """The function that the fixtures hand out."""
    count = iter(range(1000))

    def serve(
        script: str | None, *, files: dict[str, str] | None = None, ready: bool = True, **env: str
    ) -> Server:
        root = folder / f"app{next(count)}"
        root.mkdir()
        contents = dict(files or {})
        if script is not None:
            contents["main.py"] = script
        for name, text in contents.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(text), encoding="utf-8")
        server = Server(root, env)
        stack.enter_context(server)
        return server.await_ready() if ready else server

    return serve


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    with ExitStack() as stack:
        yield starter(tmp_path, stack)


@pytest.fixture(scope="session")
def serve_shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    """For servers that several tests use."""
    with ExitStack() as stack:
        yield starter(tmp_path_factory.mktemp("shared"), stack)
