"""In which order, how fast and how long do clients get answers? HTTP/1.1 on asyncio.

One thread serves all connections, because long work happens in the workers. The bytes of each
client are parsed slice by slice, so that others and the health check get their turns in between.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections import deque
from typing import Any, Callable, Deque, Dict, Optional, Tuple

from ..app import Application, Response
from ..config import Settings
from ..memory import ANSWERS, Memory
from ..workers.frames import Body
from . import heads
from .reader import SMALL_BODY, ClientRequest, RefusedError, RequestReader, load_parser

# A body may take a fixed time, plus a second for each so many bytes.
SLOWEST_BYTES_PER_S = 256 * 1024
# How long unwanted bytes are read and dropped, so that a client that sends before it reads gets its
# answer and not a reset connection.
LINGER_S = 2.0
# How much is read from a connection at a time, and how much of it is parsed at a time.
READ_BYTES = 64 * 1024
SLICE = 512
# Up to this size, received bytes are parsed at once, because they mostly are one request.
AT_ONCE = 4096
# How long one connection, or all that have more to parse, may occupy the loop.
TURN_S = 0.001
# How many idle connections are closed at most for a new one, if there is less memory than before.
EVICTED = 8
# How often the free memory is measured: models grow, and so do caches of scripts.
MEASURE_S = 1.0
# The memory of a connection, rounded up; tests/server/test_memory.py proves it.
CONNECTION_BYTES = 8 * 1024
# When a client that sends no more is probed for whether it still listens, after its last byte.
PROBES_S = (0.0, 0.05, 1.0, 5.0)

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
# What a connection waits for: a head, memory for a body, a body, an answer, its end.
_HEAD, _ROOM, _BODY, _ANSWER, _END = range(5)
_NEVER = float("inf")


class Connections:
    """All connections of clients, and their shared state."""

    def __init__(
        self,
        settings: Settings,
        app: Application,
        memory: Memory,
        loop: asyncio.AbstractEventLoop,
        most: int,
    ) -> None:
        self.httptools = load_parser()
        self.settings = settings
        self.app = app
        self.memory = memory
        self.loop = loop
        self.closing = False
        self.buffer = memoryview(bytearray(READ_BYTES))
        # Connections that wait for a request, the longest wait first.
        self.idle: Dict[Connection, None] = {}
        # Connections that receive a body, the earliest first.
        self.receiving: Dict[Connection, None] = {}
        # Connections that wait for memory for a large body, and those whose client sends no more.
        self.in_need: Dict[Connection, None] = {}
        self.half_closed: Dict[Connection, None] = {}
        self._all: Dict[Connection, None] = {}
        self._most = most
        # Steps of connections that wait for their turn.
        self._behind: Deque[Tuple[Connection, Callable[[], object]]] = deque()
        self._catches_up = False
        self._offers_room = False
        self._measured_at = 0.0
        memory.on_room = self._on_room

    def make(self) -> Connection:
        """The protocol of a new connection. If there are too many, one that waits is closed.

        First those that wait for a request, then those that wait for the rest of one.
        """
        has_place = self._has_place()
        for _ in range(EVICTED):
            waiting = self.idle or self.receiving
            if self._has_place() or not waiting:
                break
            next(iter(waiting)).abort()
            has_place = True
        connection = Connection(self)
        connection.refused = self.closing or not has_place
        self._all[connection] = self.idle[connection] = None
        self.memory.held += CONNECTION_BYTES
        return connection

    def _has_place(self) -> bool:
        """Whether one more gets a descriptor and memory, of which connections may take half."""
        count = len(self._all)
        return count < self._most and count * CONNECTION_BYTES < self.memory.limit // 2

    def drop(self, connection: Connection) -> None:
        """Forget a connection that has ended."""
        if connection in self._all:
            del self._all[connection]
            self.memory.give(CONNECTION_BYTES)
        for kind in (self.idle, self.receiving, self.in_need, self.half_closed):
            kind.pop(connection, None)

    @property
    def open(self) -> int:
        """How many there are."""
        return len(self._all)

    def close_idle(self) -> None:
        """Close the connections without a request; the others close after their answer."""
        self.closing = True
        for connection in list(self.idle):
            connection.close()

    def sweep(self) -> None:
        """End connections whose time is over, and probe clients that may have left."""
        now = time.monotonic()
        for connection in self._all:
            if connection.deadline < now:
                # Only once.
                connection.deadline = _NEVER
                self.later(connection, connection.expire)
            elif connection.is_waiting_unread:
                self.later(connection, connection.end_if_left)
        for connection in list(self.half_closed):
            connection.look_after()
        if now - self._measured_at > MEASURE_S:
            self._measured_at = now
            self.memory.measure(len(self._all) * CONNECTION_BYTES)

    # Turns.

    def later(self, connection: Connection, step: Callable[[], object]) -> None:
        """Do a step for a connection after the others had their turn."""
        self._behind.append((connection, step))
        if not self._catches_up:
            self._catches_up = True
            self.loop.call_soon(self._catch_up)

    def _catch_up(self) -> None:
        behind = self._behind
        ends = time.perf_counter() + TURN_S
        for _ in range(len(behind)):
            connection, step = behind.popleft()
            try:
                step()
            except Exception as error:
                self.app.report(error)
                connection.abort()
            if time.perf_counter() > ends:
                break
        self._catches_up = bool(behind)
        if behind:
            self.loop.call_soon(self._catch_up)

    # Memory for large bodies.

    def _on_room(self) -> None:
        if self.in_need and not self._offers_room:
            self._offers_room = True
            self.loop.call_soon(self._offer_room)

    def _offer_room(self) -> None:
        """Memory was given back: the connections that wait get it, first come first served."""
        self._offers_room = False
        while self.in_need:
            connection = next(iter(self.in_need))
            if not connection.on_room():
                break


class Connection(asyncio.BufferedProtocol):
    """One connection of a client; pipelined requests wait for the answers before theirs."""

    def __init__(self, shared: Connections) -> None:
        self.refused = False
        self.deadline = _NEVER
        self._shared = shared
        self._app = shared.app
        self._settings = shared.settings
        self._memory = shared.memory
        self._transport: Any = None
        self._state = _HEAD
        # The request that is being answered, whether its answer has begun, and how it is sent.
        self._current: Optional[ClientRequest] = None
        self._begun = False
        self._has_body = False
        self._chunked = False
        self._is_stream = False
        # Bytes of parts that the client has not taken yet, beyond the buffer of the transport.
        self._unsent = 0
        # The requests after it; a response with one is its refusal.
        self._ahead: Deque[Tuple[ClientRequest, Optional[Response]]] = deque()
        self._reader = RequestReader(
            self, shared.httptools, shared.settings, shared.app, shared.memory, self._ahead
        )
        # Bytes that were received but not parsed, and the position of the parser in them.
        self._rest = b""
        self._at = 0
        self._is_behind = False
        self._began = 0.0
        # Whether received bytes are dropped.
        self._unread = False
        # Whether and since when the client sends no more, and how often it was probed.
        self._half_closed = False
        self._closed_at = 0.0
        self._probes = 0
        self._paused = False
        # Bytes that wait for a slow client; 0 if it keeps up.
        self._stuck_bytes = 0
        # Whether `_serve` runs, which must not recurse.
        self._serves = False

    @property
    def busy(self) -> bool:
        """Whether a request is being answered."""
        return self._current is not None

    @property
    def is_waiting_unread(self) -> bool:
        """Whether reading pauses while a request is answered, so a reset would go unnoticed."""
        return self._paused and self._current is not None

    # Callbacks of asyncio.

    def connection_made(self, transport: Any) -> None:
        """A client has connected."""
        self._transport = transport
        if self.refused:
            self.abort()
            return
        peer = transport.get_extra_info("peername")
        if peer:
            host = str(peer[0])
            self._reader.remote = host[7:] if host.startswith("::ffff:") else host
        self._settle()

    def connection_lost(self, _error: Optional[Exception]) -> None:
        """The client has left; the answer in progress is not needed any more."""
        self._state = _END
        self._shared.drop(self)
        self._let_go_of_rest()
        self._let_go_of_ahead()
        incoming = self._reader.end()
        unsent, self._unsent = self._unsent, 0
        self._memory.give(unsent)
        current, self._current = self._current, None
        if current is not None:
            self._app.left(current)
            current.let_go()
        if incoming is not None:
            # For the log.
            self._app.send(incoming, self._app.refusal("incomplete"))

    def eof_received(self) -> bool:
        """The client sends no more. The connection stays open if an answer is due."""
        self._half_closed = True
        if self._state == _END:
            return False
        if self._reader.incoming is not None and not self._rest:
            self._refuse(self._app.refusal("incomplete"))
        if self._current is None and not self._rest:
            return False
        self._shared.half_closed[self] = None
        self._closed_at = time.monotonic()
        self.look_after()
        return True

    def look_after(self) -> None:
        """Probe whether a client that sends no more still waits for its answer, or has left.

        There is no difference until something is sent, which the system of a client that has left
        rejects. Others ignore an interim response (RFC 9110, 15.2).
        """
        if self.end_if_left():
            return
        request = self._current
        if request is None or self._begun or request.is_http10 or self._state == _END:
            return
        waits = self._probes < len(PROBES_S)
        if waits and time.monotonic() >= self._closed_at + PROBES_S[self._probes]:
            self._probes += 1
            self._transport.write(_CONTINUE)
            self._shared.loop.call_later(0.01, self.end_if_left)

    def end_if_left(self) -> bool:
        """End the connection if the client's system rejected bytes, which asyncio does not see."""
        sock = self._transport.get_extra_info("socket")
        if self._state == _END or sock is None:
            return False
        left = bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
        if left:
            self.abort()
        return left

    def pause_writing(self) -> None:
        """The client is slow to take its answer."""
        self._stuck_bytes = self._transport.get_write_buffer_size()
        self.deadline = time.monotonic() + self._settings.idle_timeout_s
        self._regulate()

    def resume_writing(self) -> None:
        """The client has taken most of it."""
        self._stuck_bytes = 0
        unsent, self._unsent = self._unsent, 0
        self._memory.give(unsent)
        current = self._current
        if current is not None and current.slot is not None:
            current.slot.resume()
        if self._state == _HEAD:
            self._await_head()
        elif self._state == _ANSWER:
            self.deadline = _NEVER
        self._settle()

    def get_buffer(self, _hint: int) -> memoryview:
        """The buffer for the next bytes, shared by all connections, which copy what they keep."""
        return self._shared.buffer

    def buffer_updated(self, count: int) -> None:
        """Bytes were received."""
        if self._unread:
            return
        data = self._shared.buffer[:count]
        if self._rest:
            self._keep(self._rest[self._at :] + data)
            return
        if count > AT_ONCE and not self._reader.missing:
            self._keep(bytes(data))
            self._settle()
            return
        at = self._read(data)
        if at < count:
            self._keep(bytes(data[at:]))
        if self._ahead:
            self._serve()
        self._settle()

    def go_on(self) -> None:
        """Continue to parse bytes that were received before."""
        self._is_behind = False
        if self._state == _END or not self._may_read():
            return
        self._at += self._read(memoryview(self._rest)[self._at :])
        if self._at >= len(self._rest):
            self._let_go_of_rest()
            if self._half_closed and self._reader.incoming is not None:
                self._refuse(self._app.refusal("incomplete"))
        if self._ahead:
            self._serve()
        if self._half_closed and not self._rest and not self.busy and self._state != _END:
            self.close()
        self._settle()

    def _read(self, data: memoryview) -> int:
        """Parse until there is a request, or no memory for one; returns the bytes consumed."""
        reader = self._reader
        at, size = 0, len(data)
        ends = 0.0
        try:
            while at < size:
                step = reader.missing or SLICE
                at += reader.feed(data[at : at + step] if at or step < size else data)
                if reader.wants_room and not self._take_room():
                    break
                if self._ahead or at >= size:
                    break
                now = time.perf_counter()
                if not ends:
                    ends = now + TURN_S
                elif now > ends:
                    break
        except RefusedError as refused:
            self._refuse(refused.response)
            return size
        return at

    def _keep(self, rest: bytes) -> None:
        """Keep received bytes that cannot be parsed yet."""
        if not self._memory.take(len(rest) - len(self._rest)):
            self._refuse(self._app.refusal("no_memory"))
            return
        self._rest, self._at = rest, 0

    def _let_go_of_rest(self) -> None:
        size = len(self._rest)
        self._rest, self._at = b"", 0
        self._memory.give(size)

    def _let_go_of_ahead(self) -> None:
        while self._ahead:
            self._ahead.popleft()[0].let_go()

    # Memory for a large body.

    def _take_room(self) -> bool:
        """Take it, or wait for it while the client's bytes wait in the network."""
        shared = self._shared
        if not shared.in_need and self._reader.take_room():
            return True
        if len(shared.in_need) >= self._settings.queue_limit:
            raise RefusedError(self._app.refusal("no_memory"))
        shared.in_need[self] = None
        return False

    def on_room(self) -> bool:
        """Others gave memory back; returns whether it suffices."""
        try:
            if not self._reader.take_room():
                return False
        except RefusedError as refused:
            self._refuse(refused.response)
            return True
        self._shared.in_need.pop(self, None)
        self._settle()
        return True

    # The answers.

    def _refuse(self, response: Optional[Response]) -> None:
        """Read no more, and send the reason after the answers to earlier requests."""
        if self._unread or self._state == _END:
            return
        self._unread = True
        self._shared.in_need.pop(self, None)
        self._let_go_of_rest()
        request = self._reader.let_go() or ClientRequest(self, self._app, self._memory)
        request.keep = False
        self._ahead.append((request, response))
        if not self._serves:
            self._serve()
        self._regulate()

    def _serve(self) -> None:
        """Answer complete requests in their order."""
        if self._serves:
            return
        self._serves = True
        while self._ahead and self._current is None and self._state != _END:
            request, refusal = self._ahead.popleft()
            self._shared.idle.pop(self, None)
            self._shared.receiving.pop(self, None)
            self._current = request
            self._state = _ANSWER
            if not self._stuck_bytes:
                self.deadline = _NEVER
            if refusal is None:
                self._app.handle(request)
            else:
                self._app.send(request, refusal)
        self._serves = False

    def respond(self, request: ClientRequest, response: Response) -> None:
        """Send the response to the current request, and go on with the next."""
        request.let_go()
        if self._state == _END or request is not self._current:
            return
        _, _, body = response
        head, has_body = self._head(request, response, len(body))
        if not has_body:
            self._transport.write(head)
        elif len(body) <= SMALL_BODY:
            self._transport.write(head + body)
        else:
            self._transport.write(head)
            self._transport.write(body)
        self._finish(request)

    def begin(self, request: ClientRequest, response: Response, length: Optional[int]) -> bool:
        """Send the head of a response whose body follows in parts; False if no body is wanted."""
        request.let_go()
        if self._state == _END or request is not self._current:
            return False
        self._begun = True
        self._is_stream = length is None
        self._chunked = length is None and not request.is_http10
        if length is None and request.is_http10:
            request.keep = False
        head, self._has_body = self._head(request, response, length)
        self._transport.write(head)
        return self._has_body

    def part(self, request: ClientRequest, data: Body) -> bool:
        """Send a part. False: the client is slow, so no more parts until it has taken some.

        Finished answers are taken from the worker while there is memory, so that it can go on with
        the next request. Streams, which the script is still making, are not.
        """
        if self._state == _END or request is not self._current or not self._has_body:
            return True
        if self._chunked:
            self._transport.write(b"%x\r\n" % len(data) + data + b"\r\n")
        else:
            self._transport.write(data)
        if not self._stuck_bytes:
            return True
        if self._is_stream or not self._memory.take(len(data), ANSWERS):
            return False
        self._unsent += len(data)
        # The progress of the client is measured from here on.
        self._stuck_bytes = self._transport.get_write_buffer_size()
        return True

    def end(self, request: ClientRequest, whole: bool) -> None:
        """The body is complete, or never will be, which the client can see."""
        if self._state == _END or request is not self._current:
            return
        if not whole and self._has_body:
            self._current = None
            if self._is_stream and not self._chunked:
                # With HTTP/1.0, an orderly end would look like the end of the body.
                sock = self._transport.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.abort()
            else:
                self.close()
            return
        if self._chunked and self._has_body:
            self._transport.write(b"0\r\n\r\n")
        self._finish(request)

    def _finish(self, request: ClientRequest) -> None:
        self._current = None
        self._begun = self._chunked = self._is_stream = False
        if not request.keep:
            self._leave()
        elif not self._serves:
            self._serve()
            self._settle()

    def _head(
        self, request: ClientRequest, response: Response, length: Optional[int]
    ) -> Tuple[bytes, bool]:
        """The head of a response, and whether a body follows."""
        if self._shared.closing or (self._half_closed and not self._ahead and not self._rest):
            request.keep = False
        head = heads.encode(response, length, self._chunked, request.keep, request.is_http10)
        return head, heads.may_have_body(response[0]) and request.method != "HEAD"

    # States and deadlines.

    def _settle(self) -> None:
        """Find out what the connection waits for now, and set its deadline."""
        if self._state == _END or self._unread:
            self._regulate()
            return
        if self._current is None:
            reader = self._reader
            if self in self._shared.in_need:
                if self._state != _ROOM:
                    self._await_room()
            elif reader.incoming is not None:
                if self._state != _BODY:
                    self._await_body(reader.incoming)
            elif self._state != _HEAD or self.deadline == _NEVER:
                self._await_head()
            if reader.in_head and self._state == _HEAD:
                self._await_rest_of_head()
        self._regulate()
        if self._rest and not self._is_behind and self._may_read():
            self._is_behind = True
            self._shared.later(self, self.go_on)

    def _may_read(self) -> bool:
        """Whether there are bytes to parse, and nothing that has to happen before."""
        return bool(
            self._rest
            and self._current is None
            and not self._stuck_bytes
            and not self._unread
            and self not in self._shared.in_need
        )

    def _regulate(self) -> None:
        """Read no more than one request ahead, and nothing while the client takes no answers."""
        if self._unread:
            pause = False
        elif self._rest or self._stuck_bytes or self in self._shared.in_need:
            pause = True
        else:
            reader = self._reader
            ahead = self._ahead or reader.in_head or reader.incoming is not None
            pause = bool(self._current is not None and ahead)
        if pause is not self._paused and (self._unread or self._state != _END):
            self._paused = pause
            if pause:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()

    def _await_head(self) -> None:
        self._state = _HEAD
        self._shared.idle[self] = None
        self._began = 0.0
        if not self._stuck_bytes:
            self.deadline = time.monotonic() + self._settings.idle_timeout_s

    def _await_rest_of_head(self) -> None:
        """A head has begun: the rest may take as long as a body."""
        if not self._began and not self._stuck_bytes:
            self._began = time.monotonic()
            self.deadline = self._began + self._settings.read_timeout_s

    def _await_room(self) -> None:
        self._state = _ROOM
        self._shared.idle.pop(self, None)
        self.deadline = time.monotonic() + self._settings.queue_timeout_s

    def _await_body(self, request: ClientRequest) -> None:
        self._state = _BODY
        self._shared.idle.pop(self, None)
        self._shared.receiving[self] = None
        self._began = time.monotonic()
        self.deadline = self._began + self._settings.read_timeout_s
        if request.expects and not request.is_http10 and not self._reader.size:
            self._transport.write(_CONTINUE)

    def _leave(self) -> None:
        """End the connection after its last answer; the client may still be sending."""
        self._state = _END
        self._let_go_of_ahead()
        self._let_go_of_rest()
        if not self._unread or self._half_closed:
            self.close()
            return
        self.deadline = time.monotonic() + LINGER_S
        self._regulate()
        self._transport.write_eof()

    def expire(self) -> None:
        """The deadline has passed: end the connection, unless there is progress."""
        if self.deadline != _NEVER or (self._state == _ANSWER and not self._stuck_bytes):
            # Something happened since.
            return
        now = time.monotonic()
        if self._stuck_bytes:
            unsent = self._transport.get_write_buffer_size()
            if unsent < self._stuck_bytes:
                self._stuck_bytes = unsent
                self.deadline = now + self._settings.idle_timeout_s
                return
        if self._state == _ROOM:
            self._refuse(self._app.refusal("no_memory"))
            return
        if self._state == _BODY:
            more_s = self._reader.size / SLOWEST_BYTES_PER_S
            self.deadline = self._began + self._settings.read_timeout_s + more_s
            if self.deadline < now:
                self._refuse(self._app.refusal("too_late"))
            return
        self.abort()

    def close(self) -> None:
        """End the connection when its last bytes are sent."""
        self._state = _END
        self.deadline = time.monotonic() + self._settings.idle_timeout_s
        self._transport.close()

    def abort(self) -> None:
        """End the connection at once, or as soon as it is made."""
        self._state = _END
        self.refused = True
        self._shared.drop(self)
        if self._transport is not None:
            self._transport.abort()
