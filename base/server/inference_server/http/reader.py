"""Which requests are in the bytes of a client? The parser's callbacks, and the limits of a request.

httptools (llhttp, the parser of Node.js) reads strictly: what two servers could understand
differently (RFC 9112, 11.2) is refused.
"""

from __future__ import annotations

import importlib
import re
from typing import Any, Deque, Dict, Optional, Tuple, Union
from urllib.parse import unquote_to_bytes

from .. import exit_codes
from ..app import Application, Request, Response
from ..config import Settings
from ..memory import BODIES, LargeBody, Memory
from ..syntax import HOST, TOKEN
from ..workers.frames import Body

# Of the request line and the headers together, and how many of these.
HEAD_BYTES = 64 * 1024
HEADERS = 100
# Up to this size a body is kept with its request, in Python's heap.
SMALL_BODY = 64 * 1024
# What the parts of a chunked body may take beside the body: sizes, extensions, trailers.
FRAMING_BYTES = 64 * 1024
FRAMING_PER_BYTE = 8
# What a request takes beside its body, and each of its headers beside its text, with room to spare:
# tests/server/test_memory.py holds them to that.
REQUEST_BYTES = 2048
HEADER_BYTES = 160

_METHOD = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+ /")
_TOKEN = re.compile(TOKEN.encode("ascii") + rb"\Z")

# Names of headers as clients write them, and in lower case.
KEYS = 1000
_keys: Dict[bytes, str] = {}


def load_parser() -> Any:
    """The module httptools; a service without it ends with the exit code for that."""
    try:
        # By name: the application itself must not need it, and old releases have no types.
        return importlib.import_module("httptools")
    except ImportError as error:
        message = "the HTTP parser httptools is not installed: {}".format(error)
        raise exit_codes.FatalError(exit_codes.NO_SERVER, message) from None


class RefusedError(Exception):
    """What the client sends from here on is not read. Without a response the routes answer."""

    def __init__(self, response: Optional[Response]) -> None:
        super().__init__()
        self.response = response


class ClientRequest(Request):
    """A request with what its connection needs to know of it."""

    __slots__ = ("_memory", "connection", "expects", "held", "is_http10", "keep", "length")

    def __init__(
        self,
        connection: Any,
        app: Application,
        memory: Memory,
        method: str = "-",
        path: str = "-",
        query: str = "",
        headers: Optional[Dict[str, str]] = None,
        remote: str = "",
    ) -> None:
        super().__init__(app, method, path, query, headers or {}, remote)
        self.connection = connection
        self._memory = memory
        # Whether the connection stays open after the response.
        self.keep = False
        self.is_http10 = False
        # Whether the client waits until it is asked for the body.
        self.expects = False
        # Bytes of the body, -1 when it comes in chunks, and what the request takes of the memory.
        self.length = 0
        self.held = 0

    def let_go(self) -> None:
        """Give back what the request held."""
        self.body = b""
        held, self.held = self.held, 0
        self._memory.give(held)

    def sent(self) -> None:
        """The worker has the body; what it takes there is counted until the answer comes."""
        self.body = b""

    def respond(self, response: Response) -> None:
        """Let the response go to the client."""
        self.connection.respond(self, response)

    def begin_response(self, response: Response, length: Optional[int]) -> bool:
        """Let the head of a response go to the client; whether the body is wanted."""
        return bool(self.connection.begin(self, response, length))

    def respond_part(self, data: Body) -> bool:
        """Let a part of the body go to the client; False: it takes no more for now."""
        return bool(self.connection.part(self, data))

    def end_response(self, whole: bool) -> None:
        """The body has gone to the client, or what there is of it."""
        self.connection.end(self, whole)

    def abandon(self) -> None:
        """End the connection, because there will be no response."""
        self.connection.abort()


class RequestReader:
    """Feeds the bytes of one connection to the parser; whole requests go to ``ready``."""

    def __init__(
        self,
        connection: Any,
        httptools: Any,
        settings: Settings,
        app: Application,
        memory: Memory,
        ready: Deque[Tuple[ClientRequest, Optional[Response]]],
    ) -> None:
        self.remote = ""
        # A request whose body is being received, and how much of that there is.
        self.incoming: Optional[ClientRequest] = None
        self.size = 0
        # Whether the head of a request is there in part.
        self.in_head = False
        self._connection = connection
        self._httptools = httptools
        self._parser: Any = httptools.HttpRequestParser(self)
        self._settings = settings
        self._app = app
        self._memory = memory
        self._ready = ready
        # Of a head that is there in part: what it holds, what was fed, and what was made of it.
        self._held = 0
        self._fed = 0
        self._url = b""
        self._headers: Dict[str, str] = {}
        self._count = 0
        self._head_bytes = 0
        self._has_two_hosts = False
        # Of the body.
        self._small: Union[bytes, bytearray] = b""
        self._large: Optional[LargeBody] = None
        self._framing = 0
        self._reserved = 0
        # Whether the client offers another protocol, and whether a head of ours is being read.
        self._upgrades = False
        self._primes = False

    @property
    def missing(self) -> int:
        """Bytes of the body that are to come; 0 also when nobody knows how many."""
        request = self.incoming
        return request.length - self.size if request is not None and request.length > 0 else 0

    @property
    def wants_room(self) -> bool:
        """Whether a large body has been announced for which no room was taken."""
        request = self.incoming
        return request is not None and request.length > SMALL_BODY and self._large is None

    @property
    def room(self) -> int:
        """What that body takes: here, and while it becomes text, beside that in the worker."""
        assert self.incoming is not None
        return 2 * self.incoming.length

    def take_room(self) -> bool:
        """Take room for that body; False if there is none now."""
        request = self.incoming
        assert request is not None
        room = self.room
        try:
            large = LargeBody(request.length)
        except OSError:
            raise RefusedError(self._app.refusal("no_memory")) from None
        if not self._memory.take(room, BODIES):
            return False
        request.held += room
        self._large = large
        self._large.write(self._small)
        self._small = b""
        return True

    def feed(self, data: memoryview) -> int:
        """Read on; how many of the bytes were taken. ``RefusedError`` says why no more is read."""
        httptools = self._httptools
        size = len(data)
        before = self.size
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            size = upgrade.args[0]
            self._go_on_as_before()
        except httptools.HttpParserCallbackError as error:
            refused = error.__context__
            if isinstance(refused, RefusedError):
                raise refused from None
            raise
        except httptools.HttpParserInvalidMethodError:
            # The parser knows the registered methods only.
            named = not self._fed and _METHOD.match(data)
            if named:
                raise RefusedError(self._app.not_allowed()) from None
            raise RefusedError(self._app.refusal("broken")) from None
        except httptools.HttpParserError:
            raise RefusedError(self._app.refusal("broken")) from None
        request = self.incoming
        if self._held and (request is not None or self._ready):
            held, self._held = self._held, 0
            self._memory.give(held)
        if self.in_head:
            # What one piece of a head holds is seen header by header; this is for one without an
            # end.
            self._fed += size
            if self._fed > HEAD_BYTES:
                raise RefusedError(self._app.refusal("head_too_large"))
            held = self._fed + self._head_held()
            if not self._memory.take(held - self._held):
                raise RefusedError(self._app.refusal("no_memory"))
            self._held = held
        elif request is not None and request.length < 0:
            self._framing += size - (self.size - before)
            if self._framing > FRAMING_BYTES + FRAMING_PER_BYTE * self.size:
                raise RefusedError(self._app.refusal("broken"))
        return size

    def let_go(self) -> Optional[ClientRequest]:
        """Forget the request that is being received; returns it."""
        request, self.incoming = self.incoming, None
        self.in_head = False
        held, self._held = self._held, 0
        self._memory.give(held)
        self._small, self._large = b"", None
        self._url, self._headers = b"", {}
        if request is not None:
            request.let_go()
        return request

    def end(self) -> Optional[ClientRequest]:
        """Nothing is read any more; returns the request that was being received.

        The parser and this refer to each other: what they hold would wait for the collector.
        """
        request = self.let_go()
        self._parser = self._connection = None
        return request

    # What the parser tells.

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        if self._primes:
            return
        self.in_head = True
        self._fed = 0
        self._url = b""
        self._headers = {}
        self._count = 0
        self._head_bytes = 0
        self._has_two_hosts = False

    def on_url(self, url: bytes) -> None:
        """The target of the request, or a part of it."""
        if self._primes:
            return
        self._url += url
        self._head_bytes += len(url)
        if self._head_bytes > HEAD_BYTES:
            raise RefusedError(self._app.refusal("head_too_large"))

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, or after the body a trailer, which nobody asked for."""
        if not self.in_head:
            return
        self._count += 1
        self._head_bytes += len(name) + len(value)
        if self._count > HEADERS or self._head_bytes > HEAD_BYTES:
            raise RefusedError(self._app.refusal("head_too_large"))
        key = _keys.get(name)
        if key is None:
            if not _TOKEN.match(name):
                # An old parser takes a space before the colon.
                raise RefusedError(self._app.refusal("broken"))
            key = name.decode("ascii").lower()
            if len(_keys) < KEYS and len(name) < 64:
                _keys[name] = key
        if "_" in key:
            # Behind a proxy it could pass for the name with a hyphen.
            return
        text = value.decode("latin-1").strip()
        headers = self._headers
        if key in headers:
            if key == "host":
                self._has_two_hosts = True
            text = headers[key] + ("; " if key == "cookie" else ",") + text
        headers[key] = text

    def on_headers_complete(self) -> None:
        """The head of a request is there."""
        if self._primes:
            return
        self.in_head = False
        parser, headers = self._parser, self._headers
        version = parser.get_http_version()
        method = parser.get_method().decode("ascii")
        path, query = self._split(self._url)
        request = ClientRequest(
            self._connection, self._app, self._memory, method, path, query, headers, self.remote
        )
        request.keep = parser.should_keep_alive()
        request.is_http10 = version == "1.0"
        coding = headers.get("transfer-encoding")
        request.length = int(headers.get("content-length") or 0) if coding is None else -1
        self.incoming = request
        self.size = self._framing = self._reserved = 0
        self._small, self._large = b"", None
        self._upgrades = False
        if version not in ("1.0", "1.1"):
            raise RefusedError(self._app.refusal("broken"))
        if coding is not None and (request.is_http10 or coding.lower() != "chunked"):
            raise RefusedError(self._app.refusal("broken"))
        host = headers.get("host")
        if host is None:
            if not request.is_http10:
                raise RefusedError(self._app.refusal("bad_host"))
        elif self._has_two_hosts or not HOST.match(host):
            raise RefusedError(self._app.refusal("bad_host"))
        if request.length:
            self._admit(request)
        self._cover(request)
        if request.length:
            self._upgrades = parser.should_upgrade()
            if "expect" in headers:
                request.expects = headers["expect"].lower() == "100-continue"

    def on_body(self, part: bytes) -> None:
        """A part of the body."""
        self.size += len(part)
        request = self.incoming
        assert request is not None
        if request.length < 0:
            if self.size > self._settings.body_limit:
                raise RefusedError(self._app.refusal("too_large"))
            if self.size > self._reserved:
                self._reserve(request)
        if self._large is not None:
            self._large.write(part)
        elif not self._small:
            self._small = part
        elif isinstance(self._small, bytearray):
            self._small += part
        else:
            self._small = bytearray(self._small) + part

    def on_message_complete(self) -> None:
        """A request is there as a whole."""
        request = self.incoming
        assert request is not None
        if self._upgrades:
            return
        if self._large is not None:
            request.body = self._large.view()
            self._large = None
        else:
            request.body, self._small = self._small, b""
        self.incoming = None
        self._ready.append((request, None))

    # What follows from that.

    def _cover(self, request: ClientRequest) -> None:
        """Take what the request holds: its head, and a small body, also while it is to come."""
        held = REQUEST_BYTES + self._head_held()
        if 0 < request.length <= SMALL_BODY:
            held += 2 * request.length
        if self._memory.take(held):
            request.held += held
        elif request.path == "/score" or self._ready or self._connection.busy:
            # Health is told all the same: at once, so that it need not be held.
            raise RefusedError(self._app.refusal("no_memory"))

    def _head_held(self) -> int:
        return 2 * self._head_bytes + HEADER_BYTES * self._count

    def _split(self, url: bytes) -> Tuple[str, str]:
        """Path and query; both as text in Latin-1, the way of PEP 3333, and the path decoded."""
        if url.startswith(b"/") or url == b"*":
            path, _, query = url.partition(b"#")[0].partition(b"?")
        else:
            try:
                parsed = self._httptools.parse_url(url)
            except self._httptools.HttpParserInvalidURLError:
                raise RefusedError(self._app.refusal("broken")) from None
            path, query = parsed.path or b"/", parsed.query or b""
        if b"%" in path:
            path = unquote_to_bytes(path)
        return path.decode("latin-1"), query.decode("latin-1")

    def _admit(self, request: ClientRequest) -> None:
        """Decide by its head whether a request may send its body."""
        app = self._app
        if not app.wants_body(request):
            raise RefusedError(None)
        if request.length > self._settings.body_limit:
            raise RefusedError(app.refusal("too_large"))
        if request.length > SMALL_BODY and not self._memory.ever_fits(2 * request.length):
            raise RefusedError(app.refusal("beyond_memory"))

    def _reserve(self, request: ClientRequest) -> None:
        """Take room for a body in chunks as it grows, some of it ahead."""
        app = self._app
        wanted = self.size + max(self.size // 4, 4096)
        large = wanted > SMALL_BODY
        if not self._memory.take(2 * (wanted - self._reserved), BODIES if large else 1.0):
            if large and not self._memory.ever_fits(2 * wanted):
                raise RefusedError(app.refusal("beyond_memory"))
            raise RefusedError(app.refusal("no_memory"))
        request.held += 2 * (wanted - self._reserved)
        self._reserved = wanted
        if large and self._large is None:
            self._large = LargeBody(wanted)
            self._large.write(self._small)
            self._small = b""

    def _go_on_as_before(self) -> None:
        """The client offered to speak another protocol; it is answered in this one.

        The parser stops behind the head of such a request and takes what follows for the other
        protocol. Another parser takes over; where a body follows, a head of ours tells it so.
        """
        self._parser = self._httptools.HttpRequestParser(self)
        request = self.incoming
        if request is None:
            return
        self._upgrades = False
        known = request.length >= 0
        framing = "Content-Length: %d" % request.length if known else "Transfer-Encoding: chunked"
        self._primes = True
        head = b"POST / HTTP/1.1\r\nHost: a\r\n" + framing.encode("ascii") + b"\r\n\r\n"
        self._parser.feed_data(head)
        self._primes = False
