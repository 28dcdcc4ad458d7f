"""Answers that a script makes bit by bit, and large ones: as they come, and no faster."""

from __future__ import annotations

import http.client
import re
import socket
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from itertools import pairwise
from pathlib import Path

import pytest

from .conftest import Serve
from .harness import Server

SCRIPT = """
    import json, os, time
    from pathlib import Path
    from azureml_inference_server_http.api.aml_request import AMLRequest, rawhttp
    from azureml_inference_server_http.api.aml_response import AMLResponse

    def init():
        pass

    def events(count, pause, fail, notes):
        sent = 0
        try:
            for number in range(count):
                if number == fail:
                    raise ValueError("the generator failed")
                yield "data: {}\\n\\n".format(number)
                sent += 1
                time.sleep(pause)
            Path(notes).write_text("whole")
        except GeneratorExit:
            Path(notes).write_text("left after {}".format(sent))
            raise

    def endless(notes):
        sent = 0
        try:
            while True:
                yield b"x" * 65536
                sent += 1
                Path(notes).write_text(str(sent))
        finally:
            Path(notes + ".end").write_text(str(sent))

    @rawhttp
    def run(request):
        given = {name: json.loads(value) for name, value in request.args.items()}
        notes = given.get("notes", "notes")
        if given.get("endless"):
            return AMLResponse(endless(notes), 200, {"Content-Type": "application/octet-stream"})
        if given.get("large"):
            return AMLResponse(b"y" * given["large"], 200)
        if given.get("list"):
            return AMLResponse(["a", "b"], 200)
        if given.get("none"):
            return AMLResponse(iter(()), 200)
        body = events(given.get("count", 3), given.get("pause", 0), given.get("fail", -1), notes)
        return AMLResponse(body, given.get("status", 200), {"Content-Type": "text/event-stream"})
"""


@pytest.fixture(scope="module")
def server(serve_shared: Serve) -> Server:
    return serve_shared(SCRIPT)


@contextmanager
def streamed(server: Server, query: str) -> Iterator[http.client.HTTPResponse]:
    """The response to a request as soon as its head is there."""
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=15)) as connection:
        connection.request("GET", "/score?" + query)
        yield connection.getresponse()


def connect(server: Server, query: str, version: str = "1.1", method: str = "GET") -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", server.port), timeout=10)
    sock.sendall(f"{method} /score?{query} HTTP/{version}\r\nHost: a\r\n\r\n".encode())
    return sock


def await_text(path: Path, text: str = "", limit_s: float = 5.0) -> str:
    """Wait until a file begins with a text; returns what is in it."""
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        with suppress(OSError):
            found = path.read_text()
            if found and found.startswith(text):
                return found
        time.sleep(0.02)
    raise AssertionError(f"{path.name} does not begin with {text!r}")


def test_each_part_comes_when_it_is_made(server: Server) -> None:
    with streamed(server, "count=4&pause=0.3") as response:
        assert response.headers["Transfer-Encoding"] == "chunked"
        assert response.headers["Content-Type"].startswith("text/event-stream")
        assert response.headers["x-ms-run-function-failed"] == "False"
        assert float(response.headers["x-ms-run-fn-exec-ms"]) < 300
        arrivals = []
        for number in range(4):
            assert response.readline() == b"data: %d\n" % number
            arrivals.append(time.monotonic())
            response.readline()
        gaps = [after - before for before, after in pairwise(arrivals)]
        assert min(gaps) > 0.15
        assert response.read() == b""


def test_the_connection_is_kept_after_a_stream(server: Server) -> None:
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)) as connection:
        for _ in range(3):
            connection.request("GET", "/score?count=2")
            assert connection.getresponse().read() == b"data: 0\n\ndata: 1\n\n"
            sock = connection.sock
        assert connection.sock is sock


def test_requests_ahead_of_a_stream_wait_for_its_end(server: Server) -> None:
    with closing(connect(server, "count=3&pause=0.1")) as sock:
        sock.sendall(b"GET /nothing HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        received = b"".join(iter(lambda: sock.recv(65536), b""))
    first, _, second = received.partition(b"\r\n0\r\n\r\n")
    assert b"data: 2" in first
    assert second.startswith(b"HTTP/1.1 404 ")


def test_the_log_tells_the_end_of_a_stream(server: Server) -> None:
    with streamed(server, "count=2&pause=0.2&unique=1") as response:
        size = len(response.read())
    assert re.search(rf" 200 [0-9.]+ms {size} ", server.await_log("unique=1"))


def test_http_1_0_gets_it_by_the_end_of_the_connection(server: Server) -> None:
    with closing(connect(server, "count=3", "1.0")) as sock:
        received = b"".join(iter(lambda: sock.recv(65536), b""))
    head, _, body = received.partition(b"\r\n\r\n")
    assert b"chunked" not in head
    assert b"Connection: close" in head
    assert body == b"data: 0\n\ndata: 1\n\ndata: 2\n\n"


@pytest.mark.parametrize(("query", "body"), [("list=1", b"ab"), ("none=1", b"")])
def test_what_is_there_already_has_a_length(server: Server, query: str, body: bytes) -> None:
    answer = server.get("/score?" + query)
    assert (answer.status, answer.body) == (200, body)
    assert answer.headers["content-length"] == str(len(body))


def test_head_sends_no_body_and_leaves_the_worker_free(server: Server, tmp_path: Path) -> None:
    notes = tmp_path / "head"
    query = f"endless=1&notes=%22{notes}%22"
    with closing(connect(server, query, method="HEAD")) as sock:
        received = sock.recv(65536)
        assert received.endswith(b"\r\n\r\n")
        await_text(tmp_path / "head.end")
        assert server.get("/score?count=1").body == b"data: 0\n\n"


def test_a_failure_before_the_first_part_is_told_by_the_status(server: Server) -> None:
    answer = server.get("/score?fail=0")
    assert (answer.status, answer.headers["x-ms-run-function-failed"]) == (500, "True")
    assert b"generator" not in answer.body


def test_a_failure_in_the_middle_breaks_the_body_off(server: Server) -> None:
    with streamed(server, "fail=2") as response:
        assert response.status == 200
        with pytest.raises(http.client.IncompleteRead) as broken:
            response.read()
        assert broken.value.partial.endswith(b"data: 1\n\n")
    server.await_log("the response of run() was broken off by ValueError: the generator failed")
    assert server.get("/score?count=1").status == 200


def test_the_time_limit_holds_for_the_whole_stream(serve: Serve) -> None:
    server = serve(SCRIPT, SCORING_TIMEOUT_MS="700")
    before = server.workers()
    with streamed(server, "count=100&pause=0.1") as response:
        started = time.monotonic()
        with pytest.raises(http.client.IncompleteRead):
            response.read()
        assert time.monotonic() - started < 3
    server.await_log("the response of run() was broken off after 0.7 s")
    assert server.get("/score?count=1").status == 200
    assert server.workers() == before


def test_the_generator_ends_when_the_client_leaves(server: Server, tmp_path: Path) -> None:
    notes = tmp_path / "left"
    sock = connect(server, f"count=1000&pause=0.05&notes=%22{notes}%22")
    assert sock.recv(65536)
    time.sleep(0.2)
    sock.close()
    assert await_text(notes, "left after ")
    assert server.get("/score?count=1").status == 200
    server.await_log("GET /score?count=1000&pause=0.05&notes=%22")


def test_a_slow_client_slows_the_script_down(server: Server, tmp_path: Path) -> None:
    notes = tmp_path / "slow"
    with closing(connect(server, f"endless=1&notes=%22{notes}%22")) as sock:
        await_text(notes)
        time.sleep(0.5)
        made = int(notes.read_text())
        time.sleep(0.5)
        # What is on the way fits into the buffers of the system.
        assert int(notes.read_text()) == made
        assert made * 65536 < 16 * 1024 * 1024
        assert server.get("/").status == 200
        taken = 0
        while taken < 20 * 1024 * 1024:
            taken += len(sock.recv(1 << 20))
        assert int(await_text(notes)) > made
    await_text(tmp_path / "slow.end")
    assert server.get("/score?count=1").status == 200


def test_a_large_answer_does_not_wait_for_its_client(serve: Serve) -> None:
    """What is made already is taken from the worker, which goes on with the next request."""
    server = serve(SCRIPT, INFERENCE_SERVER_BODY_MEMORY="100000000")
    with closing(connect(server, "large=20000000")) as slow:
        time.sleep(0.5)
        assert server.get("/score?count=1").body == b"data: 0\n\n"
        received = b""
        while len(received) < 20_000_000:
            data = slow.recv(1 << 20)
            assert data
            received += data
        assert received.partition(b"\r\n\r\n")[2][:3] == b"yyy"


def test_a_large_answer_without_room_waits_in_the_worker(serve: Serve) -> None:
    server = serve(SCRIPT, INFERENCE_SERVER_BODY_MEMORY="3000000")
    with closing(connect(server, "large=30000000")) as slow:
        time.sleep(0.5)
        assert server.get("/").status == 200
        body = slow.recv(65536).partition(b"\r\n\r\n")[2]
        size = len(body)
        while size < 30_000_000:
            size += len(slow.recv(1 << 20))
    assert server.get("/score?count=1").status == 200


def test_a_stream_in_a_crowd(server: Server) -> None:
    """Streams and small requests share the worker; each gets what is its own."""
    with closing(connect(server, "count=20&pause=0.02")) as first:
        others = [connect(server, f"count={count}") for count in range(1, 20)]
        for count, sock in enumerate(others, 1):
            with closing(sock):
                received = b""
                while not received.endswith(b"0\r\n\r\n"):
                    received += sock.recv(65536)
                assert received.count(b"data: ") == count
        received = b""
        while not received.endswith(b"0\r\n\r\n"):
            received += first.recv(65536)
        assert received.count(b"data: ") == 20
