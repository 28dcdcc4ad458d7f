"""Which response does a request get? The application, without user code and without sockets.

Everything here happens on one thread and never waits.
"""

from __future__ import annotations

import json
import time
from os import urandom
from typing import Callable, Dict, List, Mapping, Optional, Set, Tuple
from urllib.parse import parse_qs

from .config import Settings
from .log import Log
from .memory import Memory
from .metrics import Metrics
from .swagger import missing
from .workers.frames import Body
from .workers.messages import FROM_SCRIPT, INTERNAL, SCRIPT_FAILED, TIMED_OUT, Result, ScriptFacts
from .workers.pool import BusyError, Job, NotReadyError, Pool, TooSlowError, WaitedError

HEADER_LIMIT = 100
JSON = "application/json"
HTML = "text/html; charset=utf-8"

Headers = List[Tuple[str, str]]
Response = Tuple[int, Headers, Body]

NOT_FOUND = (
    "The requested URL was not found on the server. "
    "If you entered the URL manually please check your spelling and try again."
)
OLD_ID = (
    "x-ms-request-id is deprecated as the name of the client's own identifier: "
    "send x-ms-client-request-id (logged once)"
)
NOT_ALLOWED = "The method is not allowed for the requested URL."
# Whether the process lives, and whether it accepts requests; "/" is the older name of the latter.
LIVE, READY = "/livez", "/readyz"
HEALTH = ("/", LIVE, READY)
# The paths for browsers of other origins, and all paths.
ROUTES = ("/", "/score", "/swagger.json")
PATHS = (*HEALTH, *ROUTES[1:], "/metrics")
# The names of these paths on other platforms.
ALIASES = {"/ping": "/", "/invocations": "/score"}
SCORE_METHODS = ("POST", "GET", "OPTIONS")
# For the log only: the client did not wait for the answer.
CLIENT_LEFT = 499

# Reasons to refuse a request: the status, the message, and whether another try may help.
REFUSALS = {
    "broken": (400, "The request is not valid HTTP/1.1.", False),
    "bad_host": (400, "The request needs one Host header, with a valid host.", False),
    "incomplete": (400, "The body of the request is incomplete.", False),
    "too_late": (408, "The body of the request did not arrive in time.", False),
    "too_large": (413, "The body of the request is above the limit of {} bytes.", False),
    "beyond_memory": (
        413,
        "The body of the request is larger than the memory of this container allows.",
        False,
    ),
    "head_too_large": (431, "The headers of the request are too large, or too many.", False),
    "no_memory": (503, "Too many large requests at a time, try again later.", True),
    "queue_full": (503, "Too many requests are waiting, try again later.", True),
    "queue_timeout": (503, "The request waited too long for a worker, try again later.", True),
    "not_ready": (503, "The scoring script is not ready.", True),
    "stopping": (503, "The server is shutting down.", True),
    "stalled": (503, "No request has been answered for longer than one may take.", True),
}

_IS_JSON = ("Content-Type", JSON)
_FAILED = ("x-ms-run-function-failed", "True")
_NOT_FAILED = ("x-ms-run-function-failed", "False")

# request, legacy and client identifier, and an error message
Ids = Tuple[str, str, str, str]


def identify(headers: Mapping[str, str]) -> Ids:
    """The identifiers of a request, as its headers give them."""
    request = headers.get("x-request-id")
    legacy = headers.get("x-ms-request-id", "")
    client = headers.get("x-ms-client-request-id", "")
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
        message = "x-ms-request-id and x-ms-client-request-id must not exceed {} characters"
        return request, "", "", message.format(HEADER_LIMIT)
    return request, legacy, client, ""


_random: List[str] = []


def new_id() -> str:
    """A random UUID, version 4. The random bytes are read for many at a time, to save calls."""
    try:
        digits = _random.pop()
    except IndexError:
        read = urandom(16 * 256).hex()
        _random.extend(read[at : at + 32] for at in range(0, len(read), 32))
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


class Request(Job):
    """A request on its way to a response. Names of headers are in lower case."""

    __slots__ = (
        "_app",
        "_answer",
        "headers",
        "ids",
        "left",
        "method",
        "path",
        "query",
        "remote",
        "started",
    )

    def __init__(
        self,
        app: Application,
        method: str,
        path: str,
        query: str,
        headers: Dict[str, str],
        remote: str,
    ) -> None:
        super().__init__(None, b"")
        self.started = time.perf_counter()
        self._app = app
        # Whether the client has left.
        self.left = False
        # Of an answer in parts: the status, the bytes so far and the time in run().
        self._answer: Optional[Tuple[int, int, float]] = None
        self.method = method
        self.path = app.aliases.get(path, path)
        self.query = query
        self.headers = headers
        self.remote = remote
        self.ids = identify(headers)

    # For a connection to implement; each request ends once.

    def respond(self, response: Response) -> None:
        """Send the response to the client."""
        raise NotImplementedError

    def begin_response(self, response: Response, length: Optional[int]) -> bool:
        """Send the head of a response; False if the body is not wanted."""
        raise NotImplementedError

    def respond_part(self, data: Body) -> bool:
        """Send a part of the body; False if the client takes no more for now."""
        raise NotImplementedError

    def end_response(self, whole: bool) -> None:
        """The body is sent, completely or not."""
        raise NotImplementedError

    def abandon(self) -> None:
        """End without a response."""
        raise NotImplementedError

    # Callbacks of the pool.

    def assigned(self, waited_s: float) -> None:
        """A worker gets the request, after this wait."""
        self._app.waited(waited_s)

    def complete(self, result: Result, more: bool) -> None:
        """The worker has answered."""
        if self.left:
            return
        try:
            response, run_ms = _from_worker(result)
            self._app.send(self, response, run_ms, more)
        except Exception as error:
            # Other requests of the worker must not fail for it.
            self._app.give_up(self, error)

    def begin(self, result: Result, length: Optional[int]) -> None:
        """The worker begins to answer."""
        if self.left:
            return
        try:
            response, run_ms = _from_worker(result)
            self._answer = (response[0], 0, run_ms or 0.0)
            self._app.begin(self, response, length)
        except Exception as error:
            self._app.give_up(self, error)

    def part(self, data: Body) -> bool:
        """A part of the body has come."""
        if self.left:
            return True
        assert self._answer is not None
        status, size, run_ms = self._answer
        self._answer = (status, size + len(data), run_ms)
        return self.respond_part(data)

    def end(self, whole: bool) -> None:
        """The body is complete, or the worker stopped before its end."""
        if self.left:
            return
        try:
            assert self._answer is not None
            self._app.end(self, whole, *self._answer)
        except Exception as error:
            self._app.give_up(self, error)

    def fail(self, error: Exception) -> None:
        """There will be no answer of a worker, or no rest of it."""
        if self.left:
            return
        try:
            if self._answer is not None:
                self._app.end(self, False, *self._answer)
            else:
                self._app.send(self, self._app.failure(error))
        except Exception as failure:
            self._app.give_up(self, failure)


class Application:
    """The routes of the service, refusals, common headers, the access log."""

    def __init__(self, settings: Settings, pool: Pool, log: Log, memory: Memory) -> None:
        self._settings = settings
        self._pool = pool
        self._memory = memory
        # Set when the first worker is ready.
        self.facts = ScriptFacts()
        self._log = log
        self._metrics = Metrics(PATHS) if settings.metrics else None
        self._active: Set[Request] = set()
        self._access_log = settings.access_log
        self._server: Headers = []
        if settings.server_version:
            self._server.append(("x-ms-server-version", settings.server_version))
        self._cors = settings.cors_origins
        self.aliases = ALIASES if settings.aliases else {}
        # While the service stops: first not ready, then closed for new requests.
        self.leaving = False
        self.draining = False
        self._warned = False
        self.restarts: Callable[[], int] = lambda: 0

    def learn(self, facts: ScriptFacts) -> None:
        """Take the facts about the script from a worker; on any thread."""
        self.facts = facts

    @property
    def active(self) -> int:
        """How many requests are in flight."""
        return len(self._active)

    def wants_body(self, request: Request) -> bool:
        """Whether the body of a request is needed for its answer."""
        if request.path != "/score" or not self._pool.ready or self.draining:
            return False
        return request.method == "POST" or self.facts.is_raw

    def handle(self, request: Request) -> None:
        """Answer a request, now or after a worker."""
        self._active.add(request)
        try:
            if "x-ms-request-id" in request.headers and not self._warned:
                self._warned = True
                self._log.warning(OLD_ID)
            invalid = request.ids[3]
            if invalid:
                response = _message(431, invalid)
            elif request.path == "/score":
                refusal = self._score(request)
                if refusal is None:
                    return
                response = refusal
            else:
                response = self._route(request)
        except Exception as error:
            self.report(error)
            response = _message(500, INTERNAL)
        self.send(request, response)

    def send(
        self,
        request: Request,
        response: Response,
        run_ms: Optional[float] = None,
        more: bool = False,
    ) -> None:
        """Add the common headers, log the request and send the response.

        If ``more`` responses follow at once, the line for the log waits for theirs.
        """
        self._complete_headers(request, response)
        self._record(request, response[0], len(response[2]), run_ms)
        self._active.discard(request)
        request.respond(response)
        # After the response, which must not wait for the log.
        if not more:
            self._log.flush()

    def begin(self, request: Request, response: Response, length: Optional[int]) -> None:
        """Send the head of a response whose body comes in parts."""
        self._complete_headers(request, response)
        if not request.begin_response(response, length):
            self._pool.cancel(request)

    def end(self, request: Request, whole: bool, status: int, size: int, run_ms: float) -> None:
        """End a response whose body came in parts."""
        self._record(request, status, size, run_ms)
        self._active.discard(request)
        request.end_response(whole)
        self._log.flush()

    def left(self, request: Request) -> None:
        """The client of a request has left, and its answer is not needed any more."""
        if request in self._active:
            request.left = True
            self._active.discard(request)
            self._record(request, CLIENT_LEFT, 0, None)
            self._pool.cancel(request)

    def give_up(self, request: Request, error: Exception) -> None:
        """After an internal error: end a request without a response."""
        self._log.error("a response could not be sent: {!r}".format(error))
        self._active.discard(request)
        request.abandon()

    def report(self, error: Exception) -> None:
        """Log an internal error that does not end the service."""
        self._log.error("internal error: {!r}".format(error))

    def flush(self) -> None:
        """Write lines that wait for the reader of the log."""
        self._log.flush()

    def waited(self, seconds: float) -> None:
        """Count a request that a worker got after this wait."""
        if self._metrics is not None:
            self._metrics.observe_wait(seconds)

    def _complete_headers(self, request: Request, response: Response) -> None:
        """Add the common headers, except those that the script has set."""
        headers = response[1]
        request_id, legacy_id, client_id, _ = request.ids
        common: Headers = []
        if request_id:
            common.append(("x-request-id", request_id))
        if legacy_id:
            common.append(("x-ms-request-id", legacy_id))
        if client_id:
            common.append(("x-ms-client-request-id", client_id))
        common += self._server
        if "traceid" in request.headers:
            common.append(("TraceId", request.headers["traceid"]))
        if self._cors and request.path in ROUTES and response[0] != 405:
            common += self._cors_headers(request)
        if headers[0] is _IS_JSON:
            # The usual case: the headers are not those of a script.
            headers += common
            return
        present = {name.lower() for name, _ in headers}
        headers += [(name, value) for name, value in common if name.lower() not in present]

    def _record(self, request: Request, status: int, size: int, run_ms: Optional[float]) -> None:
        """Count a request, and prepare its line for the log."""
        method, path = request.method, request.path
        seconds = time.perf_counter() - request.started
        if self._metrics is not None:
            self._metrics.observe(method, path, status, seconds)
        if self._access_log and not (status == 200 and path in HEALTH):
            if request.query:
                path = path + "?" + request.query
            request_id, _, client_id, _ = request.ids
            trace = request.headers.get("traceparent", "")
            self._log.access(
                method, path, status, seconds * 1000, size, request_id, client_id, run_ms, trace
            )

    def _route(self, request: Request) -> Response:
        method, path = request.method, request.path
        if path in HEALTH:
            routes: Callable[[Request], Response] = self._health
        elif path == "/swagger.json":
            routes = self._swagger
        elif path == "/metrics" and self._metrics is not None:
            routes = self._show_metrics
        else:
            return _message(404, NOT_FOUND)
        if method in ("GET", "HEAD"):
            return routes(request)
        allowed = ("Allow", "GET, HEAD, OPTIONS")
        if method == "OPTIONS":
            return 200, [("Content-Type", HTML), allowed], b""
        status, headers, body = _message(405, NOT_ALLOWED)
        return status, [*headers, allowed], body

    def _health(self, request: Request) -> Response:
        if self._pool.stalled:
            return self.refusal("stalled")
        if request.path != LIVE:
            if self.leaving or self.draining:
                return self.refusal("stopping")
            if not self._pool.ready:
                return self.refusal("not_ready")
        return 200, [("Content-Type", HTML)], b"Healthy"

    def _swagger(self, request: Request) -> Response:
        if not self.facts.documents and not self._pool.ready:
            return self.refusal("not_ready")
        query = parse_qs(request.query, keep_blank_values=True)
        version = query.get("version", ["2"])[0]
        document = self.facts.documents.get(version)
        if document is None:
            return _message(404, missing(version, self.facts.supported))
        return 200, _headers(JSON, False), document

    def _show_metrics(self, _request: Request) -> Response:
        assert self._metrics is not None
        pool = self._pool
        page = self._metrics.render(
            pool.ready, pool.waiting, pool.busy, self.restarts(), self._memory
        )
        return 200, [("Content-Type", "text/plain; version=0.0.4; charset=utf-8")], page

    def _score(self, request: Request) -> Optional[Response]:
        """Send a request to a worker; returns a response only if that is not possible."""
        method = request.method
        facts = self.facts
        # As in the reference, HEAD has a message of its own, because it is routed with GET.
        if method not in SCORE_METHODS and not (method == "HEAD" and facts.is_raw):
            if method == "HEAD":
                return _message(405, "Method not allowed")
            return self.not_allowed()
        if method == "OPTIONS" and not (facts.is_raw and self._pool.ready):
            return 200, [("Content-Type", HTML), _NOT_FAILED], b""
        if self.draining:
            return self.refusal("stopping")
        if not self._pool.ready:
            return self.refusal("not_ready")
        if facts.is_plain and method == "POST":
            # Such a script gets nothing but the body.
            request.meta = None
        else:
            headers = facts.needs_headers
            request.meta = (
                method,
                request.path,
                request.query,
                request.headers.get("content-type", ""),
                {name.title(): text for name, text in request.headers.items()} if headers else {},
                request.remote if headers else "",
            )
        try:
            self._pool.submit(request)
        except BusyError:
            return self.refusal("queue_full")
        except NotReadyError:
            return self.refusal("not_ready")
        return None

    def failure(self, error: Exception) -> Response:
        """The response to a request that a worker could not answer."""
        if isinstance(error, NotReadyError):
            return self.refusal("not_ready")
        if isinstance(error, WaitedError):
            return self.refusal("queue_timeout")
        if isinstance(error, TooSlowError):
            text = TIMED_OUT.format(self._settings.run_limit_s * 1000)
            return _message(500, text, failed=True)
        self._log.error("the worker ended while it scored a request")
        return _message(500, SCRIPT_FAILED, failed=True)

    # Refusals.

    def refusal(self, reason: str) -> Response:
        """The response for a reason in ``REFUSALS``, which is counted."""
        status, text, retry = REFUSALS[reason]
        if self._metrics is not None:
            self._metrics.observe_refusal(reason)
        return _message(status, text.format(self._settings.body_limit), retry=retry)

    def not_allowed(self) -> Response:
        """The response to a method that ``/score`` does not have."""
        status, headers, body = _message(405, NOT_ALLOWED)
        return status, [*headers, ("Allow", "GET, HEAD, OPTIONS, POST")], body

    def _cors_headers(self, request: Request) -> Headers:
        # Requests without an origin get the first one, because caches keep one answer for all.
        origin = request.headers.get("origin", self._cors[0])
        if "*" not in self._cors and origin not in self._cors:
            return []
        headers = [("Access-Control-Allow-Origin", "*" if "*" in self._cors else origin)]
        if request.method == "OPTIONS" and "access-control-request-method" in request.headers:
            wanted = request.headers.get("access-control-request-headers")
            if wanted:
                headers.append(("Access-Control-Allow-Headers", wanted))
            headers.append(("Access-Control-Allow-Methods", "GET, POST"))
        if len(self._cors) > 1:
            headers.append(("Vary", "Origin"))
        return headers


def _headers(content_type: str, failed: bool) -> Headers:
    return [("Content-Type", content_type), _FAILED if failed else _NOT_FAILED]


def _message(status: int, text: str, failed: bool = False, retry: bool = False) -> Response:
    headers = _headers(JSON, failed)
    if retry:
        headers.append(("Retry-After", "1"))
    return status, headers, json.dumps({"message": text}).encode("ascii")


def _from_worker(result: Result) -> Tuple[Response, Optional[float]]:
    status, meta, body, ms = result
    run_ms = ("x-ms-run-fn-exec-ms", "%.3f" % ms)  # noqa: UP031 - the hot path
    if meta is None:
        return (status, [_IS_JSON, _NOT_FAILED, run_ms], body), ms
    if meta[0] == FROM_SCRIPT:
        given = [header for header in meta[1] if header[0].lower() != run_ms[0]]
        return (status, [run_ms, *given], body), ms
    return _message(status, meta[1], meta[2]), None
