"""HTTP/1.1 on the wire: framing, order, limits, and clients that do not play along."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import pytest

from .conftest import Serve
from .harness import Server

SCRIPT = """
    import time

    def init(): pass

    def run(data):
        if data.startswith("sleep "):
            time.sleep(float(data.split()[1]))
        return data if len(data) < 100 else len(data)
"""
CLOSE = b"GET /nothing HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


@pytest.fixture(scope="module")
def server(serve_shared: Serve) -> Server:
    return serve_shared(SCRIPT)


@pytest.fixture
def client(server: Server) -> Iterator[socket.socket]:
    with connect(server) as sock:
        yield sock


def connect(server: Server) -> closing[socket.socket]:
    sock = socket.create_connection(("127.0.0.1", server.port), timeout=5)
    return closing(sock)


def post(body: bytes, *headers: bytes, version: bytes = b"1.1") -> bytes:
    lines = [b"POST /score HTTP/" + version, b"Host: a", b"Content-Length: %d" % len(body)]
    return b"\r\n".join([*lines, *headers]) + b"\r\n\r\n" + body


def read(sock: socket.socket, bodies: int) -> bytes:
    """What comes until so many results are there."""
    received = b""
    while len(results(received)) < bodies:
        data = sock.recv(65536)
        assert data, received
        received += data
    return received


def results(received: bytes) -> list[bytes]:
    """The JSON strings that the script echoed."""
    return re.findall(rb'\r\n\r\n("[^"]*")', received)


def statuses(received: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", received)]


def test_requests_that_come_ahead_are_answered_in_order(client: socket.socket) -> None:
    slow_first = [post(b"sleep 0.2"), post(b"b"), post(b"c" * 10), post(b"d")]
    client.sendall(b"".join(slow_first))
    assert results(read(client, 4)) == [b'"sleep 0.2"', b'"b"', b'"cccccccccc"', b'"d"']


def test_thousands_of_requests_that_come_ahead(client: socket.socket) -> None:
    client.sendall(post(b"sleep 0.2") + b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 5000 + CLOSE)
    received = b""
    while data := client.recv(1 << 20):
        received += data
    assert statuses(received) == [200] * 5001 + [404]


def test_a_body_that_comes_ahead_in_pieces(client: socket.socket) -> None:
    first, second = post(b"sleep 0.3"), post(b"second")
    client.sendall(first + second[:-3])
    time.sleep(0.5)
    client.sendall(second[-3:])
    assert results(read(client, 2)) == [b'"sleep 0.3"', b'"second"']


def test_every_cut_of_a_request(server: Server) -> None:
    request = post(b"cut", b"X-Custom:  a b ")
    for at in range(1, len(request), 3):
        with connect(server) as sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.sendall(request[:at])
            time.sleep(0.002)
            sock.sendall(request[at:])
            assert results(read(sock, 1)) == [b'"cut"']


def test_the_body_is_asked_for(client: socket.socket) -> None:
    head, body = post(b"expected", b"Expect: 100-continue").split(b"\r\n\r\n")
    client.sendall(head + b"\r\n\r\n")
    assert client.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
    client.sendall(body)
    assert results(read(client, 1)) == [b'"expected"']


def test_a_body_above_the_limit_is_not_asked_for(client: socket.socket) -> None:
    head = (
        b"POST /score HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 999999999\r\n"
    )
    client.sendall(head + b"\r\n")
    assert client.recv(1000).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize(
    ("framing", "body"),
    [(b"Content-Length: 4", b"java"), (b"Transfer-Encoding: chunked", b"4\r\njava\r\n0\r\n\r\n")],
)
def test_an_offer_of_another_protocol_is_ignored(
    client: socket.socket, framing: bytes, body: bytes
) -> None:
    """Clients of Java offer HTTP/2 with their first request, and go on in HTTP/1.1."""
    offer = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMA\r\n"
    head = b"POST /score HTTP/1.1\r\nHost: a\r\n" + offer + framing + b"\r\n\r\n"
    client.sendall(head + body[:2])
    time.sleep(0.05)
    client.sendall(body[2:] + post(b"next"))
    assert results(read(client, 2)) == [b'"java"', b'"next"']
    client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n" + offer + b"\r\n" + post(b"last"))
    received = read(client, 1)
    assert statuses(received) == [200, 200]


def test_http_1_0(server: Server) -> None:
    received = server.raw(post(b"old", version=b"1.0"))
    assert (results(received), b"Connection: close" in received) == ([b'"old"'], True)
    with connect(server) as sock:
        for _ in range(2):
            sock.sendall(post(b"kept", b"Connection: keep-alive", version=b"1.0"))
            assert b"Connection: keep-alive" in read(sock, 1)


def test_a_client_that_sends_no_more_gets_its_answer(client: socket.socket) -> None:
    client.sendall(post(b"sleep 0.2"))
    client.shutdown(socket.SHUT_WR)
    assert results(read(client, 1)) == [b'"sleep 0.2"']
    assert client.recv(100) == b""


def test_a_client_that_breaks_off_is_told(server: Server, client: socket.socket) -> None:
    client.sendall(post(b"12345")[:-1])
    client.shutdown(socket.SHUT_WR)
    assert client.recv(1000).startswith(b"HTTP/1.1 400 ")


def test_trailers_are_no_headers(server: Server) -> None:
    received = server.raw(
        b"POST /score HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n"
        b"1\r\nx\r\n0\r\nx-request-id: forged\r\n\r\n"
    )
    assert results(received) == [b'"x"']
    assert b"forged" not in received


def test_an_absolute_target(server: Server) -> None:
    received = server.raw(b"GET http://a:1/?b=c HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    assert received.endswith(b"\r\n\r\nHealthy")


def test_names_with_an_underscore_are_dropped(serve: Serve) -> None:
    """Behind a proxy that removes a header, one with an underscore must not pass for it."""
    script = "def init(): pass\ndef run(data, request_headers): return sorted(request_headers)"
    received = serve(script).raw(post(b"", b"X_User: forged", b"Connection: close"))
    assert received.endswith(b'["Connection", "Content-Length", "Host"]')


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (
            b"POST /score HTTP/1.1\r\nHost: a\r\n"
            b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\nabc",
            400,
        ),
        (
            b"POST /score HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
            400,
        ),
        (b"POST /score HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (
            b"POST /score HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
            400,
        ),
        (b"GET / HTTP/1.1\r\nHost: a\r\nA: b\n\r\n", 400),
        (
            b"POST /score HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
            400,
        ),
        (b"GET / HTTP/1.1\r\nHost: a\r\nA : b\r\n\r\n", 400),
        (b"GET / HTTP/2.0\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"A: b\r\n" * 101 + b"\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: a\r\nA: " + b"b" * 70_000 + b"\r\n\r\n", 431),
        (b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: a\r\nA: " + b"b" * 400_000, 431),
        (b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"FETCH /score HTTP/1.1\r\nHost: a\r\n\r\n", 405),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    ],
)
def test_what_is_refused(server: Server, data: bytes, status: int) -> None:
    received = server.raw(data, 3)
    assert statuses(received)[:1] == [status], received[:200]
    assert server.get("/").status == 200


def test_nothing_is_read_behind_a_broken_request(server: Server) -> None:
    received = server.raw(
        post(b"first") + b"GET / HTTP/1.1\r\nHost: a\r\nA : b\r\n\r\n" + post(b"smuggled")
    )
    assert (statuses(received), results(received)) == ([200, 400], [b'"first"'])


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_that_drips_is_ended(serve: Serve, chunked: bool) -> None:
    """Each byte comes in time, the body does not."""
    server = serve(SCRIPT, INFERENCE_SERVER_READ_TIMEOUT="1")
    framing = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: 1000"
    started = time.monotonic()
    with connect(server) as sock:
        sock.sendall(b"POST /score HTTP/1.1\r\nHost: a\r\n" + framing + b"\r\n\r\n")
        sock.settimeout(0.1)
        received = b""
        while not received and time.monotonic() - started < 5:
            sock.sendall(b"1\r\nx\r\n" if chunked else b"x")
            try:
                received = sock.recv(1000)
            except TimeoutError:
                continue
    assert received.startswith(b"HTTP/1.1 408 ")


def test_a_client_that_does_not_take_its_answer_is_ended(serve: Serve) -> None:
    script = "def init(): pass\ndef run(data): return 'x' * 50_000_000"
    server = serve(script, INFERENCE_SERVER_IDLE_TIMEOUT="1")
    with connect(server) as sock:
        sock.sendall(post(b""))
        server.await_log("POST /score 200", 15)
        time.sleep(2.5)
        received = 0
        with suppress(ConnectionError):
            while data := sock.recv(1 << 20):
                received += len(data)
        assert received < 50_000_000
    assert server.get("/").status == 200


def test_answers_that_are_not_taken_do_not_pile_up(serve: Serve) -> None:
    """A client asks and asks and never listens: after a while it is not heard either."""
    server = serve(SCRIPT)
    with connect(server) as sock:
        sock.setblocking(False)
        sent = 0
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            try:
                sent += sock.send(b"GET /swagger.json HTTP/1.1\r\nHost: a\r\n\r\n" * 1000)
                deadline = time.monotonic() + 1
            except BlockingIOError:
                time.sleep(0.01)
        assert sent < 30_000_000
    assert server.get("/").status == 200


class FewDescriptors(Server):
    """A server under a low limit of open files."""

    def command(self) -> list[str]:
        return ["sh", "-c", 'ulimit -n 300; exec "$@"', "sh", *super().command()]


def test_an_idle_connection_makes_room_for_a_new_one(tmp_path: Path) -> None:
    root = tmp_path / "app"
    root.mkdir()
    (root / "main.py").write_text("def init(): pass\ndef run(data): return data")
    with FewDescriptors(root, {}) as server, ExitStack() as idle:
        server.await_ready()
        for _ in range(100):
            idle.enter_context(connect(server))
        for _ in range(10):
            assert server.get("/").status == 200
            assert server.score(b"x").json == "x"


def test_idle_connections_end_with_the_service(serve: Serve) -> None:
    server = serve(SCRIPT)
    with connect(server) as idle, connect(server) as busy:
        idle.sendall(post(b"x"))
        read(idle, 1)
        busy.sendall(post(b"sleep 0.5"))
        time.sleep(0.2)
        server.process.terminate()
        assert idle.recv(100) == b""
        assert b"Connection: close" in read(busy, 1)
        assert busy.recv(100) == b""
    assert server.await_exit() == 0
