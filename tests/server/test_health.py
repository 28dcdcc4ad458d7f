"""What Docker's HEALTHCHECK runs: it asks where the server listens, as the environment says."""

from __future__ import annotations

import os
import subprocess
import time
from typing import Any

import pytest

from .conftest import Serve
from .harness import PYTHON, SOURCE, Server

FINE = "def init(): pass\ndef run(data): return 1\n"
SLOW = "import time\ndef init(): time.sleep(60)\ndef run(data): return 1\n"


def health(server: Server, **env: str) -> int:
    """The exit code of the health check of a server with this environment."""
    environ = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(SOURCE),
        "AML_APP_ROOT": str(server.root),
        "SERVER_PORT": str(server.port),
        **env,
    }
    command = [PYTHON, "-m", "inference_server.health"]
    return subprocess.run(command, env=environ, check=False, timeout=10).returncode


def await_health(server: Server, **env: str) -> int:
    """The exit code once the server is ready: it may not listen where the harness asks."""
    server.await_log("init() took", 20)
    deadline = time.monotonic() + 5
    while (code := health(server, **env)) and time.monotonic() < deadline:
        time.sleep(0.1)
    return code


@pytest.mark.parametrize(
    "host", ["", "0.0.0.0", "127.0.0.1", "127.0.0.2", "localhost", "::", "::1"]
)
def test_it_asks_the_address_that_the_server_listens_on(serve: Serve, host: str) -> None:
    env: dict[str, Any] = {"INFERENCE_SERVER_HOST": host}
    server = serve(FINE, ready=False, **env)
    assert await_health(server, **env) == 0


def test_a_server_that_is_not_ready_is_not_healthy(serve: Serve) -> None:
    server = serve(SLOW, ready=False)
    server.await_log("loaded ")
    assert health(server, INFERENCE_SERVER_HOST="127.0.0.1") == 1


def test_an_address_without_a_server_is_not_healthy(serve: Serve) -> None:
    server = serve(FINE)
    assert health(server, INFERENCE_SERVER_HOST="127.0.0.3") == 1


def test_wrong_settings_are_not_healthy_and_give_no_traceback(serve: Serve) -> None:
    server = serve(FINE)
    assert health(server, WORKER_COUNT="none") == 1
