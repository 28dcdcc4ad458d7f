"""Both carriers, and servers that end with their test.

``INFERENCE_SERVER_TEST_PYTHON`` names another interpreter for the servers, and
``INFERENCE_SERVER_TEST_BACKENDS`` (comma-separated) the carriers that it has.
"""

from __future__ import annotations

import os
import textwrap
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

import pytest

from .harness import Server

BACKENDS = tuple(os.environ.get("INFERENCE_SERVER_TEST_BACKENDS", "granian,gunicorn").split(","))


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


@pytest.fixture(scope="session", params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def starter(folder: Path, stack: ExitStack, backend: str) -> Serve:
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
        server = Server(root, {"INFERENCE_SERVER_BACKEND": backend, **env})
        stack.enter_context(server)
        return server.await_ready() if ready else server

    return serve


@pytest.fixture
def serve(tmp_path: Path, backend: str) -> Iterator[Serve]:
    with ExitStack() as stack:
        yield starter(tmp_path, stack, backend)


@pytest.fixture
def serve_one(tmp_path: Path) -> Iterator[Serve]:
    """For what does not depend on the carrier: the first one only."""
    with ExitStack() as stack:
        yield starter(tmp_path, stack, BACKENDS[0])


@pytest.fixture(scope="session")
def serve_shared(tmp_path_factory: pytest.TempPathFactory, backend: str) -> Iterator[Serve]:
    """For servers that several tests of one backend use."""
    with ExitStack() as stack:
        yield starter(tmp_path_factory.mktemp(backend), stack, backend)
