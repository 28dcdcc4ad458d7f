"""In which format do service and workers exchange messages? Frames over Unix socket pairs.

Both ends run the same Python, so ``marshal`` encodes the metadata: it is several times faster than
JSON or pickle here. It is no risk, because a worker runs as the same user with the same rights.

A request is one frame (``SCORE``). A small answer is one frame (``RESULT``). Large answers and
streams are a ``START``, ``PART`` frames and an ``END``, so that neither side has to hold all of it.
"""

from __future__ import annotations

import io
import marshal
import socket
import struct
from typing import Any, List, Tuple, Union

# kind, status, length of the metadata, length of the body, milliseconds in run()
_HEAD = struct.Struct("<BHIQd")
HEAD_SIZE = _HEAD.size
_unpack_head = _HEAD.unpack_from
CHUNK = 1 << 16
# The body of a PART; with its head it is as long as one read.
PART_BYTES = CHUNK - HEAD_SIZE

SCORE = 1
READY = 2
FAILED = 3
RESULT = 4
START = 5
PART = 6
END = 7

# The status of an END: whether the answer is whole.
WHOLE = 0
BROKEN_OFF = 1

Buffer = Union[bytes, bytearray, memoryview]
# Large bodies of clients are a bytearray, until a worker has them.
Body = Union[bytes, bytearray]
Frame = Tuple[int, int, Any, bytes, float]


class ClosedError(Exception):
    """The other end is closed."""


def pack(
    kind: int, status: int = 0, meta: Any = None, body: Buffer = b"", ms: float = 0.0
) -> bytes:
    """One frame as bytes, which end with the body."""
    extra = b"" if meta is None else marshal.dumps(meta)
    return _HEAD.pack(kind, status, len(extra), len(body), ms) + extra + body


def parts(
    kind: int, status: int = 0, meta: Any = None, body: Buffer = b"", ms: float = 0.0
) -> List[Buffer]:
    """One frame as buffers to send in their order; a large body is one of its own, not a copy."""
    if len(body) <= CHUNK:
        return [pack(kind, status, meta, body, ms)]
    extra = b"" if meta is None else marshal.dumps(meta)
    return [_HEAD.pack(kind, status, len(extra), len(body), ms) + extra, body]


def send(
    sock: socket.socket,
    kind: int,
    status: int = 0,
    meta: Any = None,
    body: Buffer = b"",
    ms: float = 0.0,
) -> None:
    """Send one frame; blocks until the other end takes it."""
    for part in parts(kind, status, meta, body, ms):
        sock.sendall(part)


class Decoder:
    """Makes frames of the bytes of a socket that does not block."""

    def __init__(self) -> None:
        self._data = b""

    def receive(self, sock: socket.socket) -> List[Frame]:
        """The frames that one read completes, often none or one.

        ``ClosedError`` when the other end is closed, ``BlockingIOError`` when there are no bytes.
        """
        received = sock.recv(CHUNK)
        if not received:
            raise ClosedError
        data = self._data + received
        complete: List[Frame] = []
        at = 0
        while len(data) >= at + HEAD_SIZE:
            kind, status, meta_size, body_size, ms = _unpack_head(data, at)
            body_at = at + HEAD_SIZE + meta_size
            end = body_at + body_size
            if end > len(data):
                break
            meta = marshal.loads(data[at + HEAD_SIZE : body_at]) if meta_size else None
            complete.append((kind, status, meta, data[body_at:end], ms))
            at = end
        self._data = data[at:]
        return complete


class Reader:
    """Reads frames from a blocking socket; bytes after one frame are kept for the next."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._data = b""
        self._at = 0

    def next(self) -> Frame:
        """Wait for one frame. ``ClosedError`` when the other end is closed, also within a frame."""
        data, at = self._data, self._at
        if at == len(data):
            data, at = self._receive(), 0
        while len(data) < at + HEAD_SIZE:
            data, at = data[at:] + self._receive(), 0
        kind, status, meta_size, body_size, ms = _unpack_head(data, at)
        body_at = at + HEAD_SIZE + meta_size
        while len(data) < body_at:
            data, at, body_at = data[at:] + self._receive(), 0, body_at - at
        meta = marshal.loads(data[at + HEAD_SIZE : body_at]) if meta_size else None
        end = body_at + body_size
        if end > len(data):
            body = self._rest(data[body_at:], body_size)
            self._data, self._at = b"", 0
        else:
            body = data[body_at:end]
            self._data, self._at = (data, end) if end < len(data) else (b"", 0)
        return kind, status, meta, body, ms

    def _receive(self) -> bytes:
        data = self._sock.recv(CHUNK)
        if not data:
            raise ClosedError
        return data

    def _rest(self, begun: bytes, size: int) -> bytes:
        """Receive the rest of a body, which is in memory only once."""
        # getvalue() returns the object that was received into, not a copy.
        body = io.BytesIO(bytes(size))
        with body.getbuffer() as view:
            filled = len(begun)
            view[:filled] = begun
            while filled < size:
                count = self._sock.recv_into(view[filled:])
                if not count:
                    raise ClosedError
                filled += count
        return body.getvalue()
