"""What hostile clients send, and how it is sent: bytes over TCP, and nothing of the server's code.

The tests send a little of it; ``benchmarks/server/hostile.py`` sends it for long.
"""

from __future__ import annotations

import contextlib
import json
import random
import re
import resource
import selectors
import socket
import struct
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

Address = tuple[str, int]

# Counts its calls in a file, so that work for clients that left is seen. Whatever the body is,
# it does not fail: a 500 is not the script's.
SCRIPT = """
    import os, time

    def init():
        pass

    def run(data):
        calls = os.environ.get("TEST_CALLS")
        if calls:
            with open(calls, "a") as file:
                file.write(data[:100] + "\\n")
        if data.startswith("sleep "):
            time.sleep(float(data.split()[1]))
        return len(data)
"""


def post(body: bytes, *headers: bytes) -> bytes:
    """A request to score."""
    lines = [b"POST /score HTTP/1.1", b"Host: a", b"Content-Length: %d" % len(body), *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def chunked(*chunks: bytes) -> bytes:
    """A request to score whose body comes in these chunks."""
    body = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in (*chunks, b""))
    return b"POST /score HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + body


_OFFER = b"Host: a\r\nConnection: upgrade\r\nUpgrade: x\r\n"
# Requests that make a server work for little; each is sent many times ahead of a request to score.
AHEAD = {
    "GET / with an upgrade": b"GET / HTTP/1.1\r\n" + _OFFER + b"\r\n",
    "GET /nothing with an upgrade": b"GET /nothing HTTP/1.1\r\n" + _OFFER + b"\r\n",
    "OPTIONS /score with an upgrade": b"OPTIONS /score HTTP/1.1\r\n" + _OFFER + b"\r\n",
    "POST /score with an upgrade": b"POST /score HTTP/1.1\r\nContent-Length: 1\r\n"
    + _OFFER
    + b"\r\nx",
    "GET /": b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "POST /score in chunks": chunked(b"x"),
}
DEPTHS: list[int] = [*range(470, 511), *range(0, 1001, 50)]

VALID = [
    post(b'{"data": [1, 2, 3]}', b"Content-Type: application/json"),
    post(b"x" * 3000, b"X-Request-Id: abc", b"User-Agent: test/1.0"),
    post(b""),
    post(b"expected", b"Expect: 100-continue"),
    chunked(b"a", b"bc" * 50, b"d"),
    chunked(b"a").replace(b"0\r\n\r\n", b"0\r\nX-Trailer: t\r\n\r\n"),
    chunked(b"abc").replace(b"3\r\n", b"3;name=value\r\n"),
    b"GET /score?x=1&y=%C3%A4&x=2 HTTP/1.1\r\nHost: a\r\nAccept: */*\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\n\r\n",
    b"GET /swagger.json?version=3 HTTP/1.1\r\nHost: a\r\n\r\n",
    b"HEAD / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    b"OPTIONS /score HTTP/1.1\r\nHost: a\r\nOrigin: http://b\r\n\r\n",
    b"GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n" + post(b"second"),
    *AHEAD.values(),
]
_HEADERS = [
    b"Content-Length: 5",
    b"Content-Length: 99999999999999999999",
    b"Content-Length: -1",
    b"Content-Length: 0x10",
    b"Transfer-Encoding: chunked",
    b"Transfer-Encoding: gzip, chunked",
    b"Transfer-Encoding: identity",
    b"Connection: close, keep-alive, upgrade",
    b"Upgrade: h2c, websocket",
    b"Expect: 200-ok",
    b"Host: b",
    b"X-Request-Id: " + b"y" * 200,
    b" folded: z",
    b"no colon",
    b": no name",
    b"N\x00: z",
    b"Cookie: " + b"c=d; " * 2000,
    b"Content-Type: multipart/form-data; boundary=" + b"-" * 300,
]
_SIZES = [b"0", b"1", b"-1", b"+3", b"ffffffff", b"fffffffffffffffff", b"0x3", b"3 ", b"", b"g"]
_PIECES = [
    b"\r\n",
    b"\n",
    b"\r",
    b"\x00",
    b"\xff\xfe",
    b" ",
    b"\t",
    b":",
    b"0\r\n\r\n",
    b"HTTP/1.1",
]


def mutate(chance: random.Random) -> bytes:
    """A valid request with one to three things wrong."""
    data = chance.choice(VALID)
    for _ in range(chance.randint(1, 3)):
        data = chance.choice(_MUTATIONS)(chance, data)
    return data


def _flip(chance: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(chance.randint(1, 8)):
        if changed:
            changed[chance.randrange(len(changed))] = chance.randrange(256)
    return bytes(changed)


def _cut(chance: random.Random, data: bytes) -> bytes:
    return data[: chance.randrange(len(data) + 1)]


def _remove(chance: random.Random, data: bytes) -> bytes:
    at = chance.randrange(len(data) + 1)
    return data[:at] + data[at + chance.randint(1, 20) :]


def _double(chance: random.Random, data: bytes) -> bytes:
    at = chance.randrange(len(data) + 1)
    end = at + chance.randint(1, 200)
    return data[:end] + data[at:end] * chance.choice([1, 2, 50]) + data[end:]


def _insert(chance: random.Random, data: bytes) -> bytes:
    at = chance.randrange(len(data) + 1)
    return data[:at] + chance.choice(_PIECES) + data[at:]


def _header(chance: random.Random, data: bytes) -> bytes:
    """Another header behind the request line or behind any other one."""
    lines = data.split(b"\r\n")
    lines.insert(chance.randint(1, min(len(lines), 6)), chance.choice(_HEADERS))
    return b"\r\n".join(lines)


def _size(chance: random.Random, data: bytes) -> bytes:
    """A length or the size of a chunk that is a lie."""
    sizes = list(re.finditer(rb"(?<=Length: )\d+|(?<=\r\n)[0-9a-f]+(?=\r\n)", data))
    if not sizes:
        return data
    size = chance.choice(sizes)
    return data[: size.start()] + chance.choice(_SIZES) + data[size.end() :]


_MUTATIONS = [_flip, _cut, _remove, _double, _insert, _header, _size]


# How bytes are sent, and what came back.

_STATUS = re.compile(rb"HTTP/1\.1 ([2-5]\d\d) [^\r]*\r\n(.*?)\r\n\r\n", re.DOTALL)


def statuses(received: bytes) -> list[int]:
    """The statuses of the answers, without interim ones."""
    return [int(match.group(1)) for match in _STATUS.finditer(received)]


def faults(received: bytes) -> list[str]:
    """The answers that no client may cause: 5xx, but a 503 that says when to come back."""
    found = []
    for match in _STATUS.finditer(received):
        status, head = int(match.group(1)), match.group(2).lower()
        if status >= 500 and not (status == 503 and b"retry-after:" in head):
            found.append(match.group(0).decode("latin-1"))
    return found


@dataclass
class _Exchange:
    sock: socket.socket
    data: memoryview
    half_close: bool
    quiet_until: float
    received: bytearray = field(default_factory=bytearray)


def exchange(
    address: Address,
    requests: Sequence[bytes],
    *,
    half_close: bool = False,
    at_a_time: int = 64,
    patience_s: float = 5.0,
) -> list[bytes]:
    """Send each on a connection of its own, reading all the while; returns what came back.

    A connection ends when the server closes it, or when nothing moved for ``patience_s``. With
    ``half_close`` the client says that nothing more comes.
    """
    results = [b""] * len(requests)
    left = iter(enumerate(requests))
    with selectors.DefaultSelector() as selector:
        active: dict[int, _Exchange] = {}

        def begin() -> bool:
            for index, data in left:
                sock = socket.create_connection(address, timeout=patience_s)
                sock.setblocking(False)
                until = time.monotonic() + patience_s
                active[index] = _Exchange(sock, memoryview(data), half_close, until)
                selector.register(sock, selectors.EVENT_READ | selectors.EVENT_WRITE, index)
                return True
            return False

        def end(index: int) -> None:
            done = active.pop(index)
            selector.unregister(done.sock)
            done.sock.close()
            results[index] = bytes(done.received)
            begin()

        while len(active) < at_a_time and begin():
            pass
        while active:
            for key, events in selector.select(0.1):
                each = active[key.data]
                each.quiet_until = time.monotonic() + patience_s
                try:
                    if events & selectors.EVENT_WRITE:
                        _send_some(each, selector, key.data)
                    if events & selectors.EVENT_READ:
                        data = each.sock.recv(1 << 18)
                        each.received += data
                        if not data:
                            end(key.data)
                except BlockingIOError:
                    continue
                except OSError:
                    end(key.data)
            now = time.monotonic()
            for index in [index for index, each in active.items() if each.quiet_until < now]:
                end(index)
    return results


def _send_some(each: _Exchange, selector: selectors.BaseSelector, index: int) -> None:
    if each.data:
        each.data = each.data[each.sock.send(each.data[: 1 << 18]) :]
    if not each.data:
        if each.half_close:
            each.sock.shutdown(socket.SHUT_WR)
        selector.modify(each.sock, selectors.EVENT_READ, index)


@contextlib.contextmanager
def held(address: Address, parts: Iterable[bytes]) -> Iterator[list[socket.socket]]:
    """Connections that have each sent a part of something, and are held open."""
    allow_descriptors()
    socks: list[socket.socket] = []
    try:
        for part in parts:
            sock = socket.create_connection(address, timeout=5)
            socks.append(sock)
            with contextlib.suppress(OSError):
                sock.sendall(part)
        yield socks
    finally:
        for sock in socks:
            # Without the minute in which the system would keep the port from the next one.
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            sock.close()


def halves(chance: random.Random, count: int) -> Iterator[bytes]:
    """So many requests that are cut somewhere."""
    for _ in range(count):
        data = chance.choice(VALID)
        yield data[: chance.randrange(1, len(data))]


def reset(sock: socket.socket) -> None:
    """Leave without a word: the other end gets a reset."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def allow_descriptors() -> None:
    """As many open files as this user may have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def resident(pid: int) -> float:
    """MiB that a process holds."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise AssertionError(f"process {pid} has no memory")


@dataclass(frozen=True)
class Seen:
    """What a probe saw: how often each status came, and how long it took, in milliseconds."""

    answers: Counter[str]
    p50_ms: float
    p99_ms: float
    worst_ms: float

    @property
    def healthy(self) -> bool:
        return set(self.answers) == {"200"}

    def __str__(self) -> str:
        counts = ", ".join(f"{count} x {status}" for status, count in sorted(self.answers.items()))
        return (
            f"{counts}; p50 {self.p50_ms:.1f}, p99 {self.p99_ms:.1f}, worst {self.worst_ms:.1f} ms"
        )


class Probe:
    """Asks for the health of a service in a process of its own, which the load does not slow."""

    def __init__(self, address: Address, limit_s: float = 5.0) -> None:
        program = Path(__file__).with_name("probe.py")
        host, port = address
        self._process = subprocess.Popen(
            [sys.executable, str(program), host, str(port), str(limit_s)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._seen: Seen | None = None

    def __enter__(self) -> Probe:
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _value: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        output, _ = self._process.communicate()
        report: dict[str, Any] = json.loads(output)
        self._seen = Seen(Counter(report.pop("answers")), **report)

    @property
    def seen(self) -> Seen:
        """What it saw, once it has ended."""
        assert self._seen is not None, "the probe has not ended"
        return self._seen
