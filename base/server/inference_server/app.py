"""Which response does a request get? The application, and nothing of the user's code or of sockets.

It needs nothing but the standard library. Everything here happens on one thread and never waits.
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
    "send x-ms-client-request-id (this is said once)"
)
NOT_ALLOWED = "The method is not allowed for the requested URL."
# Whether the process lives, and whether it takes requests; "/" is the older name of the latter.
LIVE, READY = "/livez", "/readyz"
HEALTH = ("/", LIVE, READY)
# What browsers of other origins may ask for, and all there is.
ROUTES = ("/", "/score", "/swagger.json")
PATHS = (*HEALTH, *ROUTES[1:], "/metrics")
# The names that other platforms have for them.
ALIASES = {"/ping": "/", "/invocations": "/score"}
SCORE_METHODS = ("POST", "GET", "OPTIONS")
# For the log only: the client did not wait for its answer.
CLIENT_LEFT = 499

# Why a request is refused: the status, the message, and whether another try may help.
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

# request, legacy and client identifier, and what is wrong with them
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


class Request(Job):
    """A request and its way to a response. Names of headers are in lower case."""

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
        # Whether the client did not wait.
        self.left = False
        # Of an answer in parts: its status, its bytes so far and the time in run().
        self._answer: Optional[Tuple[int, int, float]] = None
        self.method = method
        self.path = app.aliases.get(path, path)
        self.query = query
        self.headers = headers
        self.remote = remote
        self.ids = identify(headers)

    # What a connection does; each request ends once.

    def respond(self, response: Response) -> None:
        """Let the response go to the client."""
        raise NotImplementedError

    def begin_response(self, response: Response, length: Optional[int]) -> bool:
        """Let the head of a response go to the client; whether the body is wanted."""
        raise NotImplementedError

    def respond_part(self, data: Body) -> bool:
        """Let a part of the body go to the client; False: it takes no more for now."""
        raise NotImplementedError

    def end_response(self, whole: bool) -> None:
        """The body has gone to the client, or what there is of it."""
        raise NotImplementedError

    def abandon(self) -> None:
        """Leave the client without a response."""
        raise NotImplementedError

    # What a worker does.

    def carried(self, waited_s: float) -> None:
        """A worker has it."""
        self._app.waited(waited_s)

    def complete(self, result: Result, more: bool) -> None:
        """The worker answered."""
        if self.left:
            return
        try:
            response, run_ms = _from_worker(result)
            self._app.send(self, response, run_ms, more)
        except Exception as error:
            # The worker's other requests must not suffer.
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
        """A part of the body."""
        if self.left:
            return True
        assert self._answer is not None
        status, size, run_ms = self._answer
        self._answer = (status, size + len(data), run_ms)
        return self.respond_part(data)

    def end(self, whole: bool) -> None:
        """The body is there, or the worker broke it off."""
        if self.left:
            return
        try:
            assert self._answer is not None
            self._app.end(self, whole, *self._answer)
        except Exception as error:
            self._app.give_up(self, error)

    def fail(self, error: Exception) -> None:
        """There will be no answer of a worker, or not the rest of it."""
        if self.left:
            return
        try:
            if self._answer is not None:
                self._app.end(self, False, *self._answer)
            else:
                self._app.send(self, self._app.failure(error))
        except Exception as fault:
            self._app.give_up(self, fault)


class Application:
    """The routes and the rules of the service."""

    def __init__(self, settings: Settings, pool: Pool, log: Log, memory: Memory) -> None:
        self._settings = settings
        self._pool = pool
        self._memory = memory
        # Set when the first worker has told them.
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
        # On the way out: first nobody new should come, then nobody is let in.
        self.leaving = False
        self.draining = False
        self._warned = False
        self.restarts: Callable[[], int] = lambda: 0

    def learn(self, facts: ScriptFacts) -> None:
        """A worker has told what the script is like; from any thread."""
        self.facts = facts

    @property
    def active(self) -> int:
        """How many requests are in flight."""
        return len(self._active)

    def wants_body(self, request: Request) -> bool:
        """Whether the answer to a request depends on its body."""
        if request.path != "/score" or not self._pool.ready or self.draining:
            return False
        return request.method == "POST" or self.facts.is_raw

    def handle(self, request: Request) -> None:
        """Answer a request now, or when a worker has."""
        self._active.add(request)
        try:
            if "x-ms-request-id" in request.headers and not self._warned:
                self._warned = True
                self._log.warning(OLD_ID)
            fault = request.ids[3]
            if fault:
                response = _message(431, fault)
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
        """Add what every response has, log the request and let it go.

        With ``more`` to come at once the line for the log waits, so that one write takes them all.
        """
        self._complete_headers(request, response)
        self._record(request, response[0], len(response[2]), run_ms)
        self._active.discard(request)
        request.respond(response)
        # After the response: the client need not wait for the log.
        if not more:
            self._log.flush()

    def begin(self, request: Request, response: Response, length: Optional[int]) -> None:
        """Send the head of a response whose body comes in parts."""
        self._complete_headers(request, response)
        if not request.begin_response(response, length):
            self._pool.cancel(request)

    def end(self, request: Request, whole: bool, status: int, size: int, run_ms: float) -> None:
        """The last part of a response is sent."""
        self._record(request, status, size, run_ms)
        self._active.discard(request)
        request.end_response(whole)
        self._log.flush()

    def left(self, request: Request) -> None:
        """The client of a request that is being answered is gone: nobody needs its answer."""
        if request in self._active:
            request.left = True
            self._active.discard(request)
            self._record(request, CLIENT_LEFT, 0, None)
            self._pool.cancel(request)

    def give_up(self, request: Request, error: Exception) -> None:
        """What must not happen: a response cannot be sent."""
        self._log.error("a response could not be sent: {!r}".format(error))
        self._active.discard(request)
        request.abandon()

    def report(self, error: Exception) -> None:
        """What must not happen, and is survived."""
        self._log.error("internal error: {!r}".format(error))

    def flush(self) -> None:
        """Write the lines for the log that waited for somebody to read it."""
        self._log.flush()

    def waited(self, seconds: float) -> None:
        """A request went to a worker after so long a wait."""
        if self._metrics is not None:
            self._metrics.observe_wait(seconds)

    def _complete_headers(self, request: Request, response: Response) -> None:
        """Add what every response has, except what the script has set itself."""
        headers = response[1]
        request_id, legacy_id, client_id, _ = request.ids
        ours: Headers = []
        if request_id:
            ours.append(("x-request-id", request_id))
        if legacy_id:
            ours.append(("x-ms-request-id", legacy_id))
        if client_id:
            ours.append(("x-ms-client-request-id", client_id))
        ours += self._server
        if "traceid" in request.headers:
            ours.append(("TraceId", request.headers["traceid"]))
        if self._cors and request.path in ROUTES and response[0] != 405:
            ours += self._cors_headers(request)
        if headers[0] is _IS_JSON:
            # The common case: the headers are those of the application.
            headers += ours
            return
        given = {name.lower() for name, _ in headers}
        headers += [(name, value) for name, value in ours if name.lower() not in given]

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
        """Hand a request to a worker; a response is returned only when that was not possible."""
        method = request.method
        facts = self.facts
        # HEAD is routed with GET but not scored, other methods not even that: two messages in the
        # reference, and so here.
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
            # The body is all that such a script gets.
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
        """The response for a request that a worker could not answer."""
        if isinstance(error, NotReadyError):
            return self.refusal("not_ready")
        if isinstance(error, WaitedError):
            return self.refusal("queue_timeout")
        if isinstance(error, TooSlowError):
            text = TIMED_OUT.format(self._settings.run_limit_s * 1000)
            return _message(500, text, failed=True)
        self._log.error("the worker ended while it scored a request")
        return _message(500, SCRIPT_FAILED, failed=True)

    # What is refused, and why.

    def refusal(self, reason: str) -> Response:
        """The response for one of ``REFUSALS``, which is counted."""
        status, text, retry = REFUSALS[reason]
        if self._metrics is not None:
            self._metrics.observe_refusal(reason)
        return _message(status, text.format(self._settings.body_limit), retry=retry)

    def not_allowed(self) -> Response:
        """The answer to a method that ``/score`` does not have."""
        status, headers, body = _message(405, NOT_ALLOWED)
        return status, [*headers, ("Allow", "GET, HEAD, OPTIONS, POST")], body

    def _cors_headers(self, request: Request) -> Headers:
        # A request without an origin gets the first one too: caches keep one answer for all.
        origin = request.headers.get("origin", self._cors[0])
        if "*" not in self._cors and origin not in self._cors:
            return []
        headers = [("Access-Control-Allow-Origin", "*" if "*" in self._cors else origin)]
        if request.method == "OPTIONS" and "access-control-request-method" in request.headers:
            asked = request.headers.get("access-control-request-headers")
            if asked:
                headers.append(("Access-Control-Allow-Headers", asked))
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
