"""No answer is not no engine: what becomes of an engine that is held, on the default socket.

All happens in namespaces of its own, where the places of the default engine are others.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.engine.conftest import ROOT

# Runs in namespaces of its own. `seen` is what must not change: inodes, and which engines run.
SCRIPT = """
import contextlib, io, os, pathlib, signal, subprocess, sys
from imagematrix import cli
from imagematrix.host import setup as dockerd
from imagematrix.host import engine

folder = pathlib.Path(sys.argv[1])
files = dockerd.EngineFiles()
for place in (files.socket.parent.resolve(), files.data, files.state):
    here = folder / place.name
    here.mkdir()
    place.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "--bind", here, place], check=True)
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
engine._SECONDS = 2

def seen():
    paths = [files.socket, files.pid_file, *sorted(files.data.rglob("*"))]
    inodes = [(path, os.lstat(path).st_ino) for path in paths]
    return inodes, sorted(process.name for process in dockerd._engines() if is_here(process))

def is_here(process):
    # Engines of other tests run in other mount namespaces, and come and go meanwhile.
    with contextlib.suppress(OSError):
        return os.readlink(process / "ns" / "mnt") == os.readlink("/proc/self/ns/mnt")
    return False

def command(*given):
    with contextlib.redirect_stderr(io.StringIO()) as said:
        status = cli.main(given)
    print(status, said.getvalue().replace("\\n", " "))

command("engine", "start")
pid = dockerd.started_pid(files)
try:
    before = seen()
    os.kill(pid, signal.SIGSTOP)
    command("build", "minimal-*")
    command("engine", "start")
    os.kill(pid, signal.SIGCONT)
    print(seen() == before)
    command("engine", "status")
    away = files.socket.rename(files.socket.with_name("away"))
    command("engine", "start")
    away.rename(files.socket)
    print(seen() == before)
finally:
    os.kill(pid, signal.SIGCONT)
    command("engine", "stop")
"""


def test_an_engine_that_is_held_is_left_alone(tmp_path: Path) -> None:
    """It is an error that says so, and the engine's socket, pid file and data are as before."""
    if os.geteuid() != 0 or not all(map(shutil.which, ("dockerd", "unshare", "ip"))):
        pytest.skip("an engine in namespaces of its own needs root, dockerd, unshare and ip")
    environ = {name: value for name, value in os.environ.items() if "DOCKER" not in name}
    result = subprocess.run(
        ["unshare", "--mount", "--net", sys.executable, "-c", SCRIPT, str(tmp_path)],
        cwd=ROOT,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    output = result.stdout.splitlines()
    lines = [line for line in output if not line.startswith(("Docker ", "stop"))]
    start, build, again, same, status, lost, same_still, stop = lines
    assert start.startswith("0 Starting a Docker engine at unix:///var/run/docker.sock")
    assert build.startswith("2 ")
    assert "accepts the connection, but did not answer in 2 s" in build
    assert again == build
    assert (same, same_still) == ("True", "True")
    assert status.strip() == "0"
    assert lost.startswith("2 no Docker engine listens at unix:///var/run/docker.sock: a dockerd (")
    assert stop.strip() == "0"
