"""Settings that both servers read, and that do something else here: by intent, and as said."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from ..harness import Server
from . import reference
from .cases import INTENDED_SETTINGS

pytestmark = pytest.mark.reference

PRELOADED = """
import os

def init():
    open(f"init-{os.getpid()}", "w").close()

def run(data):
    return {}
"""
INITS = {"ours": 2, "reference": 1}


@pytest.mark.parametrize("name", INITS)
def test_preload(reference_environment: Path, tmp_path: Path, name: str) -> None:
    assert "WORKER_PRELOAD" in INTENDED_SETTINGS
    (tmp_path / "main.py").write_text(PRELOADED)
    environ = {"WORKER_COUNT": "2", "WORKER_PRELOAD": "true"}
    with ExitStack() as stack:
        server: Server
        if name == "ours":
            server = Server(tmp_path, environ)
        else:
            server = reference.ReferenceServer(reference_environment, tmp_path, environ)
        stack.enter_context(server)
        server.await_ready()
        deadline = time.monotonic() + 5
        while len(list(tmp_path.glob("init-*"))) < INITS[name] and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(0.3)
        assert len(list(tmp_path.glob("init-*"))) == INITS[name]
        if name == "ours":
            server.await_log("WORKER_PRELOAD has no effect: each of 2 workers runs init() itself")
