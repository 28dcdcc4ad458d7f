"""A really started server, spoken to over real HTTP."""

from __future__ import annotations

import http.client
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

SOURCE = Path(__file__).parents[2] / "base" / "server"
START_S = 20.0
# The server may run on another interpreter than the tests, an old one above all.
PYTHON = os.environ.get("INFERENCE_SERVER_TEST_PYTHON", sys.executable)


@dataclass(frozen=True)
class Answer:
    """A response: header names in lower case, repeated values joined."""

    status: int
    headers: dict[str, str]
    body: bytes
    seconds: float

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def message(self) -> str:
        return str(self.json["message"])


def free_port() -> int:
    """A free port, outside of the range that the system gives to clients."""
    while True:
        port = random.randrange(10_000, 32_000)
        with socket.socket(socket.AF_INET6) as sock, suppress(OSError):
            sock.bind(("::", port))
            return port


class Server:
    """One server process with its own app root, port and log."""

    def __init__(self, root: Path, environ: Mapping[str, str], log: Path | None = None) -> None:
        self.root = root
        self.port = free_port()
        self.log_path = log or root.parent / f"{root.name}-{self.port}.log"
        inherited = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith(("AML_", "AZUREML_", "INFERENCE_SERVER_", "WORKER_", "SCORING_"))
        }
        self._environ = {
            **inherited,
            "PYTHONPATH": str(SOURCE),
            "PYTHONDONTWRITEBYTECODE": "1",
            "AML_APP_ROOT": str(root),
            "SERVER_PORT": str(self.port),
            "INFERENCE_SERVER_HOST": "127.0.0.1",
            **environ,
        }
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        with self.log_path.open("wb") as stream:
            return subprocess.Popen(
                self.command(),
                cwd=self.root if self.root.is_dir() else self.root.parent,
                env=self._environ,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def command(self) -> list[str]:
        return [PYTHON, "-m", "inference_server"]

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _value: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    @property
    def log(self) -> str:
        return self.log_path.read_text(encoding="utf-8")

    @property
    def last_line(self) -> str:
        return self.log.rstrip().splitlines()[-1]

    def await_ready(self) -> Server:
        """Wait for the first healthy answer; a server that ends instead fails the test."""
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                if "Address already in use" not in self.log:
                    raise AssertionError(f"the server ended: {self.process.returncode}\n{self.log}")
                # Another process has taken the port.
                self.port = free_port()
                self._environ["SERVER_PORT"] = str(self.port)
                self.process = self._start()
            try:
                if self.get("/").status == 200:
                    return self
            except OSError:
                pass
            time.sleep(0.02)
        raise AssertionError(f"not ready after {START_S} s\n{self.log}")

    def await_exit(self, limit_s: float = START_S) -> int:
        try:
            return self.process.wait(limit_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {limit_s} s\n{self.log}") from None

    def await_log(self, text: str, limit_s: float = 5.0) -> str:
        """Wait until a line with this text is in the log; returns the line."""
        deadline = time.monotonic() + limit_s
        while True:
            for line in self.log.splitlines():
                if text in line:
                    return line
            if time.monotonic() > deadline:
                raise AssertionError(f"{text!r} is not in the log:\n{self.log}")
            time.sleep(0.02)

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.await_exit()

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        timeout: float = 15.0,
    ) -> Answer:
        """One request on a connection of its own. A body that is not bytes is sent as JSON."""
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        started = time.perf_counter()
        try:
            connection.request(method, path, body, dict(headers or {}))
            response = connection.getresponse()
            content = response.read()
        finally:
            connection.close()
        names: dict[str, str] = {}
        for name, value in response.getheaders():
            known = names.get(name.lower())
            names[name.lower()] = value if known is None else f"{known}, {value}"
        return Answer(response.status, names, content, time.perf_counter() - started)

    def get(self, path: str, **options: Any) -> Answer:
        return self.request("GET", path, **options)

    def score(self, body: Any = b"{}", **options: Any) -> Answer:
        return self.request("POST", "/score", body, **options)

    def raw(self, data: bytes, wait_s: float = 5.0) -> bytes:
        """Send bytes as they are; returns what came back until the server closed or fell silent."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=wait_s) as sock:
            sock.sendall(data)
            received = b""
            try:
                while chunk := sock.recv(65536):
                    received += chunk
            except (TimeoutError, ConnectionError):
                pass
            return received

    def workers(self) -> list[int]:
        """The process ids of the workers."""
        found = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
            except OSError:
                continue
            if int(fields[1]) == self.process.pid and fields[0] != "Z":
                found.append(int(entry.name))
        return sorted(found)
