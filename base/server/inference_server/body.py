"""How is the body of a request read, within limits of size and time?"""

from __future__ import annotations

import os
import socket
import struct
import threading
import time
from typing import Any, Callable, Dict, List, Tuple

CHUNK = 1 << 16
# On top of the fixed time a body gets one second for each of these many declared bytes.
SLOWEST_BYTES_PER_S = 256 * 1024
SWEEP_S = 0.5
# How much of a body that nobody wants is taken in for how long, so that a client that sends before
# it listens sees its answer and not a reset connection.
LINGER_BYTES = 16 * 1024 * 1024
LINGER_S = 2.0

# Of Linux's `struct tcp_info`: milliseconds since data was last sent and last received.
_MILLISECONDS = struct.Struct("=I")
_LAST_DATA_SENT_AT = 44
_LAST_DATA_RECEIVED_AT = 52
_TCP_INFO_SIZE = 104


class TooLargeError(Exception):
    """The body is above the limit."""


class IncompleteError(Exception):
    """The client went away or broke off in the middle of the body."""


class TimedOutError(Exception):
    """The body did not arrive in time; the client already has its answer."""


class NoMemoryError(Exception):
    """The bodies that are in the house together are too large for another one."""


class BrokenError(Exception):
    """The length that the client declared is no length."""


Abort = Callable[[], None]


class Budget:
    """How much of the memory the bodies of all requests may take together.

    A single body always fits, however large. Small ones are not counted: their number is bounded.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._used = 0
        self._mutex = threading.Lock()

    @property
    def used(self) -> int:
        """What is taken."""
        return self._used

    def take(self, size: int) -> None:
        """Take a share, or raise ``NoMemoryError``."""
        with self._mutex:
            if self._used and self._used + size > self._limit:
                raise NoMemoryError
            self._used += size

    def give(self, size: int) -> None:
        """Give a share back."""
        with self._mutex:
            self._used -= size


class Share:
    """What one request has taken of a budget."""

    __slots__ = ("_budget", "_size")

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._size = 0

    def take(self, size: int) -> None:
        """Take more."""
        self._budget.take(size)
        self._size += size

    def give_back(self) -> None:
        """Give all of it back."""
        self._budget.give(self._size)
        self._size = 0


class Readers:
    """The requests whose bodies are on their way, and the thread that ends the slow ones.

    A read blocks in the HTTP server, where no timeout can be set; so another thread answers for it.
    """

    def __init__(self, limit: int, timeout_s: float) -> None:
        self._limit = limit
        self._timeout_s = timeout_s
        self._reading: Dict[int, Tuple[float, Abort]] = {}
        self._stuck: Dict[int, float] = {}
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._sweep, name="slow-readers", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    @property
    def full(self) -> bool:
        """Whether too many bodies are on their way already."""
        return len(self._reading) + len(self._stuck) >= self._limit

    def read(self, stream: Any, length: int, limit: int, share: Share, abort: Abort) -> bytes:
        """Read a body of a declared length, or one in chunks when the length is -1."""
        if length > limit:
            raise TooLargeError
        if length > CHUNK:
            share.take(length)
        key = threading.get_ident()
        allowed = self._timeout_s + max(0, length) / SLOWEST_BYTES_PER_S
        self._reading[key] = (time.monotonic() + allowed, abort)
        try:
            body = (
                stream.read(length) if length >= 0 else self._read_chunks(stream, limit, share, key)
            )
        finally:
            late = self._reading.pop(key, None) is None
            if late:
                self._stuck.pop(key, None)
        if late:
            raise TimedOutError
        if length >= 0 and len(body) < length:
            # Some servers hand out what there is; ask again until nothing more comes.
            while len(body) < length:
                more = stream.read(length - len(body))
                if not more:
                    raise IncompleteError
                body += more
        return bytes(body)

    def discard(self, stream: Any) -> None:
        """Read and throw away, within bounds; the client has its answer already."""
        key = threading.get_ident()
        end = time.monotonic() + LINGER_S
        left = LINGER_BYTES
        self._reading[key] = (end, _ignore)
        try:
            while left > 0 and time.monotonic() < end:
                part = stream.read(CHUNK)
                if not part:
                    return
                left -= len(part)
        finally:
            if self._reading.pop(key, None) is None:
                self._stuck.pop(key, None)

    def _read_chunks(self, stream: Any, limit: int, share: Share, key: int) -> bytes:
        parts: List[bytes] = []
        size = 0
        while True:
            part = stream.read(CHUNK)
            if not part:
                return b"".join(parts)
            size += len(part)
            if size > limit:
                raise TooLargeError
            share.take(len(part))
            parts.append(part)
            if key not in self._reading:
                raise TimedOutError
            self._reading[key] = (time.monotonic() + self._timeout_s, self._reading[key][1])

    def _sweep(self) -> None:
        while not self._wake.wait(SWEEP_S):
            now = time.monotonic()
            for key, (deadline, abort) in list(self._reading.items()):
                if now < deadline:
                    continue
                self._stuck[key] = now
                if self._reading.pop(key, None) is None:
                    # It finished while we looked.
                    self._stuck.pop(key, None)
                    continue
                abort()
            if any(now - since > 1.0 for since in self._stuck.values()):
                close_stalled(self._timeout_s)


def _ignore() -> None:
    """There is nobody to be told."""


def parse_length(text: str) -> int:
    """The declared length; ``BrokenError`` for anything but digits."""
    if not (text.isascii() and text.isdigit()):
        raise BrokenError
    return int(text)


def close_stalled(quiet_s: float) -> int:
    """Shut the connections that were answered, went quiet and still block a reader.

    The HTTP server does not say which connection a request came by, the kernel knows: where
    nothing was received for long and something was sent since, no answer is due any more. So
    nothing is lost, whether it was an unfinished body or an idle connection.
    """
    closed = 0
    quiet_ms = quiet_s * 1000
    for name in os.listdir("/proc/self/fd"):
        try:
            if not os.readlink("/proc/self/fd/" + name).startswith("socket:"):
                continue
            # A copy: should the number be reused in between, we still look at one socket only.
            sock = socket.socket(fileno=os.dup(int(name)))
        except OSError:
            continue
        try:
            if sock.family not in (socket.AF_INET, socket.AF_INET6):
                continue
            info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_SIZE)
            if len(info) < _LAST_DATA_RECEIVED_AT + 4 or info[0] != 1:
                continue
            sent = _MILLISECONDS.unpack_from(info, _LAST_DATA_SENT_AT)[0]
            received = _MILLISECONDS.unpack_from(info, _LAST_DATA_RECEIVED_AT)[0]
            if quiet_ms <= received and 1000 <= sent < received:
                sock.shutdown(socket.SHUT_RDWR)
                closed += 1
        except OSError:
            continue
        finally:
            sock.close()
    return closed
