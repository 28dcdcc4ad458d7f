"""What an engine reports of itself, and when there is none."""

import contextlib
import http.server
import json
import socket
import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar
from unittest.mock import Mock

import docker.errors
import pytest

from imagematrix.errors import UserError
from imagematrix.host import engine
from imagematrix.host.endpoint import Endpoint
from imagematrix.host.engine import Engine, find_engine


@pytest.fixture
def endpoint(tmp_path: Path) -> Endpoint:
    """A socket that is not there."""
    return Endpoint(f"unix://{tmp_path}/docker.sock")


class _Engine(socketserver.ThreadingUnixStreamServer):
    """A socket that answers what it is asked, as an engine does that has one image."""

    daemon_threads = True


class _Answers(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    info: ClassVar[dict[str, Any]] = {}
    version: ClassVar[dict[str, Any]] = {}

    def do_GET(self) -> None:
        known = {
            "/info": self.info,
            "/version": self.version,
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


@contextlib.contextmanager
def listening(
    endpoint: Endpoint, handler: type[socketserver.BaseRequestHandler] = _Answers, **info: Any
) -> Iterator[None]:
    """An engine at the socket that says `info` of itself."""
    _Answers.info = {
        "ServerVersion": "26.1.5+dfsg1",
        "DockerRootDir": "/data",
        "OSType": "linux",
        "Architecture": "x86_64",
        **info,
    }
    name = "Podman Engine" if info.get("podman") else "Engine"
    _Answers.version = {"Components": [{"Name": name}], "Version": "26.1.5"}
    with _Engine(str(endpoint.socket), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def answering(endpoint: Endpoint) -> Iterator[Engine]:
    with listening(endpoint):
        found = find_engine(endpoint)
        assert found is not None
        yield found


def test_engine_on_this_machine_is_used_without_docker_py(
    answering: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Endpoint, "client", lambda *_: pytest.fail("a client was made"))

    assert (answering.version, answering.data) == ("26.1.5", Path("/data"))
    assert answering.platform == "linux/amd64"
    assert answering.inspect(["none:latest", "a:latest"]) == {"a:latest": {"Id": "sha256:a"}}
    assert answering.ids(["none:latest", "a:latest"]) == {
        "none:latest": None,
        "a:latest": "sha256:a",
    }


@pytest.mark.parametrize("host", ["", "tcp://127.0.0.1:9"], ids=["an error", "another machine"])
def test_client_asks_what_a_socket_does_not_answer(
    host: str, answering: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = Mock()
    client.api.inspect_image.side_effect = [{"Id": "sha256:b"}, docker.errors.ImageNotFound("c")]
    monkeypatch.setattr(Endpoint, "client", lambda *_: client)
    asked = replace(answering, endpoint=Endpoint(host) if host else answering.endpoint)

    assert asked.inspect(["broken", "c"]) == {"broken": {"Id": "sha256:b"}}
    client.close.assert_called_once()


def test_engine_is_absent_where_nothing_listens(endpoint: Endpoint) -> None:
    assert find_engine(endpoint) is None
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(endpoint.socket))
    assert find_engine(endpoint) is None, "the socket of one that is gone"


def test_engine_that_does_not_answer_is_an_error(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As one that is busy, or was stopped: the kernel accepts the connection for it."""
    monkeypatch.setattr(engine, "_SECONDS", 0.3)
    monkeypatch.setattr(engine, "_PATIENCE", 0.1)
    with socket.socket(socket.AF_UNIX) as held:
        held.bind(str(endpoint.socket))
        held.listen(8)
        with pytest.raises(UserError, match=r"accepts the connection, but did not answer in 0.3 s"):
            find_engine(endpoint)
    assert capsys.readouterr().err.startswith(f"Waiting for the Docker engine at {endpoint},")


def test_engine_that_hangs_up_is_an_error(endpoint: Endpoint) -> None:
    class _Silent(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(1000)

    with listening(endpoint, _Silent), pytest.raises(UserError, match="Nothing was started"):
        find_engine(endpoint)


def test_engine_without_permission_for_its_socket_is_an_error(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "_get", Mock(side_effect=PermissionError))
    with pytest.raises(
        UserError, match=r"this user has no permission for its socket \(is it in the group docker\?"
    ):
        find_engine(endpoint)


def test_machine_that_cannot_be_reached_is_an_error() -> None:
    with pytest.raises(UserError, match=r"at tcp://127\.0\.0\.1:9 \(DOCKER_HOST\) cannot be used"):
        find_engine(Endpoint("tcp://127.0.0.1:9", "DOCKER_HOST"))


@pytest.mark.parametrize(
    ("info", "message"),
    [
        ({"ServerVersion": "20.10.24+dfsg1"}, r"is 20\.10\.24; 26\.1 or newer is needed"),
        ({"ServerVersion": "5.4.2", "podman": True}, r"^Podman 5\.4\.2 answers at .* no BuildKit"),
        ({"OSType": "windows"}, "runs containers of windows, and these images are for linux/amd64"),
    ],
    ids=["too old", "Podman", "Windows"],
)
def test_unsupported_engine_is_refused_by_its_name(
    info: dict[str, Any], message: str, endpoint: Endpoint
) -> None:
    with listening(endpoint, **info), pytest.raises(UserError, match=message) as error:
        find_engine(endpoint)
    assert error.value.exit_status == 2


def test_architecture_of_the_engine_is_known(endpoint: Endpoint) -> None:
    with listening(endpoint, Architecture="aarch64"):
        found = find_engine(endpoint)
    assert found is not None
    assert found.platform == "linux/arm64"


def test_slow_imports_are_not_needed_to_ask_an_engine() -> None:
    program = "import sys, imagematrix.commands.build; print(*sys.modules)"
    command = [sys.executable, "-c", program]
    loaded = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert not {"docker", "requests", "urllib.request"} & set(loaded)
