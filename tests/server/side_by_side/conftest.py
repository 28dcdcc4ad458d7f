"""The pairs of servers: this server and the reference for each script."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from ..harness import Answer, Server
from . import reference
from .cases import ENVIRON, SCRIPTS, Case


class Pairs:
    """Servers by script, started when a test first needs them."""

    def __init__(self, folder: Path, environment: Path, stack: ExitStack) -> None:
        self._folder = folder
        self._environment = environment
        self._stack = stack
        self._servers: dict[tuple[str, bool], Server] = {}

    def answers(self, case: Case) -> tuple[Answer, Answer]:
        """Ours and the reference's."""
        return self._ask(case, False), self._ask(case, True)

    def _ask(self, case: Case, of_reference: bool) -> Answer:
        key = (case.script, of_reference)
        if key not in self._servers:
            self._servers[key] = self._start(case.script, of_reference)
        server = self._servers[key]
        return server.request(case.method, case.path, case.body, case.headers)

    def _start(self, script: str, of_reference: bool) -> Server:
        root = self._folder / f"{script}-{'reference' if of_reference else 'ours'}"
        root.mkdir()
        (root / "main.py").write_text(SCRIPTS[script], encoding="utf-8")
        environ = dict(ENVIRON[script])
        server: Server
        if of_reference:
            server = reference.ReferenceServer(self._environment, root, environ)
        else:
            if script == "schema":
                # The decorators come with the reference; so does its own AMLRequest.
                packages = str(reference.packages(self._environment))
                environ["AZUREML_EXTRA_PYTHON_LIB_PATH"] = packages
            server = Server(root, environ)
        self._stack.enter_context(server)
        return server.await_ready()


@pytest.fixture(scope="session")
def reference_environment(pytestconfig: pytest.Config) -> Path:
    return reference.install(Path(pytestconfig.cache.mkdir("reference-server")) / "venv")


@pytest.fixture(scope="session")
def pairs(tmp_path_factory: pytest.TempPathFactory, reference_environment: Path) -> Iterator[Pairs]:
    with ExitStack() as stack:
        yield Pairs(tmp_path_factory.mktemp("pairs"), reference_environment, stack)
