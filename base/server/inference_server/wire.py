"""How do the front and a worker talk? Length-prefixed frames over a Unix socket pair.

Both ends run the same Python, so ``marshal`` carries the metadata: it is several times faster than
JSON or pickle here, and the worker already runs as the same user with the same rights.
"""

from __future__ import annotations

import marshal
import socket
import struct
from typing import Any, Tuple

# kind, status, length of the metadata, length of the body, milliseconds spent in run()
_HEAD = struct.Struct("<BHIQd")
HEAD_SIZE = _HEAD.size
CHUNK = 1 << 16

SCORE = 1
READY = 2
FAILED = 3
RESULT = 4

Frame = Tuple[int, int, Any, bytes, float]


class ClosedError(Exception):
    """The other end is gone."""


def pack(kind: int, status: int = 0, meta: Any = None, body: bytes = b"", ms: float = 0.0) -> bytes:
    """One frame as bytes; the body is the last thing in it."""
    extra = b"" if meta is None else marshal.dumps(meta)
    return _HEAD.pack(kind, status, len(extra), len(body), ms) + extra + body


def send(
    sock: socket.socket,
    kind: int,
    status: int = 0,
    meta: Any = None,
    body: bytes = b"",
    ms: float = 0.0,
) -> None:
    """Send one frame; a large body is not copied once more to glue it to its head."""
    if len(body) <= CHUNK:
        sock.sendall(pack(kind, status, meta, body, ms))
        return
    extra = b"" if meta is None else marshal.dumps(meta)
    sock.sendall(_HEAD.pack(kind, status, len(extra), len(body), ms) + extra)
    sock.sendall(body)


class Reader:
    """Reads frames from a socket; what was received beyond one frame is kept for the next."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._rest = b""

    def next(self) -> Frame:
        """Wait for one frame. ``ClosedError`` when the other end goes away, also in the middle."""
        data = self._rest or self._receive()
        while len(data) < HEAD_SIZE:
            data += self._receive()
        kind, status, meta_size, body_size, ms = _HEAD.unpack_from(data)
        body_at = HEAD_SIZE + meta_size
        size = body_at + body_size
        if len(data) < size:
            data = self._fill(data, size)
        self._rest = data[size:]
        meta = marshal.loads(data[HEAD_SIZE:body_at]) if meta_size else None
        return kind, status, meta, data[body_at:size], ms

    def _receive(self) -> bytes:
        data = self._sock.recv(CHUNK)
        if not data:
            raise ClosedError
        return data

    def _fill(self, data: bytes, size: int) -> bytes:
        buffer = bytearray(size)
        buffer[: len(data)] = data
        view = memoryview(buffer)
        filled = len(data)
        while filled < size:
            count = self._sock.recv_into(view[filled:])
            if not count:
                raise ClosedError
            filled += count
        view.release()
        return bytes(buffer)
