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
import socket
import sys
import threading
import time
import traceback
from typing import (
    Any,
    Dict,
    List,
    Mapping,
    NamedTuple,
    NoReturn,
    Optional,
    Tuple,
)

from .. import __version__, config, exit_codes, swagger
from ..log import Log, route_script_output
from ..workers import frames
from ..workers.messages import (
    ERROR,
    FROM_SCRIPT,
    INTERNAL,
    LEASH,
    MARK,
    SCRIPT_FAILED,
    SOCKETS,
    TIMED_OUT,
    Call,
    Failure,
    RefusedError,
    ScriptFacts,
)
from . import outputs
from .inputs import RawInput, TextInput
from .load import Script, describe, load, trace
from .watch import Lane, LeftError, TimedOutError, Watch

# The answer that nobody reads.
CLIENT_LEFT = "The client left."


class Answer(NamedTuple):
    """What the service gets for one request: a ``messages.Result``, and the rest of its body.

    A ``stream`` follows its first bytes, which are the ``body``.
    """

    status: int
    meta: Any
    body: bytes
    ms: float = -1.0
    stream: Optional[StreamedBody] = None


def _error(status: int, message: str, run_failed: bool = False) -> Answer:
    return Answer(status, (ERROR, message, run_failed), b"")


class StreamedBody:
    """The rest of a body that the script makes bit by bit, and until when it has time for it."""

    def __init__(self, chunks: outputs.Stream, ends: float) -> None:
        self.ends = ends
        self._chunks = chunks

    def next(self) -> Optional[bytes]:
        """What comes next, None at the end. It raises what the script raises."""
        for chunk in self._chunks:
            if chunk:
                return chunk
        return None

    def close(self) -> None:
        """Let the script clean up; that it was not read to its end is no fault."""
        self._chunks.close()


class Worker:
    """The state of one worker process."""

    def __init__(self, settings: config.Settings, log: Log, entry: Script, watch: Watch) -> None:
        self._log = log
        self._entry = entry
        self._watch = watch
        self._limit_s = settings.run_limit_s
        self._log_body = settings.log_body
        self._nan = settings.nan

    def serve(self, loud: socket.socket, quiet: socket.socket, lane: Lane) -> None:
        """Answer requests until the front closes the sockets.

        The answer to a request that others follow goes to the quiet socket: see ``pool.Slot``.
        """
        reader = frames.Reader(loud)
        while True:
            try:
                _, more, meta, body, _ = reader.next()
                lane.number += 1
                calls = [Call.decode(meta, body)]
                # A large body is gone as soon as the script has it in its own form.
                body = b""
                try:
                    answer = self._answer(calls, lane)
                except BaseException as error:
                    # An exception of a script can raise others, when it is looked at.
                    self._log.error("a request failed oddly: {}".format(type(error).__name__))
                    answer = _error(500, INTERNAL)
                self._send(quiet if more else loud, answer, lane)
            except (frames.ClosedError, OSError):
                return

    def _send(self, sock: socket.socket, answer: Answer, lane: Lane) -> None:
        """Send an answer, a large one in parts; it ends early when nobody wants it any more."""
        status, meta, body, ms, stream = answer
        if stream is None and len(body) <= frames.CHUNK:
            frames.send(sock, frames.RESULT, status, meta, body, ms)
            return
        length = len(body) if stream is None else None
        frames.send(sock, frames.START, status, (length, meta), b"", ms)
        self._send_parts(sock, body, lane)
        whole = lane.is_wanted
        if stream is not None:
            whole = self._send_stream(sock, stream, lane)
        frames.send(sock, frames.END, frames.WHOLE if whole else frames.BROKEN_OFF)

    def _send_parts(self, sock: socket.socket, data: bytes, lane: Lane) -> None:
        view = memoryview(data)
        for at in range(0, len(view), frames.PART_BYTES):
            if not lane.is_wanted:
                return
            frames.send(sock, frames.PART, body=view[at : at + frames.PART_BYTES])

    def _send_stream(self, sock: socket.socket, stream: StreamedBody, lane: Lane) -> bool:
        """Send what the script goes on to make; whether that came to its end."""
        try:
            while lane.is_wanted:
                try:
                    chunk = self._watch.limited(lane, stream.ends, stream.next, {})
                except TimedOutError:
                    self._log.error(
                        "the response of run() was broken off after {:g} s".format(self._limit_s)
                    )
                    return False
                except LeftError:
                    return False
                except BaseException as error:
                    self._log.error(
                        "the response of run() was broken off by {}\n{}".format(
                            describe(error), trace(error)
                        )
                    )
                    return False
                if chunk is None:
                    return True
                self._send_parts(sock, chunk, lane)
            return False
        finally:
            self._close(stream)

    def _close(self, stream: StreamedBody) -> None:
        try:
            stream.close()
        except BaseException as error:
            self._log.error("closing the response raised {}".format(describe(error)))

    def _answer(self, calls: List[Call], lane: Lane) -> Answer:
        """Score a request, which is taken out of the list so that nobody keeps its body."""
        call = calls.pop()
        if self._log_body:
            self._log.info("request body: {!r}".format(bytes(call.body[:4096])))
        started = time.perf_counter()
        arguments: Dict[str, Any] = {}
        is_post = call.method == "POST"
        try:
            arguments = self._entry.parse(call)
            if self._entry.wants_headers:
                arguments["request_headers"] = dict(call.headers)
            del call
            started = time.perf_counter()
            ends = started + self._limit_s
            result = self._watch.limited(lane, ends, self._entry.run, arguments)
            ms = (time.perf_counter() - started) * 1000
        except RefusedError as refused:
            return _error(refused.status, refused.message)
        except LeftError:
            return _error(500, CLIENT_LEFT)
        except TimedOutError:
            return self._timed_out(started)
        except BaseException as error:
            fault = _fault_of_the_body(error, arguments) if is_post else ""
            if fault:
                return _error(400, fault)
            self._log.error("run() raised {}\n{}".format(describe(error), trace(error)))
            return _error(500, SCRIPT_FAILED, run_failed=True)
        arguments.clear()
        return self._form(result, ms, lane, started)

    def _form(self, result: Any, ms: float, lane: Lane, started: float) -> Answer:
        """Give a result its form as a response."""
        try:
            output = outputs.make(result, self._nan)
        except outputs.UnserialisableError as unserialisable:
            self._log.error(str(unserialisable))
            return _error(500, INTERNAL)
        except Exception as error:
            self._log.error("the result of run() cannot be sent: {}".format(trace(error)))
            return _error(500, INTERNAL)
        if output.headers is None:
            return Answer(200, None, output.body, ms)
        if output.stream is None:
            return Answer(output.status, (FROM_SCRIPT, output.headers), output.body, ms)
        stream = StreamedBody(output.stream, started + self._limit_s)
        try:
            # Until the first bytes are there, a fault can still be told by the status.
            first = self._watch.limited(lane, stream.ends, stream.next, {})
        except LeftError:
            self._close(stream)
            return _error(500, CLIENT_LEFT)
        except TimedOutError:
            self._close(stream)
            return self._timed_out(started)
        except BaseException as error:
            self._log.error("run() raised {}\n{}".format(describe(error), trace(error)))
            return _error(500, SCRIPT_FAILED, run_failed=True)
        meta = (FROM_SCRIPT, output.headers)
        if first is None:
            self._close(stream)
            return Answer(output.status, meta, b"", ms)
        return Answer(output.status, meta, first, ms, stream)

    def _timed_out(self, started: float) -> Answer:
        elapsed = (time.perf_counter() - started) * 1000
        self._log.error(
            "run() was stopped after {:.0f} ms: the limit is {:.0f} ms "
            "(the shorter of SCORING_TIMEOUT_MS and WORKER_TIMEOUT)".format(
                elapsed, self._limit_s * 1000
            )
        )
        return _error(500, TIMED_OUT.format(self._limit_s * 1000), run_failed=True)


def _fault_of_the_body(error: BaseException, arguments: Mapping[str, Any]) -> str:
    """What is wrong with the body, if the script failed because the client's text is no JSON.

    This is no guess: the exception, or the frame of the parser, holds the text that was parsed.
    """
    if isinstance(error, json.JSONDecodeError):
        parsed: Any = error.doc
        fault = "The body of the request is not valid JSON: {}".format(error)
    elif isinstance(error, RecursionError) and error.__traceback__ is not None:
        stack = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
        if stack[-1].f_globals.get("__name__") != "json.decoder":
            return ""
        parsed = stack[-1].f_locals.get("s")
        fault = "The body of the request is nested too deeply."
    else:
        return ""
    return fault if any(_is_body(value, parsed) for value in arguments.values()) else ""


def _is_body(argument: Any, parsed: Any) -> bool:
    """Whether what was parsed is what ``run()`` got: the text itself, or a request's body."""
    if isinstance(argument, str):
        return bool(argument == parsed)
    data = getattr(argument, "data", None)
    if isinstance(parsed, str):
        parsed = parsed.encode("utf-8", "replace")
    return isinstance(data, (bytes, bytearray)) and data == parsed


def main() -> NoReturn:
    """Run a worker; the front started this process and handed it its sockets."""
    sockets = [socket.socket(fileno=int(fd)) for fd in os.environ.pop(SOCKETS).split(",")]
    leash = int(os.environ.pop(LEASH))
    for fd in (leash, *(sock.fileno() for sock in sockets)):
        # What a script starts must not hold them open.
        os.set_inheritable(fd, False)
    settings = config.load(os.environ)
    watch = Watch(settings.run_limit_s, settings.cancel)
    watch.start(leash)
    mark = os.environ.pop(MARK, "")
    log = Log("worker", settings.log_json, settings.log_level, wait=True, mark=mark)
    faulthandler.enable(file=2)
    script_log = Log("script", settings.log_json, "DEBUG", wait=True, mark=mark)
    route_script_output(script_log, settings.log_level)
    os.environ["HTTP_X_MS_SERVER_VERSION"] = settings.server_version or __version__
    try:
        worker = _prepare(settings, log, sockets[0], watch)
    except exit_codes.FatalError as fatal:
        frames.send(sockets[0], frames.FAILED, 0, tuple(Failure(fatal.code, fatal.message)))
        _leave(fatal.code)
    lanes: List[Tuple[socket.socket, socket.socket, Lane]] = []
    for pair in zip(sockets[::2], sockets[1::2]):  # noqa: B905 - Python 3.7
        lane = Lane(on_main_thread=not lanes)
        watch.add(lane)
        lanes.append((*pair, lane))
    for others in lanes[1:]:
        threading.Thread(target=worker.serve, args=others, daemon=True).start()
    worker.serve(*lanes[0])
    _leave(0)


def _prepare(settings: config.Settings, log: Log, sock: socket.socket, watch: Watch) -> Worker:
    if settings.debug_port is not None:
        _attach_debugger(settings.debug_port, log)
    entry = load(settings, log)
    log.info("loaded {}; {}".format(entry.path, entry.description))
    worker = Worker(settings, log, entry, watch)
    started = time.perf_counter()
    try:
        entry.init()
    except BaseException as error:
        log.error("init() failed:\n{}".format(trace(error)))
        raise exit_codes.FatalError(
            exit_codes.SCRIPT, "init() in {} raised {}".format(entry.path, describe(error))
        ) from None
    try:
        documents, supported = swagger.documents_of(settings, entry.written)
    except Exception as error:
        raise exit_codes.FatalError(
            exit_codes.SCRIPT, "the API description cannot be made: {}".format(describe(error))
        ) from None
    sys.stdout.flush()
    log.info("init() took {:.0f} ms".format((time.perf_counter() - started) * 1000))
    facts = ScriptFacts(
        entry.needs_headers,
        isinstance(entry.parse, RawInput),
        isinstance(entry.parse, TextInput) and not entry.needs_headers,
        documents,
        supported,
    )
    frames.send(sock, frames.READY, 0, tuple(facts))
    return worker


def _attach_debugger(port: int, log: Log) -> None:
    log.warning("waiting for a debugger at port {}: not for production".format(port))
    try:
        import debugpy  # type: ignore[import-not-found, unused-ignore]

        debugpy.connect(port)
        debugpy.wait_for_client()
    except ImportError:
        message = "AZUREML_DEBUG_PORT is set, but the package debugpy is not installed"
        raise exit_codes.FatalError(exit_codes.DEBUGGER, message) from None
    except Exception as error:
        message = "AZUREML_DEBUG_PORT={}: no debugger can be attached: {}".format(port, error)
        raise exit_codes.FatalError(exit_codes.DEBUGGER, message) from None


def _leave(code: int) -> NoReturn:
    # Threads of a script must not keep the process alive, but what is printed has to get out.
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)
