"""What scripts may do, and what they leave in the log, that is something else in the reference."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from ..harness import Server
from . import reference
from .cases import INTENDED_FOR_SCRIPTS

pytestmark = pytest.mark.reference

PLAIN = """
import multiprocessing
from concurrent.futures import ThreadPoolExecutor

def square(x):
    return x * x

def init():
    print("a printed line")

def run(data):
    if data == "spawn":
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            return pool.map(square, [3])
    with ThreadPoolExecutor(1) as pool:
        return list(pool.map(square, [3]))
"""
ASYNC = "def init(): pass\nasync def run(data): return [9]\n"
# By the script and the body: the answer of this server, and that of the reference (None: a 500).
CASES: list[tuple[str, str, Any, Any]] = [
    ("threads", PLAIN, [9], [9]),
    ("spawn", PLAIN, [9], None),
    ("async", ASYNC, [9], None),
]


def start(kind: str, environment: Path, root: Path, environ: dict[str, str]) -> Server:
    if kind == "ours":
        return Server(root, environ)
    return reference.ReferenceServer(environment, root, environ)


@pytest.mark.parametrize("kind", ["ours", "reference"])
@pytest.mark.parametrize(("body", "script", "ours", "theirs"), CASES)
def test_scripts(
    reference_environment: Path,
    tmp_path: Path,
    kind: str,
    body: str,
    script: str,
    ours: Any,
    theirs: Any,
) -> None:
    assert set(INTENDED_FOR_SCRIPTS) == {"print", "async", "pools"}
    (tmp_path / "main.py").write_text(script)
    with start(kind, reference_environment, tmp_path, {}) as server:
        server.await_ready()
        answer = server.score(body.encode(), timeout=30)
        expected = ours if kind == "ours" else theirs
        assert (answer.json if answer.status == 200 else None) == expected
        if script == PLAIN:
            line = server.await_log("a printed line")
            assert (line == "a printed line") == (kind == "ours")
            if kind == "reference":
                assert re.match(r"[-\d]+ [:,\d]+ I \[\d+\] azmlinfsrv.print - a printed", line)


@pytest.mark.parametrize("kind", ["ours", "reference"])
def test_the_app_root_is_the_last_place_of_the_app(
    reference_environment: Path, tmp_path: Path, kind: str
) -> None:
    script = """
import json, sys
import helper

def init():
    pass

def run(data):
    installed = [place for place in sys.path if place.endswith("site-packages")]
    return [helper.WHO, sys.path.index(installed[-1]) < sys.path.index(sys.argv[-1])]
""".replace("sys.argv[-1]", json.dumps(str(tmp_path)))
    (tmp_path / "main.py").write_text(script)
    (tmp_path / "helper.py").write_text("WHO = 'app'")
    with start(kind, reference_environment, tmp_path, {}) as server:
        server.await_ready()
        assert server.score(b"x").json == ["app", True]


@pytest.mark.parametrize("kind", ["ours", "reference"])
@pytest.mark.parametrize(
    ("files", "code"),
    [
        ({"config.json": json.dumps({"SERVICE_NAME": None, "SCORING_TIMEOUT_MS": None})}, None),
        ({"config.json": "{"}, 3),
        ({"logging.json": json.dumps({"version": 1, "root": {"level": "INFO"}})}, None),
        ({"logging.json": "{"}, 3),
    ],
)
def test_files_of_settings(
    reference_environment: Path, tmp_path: Path, kind: str, files: dict[str, str], code: int | None
) -> None:
    (tmp_path / "main.py").write_text("def init(): pass\ndef run(data): return 1\n")
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with start(kind, reference_environment, tmp_path, {}) as server:
        if code is None:
            assert server.await_ready().score().json == 1
        else:
            assert server.await_exit() == code
