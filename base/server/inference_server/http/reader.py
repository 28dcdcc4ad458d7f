"""Which requests are in the bytes of a client? The callbacks of the parser, and limits of requests.

httptools (llhttp, the parser of Node.js) is strict: it refuses what two servers could understand
differently (RFC 9112, 11.2).
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

# The most bytes of request line and headers, and the most headers.
HEAD_BYTES = 64 * 1024
HEADERS = 100
# Up to this size, bodies are in Python's heap.
SMALL_BODY = 64 * 1024
# What a chunked body may have beside its content: sizes of chunks, extensions, trailers.
FRAMING_BYTES = 64 * 1024
FRAMING_PER_BYTE = 8
# The memory of a request beside its body, and of each header beside its text, rounded up;
# tests/server/test_memory.py proves them.
REQUEST_BYTES = 2048
HEADER_BYTES = 160

_METHOD = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+ /")
_TOKEN = re.compile(TOKEN.encode("ascii") + rb"\Z")

# A cache: names of headers as clients write them, and in lower case.
KEYS = 1000
_keys: Dict[bytes, str] = {}


def load_parser() -> Any:
    """The module httptools; ``FatalError`` if it is not installed."""
    try:
        # By name, because old releases have no types.
        return importlib.import_module("httptools")
    except ImportError as error:
        message = "the HTTP parser httptools is not installed: {}".format(error)
        raise exit_codes.FatalError(exit_codes.NO_SERVER, message) from None


class RefusedError(Exception):
    """No more of the client is read. Without a response, the application answers the request."""

    def __init__(self, response: Optional[Response]) -> None:
        super().__init__()
        self.response = response


class ClientRequest(Request):
    """A request with the state that its connection needs."""

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
        # Whether the client waits for `100 Continue` before it sends the body.
        self.expects = False
        # Bytes of the body, -1 if it is chunked, and bytes that the request takes of the memory.
        self.length = 0
        self.held = 0

    def let_go(self) -> None:
        """Give back the memory of the request."""
        self.body = b""
        held, self.held = self.held, 0
        self._memory.give(held)

    def sent(self) -> None:
        """The worker has the body. Its memory there is counted until the answer comes."""
        self.body = b""

    def respond(self, response: Response) -> None:
        """Send the response to the client."""
        self.connection.respond(self, response)

    def begin_response(self, response: Response, length: Optional[int]) -> bool:
        """Send the head of a response; False if the body is not wanted."""
        return bool(self.connection.begin(self, response, length))

    def respond_part(self, data: Body) -> bool:
        """Send a part of the body; False if the client takes no more for now."""
        return bool(self.connection.part(self, data))

    def end_response(self, whole: bool) -> None:
        """The body is sent, completely or not."""
        self.connection.end(self, whole)

    def abandon(self) -> None:
        """End the connection, because there will be no response."""
        self.connection.abort()


class RequestReader:
    """Feeds the bytes of one connection to the parser; complete requests go to ``ready``."""

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
        # A request whose body is being received, and how many bytes of it there are.
        self.incoming: Optional[ClientRequest] = None
        self.size = 0
        # Whether the head of a request is incomplete.
        self.in_head = False
        self._connection = connection
        self._httptools = httptools
        self._parser: Any = httptools.HttpRequestParser(self)
        self._settings = settings
        self._app = app
        self._memory = memory
        self._ready = ready
        # Of an incomplete head: its memory, the bytes fed to the parser, and the results so far.
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
        # Whether the client offers another protocol; whether a head made here is being parsed.
        self._upgrades = False
        self._primes = False

    @property
    def missing(self) -> int:
        """Bytes of the body that are to come; 0 also if their number is unknown."""
        request = self.incoming
        return request.length - self.size if request is not None and request.length > 0 else 0

    @property
    def wants_room(self) -> bool:
        """Whether a large body is announced that has no memory yet."""
        request = self.incoming
        return request is not None and request.length > SMALL_BODY and self._large is None

    @property
    def room(self) -> int:
        """The memory of that body: once here, and once more in the worker, as text."""
        assert self.incoming is not None
        return 2 * self.incoming.length

    def take_room(self) -> bool:
        """Take memory for that body; False if there is not enough now."""
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
        """Parse bytes; returns how many were consumed. ``RefusedError``: read no more."""
        httptools = self._httptools
        size = len(data)
        before = self.size
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            size = upgrade.args[0]
            self._ignore_upgrade()
        except httptools.HttpParserCallbackError as error:
            refused = error.__context__
            if isinstance(refused, RefusedError):
                raise refused from None
            raise
        except httptools.HttpParserInvalidMethodError:
            # The parser knows registered methods only.
            if not self._fed and _METHOD.match(data):
                raise RefusedError(self._app.not_allowed()) from None
            raise RefusedError(self._app.refusal("broken")) from None
        except httptools.HttpParserError:
            raise RefusedError(self._app.refusal("broken")) from None
        request = self.incoming
        if self._held and (request is not None or self._ready):
            held, self._held = self._held, 0
            self._memory.give(held)
        if self.in_head:
            # Complete headers are counted in `on_header`; this limits one that has no end.
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
        """Drop the request that is being received, and return it."""
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
        """No more bytes will come; returns the request that was being received.

        Parser and reader refer to each other, which would leave their memory to the collector.
        """
        request = self.let_go()
        self._parser = self._connection = None
        return request

    # Callbacks of the parser.

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
        """The target of the request, possibly in parts."""
        if self._primes:
            return
        self._url += url
        self._head_bytes += len(url)
        if self._head_bytes > HEAD_BYTES:
            raise RefusedError(self._app.refusal("head_too_large"))

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header; or a trailer after the body, which is ignored."""
        if not self.in_head:
            return
        self._count += 1
        self._head_bytes += len(name) + len(value)
        if self._count > HEADERS or self._head_bytes > HEAD_BYTES:
            raise RefusedError(self._app.refusal("head_too_large"))
        key = _keys.get(name)
        if key is None:
            if not _TOKEN.match(name):
                # Old releases of the parser accept a space before the colon.
                raise RefusedError(self._app.refusal("broken"))
            key = name.decode("ascii").lower()
            if len(_keys) < KEYS and len(name) < 64:
                _keys[name] = key
        if "_" in key:
            # Behind a proxy it could be taken for the name with a hyphen.
            return
        text = value.decode("latin-1").strip()
        headers = self._headers
        if key in headers:
            if key == "host":
                self._has_two_hosts = True
            text = headers[key] + ("; " if key == "cookie" else ",") + text
        headers[key] = text

    def on_headers_complete(self) -> None:
        """The head of a request is complete."""
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
        """A request is complete."""
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

    # Admission and memory.

    def _cover(self, request: ClientRequest) -> None:
        """Take the memory of a request: of its head and, if announced and small, of its body."""
        held = REQUEST_BYTES + self._head_held()
        if 0 < request.length <= SMALL_BODY:
            held += 2 * request.length
        if self._memory.take(held):
            request.held += held
        elif request.path == "/score" or self._ready or self._connection.busy:
            # Requests for health and the like are still answered: at once, so they hold nothing.
            raise RefusedError(self._app.refusal("no_memory"))

    def _head_held(self) -> int:
        return 2 * self._head_bytes + HEADER_BYTES * self._count

    def _split(self, url: bytes) -> Tuple[str, str]:
        """Path, percent-decoded, and query, both as text in Latin-1 like in PEP 3333."""
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
        """Decide by the head whether the body of a request is read."""
        app = self._app
        if not app.wants_body(request):
            raise RefusedError(None)
        if request.length > self._settings.body_limit:
            raise RefusedError(app.refusal("too_large"))
        if request.length > SMALL_BODY and not self._memory.ever_fits(2 * request.length):
            raise RefusedError(app.refusal("beyond_memory"))

    def _reserve(self, request: ClientRequest) -> None:
        """Take memory for a chunked body as it grows, some of it ahead."""
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

    def _ignore_upgrade(self) -> None:
        """The client offered another protocol; the answer is HTTP all the same.

        The parser stops after the head of such a request. A new parser takes over. If a body
        follows, a head that is made here prepares it for that.
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
