"""What the service takes for clients is no more than what its account says it holds."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from .conftest import Serve
from .harness import Server
from .test_operation import Later

SCRIPT = """
    import time

    def init(): pass

    def run(data):
        time.sleep(20 if data == "slow" else 0)
        return len(data)
"""
# What the interpreter takes for itself while it works, and what the system rounds up to pages.
SLACK = 2 * 1024 * 1024
LINES = b"".join(b"X-%02d: %b\r\n" % (number, b"v" * 500) for number in range(90))
SHORT_LINES = b"".join(b"X-%02d: v\r\n" % number for number in range(90))


def head(lines: bytes = b"") -> bytes:
    return b"POST /score HTTP/1.1\r\nHost: a\r\n" + lines


def chunks(size: int, count: int) -> bytes:
    return (b"%x\r\n%b\r\n" % (size, b"x" * size)) * count


# What each client sends, and how many there are.
SHAPES: dict[str, tuple[int, Callable[[], bytes]]] = {
    "idle connections": (1500, lambda: b""),
    "heads in part, in long lines": (300, lambda: head(LINES)),
    "heads in part, in short lines": (1000, lambda: head(SHORT_LINES)),
    "requests that wait, with short lines": (
        500,
        lambda: head(SHORT_LINES) + b"Content-Length: 2\r\n\r\n{}",
    ),
    "requests that wait, with bodies": (
        500,
        lambda: head() + b"Content-Length: 50000\r\n\r\n" + b"x" * 50_000,
    ),
    "bodies in part": (500, lambda: head() + b"Content-Length: 60000\r\n\r\n" + b"x" * 59_000),
    "chunks of two bytes": (
        4,
        lambda: head() + b"Transfer-Encoding: chunked\r\n\r\n" + chunks(2, 1_000_000),
    ),
    "chunks of 64 KB": (
        2,
        lambda: head() + b"Transfer-Encoding: chunked\r\n\r\n" + chunks(65536, 300),
    ),
    "a large body in part": (
        1,
        lambda: head() + b"Content-Length: 40000000\r\n\r\n" + b"x" * 39_000_000,
    ),
    "requests ahead": (
        200,
        lambda: (head() + b"Content-Length: 2\r\n\r\n{}") * 1000,
    ),
}


def resident(server: Server) -> int:
    """Memory of the service process in bytes."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    [found] = re.findall(r"VmRSS:\s+(\d+) kB", status)
    return int(found) * 1024


def held(server: Server) -> int:
    """Bytes on the account of the service."""
    [found] = re.findall(
        r"^inference_memory_held_bytes (\d+)$", server.get("/metrics").body.decode(), re.MULTILINE
    )
    return int(found)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_account_covers_what_is_taken(serve: Serve, shape: str) -> None:
    server = serve(
        SCRIPT,
        INFERENCE_SERVER_METRICS="true",
        INFERENCE_SERVER_BODY_MEMORY="400000000",
        INFERENCE_SERVER_ACCESS_LOG="false",
    )
    count, make = SHAPES[shape]
    data = make()
    Later(lambda: server.score(b"slow", timeout=60))
    held_before, before = held(server), resident(server)
    with ExitStack() as stack:
        for _ in range(count):
            sock = socket.create_connection(("127.0.0.1", server.port), timeout=10)
            stack.enter_context(closing(sock))
            sock.setblocking(False)
            send(sock, data)
        time.sleep(0.5)
        grown = resident(server) - before
        counted = held(server) - held_before
        assert counted > 0
        assert grown <= counted + SLACK, f"{grown:,} bytes taken, {counted:,} on the account"
    server.process.kill()


def send(sock: socket.socket, data: bytes) -> None:
    """As much as the other end takes."""
    deadline = time.monotonic() + 5
    view = memoryview(data)
    idle_since = time.monotonic()
    while view and time.monotonic() < deadline and time.monotonic() - idle_since < 0.05:
        try:
            view = view[sock.send(view) :]
            idle_since = time.monotonic()
        except BlockingIOError:
            time.sleep(0.001)
