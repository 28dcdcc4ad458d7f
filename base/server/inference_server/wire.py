"""How do the front and a worker talk? Length-prefixed frames over a Unix socket pair.

Both ends run the same Python, so ``marshal`` carries the metadata: it is several times faster than
JSON or pickle here, and the worker already runs as the same user with the same rights.
"""

from __future__ import annotations

import marshal
import socket
import struct
from typing import Any, List, Tuple

# kind, status, length of the metadata, length of the body, milliseconds spent in run()
_HEAD = struct.Struct("<BHIQd")
HEAD_SIZE = _HEAD.size
_unpack_head = _HEAD.unpack_from
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


def parts(
    kind: int, status: int = 0, meta: Any = None, body: bytes = b"", ms: float = 0.0
) -> List[bytes]:
    """One frame as what to send one after the other: a large body is not copied to its head."""
    if len(body) <= CHUNK:
        return [pack(kind, status, meta, body, ms)]
    extra = b"" if meta is None else marshal.dumps(meta)
    return [_HEAD.pack(kind, status, len(extra), len(body), ms) + extra, body]


def send(
    sock: socket.socket,
    kind: int,
    status: int = 0,
    meta: Any = None,
    body: bytes = b"",
    ms: float = 0.0,
) -> None:
    """Send one frame."""
    for part in parts(kind, status, meta, body, ms):
        sock.sendall(part)


class Frames:
    """Makes frames of what comes from a socket that does not block."""

    def __init__(self) -> None:
        self._data = b""
        # Of a large frame: the place for it, and how much of it is there.
        self._large = bytearray()
        self._filled = 0

    def receive(self, sock: socket.socket) -> List[Frame]:
        """The frames that one read completes, often none or one.

        ``ClosedError`` when the other end is gone, ``BlockingIOError`` when nothing is there.
        """
        if self._large:
            count = sock.recv_into(memoryview(self._large)[self._filled :])
            if not count:
                raise ClosedError
            self._filled += count
            if self._filled < len(self._large):
                return []
            data, self._large, self._filled = bytes(self._large), bytearray(), 0
        else:
            received = sock.recv(CHUNK)
            if not received:
                raise ClosedError
            data = self._data + received
        frames = []
        at = 0
        while len(data) >= at + HEAD_SIZE:
            kind, status, meta_size, body_size, ms = _unpack_head(data, at)
            body_at = at + HEAD_SIZE + meta_size
            end = body_at + body_size
            if end > len(data):
                if end - at > CHUNK:
                    self._large = bytearray(end - at)
                    self._filled = len(data) - at
                    self._large[: self._filled] = data[at:]
                    at = len(data)
                break
            meta = marshal.loads(data[at + HEAD_SIZE : body_at]) if meta_size else None
            frames.append((kind, status, meta, data[body_at:end], ms))
            at = end
        self._data = data[at:]
        return frames


class Reader:
    """Reads frames from a socket; what was received beyond one frame is kept for the next."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._data = b""
        self._at = 0

    def next(self) -> Frame:
        """Wait for one frame. ``ClosedError`` when the other end goes away, also in the middle."""
        data, at = self._data, self._at
        if at == len(data):
            data, at = self._receive(), 0
        while len(data) < at + HEAD_SIZE:
            data, at = data[at:] + self._receive(), 0
        kind, status, meta_size, body_size, ms = _unpack_head(data, at)
        meta_at = at + HEAD_SIZE
        body_at = meta_at + meta_size
        end = body_at + body_size
        if end > len(data):
            data = self._fill(data[at:], end - at)
            meta_at, body_at, end = meta_at - at, body_at - at, end - at
        # A large body must not be kept until the next frame comes.
        self._data, self._at = (data, end) if end < len(data) else (b"", 0)
        meta = marshal.loads(data[meta_at:body_at]) if meta_size else None
        return kind, status, meta, data[body_at:end], ms

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
