"""Which response does a request get? The WSGI application, and nothing of the user's code.

``handle`` is the whole application, ``__call__`` its WSGI face. A carrier that can take a response
later, on another thread, calls ``handle``: then no thread of its own waits for ``run()``.
"""

from __future__ import annotations

import json
import threading
import time
from http import HTTPStatus
from os import urandom
from typing import Any, Callable, Dict, Iterable, List, Optional, Set, Tuple
from urllib.parse import parse_qs

from . import body as bodies
from .config import Settings
from .log import Log
from .metrics import Metrics
from .pool import BusyError, Job, NotReadyError, Pool, Result, TooSlowError
from .supervisor import Ready
from .swagger import Published
from .worker import INTERNAL, SCRIPT_FAILED

HEADER_LIMIT = 100
JSON = "application/json"
HTML = "text/html; charset=utf-8"

Environ = Dict[str, Any]
Headers = List[Tuple[str, str]]
Response = Tuple[int, Headers, bytes]
StartResponse = Callable[[str, Headers], Any]
Finish = Callable[[int, Headers, bytes], Any]

ABORT = "inference_server.abort"
NOT_FOUND = (
    "The requested URL was not found on the server. "
    "If you entered the URL manually please check your spelling and try again."
)
NOT_READY = "The scoring script is not ready."
NOT_ALLOWED = "The method is not allowed for the requested URL."
ROUTES = ("/", "/score", "/swagger.json")
SCORE_METHODS = ("POST", "GET", "OPTIONS")

_IS_JSON = ("Content-Type", JSON)
_FAILED = ("x-ms-run-function-failed", "True")
_NOT_FAILED = ("x-ms-run-function-failed", "False")

_STATUS_LINES = {int(status): "{} {}".format(int(status), status.phrase) for status in HTTPStatus}


# request, legacy and client identifier, and what is wrong with them
Ids = Tuple[str, str, str, str]


def identify(environ: Environ) -> Ids:
    """The identifiers of a request, as its headers give them."""
    request = environ.get("HTTP_X_REQUEST_ID")
    legacy = environ.get("HTTP_X_MS_REQUEST_ID", "")
    client = environ.get("HTTP_X_MS_CLIENT_REQUEST_ID", "")
    if request is None:
        request = new_id()
        if not legacy and not client:
            return request, request, "", ""
    elif len(request) > HEADER_LIMIT:
        return "", "", "", "x-request-id must not exceed {} characters".format(HEADER_LIMIT)
    if legacy:
        client = client or legacy
    else:
        legacy = client or request
    if len(legacy) > HEADER_LIMIT or len(client) > HEADER_LIMIT:
        fault = "x-ms-request-id and x-ms-client-request-id must not exceed {} characters"
        return request, "", "", fault.format(HEADER_LIMIT)
    return request, legacy, client, ""


_random: List[str] = []


def new_id() -> str:
    """A random UUID, version 4. The system is asked once for many, it is the costly part."""
    try:
        digits = _random.pop()
    except IndexError:
        fresh = urandom(16 * 256).hex()
        _random.extend(fresh[at : at + 32] for at in range(0, len(fresh), 32))
        digits = _random.pop()
    return (
        "%s-%s-4%s-%s%s-%s"
        % (  # noqa: UP031 - the hot path
            digits[:8],
            digits[8:12],
            digits[13:16],
            "89ab"[int(digits[16], 16) & 3],
            digits[17:20],
            digits[20:],
        )
    )


class Exchange(Job):
    """One request on its way to a response."""

    __slots__ = (
        "_app", "environ", "finish", "ids", "is_read", "method", "path", "share", "started"
    )  # fmt: skip

    def __init__(self, app: Application, environ: Environ, finish: Finish) -> None:
        self.started = time.perf_counter()
        self._app = app
        self.environ = environ
        self.finish = finish
        self.method: str = environ["REQUEST_METHOD"]
        self.path: str = environ["PATH_INFO"]
        self.ids = identify(environ)
        self.share: Optional[bodies.Share] = None
        self.is_read = False

    def complete(self, result: Result, more: bool) -> None:
        """The worker answered."""
        try:
            response, run_ms = _from_worker(result)
            self._app.send(self, response, run_ms, more)
        except Exception as error:
            # The thread carries requests of others too.
            self._app.report(error)

    def fail(self, error: Exception) -> None:
        """There will be no answer of a worker."""
        try:
            self._app.send(self, self._app.failure(error))
        except Exception as fault:
            self._app.report(fault)


class Application:
    """The routes and the rules of the service."""

    def __init__(self, settings: Settings, pool: Pool, facts: Ready, log: Log) -> None:
        self._settings = settings
        self._pool = pool
        self._facts = facts
        self._log = log
        self._metrics = Metrics() if settings.metrics else None
        self._readers = bodies.Readers(settings.reader_limit, settings.read_timeout_s)
        self._budget = bodies.Budget(settings.body_memory)
        self._no_share = bodies.Share(self._budget)
        self._active: Set[Exchange] = set()
        self._access_log = settings.access_log
        self._server: Headers = []
        if settings.server_version:
            self._server.append(("x-ms-server-version", settings.server_version))
        self._cors = settings.cors_origins
        self.draining = False
        # Whether the carrier lets go of a response while this thread goes on with the body.
        self.lingers = False
        self.restarts: Callable[[], int] = lambda: 0

    def start(self) -> None:
        """Start what runs beside the requests."""
        self._readers.start()

    def report(self, error: Exception) -> None:
        """Log what must not happen."""
        self._log.error("a response could not be sent: {!r}".format(error))

    @property
    def active(self) -> int:
        """How many requests are in flight."""
        return len(self._active)

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request as PEP 3333 has it."""
        answer: List[Response] = []
        done = threading.Lock()
        done.acquire()

        def finish(status: int, headers: Headers, body: bytes) -> None:
            answer.append((status, headers, body))
            done.release()

        self.handle(environ, finish)
        done.acquire()
        status, headers, body = answer[0]
        headers.append(("Content-Length", str(len(body))))
        start_response(_STATUS_LINES.get(status) or "{} Unknown".format(status), headers)
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]

    def handle(self, environ: Environ, finish: Finish) -> None:
        """Answer a request by one call of ``finish``, on this thread or later on another."""
        exchange = Exchange(self, environ, finish)
        self._active.add(exchange)
        try:
            fault = exchange.ids[3]
            if fault:
                response = _message(431, fault)
            elif exchange.path == "/score":
                refusal = self._score(exchange)
                if refusal is None:
                    return
                response = refusal
            else:
                response = self._route(exchange.method, exchange.path, environ)
        except Exception as error:
            self._log.error("internal error: {!r}".format(error))
            response = _message(500, INTERNAL)
        unread = not exchange.is_read and _has_body(environ)
        if unread:
            # The rest of the body is no next request; better to say so than to close unannounced.
            response[1].append(("Connection", "close"))
        self.send(exchange, response)
        if unread and self.lingers:
            self._linger(environ)

    def _linger(self, environ: Environ) -> None:
        """Take in some of what the client still sends, so that it sees the answer, not a reset."""
        if self._readers.full:
            return
        try:
            self._readers.discard(environ["wsgi.input"])
        except OSError:
            return

    def send(
        self,
        exchange: Exchange,
        response: Response,
        run_ms: Optional[float] = None,
        more: bool = False,
    ) -> None:
        """Add what every response has, log the request and let it go.

        With ``more`` to come at once the line for the log waits, so that one write takes them all.
        """
        status, headers, body = response
        request_id, legacy_id, client_id, _ = exchange.ids
        environ = exchange.environ
        headers.extend(self._server)
        if request_id:
            headers.append(("x-request-id", request_id))
        if legacy_id:
            headers.append(("x-ms-request-id", legacy_id))
        if client_id:
            headers.append(("x-ms-client-request-id", client_id))
        if "HTTP_TRACEID" in environ:
            headers.append(("TraceId", environ["HTTP_TRACEID"]))
        if self._cors and exchange.path in ROUTES and status != 405:
            headers.extend(self._cors_headers(exchange.method, environ))
        seconds = time.perf_counter() - exchange.started
        method, path = exchange.method, exchange.path
        if self._metrics is not None:
            self._metrics.observe(method, path, status, seconds)
        if self._access_log and not (path == "/" and status == 200):
            query = environ.get("QUERY_STRING")
            if query:
                path = path + "?" + query
            self._log.access(
                method, path, status, seconds * 1000, len(body), request_id, client_id, run_ms
            )
            if not more:
                self._log.flush()
        try:
            exchange.finish(status, headers, body)
        finally:
            if exchange.share is not None:
                exchange.share.give_back()
            self._active.discard(exchange)

    def _route(self, method: str, path: str, environ: Environ) -> Response:
        if path == "/":
            routes: Callable[[Environ], Response] = self._health
        elif path == "/swagger.json":
            routes = self._swagger
        elif path == "/metrics" and self._metrics is not None:
            routes = self._show_metrics
        else:
            return _message(404, NOT_FOUND)
        if method in ("GET", "HEAD"):
            return routes(environ)
        allowed = ("Allow", "GET, HEAD, OPTIONS")
        if method == "OPTIONS":
            return 200, [("Content-Type", HTML), allowed], b""
        status, headers, body = _message(405, NOT_ALLOWED)
        return status, [*headers, allowed], body

    def _health(self, _environ: Environ) -> Response:
        if self.draining:
            return _message(503, "The server is shutting down.", retry=True)
        if not self._pool.ready:
            return _message(503, NOT_READY, retry=True)
        return 200, [("Content-Type", HTML)], b"Healthy"

    def _swagger(self, environ: Environ) -> Response:
        if not self._facts.documents and not self._pool.ready:
            return _message(503, NOT_READY, retry=True)
        query = parse_qs(environ.get("QUERY_STRING", ""), keep_blank_values=True)
        version = query.get("version", ["2"])[0]
        document = self._facts.documents.get(version)
        if document is None:
            published = Published(self._facts.documents, self._facts.supported)
            return _message(404, published.missing(version))
        return 200, _headers(JSON, False), document

    def _show_metrics(self, _environ: Environ) -> Response:
        assert self._metrics is not None
        pool = self._pool
        page = self._metrics.render(pool.ready, pool.waiting, pool.busy, self.restarts())
        return 200, [("Content-Type", "text/plain; version=0.0.4; charset=utf-8")], page

    def _score(self, exchange: Exchange) -> Optional[Response]:
        """Hand a request to a worker; a response is returned only when that was not possible."""
        method = exchange.method
        facts = self._facts
        # HEAD is routed with GET but not scored, other methods not even that: two messages in the
        # reference, and so here.
        if method not in SCORE_METHODS and not (method == "HEAD" and facts.is_raw):
            text = "Method not allowed" if method == "HEAD" else NOT_ALLOWED
            status, headers, content = _message(405, text)
            if method != "HEAD":
                headers.append(("Allow", "GET, HEAD, OPTIONS, POST"))
            return status, headers, content
        if method == "OPTIONS" and not (facts.is_raw and self._pool.ready):
            return 200, [("Content-Type", HTML), ("x-ms-run-function-failed", "False")], b""
        if not self._pool.ready or self.draining:
            text = "shutting down" if self.draining else "not ready"
            return _message(503, "The server is {}.".format(text), retry=True)
        environ = exchange.environ
        try:
            exchange.body = self._read(exchange) if method == "POST" or facts.is_raw else b""
            exchange.is_read = True
        except _RefusedError as refused:
            return refused.response
        needs_headers = facts.needs_headers
        query = environ.get("QUERY_STRING", "")
        if facts.is_plain and method == "POST":
            # The body is all that such a script gets.
            exchange.meta = None
        else:
            exchange.meta = (
                method,
                exchange.path,
                query,
                environ.get("CONTENT_TYPE", ""),
                _named_headers(environ) if needs_headers else {},
                environ.get("REMOTE_ADDR", "") if needs_headers else "",
            )
        try:
            self._pool.submit(exchange)
        except BusyError:
            return _message(503, "Too many requests are waiting, try again later.", retry=True)
        except NotReadyError:
            return _message(503, NOT_READY, retry=True)
        return None

    def failure(self, error: Exception) -> Response:
        """The response for a request that a worker could not answer."""
        if isinstance(error, NotReadyError):
            return _message(503, NOT_READY, retry=True)
        if isinstance(error, TooSlowError):
            text = "Scoring timeout after {} ms".format(self._settings.scoring_timeout_ms)
            return _message(500, text, failed=True)
        self._log.error("the worker ended while it scored a request")
        return _message(500, SCRIPT_FAILED, failed=True)

    def _read(self, exchange: Exchange) -> bytes:
        environ = exchange.environ
        length_text = environ.get("CONTENT_LENGTH")
        limit = self._settings.body_limit
        try:
            if length_text:
                length = bodies.parse_length(length_text)
                if length == 0:
                    return b""
            elif "HTTP_TRANSFER_ENCODING" in environ:
                length = -1
            else:
                return b""
            if self._readers.full:
                text = "Too many requests are being received, try again later."
                raise _RefusedError(_message(503, text, retry=True))
            abort = environ.get(ABORT) or _nothing
            if length < 0 or length > bodies.CHUNK:
                exchange.share = bodies.Share(self._budget)
            share = exchange.share or self._no_share
            return self._readers.read(environ["wsgi.input"], length, limit, share, abort)
        except bodies.TooLargeError:
            text = "The body of the request is above the limit of {} bytes.".format(limit)
            raise _RefusedError(_message(413, text)) from None
        except bodies.NoMemoryError:
            text = "Too many large requests at a time, try again later."
            raise _RefusedError(_message(503, text, retry=True)) from None
        except bodies.BrokenError:
            raise _RefusedError(_message(400, "The Content-Length is not a number.")) from None
        except (bodies.IncompleteError, OSError):
            text = "The body of the request is incomplete."
            raise _RefusedError(_message(400, text)) from None
        except bodies.TimedOutError:
            raise _RefusedError(too_late()) from None

    def _cors_headers(self, method: str, environ: Environ) -> Headers:
        # A request without an origin gets the first one too: caches keep one answer for all.
        origin = environ.get("HTTP_ORIGIN", self._cors[0])
        if "*" not in self._cors and origin not in self._cors:
            return []
        headers = [("Access-Control-Allow-Origin", "*" if "*" in self._cors else origin)]
        if method == "OPTIONS" and "HTTP_ACCESS_CONTROL_REQUEST_METHOD" in environ:
            asked = environ.get("HTTP_ACCESS_CONTROL_REQUEST_HEADERS")
            if asked:
                headers.append(("Access-Control-Allow-Headers", asked))
            headers.append(("Access-Control-Allow-Methods", "GET, POST"))
        if len(self._cors) > 1:
            headers.append(("Vary", "Origin"))
        return headers


class _RefusedError(Exception):
    """The request ends here, with this response."""

    def __init__(self, response: Response) -> None:
        super().__init__()
        self.response = response


def too_late() -> Response:
    """The answer to a body that did not come."""
    return _message(408, "The body of the request did not arrive in time.", close=True)


def _has_body(environ: Environ) -> bool:
    return environ.get("CONTENT_LENGTH", "0") != "0" or "HTTP_TRANSFER_ENCODING" in environ


def _nothing() -> None:
    """There is no way to interrupt a read under this server."""


def _headers(content_type: str, failed: bool) -> Headers:
    return [("Content-Type", content_type), _FAILED if failed else _NOT_FAILED]


def _message(
    status: int, text: str, failed: bool = False, retry: bool = False, close: bool = False
) -> Response:
    headers = _headers(JSON, failed)
    if retry:
        headers.append(("Retry-After", "1"))
    if close:
        headers.append(("Connection", "close"))
    return status, headers, json.dumps({"message": text}).encode("ascii")


def _from_worker(result: Result) -> Tuple[Response, Optional[float]]:
    status, meta, body, ms = result
    run_ms = ("x-ms-run-fn-exec-ms", "%.3f" % ms)  # noqa: UP031 - the hot path
    if meta is None:
        return (status, [_IS_JSON, _NOT_FAILED, run_ms], body), ms
    if meta[0] == "headers":
        return (status, [*meta[1], run_ms], body), ms
    return _message(status, meta[1], meta[2]), None


def _named_headers(environ: Environ) -> Dict[str, str]:
    """The headers with the names that a script expects: ``HTTP_X_MS_FOO`` is ``X-Ms-Foo``."""
    headers = {}
    for key, value in environ.items():
        if key.startswith("HTTP_"):
            headers[key[5:].replace("_", "-").title()] = value
    for key, name in (("CONTENT_TYPE", "Content-Type"), ("CONTENT_LENGTH", "Content-Length")):
        if environ.get(key):
            headers[name] = environ[key]
    return headers
