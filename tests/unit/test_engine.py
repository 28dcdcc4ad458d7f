"""What is said where no engine answers, before anything is touched."""

import http.server
import json
import os
import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import docker.errors
import pytest

from imagematrix import engine
from imagematrix.engine import (
    Engine,
    EngineFiles,
    ensure_engine,
    find_engine,
    require_buildx,
    started_pid,
    stop_engine,
)
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


class _Engine(socketserver.ThreadingUnixStreamServer):
    """A socket that answers what it is asked, as an engine does that has one image."""

    daemon_threads = True


class _Answers(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        known = {
            "/info": {"ServerVersion": "26.1.5+dfsg1", "DockerRootDir": "/data"},
            "/images/a:latest/json": {"Id": "sha256:a"},
        }
        content = json.dumps(known.get(self.path, {"message": "No such image"})).encode()
        status = 500 if "broken" in self.path else 200 if self.path in known else 404
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@pytest.fixture
def answering(files: EngineFiles) -> Iterator[Engine]:
    with _Engine(str(files.socket), _Answers) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        found = find_engine(files.host)
        assert found is not None
        yield found
        server.shutdown()
        thread.join()


def test_an_engine_on_this_machine_is_asked_without_a_client(
    answering: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "_client", lambda *_: pytest.fail("a client was made"))

    assert (answering.version, answering.data) == ("26.1.5", Path("/data"))
    assert answering.inspect(["none:latest", "a:latest"]) == {"a:latest": {"Id": "sha256:a"}}
    assert answering.ids(["none:latest", "a:latest"]) == {
        "none:latest": None,
        "a:latest": "sha256:a",
    }


@pytest.mark.parametrize("host", ["", "tcp://127.0.0.1:9"], ids=["an error", "another machine"])
def test_what_a_socket_does_not_answer_a_client_asks(
    host: str, answering: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = Mock()
    client.api.inspect_image.side_effect = [{"Id": "sha256:b"}, docker.errors.ImageNotFound("c")]
    monkeypatch.setattr(engine, "_client", lambda *_: client)
    asked = replace(answering, host=host or answering.host)

    assert asked.inspect(["broken", "c"]) == {"broken": {"Id": "sha256:b"}}
    client.close.assert_called_once()


@pytest.mark.parametrize("program", ["", "#!/bin/sh\nexit 1\n"], ids=["no docker", "no plugin"])
def test_buildx_that_is_missing_is_told_with_what_to_install(
    program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if program:
        (tmp_path / "docker").write_text(program)
        (tmp_path / "docker").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(UserError, match="docker buildx is missing; install it: https://") as error:
        require_buildx()
    assert error.value.exit_status == 2


def test_a_socket_without_an_answer_is_no_engine(files: EngineFiles) -> None:
    class _Silent(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(1000)

    with _Engine(str(files.socket), _Silent) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        assert find_engine(files.host) is None
        server.shutdown()
        thread.join()


def test_what_takes_long_to_import_is_not_imported_to_ask_an_engine() -> None:
    program = "import sys, imagematrix.cli; print(*sys.modules)"
    command = [sys.executable, "-c", program]
    loaded = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert not {"docker", "requests", "urllib.request"} & set(loaded)


@pytest.mark.parametrize(
    ("config", "asked"),
    [
        (None, False),
        ('{"auths": {}}', False),
        ('{"currentContext": "rootless"}', True),
        ("[]", True),
        ("{", True),
    ],
)
def test_docker_is_asked_for_its_context_where_one_was_chosen(
    config: str | None, asked: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    monkeypatch.delenv("DOCKER_CONTEXT", raising=False)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    if config is not None:
        (tmp_path / "config.json").write_text(config)
    (tmp_path / "docker").write_text("#!/bin/sh\necho unix:///of/the/context\n")
    (tmp_path / "docker").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    chosen, default = "unix:///of/the/context", EngineFiles().host

    assert engine._configured_host() == (chosen if asked else default)
    monkeypatch.setenv("DOCKER_CONTEXT", "rootless")
    assert engine._configured_host() == chosen
