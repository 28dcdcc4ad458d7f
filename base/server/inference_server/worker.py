"""What does a worker process do? It runs ``init()`` once, then ``run()`` for each request.

``init()`` and ``run()`` both happen on the main thread, as in a synchronous server: scripts may
rely on that (signals, an event loop, SQLite connections, graphs of TensorFlow 1). With a
concurrency above one, the further requests run on threads of their own.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import signal
import socket
import sys
import threading
import time
import traceback
from types import FrameType
from typing import Any, Dict, List, Mapping, NoReturn, Optional, Tuple

from . import __version__, config, exits, interpreter, outputs, relay, script, swagger, wire
from .inputs import Call, RawInput, RefusedError, TextInput
from .log import Log, route_script_output
from .raw import BadRequestError

SOCKETS = "INFERENCE_SERVER_WORKER_SOCKETS"
LEASH = "INFERENCE_SERVER_WORKER_LEASH"

# The request without its body, for a script that gets nothing else.
PLAIN: Tuple[str, str, str, str, Dict[str, str], str] = ("POST", "/score", "", "", {}, "")

SCRIPT_FAILED = "An unexpected error occurred in scoring script. Check the logs for more info."
INTERNAL = "An unexpected internal error occurred. Check the logs for more info."


class TimedOutError(BaseException):
    """Raised inside ``run()`` when its time is over.

    Not an ``Exception``, so that a script's own ``except Exception`` does not swallow it.
    """


class Worker:
    """The state of one worker process."""

    def __init__(self, settings: config.Settings, log: Log, entry: script.Script) -> None:
        self._log = log
        self._entry = entry
        self._limit_ms = settings.scoring_timeout_ms
        self._limit_s = settings.scoring_timeout_ms / 1000.0
        self._log_body = settings.log_body
        self._nan = settings.nan
        self._run_ends = 0.0
        self._timer_ends = 0.0

    def serve(self, loud: socket.socket, quiet: socket.socket, on_main_thread: bool) -> None:
        """Answer requests until the front closes the sockets.

        The answer to a request that others follow goes to the quiet socket: see ``pool.Slot``.
        """
        reader = wire.Reader(loud)
        while True:
            try:
                _, more, meta, body, _ = reader.next()
                call = Call._make((*(meta or PLAIN), body))
                status, meta, body, ms = self._answer(call, on_main_thread)
                wire.send(quiet if more else loud, wire.RESULT, status, meta, body, ms)
            except (wire.ClosedError, OSError):
                return

    def _answer(self, call: Call, on_main_thread: bool) -> Tuple[int, Any, bytes, float]:
        """The result as (status, metadata, body, milliseconds).

        The metadata is None for 200 with JSON; ``("headers", …)`` for a response that the script
        made; ``("error", message, run_failed)`` when there is none.
        """
        if self._log_body:
            self._log.info("request body: {!r}".format(call.body[:4096]))
        started = time.perf_counter()
        try:
            arguments = self._entry.parse(call)
            if self._entry.wants_headers:
                arguments["request_headers"] = dict(call.headers)
            started = time.perf_counter()
            if on_main_thread:
                result = self._run_limited(arguments, started)
            else:
                result = self._entry.run(**arguments)
            ms = (time.perf_counter() - started) * 1000
        except RefusedError as refused:
            return refused.status, ("error", refused.message, False), b"", -1.0
        except BadRequestError as refused_by_script:
            return refused_by_script.code, ("error", str(refused_by_script), False), b"", -1.0
        except TimedOutError:
            elapsed = (time.perf_counter() - started) * 1000
            self._log.error(
                "run() was stopped after {:.0f} ms: the limit SCORING_TIMEOUT_MS is {} ms".format(
                    elapsed, self._limit_ms
                )
            )
            message = "Scoring timeout after {} ms".format(self._limit_ms)
            return 500, ("error", message, True), b"", -1.0
        except BaseException as error:
            fault = _fault_of_the_body(error, call)
            if fault:
                return 400, ("error", fault, False), b"", -1.0
            self._log.error(
                "run() raised {}\n{}".format(script.describe(error), script.trace(error))
            )
            return 500, ("error", SCRIPT_FAILED, True), b"", -1.0
        try:
            output = outputs.make(result, self._nan)
        except outputs.UnserialisableError as unserialisable:
            self._log.error(str(unserialisable))
            return 500, ("error", INTERNAL, False), b"", -1.0
        except Exception as error:
            self._log.error("the result of run() cannot be sent: {}".format(script.trace(error)))
            return 500, ("error", INTERNAL, False), b"", -1.0
        if output.headers is None:
            return 200, None, output.body, ms
        return output.status, ("headers", output.headers), output.body, ms

    def _run_limited(self, arguments: Mapping[str, Any], now: float) -> Any:
        """Call ``run()`` with a limit, at which ``TimedOutError`` is raised in it.

        The timer runs on when ``run()`` has ended, for the next calls: to start and stop it each
        time costs as much as a small model.
        """
        self._run_ends = now + self._limit_s
        if self._timer_ends < now:
            self._set_timer(self._run_ends, now)
        try:
            return self._entry.run(**arguments)
        finally:
            self._run_ends = 0.0

    def _set_timer(self, end: float, now: float) -> None:
        self._timer_ends = end
        signal.setitimer(signal.ITIMER_REAL, end - now)

    def on_alarm(self, _signal: int, _frame: Optional[FrameType]) -> None:
        """The handler of the timer."""
        self._timer_ends = 0.0
        if not self._run_ends:
            return
        now = time.perf_counter()
        if now < self._run_ends:
            # It was started for an earlier call.
            self._set_timer(self._run_ends, now)
        else:
            raise TimedOutError


def _fault_of_the_body(error: BaseException, call: Call) -> str:
    """What is wrong with the body, if the script failed because the client's text is no JSON.

    This is no guess: the exception, or the frame of the parser, holds the text that was parsed.
    """
    if call.method != "POST":
        return ""
    if isinstance(error, json.JSONDecodeError):
        parsed: Any = error.doc
        fault = "The body of the request is not valid JSON: {}".format(error)
    elif isinstance(error, RecursionError) and error.__traceback__ is not None:
        frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
        if frames[-1].f_globals.get("__name__") != "json.decoder":
            return ""
        parsed = frames[-1].f_locals.get("s")
        fault = "The body of the request is nested too deeply."
    else:
        return ""
    if isinstance(parsed, str):
        parsed = parsed.encode("utf-8", "replace")
    return fault if parsed == call.body else ""


def main() -> NoReturn:
    """Run a worker; the front started this process and handed it its sockets."""
    sockets = [socket.socket(fileno=int(fd)) for fd in os.environ.pop(SOCKETS).split(",")]
    leash = int(os.environ.pop(LEASH))
    for fd in (leash, *(sock.fileno() for sock in sockets)):
        # What a script starts must not hold them open.
        os.set_inheritable(fd, False)
    _follow_the_front(leash)
    settings = config.load(os.environ)
    mark = os.environ.pop(relay.MARK, "")
    log = Log("worker", settings.log_json, settings.log_level, wait=True, mark=mark)
    faulthandler.enable(file=2)
    script_log = Log("script", settings.log_json, "DEBUG", wait=True, mark=mark)
    route_script_output(script_log, settings.log_level)
    os.environ["HTTP_X_MS_SERVER_VERSION"] = settings.server_version or __version__
    try:
        worker = _prepare(settings, log, sockets[0])
    except exits.FatalError as fatal:
        wire.send(sockets[0], wire.FAILED, 0, (fatal.code, fatal.message))
        _leave(fatal.code)
    for pair in zip(sockets[2::2], sockets[3::2]):  # noqa: B905 - Python 3.7
        threading.Thread(target=worker.serve, args=(*pair, False), daemon=True).start()
    worker.serve(sockets[0], sockets[1], True)
    _leave(0)


def _prepare(settings: config.Settings, log: Log, sock: socket.socket) -> Worker:
    if settings.debug_port is not None:
        _attach_debugger(settings.debug_port, log)
    entry = script.load(settings, log)
    log.info("loaded {}; {}".format(entry.path, entry.description))
    worker = Worker(settings, log, entry)
    signal.signal(signal.SIGALRM, worker.on_alarm)
    started = time.perf_counter()
    try:
        entry.init()
    except BaseException as error:
        log.error("init() failed:\n{}".format(script.trace(error)))
        raise exits.FatalError(
            exits.SCRIPT, "init() in {} raised {}".format(entry.path, script.describe(error))
        ) from None
    try:
        published = swagger.publish(settings, entry.written)
    except Exception as error:
        raise exits.FatalError(
            exits.SCRIPT, "the API description cannot be made: {}".format(script.describe(error))
        ) from None
    sys.stdout.flush()
    log.info("init() took {:.0f} ms".format((time.perf_counter() - started) * 1000))
    ready = (
        entry.needs_headers,
        isinstance(entry.parse, RawInput),
        isinstance(entry.parse, TextInput) and not entry.needs_headers,
        published.documents,
        published.supported,
    )
    wire.send(sock, wire.READY, 0, ready)
    return worker


def _attach_debugger(port: int, log: Log) -> None:
    log.warning("waiting for a debugger at port {}: not for production".format(port))
    try:
        import debugpy  # type: ignore[import-not-found, unused-ignore]

        debugpy.connect(port)
        debugpy.wait_for_client()
    except ImportError:
        message = "AZUREML_DEBUG_PORT is set, but the package debugpy is not installed"
        raise exits.FatalError(exits.DEBUGGER, message) from None
    except Exception as error:
        message = "AZUREML_DEBUG_PORT={}: no debugger can be attached: {}".format(port, error)
        raise exits.FatalError(exits.DEBUGGER, message) from None


def _follow_the_front(leash: int) -> None:
    """End this process when the front is gone, however that ended: no orphan keeps a model."""

    def watch() -> None:
        os.read(leash, 1)
        os._exit(0)

    threading.Thread(target=watch, name="leash", daemon=True).start()


def _leave(code: int) -> NoReturn:
    # Threads of a script must not keep the process alive, but what is printed has to get out.
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


def command(environ: Mapping[str, str]) -> List[str]:
    """The command line of a worker that gets this environment.

    ``__main__`` is no file, so that a child process which ``multiprocessing`` spawns does not run
    the server again.
    """
    return interpreter.command(interpreter.of_the_app(environ), "start.run_worker()")
