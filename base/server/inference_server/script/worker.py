"""What does a worker process do? It runs ``init()`` once, then ``run()`` for each request.

Both run on the main thread, as in a synchronous server. Scripts may rely on that (signals, an event
loop, SQLite connections, graphs of TensorFlow 1). With a concurrency above one, other requests run
at the same time, on threads of their own.
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

# The message of an answer that is dropped.
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
    """The rest of a streamed body, and the time at which it has to be complete."""

    def __init__(self, chunks: outputs.Stream, ends: float) -> None:
        self.ends = ends
        self._chunks = chunks

    def next(self) -> Optional[bytes]:
        """The next part, or None at the end. Raises what the script raises."""
        for chunk in self._chunks:
            if chunk:
                return chunk
        return None

    def close(self) -> None:
        """Let the script clean up; the body may be read or not."""
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
        """Answer requests until the service closes the sockets.

        In a batch, all answers but the last go to the quiet socket: see ``pool.Slot``.
        """
        reader = frames.Reader(loud)
        while True:
            try:
                _, more, meta, body, _ = reader.next()
                lane.number += 1
                calls = [Call.decode(meta, body)]
                # No reference here, so that a large body is freed when the script has parsed it.
                body = b""
                try:
                    answer = self._answer(calls, lane)
                except BaseException as error:
                    # An exception of a script can raise another one in its methods.
                    self._log.error("internal error: {}".format(type(error).__name__))
                    answer = _error(500, INTERNAL)
                self._send(quiet if more else loud, answer, lane)
            except (frames.ClosedError, OSError):
                return

    def _send(self, sock: socket.socket, answer: Answer, lane: Lane) -> None:
        """Send an answer, large ones in parts; stop early if the client has left."""
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
        """Send the rest of a stream; whether it was completed."""
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
        """Score the request in the list. It is removed, so that no reference to its body stays."""
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
            message = _body_error(error, arguments) if is_post else ""
            if message:
                return _error(400, message)
            self._log.error("run() raised {}\n{}".format(describe(error), trace(error)))
            return _error(500, SCRIPT_FAILED, run_failed=True)
        arguments.clear()
        return self._form(result, ms, lane, started)

    def _form(self, result: Any, ms: float, lane: Lane, started: float) -> Answer:
        """Make the answer from a result."""
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
            # Before the first bytes are sent, the status can still report an error.
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


def _body_error(error: BaseException, arguments: Mapping[str, Any]) -> str:
    """The error of the body, if the script failed because the body is no valid JSON; else "".

    The exception, or the frame of the parser, holds the parsed text, which is compared.
    """
    if isinstance(error, json.JSONDecodeError):
        parsed: Any = error.doc
        message = "The body of the request is not valid JSON: {}".format(error)
    elif isinstance(error, RecursionError) and error.__traceback__ is not None:
        stack = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
        if stack[-1].f_globals.get("__name__") != "json.decoder":
            return ""
        parsed = stack[-1].f_locals.get("s")
        message = "The body of the request is nested too deeply."
    else:
        return ""
    return message if any(_is_body(value, parsed) for value in arguments.values()) else ""


def _is_body(argument: Any, parsed: Any) -> bool:
    """Whether the parsed text is an argument of ``run()``: a text, or the body of a request."""
    if isinstance(argument, str):
        return bool(argument == parsed)
    data = getattr(argument, "data", None)
    if isinstance(parsed, str):
        parsed = parsed.encode("utf-8", "replace")
    return isinstance(data, (bytes, bytearray)) and data == parsed


def main() -> NoReturn:
    """Run a worker; the service has started this process and passed it its sockets."""
    sockets = [socket.socket(fileno=int(fd)) for fd in os.environ.pop(SOCKETS).split(",")]
    leash = int(os.environ.pop(LEASH))
    for fd in (leash, *(sock.fileno() for sock in sockets)):
        # Child processes of a script must not keep them open.
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
        _exit(fatal.code)
    lanes: List[Tuple[socket.socket, socket.socket, Lane]] = []
    for pair in zip(sockets[::2], sockets[1::2]):  # noqa: B905 - Python 3.7
        lane = Lane(on_main_thread=not lanes)
        watch.add(lane)
        lanes.append((*pair, lane))
    for others in lanes[1:]:
        threading.Thread(target=worker.serve, args=others, daemon=True).start()
    worker.serve(*lanes[0])
    _exit(0)


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


def _exit(code: int) -> NoReturn:
    # Threads of a script must not keep the process running, but its output must be written.
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)
