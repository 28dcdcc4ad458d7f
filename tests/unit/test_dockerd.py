"""Where an engine is set up, and above all where none is."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import Mock

import pytest

from imagematrix.errors import UserError, WorkError
from imagematrix.host import setup as dockerd
from imagematrix.host.endpoint import Endpoint
from imagematrix.host.engine import Engine
from imagematrix.host.setup import (
    EngineFiles,
    ensure_engine,
    start_engine,
    started_pid,
    stop_engine,
)

INSTALL = (
    "\nInstall Docker Engine 26.1 or newer with buildx (https://docs.docker.com/engine/install/)"
    " and start it, or set DOCKER_HOST to one."
)


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> EngineFiles:
    """The places of an engine that is not there, on a machine where one could be set up."""
    files = EngineFiles(*(tmp_path / name for name in ("docker.sock", "data", "run", "state")))
    monkeypatch.setattr(dockerd, "configured_endpoint", lambda: files.endpoint)
    monkeypatch.setattr(dockerd, "_set_up", lambda _: pytest.fail("an engine was set up"))
    monkeypatch.setattr(dockerd, "os_release_ids", lambda: {"debian"})
    monkeypatch.setattr(dockerd, "_SYSTEMD", tmp_path / "no systemd")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(sys, "platform", "linux")
    return files


@pytest.fixture
def running(files: EngineFiles, tmp_path: Path) -> Iterator[int]:
    """The process id of something called dockerd that has the data open, and no socket."""
    files.data.mkdir()
    program = tmp_path / "dockerd"
    program.symlink_to("/bin/sleep")
    with (files.data / "open").open("w") as held:
        process = subprocess.Popen([str(program), "60"], stdout=held)
    # The kernel changes the name a moment after the program.
    while Path(f"/proc/{process.pid}/comm").read_text() != "dockerd\n":
        time.sleep(0.01)
    try:
        yield process.pid
    finally:
        process.kill()
        process.wait()


def refusal(files: EngineFiles) -> str:
    """Why no engine is set up."""
    with pytest.raises(UserError) as error:
        ensure_engine(files)
    assert error.value.exit_status == 2
    return str(error.value)


def test_engine_is_set_up_where_there_is_none_and_nothing_is_configured(
    files: EngineFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = Engine(files.endpoint, "28.5", True, None)
    set_up, there = Mock(), Mock(side_effect=[None, found])
    monkeypatch.setattr(dockerd, "_set_up", set_up)
    monkeypatch.setattr(dockerd, "find_engine", there)
    assert ensure_engine(files) == found
    set_up.assert_called_once_with(files)


def test_engine_is_not_set_up_without_root(
    files: EngineFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    start = f"no Docker engine listens at {files.endpoint}, and none can be set up here: "
    assert refusal(files) == f"{start}that needs root.{INSTALL}"


@pytest.mark.parametrize(
    ("place", "name", "value", "reason"),
    [
        (sys, "platform", "darwin", "this is not Linux"),
        (dockerd, "os_release_ids", lambda: {"fedora"}, "this is not Debian or Ubuntu"),
    ],
    ids=["no Linux", "no Debian"],
)
def test_engine_is_not_set_up_on_other_systems(
    files: EngineFiles,
    monkeypatch: pytest.MonkeyPatch,
    place: object,
    name: str,
    value: object,
    reason: str,
) -> None:
    monkeypatch.setattr(place, name, value)
    assert f"none can be set up here: {reason}" in refusal(files)


@pytest.mark.parametrize("named_by", ["DOCKER_HOST", "the context rootless"])
def test_configured_engine_is_not_replaced(
    named_by: str, files: EngineFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even where what is named is this very socket."""
    named = Endpoint(files.endpoint.host, named_by)
    monkeypatch.setattr(dockerd, "configured_endpoint", lambda: named)
    assert f"set up here: {named_by} names another one, which does not run." in refusal(files)


def test_engine_is_not_set_up_on_data_that_a_dockerd_has(files: EngineFiles, running: int) -> None:
    """As after its socket was taken away."""
    assert f"a dockerd (process {running}) runs on {files.data} and does not" in refusal(files)


def test_engine_is_not_started_on_data_that_a_dockerd_has(
    files: EngineFiles, running: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dockerd, "_installed_engine", lambda: "/usr/sbin/dockerd")
    with pytest.raises(WorkError, match=rf"process {running}\) already runs on"):
        start_engine(files)
    assert not files.state.exists()


@pytest.mark.parametrize("state", ["loaded", "masked", "not-found"])
def test_service_that_was_stopped_stays_stopped(
    state: str, files: EngineFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error says how to start it; without such a service, an engine is set up."""
    systemctl = tmp_path / "systemctl"
    systemctl.write_text(
        f'#!/bin/sh\ncase "$*" in *docker.service) echo {state} ;; *) echo not-found ;; esac\n'
    )
    systemctl.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(dockerd, "_SYSTEMD", tmp_path)
    if state == "not-found":
        assert dockerd._why_not_ours(files) == ""
    else:
        assert "does not run. Start it: systemctl start docker.service" in refusal(files)


def test_only_a_dockerd_that_was_started_here_is_stopped(files: EngineFiles) -> None:
    assert not stop_engine(files)
    files.state.mkdir()
    files.pid_file.write_text(f"{os.getpid()}\n")
    assert started_pid(files) is None
    assert not stop_engine(files)
