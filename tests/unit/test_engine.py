"""What is said where no engine answers, before anything is touched."""

import os
import sys
from pathlib import Path

import pytest

from imagematrix import engine
from imagematrix.engine import EngineFiles, ensure_engine, find_engine, started_pid, stop_engine
from imagematrix.errors import UserError

INSTALL = (
    "\nInstall Docker Engine 23 or newer with buildx (https://docs.docker.com/engine/install/)"
    " and start it, or set DOCKER_HOST to one."
)


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> EngineFiles:
    """The places of an engine that is not there, on a machine where one could be set up."""
    files = EngineFiles(*(tmp_path / name for name in ("docker.sock", "data", "run", "state")))
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    monkeypatch.setattr(engine, "_context_host", lambda: files.host)
    monkeypatch.setattr(engine, "_set_up", lambda _: pytest.fail("an engine was set up"))
    monkeypatch.setattr(engine, "os_release_ids", lambda: {"debian"})
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(sys, "platform", "linux")
    return files


def _refusal(files: EngineFiles) -> str:
    with pytest.raises(UserError) as error:
        ensure_engine(files)
    assert error.value.exit_status == 2
    return str(error.value)


def test_no_right_to_set_one_up(files: EngineFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    start = f"no Docker engine answers at {files.host}, and none can be set up here: "
    assert _refusal(files) == f"{start}that needs root.{INSTALL}"


@pytest.mark.parametrize(
    ("place", "name", "value", "reason"),
    [
        (sys, "platform", "darwin", "this is not Linux"),
        (engine, "os_release_ids", lambda: {"fedora"}, "this is no Debian or Ubuntu"),
        (engine, "_ask", lambda _: "[Errno 13] Permission denied", "one is there, but this user"),
    ],
    ids=["no Linux", "no Debian", "no permission"],
)
def test_no_machine_to_set_one_up(
    files: EngineFiles,
    monkeypatch: pytest.MonkeyPatch,
    place: object,
    name: str,
    value: object,
    reason: str,
) -> None:
    monkeypatch.setattr(place, name, value)
    assert f"none can be set up here: {reason}" in _refusal(files)


def test_an_engine_that_is_named_is_not_replaced(
    files: EngineFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:9")
    said = _refusal(files)
    assert said.startswith("no Docker engine answers at tcp://127.0.0.1:9, and none can be set up")
    assert "DOCKER_HOST names another one, which says: " in said


def test_nothing_answers_where_nothing_is(files: EngineFiles) -> None:
    assert find_engine(files.host) is None


def test_only_a_dockerd_of_ours_is_stopped(files: EngineFiles) -> None:
    assert not stop_engine(files)
    files.state.mkdir()
    files.pid_file.write_text(f"{os.getpid()}\n")
    assert started_pid(files) is None
    assert not stop_engine(files)
