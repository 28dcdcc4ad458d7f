"""How do the bytes of a client become requests, and responses bytes? HTTP/1.1 on asyncio.

httptools (llhttp, the parser of Node.js) reads the requests, strictly: what two servers could
understand differently (RFC 9112, 11.2) is refused. One thread serves all connections, because
what takes long happens in the workers. Limits of size and time are here, where the bytes are seen.
"""

from __future__ import annotations

import asyncio
import importlib
import re
import time
from collections import deque
from email.utils import formatdate
from http import HTTPStatus
from typing import Any, Deque, Dict, List, Optional, Tuple
from urllib.parse import unquote_to_bytes

from . import exits
from .app import Application, Request, Response
from .config import Settings

# Of the request line and the headers together, and how many of these.
HEAD_BYTES = 64 * 1024
HEADERS = 100
# Bodies up to this size are not counted, because the number of those on their way is limited.
SMALL_BODY = 64 * 1024
# On top of the fixed time a body gets one second for each of these many bytes.
SLOWEST_BYTES_PER_S = 256 * 1024
# How much of a body that nobody wants is taken in for how long, so that a client that sends before
# it listens sees its answer and not a reset connection.
LINGER_BYTES = 16 * 1024 * 1024
LINGER_S = 2.0

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_STATUS_LINES = {
    int(status): "HTTP/1.1 {} {}\r\n".format(int(status), status.phrase) for status in HTTPStatus
}
_METHOD = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+ /")
_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")

# Names of headers as clients write them, and in lower case.
KEYS = 1000
_keys: Dict[bytes, str] = {}

# What a connection is waiting for.
_HEAD, _BODY, _ANSWER, _END = range(4)
_NEVER = float("inf")


def load_parser() -> Any:
    """The module httptools; a service without it ends with the exit code for that."""
    try:
        # By name: the application itself must not need it, and old releases have no types.
        return importlib.import_module("httptools")
    except ImportError as error:
        message = "the HTTP parser httptools is not installed: {}".format(error)
        raise exits.FatalError(exits.NO_SERVER, message) from None


class _RefusedError(Exception):
    """What the client sends from here on is not read. Without a response the routes answer."""

    def __init__(self, response: Optional[Response]) -> None:
        super().__init__()
        self.response = response


class ClientRequest(Request):
    """A request with what its connection needs to know of it."""

    __slots__ = ("_connection", "expects", "held", "is_http10", "keep", "length", "upgrades")

    def __init__(
        self,
        connection: Connection,
        app: Application,
        method: str = "-",
        path: str = "-",
        query: str = "",
        headers: Optional[Dict[str, str]] = None,
        remote: str = "",
    ) -> None:
        super().__init__(app, method, path, query, headers or {}, remote)
        self._connection = connection
        # Whether the connection stays open after the response.
        self.keep = False
        self.is_http10 = False
        # Whether the client offers another protocol, or waits until it is asked for the body.
        self.upgrades = False
        self.expects = False
        # Bytes of the body, -1 when it comes in chunks, and what it takes of the memory.
        self.length = 0
        self.held = 0

    def respond(self, response: Response) -> None:
        """Let the response go to the client."""
        self._connection.respond(self, response)

    def abandon(self) -> None:
        """End the connection, because there will be no response."""
        self._connection.abort()


class Connections:
    """All connections of clients, and what they share."""

    def __init__(self, settings: Settings, app: Application, most: int) -> None:
        self.httptools = load_parser()
        self.settings = settings
        self.app = app
        self.closing = False
        # Bytes of the large bodies that are in the house.
        self.held = 0
        self.reading: Dict[Connection, None] = {}
        # Those that wait for a request, the one that has waited longest first.
        self.idle: Dict[Connection, None] = {}
        self._all: Dict[Connection, None] = {}
        self._most = most
        self._date = ""
        self._second = 0

    def make(self) -> Connection:
        """The protocol of a new connection. Where there are too many, an idle one makes room."""
        if len(self._all) >= self._most:
            for waiting in self.idle:
                waiting.abort()
                break
        connection = Connection(self)
        connection.refused = self.closing or len(self._all) >= self._most
        self._all[connection] = self.idle[connection] = None
        return connection

    def drop(self, connection: Connection) -> None:
        """Forget a connection that has ended."""
        self._all.pop(connection, None)
        self.idle.pop(connection, None)
        self.reading.pop(connection, None)

    def close_idle(self) -> None:
        """End the connections that have no request; the others end with their answer."""
        self.closing = True
        for connection in list(self.idle):
            connection.close()

    def sweep(self) -> None:
        """End what takes too long."""
        now = time.monotonic()
        for connection in [each for each in self._all if each.deadline < now]:
            connection.expire(now)

    def has_room(self, size: int, own: int = 0) -> bool:
        """Whether so many bytes fit in. A single body, which has its own already, always does."""
        return self.held == own or self.held + size <= self.settings.body_memory

    def date(self) -> str:
        """The header line of this second."""
        now = int(time.time())
        if now != self._second:
            self._date = "Date: {}\r\n".format(formatdate(now, usegmt=True))
            self._second = now
        return self._date


class Connection(asyncio.Protocol):
    """One connection of a client; requests that come ahead wait for the answer before theirs."""

    def __init__(self, shared: Connections) -> None:
        self.refused = False
        self.deadline = _NEVER
        self._shared = shared
        self._app = shared.app
        self._settings = shared.settings
        self._transport: Any = None
        self._remote = ""
        self._parser: Any = shared.httptools.HttpRequestParser(self)
        self._state = _HEAD
        self._current: Optional[ClientRequest] = None
        self._ahead: Deque[Tuple[ClientRequest, Optional[Response]]] = deque()
        # The head that is being received,
        self._in_head = False
        self._url = b""
        self._headers: Dict[str, str] = {}
        self._count = 0
        self._head_bytes = 0
        self._pieces = 0
        # the body that is being received,
        self._incoming: Optional[ClientRequest] = None
        self._parts: List[bytes] = []
        self._size = 0
        self._held = 0
        self._began = 0.0
        # and whether a head of ours goes through the parser.
        self._primes = False
        # Whether what comes is thrown away, and how much of it was.
        self._unread = False
        self._discarded = 0
        self._half_closed = False
        self._paused = False
        # Bytes that wait to be taken by the client, where these are many.
        self._stuck_bytes = 0
        # `_go_on` is at work, and is not to be called by what it calls.
        self._goes_on = False

    # What asyncio tells.

    def connection_made(self, transport: Any) -> None:
        """A client came."""
        self._transport = transport
        if self.refused:
            self.abort()
            return
        peer = transport.get_extra_info("peername")
        self._remote = str(peer[0]) if peer else ""
        self._await_head()

    def connection_lost(self, _error: Optional[Exception]) -> None:
        """The client is gone; an answer that is still being made goes nowhere."""
        self._state = _END
        self._ahead.clear()
        incoming, self._incoming = self._incoming, None
        self._shared.drop(self)
        self._let_go()
        if incoming is not None:
            # For the log.
            self._app.send(incoming, self._app.incomplete())

    def eof_received(self) -> bool:
        """The client sends no more; it may still listen, so the connection may stay open."""
        self._half_closed = True
        if self._state == _END:
            return False
        if self._incoming is not None:
            self._refuse(self._app.incomplete())
        return self._current is not None

    def pause_writing(self) -> None:
        """The client is slow to take its answer."""
        self._stuck_bytes = self._transport.get_write_buffer_size()
        self.deadline = time.monotonic() + self._settings.idle_timeout_s
        self._regulate()

    def resume_writing(self) -> None:
        """The client has taken most of it."""
        self._stuck_bytes = 0
        if self._state == _HEAD:
            self._await_head()
        elif self._state == _ANSWER:
            self.deadline = _NEVER
        self._regulate()

    def data_received(self, data: bytes) -> None:
        """Bytes came."""
        if self._unread:
            self._discarded += len(data)
            if self._discarded > LINGER_BYTES:
                self.abort()
            return
        # What one piece of a head holds is seen header by header; this is for one without an end.
        self._pieces = self._pieces + len(data) if self._in_head else 0
        httptools = self._shared.httptools
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._go_on_as_before(data[upgrade.args[0] :])
        except httptools.HttpParserCallbackError as error:
            refused = error.__context__
            if not isinstance(refused, _RefusedError):
                raise
            self._refuse(refused.response)
        except httptools.HttpParserInvalidMethodError:
            # The parser knows the registered methods only.
            named = _METHOD.match(data) and not self._pieces
            self._refuse(self._app.not_allowed() if named else self._app.broken())
        except httptools.HttpParserError:
            self._refuse(self._app.broken())
        if self._in_head:
            self._await_rest()
        elif self._incoming is not None:
            self._shared.reading[self] = None
            if self._state == _HEAD:
                self._await_body(self._incoming)
        self._regulate()

    # What the parser tells.

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        if self._primes:
            return
        self._in_head = True
        self._url = b""
        self._headers = {}
        self._count = self._head_bytes = 0

    def on_url(self, url: bytes) -> None:
        """A piece of the target of the request."""
        if self._primes:
            return
        self._url += url
        if len(self._url) > HEAD_BYTES:
            raise _RefusedError(self._app.head_too_large())

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, or after the body a trailer, which nobody asked for."""
        if not self._in_head:
            return
        self._count += 1
        self._head_bytes += len(name) + len(value)
        if self._count > HEADERS or self._head_bytes > HEAD_BYTES:
            raise _RefusedError(self._app.head_too_large())
        key = _keys.get(name)
        if key is None:
            if not _TOKEN.match(name):
                # An old parser takes a space before the colon.
                raise _RefusedError(self._app.broken())
            key = name.decode("ascii").lower()
            if len(_keys) < KEYS:
                _keys[name] = key
        if "_" in key:
            # Behind a proxy it could pass for the name with a hyphen.
            return
        text = value.decode("latin-1").strip()
        headers = self._headers
        if key in headers:
            text = headers[key] + ("; " if key == "cookie" else ",") + text
        headers[key] = text

    def on_headers_complete(self) -> None:
        """The head of a request is there."""
        if self._primes:
            return
        self._in_head = False
        parser, headers = self._parser, self._headers
        version = parser.get_http_version()
        method = parser.get_method().decode("ascii")
        path, query = self._split(self._url)
        request = ClientRequest(self, self._app, method, path, query, headers, self._remote)
        request.keep = parser.should_keep_alive()
        request.is_http10 = version == "1.0"
        coding = headers.get("transfer-encoding")
        request.length = int(headers.get("content-length") or 0) if coding is None else -1
        self._incoming = request
        self._parts, self._size = [], 0
        if version not in ("1.0", "1.1"):
            raise _RefusedError(self._app.broken())
        if coding is not None and (request.is_http10 or coding.lower() != "chunked"):
            raise _RefusedError(self._app.broken())
        if request.length:
            self._admit(request)
            request.upgrades = parser.should_upgrade()
            if "expect" in headers:
                request.expects = headers["expect"].lower() == "100-continue"

    def on_body(self, part: bytes) -> None:
        """A part of the body."""
        self._parts.append(part)
        self._size += len(part)
        if self._size > self._settings.body_limit:
            raise _RefusedError(self._app.too_large())
        if self._size > SMALL_BODY:
            more = self._size - self._held
            if not self._shared.has_room(more, self._held):
                raise _RefusedError(self._app.no_memory())
            self._held += more
            self._shared.held += more

    def on_message_complete(self) -> None:
        """A request is there as a whole."""
        request = self._incoming
        assert request is not None
        if request.upgrades:
            return
        parts, self._parts = self._parts, []
        request.body = parts[0] if len(parts) == 1 else b"".join(parts)
        request.held, self._held = self._held, 0
        self._take(request, None)

    # What follows from that.

    def _split(self, url: bytes) -> Tuple[str, str]:
        """Path and query; both as text in Latin-1, the way of PEP 3333, and the path decoded."""
        if url.startswith(b"/") or url == b"*":
            path, _, query = url.partition(b"#")[0].partition(b"?")
        else:
            httptools = self._shared.httptools
            try:
                parsed = httptools.parse_url(url)
            except httptools.HttpParserInvalidURLError:
                raise _RefusedError(self._app.broken()) from None
            path, query = parsed.path or b"/", parsed.query or b""
        if b"%" in path:
            path = unquote_to_bytes(path)
        return path.decode("latin-1"), query.decode("latin-1")

    def _admit(self, request: ClientRequest) -> None:
        """Decide by its head whether a request may send its body."""
        app, shared = self._app, self._shared
        if not app.wants_body(request):
            raise _RefusedError(None)
        if request.length > self._settings.body_limit:
            raise _RefusedError(app.too_large())
        if len(shared.reading) >= self._settings.reader_limit:
            raise _RefusedError(app.too_many_bodies())
        if request.length > SMALL_BODY and not shared.has_room(request.length):
            raise _RefusedError(app.no_memory())

    def _refuse(self, response: Optional[Response]) -> None:
        """Read no more, and say why once the requests before are answered."""
        if self._unread or self._state == _END:
            return
        self._unread = True
        request = self._incoming or ClientRequest(self, self._app)
        request.keep = False
        self._in_head = False
        self._let_go()
        self._take(request, response)
        self._regulate()

    def _let_go(self) -> None:
        """Give back what was received of a body that is not scored."""
        self._parts = []
        self._shared.held -= self._held
        self._held = 0

    def _go_on_as_before(self, rest: bytes) -> None:
        """The client offered to speak another protocol; it is answered in this one.

        The parser stops behind the head of such a request and takes what follows for the other
        protocol. Another parser takes over; where a body follows, a head of ours tells it so.
        """
        self._parser = self._shared.httptools.HttpRequestParser(self)
        request = self._incoming
        if request is not None:
            request.upgrades = False
            known = request.length >= 0
            framing = (
                "Content-Length: %d" % request.length if known else "Transfer-Encoding: chunked"
            )
            self._primes = True
            self._parser.feed_data(b"POST / HTTP/1.1\r\n" + framing.encode("ascii") + b"\r\n\r\n")
            self._primes = False
        if rest:
            self.data_received(rest)

    def _take(self, request: ClientRequest, refusal: Optional[Response]) -> None:
        """Answer a request when it is its turn."""
        self._incoming = None
        self._shared.reading.pop(self, None)
        if self._current is None:
            self._answer(request, refusal)
        else:
            self._ahead.append((request, refusal))

    def _answer(self, request: ClientRequest, refusal: Optional[Response]) -> None:
        self._shared.idle.pop(self, None)
        self._current = request
        self._state = _ANSWER
        if not self._stuck_bytes:
            self.deadline = _NEVER
        if refusal is None:
            self._app.handle(request)
        else:
            self._app.send(request, refusal)

    def respond(self, request: ClientRequest, response: Response) -> None:
        """Send the response to the current request, once, and turn to what comes next."""
        self._shared.held -= request.held
        request.held = 0
        if self._state == _END or request is not self._current:
            return
        if self._shared.closing or (self._half_closed and not self._ahead):
            request.keep = False
        status, headers, body = response
        lines = [_STATUS_LINES.get(status) or "HTTP/1.1 {} Unknown\r\n".format(status)]
        lines += ["%s: %s\r\n" % header for header in headers]  # noqa: UP031 - the hot path
        has_body = status >= 200 and status not in (204, 304)
        if has_body:
            lines.append("Content-Length: %d\r\n" % len(body))
        lines.append(self._shared.date())
        if not request.keep:
            lines.append("Connection: close\r\n")
        elif request.is_http10:
            lines.append("Connection: keep-alive\r\n")
        lines.append("\r\n")
        head = "".join(lines).encode("latin-1", "replace")
        if not has_body or request.method == "HEAD":
            self._transport.write(head)
        elif len(body) <= SMALL_BODY:
            self._transport.write(head + body)
        else:
            self._transport.write(head)
            self._transport.write(body)
        self._current = None
        if not request.keep:
            self._leave()
        elif not self._goes_on:
            self._go_on()

    def _go_on(self) -> None:
        """Turn to the requests that came ahead, then to those that are still to come."""
        self._goes_on = True
        while self._ahead and self._current is None:
            self._answer(*self._ahead.popleft())
        self._goes_on = False
        if self._state == _END or self._current is not None:
            return
        if self._incoming is None:
            self._await_head()
        else:
            self._await_body(self._incoming)
        self._regulate()

    def _regulate(self) -> None:
        """Take in no more than one request ahead, and none while answers are not taken out."""
        if self._current is None:
            pause = bool(self._stuck_bytes)
        else:
            ahead = self._ahead or self._in_head or self._incoming is not None
            pause = bool(ahead or self._stuck_bytes)
        if self._unread:
            pause = False
        if pause is not self._paused and self._state != _END:
            self._paused = pause
            if pause:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()

    def _await_head(self) -> None:
        self._state = _HEAD
        self._shared.idle[self] = None
        if not self._stuck_bytes:
            self.deadline = time.monotonic() + self._settings.idle_timeout_s

    def _await_rest(self) -> None:
        """A head came in part: the rest of it has as long as a body."""
        if self._pieces > HEAD_BYTES:
            self._refuse(self._app.head_too_large())
        elif not self._pieces and self._state == _HEAD and not self._stuck_bytes:
            self.deadline = time.monotonic() + self._settings.read_timeout_s

    def _await_body(self, request: ClientRequest) -> None:
        self._state = _BODY
        self._shared.idle.pop(self, None)
        self._began = time.monotonic()
        self.deadline = self._began + self._settings.read_timeout_s
        if request.expects and not request.is_http10 and not self._size:
            self._transport.write(_CONTINUE)

    def _leave(self) -> None:
        """End the connection after its last answer; the client may not have sent everything."""
        self._state = _END
        self._ahead.clear()
        if not self._unread or self._half_closed:
            self.close()
            return
        self.deadline = time.monotonic() + LINGER_S
        self._transport.write_eof()

    def expire(self, now: float) -> None:
        """The deadline has passed: end the connection, unless something moves."""
        if self._stuck_bytes:
            unsent = self._transport.get_write_buffer_size()
            if unsent < self._stuck_bytes:
                self._stuck_bytes = unsent
                self.deadline = now + self._settings.idle_timeout_s
                return
        if self._state == _BODY:
            request = self._incoming
            assert request is not None
            size = max(self._size, request.length)
            self.deadline = self._began + self._settings.read_timeout_s + size / SLOWEST_BYTES_PER_S
            if self.deadline < now:
                self._refuse(self._app.too_late())
            return
        self.abort()

    def close(self) -> None:
        """End the connection when its last answer is out."""
        self._state = _END
        self.deadline = time.monotonic() + self._settings.idle_timeout_s
        self._transport.close()

    def abort(self) -> None:
        """End the connection at once, or as soon as there is one."""
        self._state = _END
        self.refused = True
        self._shared.drop(self)
        if self._transport is not None:
            self._transport.abort()
