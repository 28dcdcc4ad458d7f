"""How does a line reach the log? At once, as text or JSON, without making the service wait.

Lines of requests that end together are written together, all others one by one. If the log is not
read, lines wait in a buffer of limited size, because requests must not wait. When it is full, the
oldest lines are lost, and the log says how many.
"""

from __future__ import annotations

import io
import json
import logging
import os
import select
import sys
import threading
import time
from collections import deque
from typing import Any, Deque, Dict, Optional

TEXT_FORMAT = "%(asctime)s %(levelname).1s [%(process)d] %(name)s - %(message)s"
LEVELS = {"DEBUG": 10, "INFO": 20, "WARNING": 30, "ERROR": 40, "CRITICAL": 50}
NAMES = {number: name for name, number in LEVELS.items()}
LONGEST_PATH = 1000
LONGEST_TRACE = 100
# The most characters that wait for a log that is not read.
MOST_WAITING = 4 * 1024 * 1024
# Lines of JSON are cut to this length, because logs are read line by line.
LONGEST_LINE = 64 * 1024
# How long the last lines, and processes that print a lot, wait for a reader.
SETTLE_S = 2.0


class Sink:
    """Where the lines of this process go: a file descriptor that may block."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        # A signal handler may log while the interrupted thread is logging.
        self._lock = threading.RLock()
        self._lines: Deque[str] = deque()
        self._waiting = 0
        self._lost = 0
        self._is_read = True
        self._rest = b""
        self._reader = select.poll()
        self._reader.register(fd, select.POLLOUT)

    def add(self, line: str) -> None:
        """Prepare a line; ``flush`` writes it."""
        with self._lock:
            self._lines.append(line)
            self._waiting += len(line)
            while self._waiting > MOST_WAITING:
                self._waiting -= len(self._lines.popleft())
                self._lost += 1

    def flush(self, limit_s: float = 0.0) -> int:
        """Write the prepared lines, waiting for the reader no longer than ``limit_s``.

        Returns how many lines were lost since the last call that wrote all, for the log.
        """
        with self._lock:
            while (self._rest or self._lines) and self._reader.poll(limit_s * 1000):
                if not self._rest:
                    self._rest = self._next()
                try:
                    # A pipe that is ready takes PIPE_BUF bytes; see POLLOUT in pipe(7).
                    written = os.write(self._fd, self._rest[: select.PIPE_BUF])
                except OSError:
                    # A closed log, or a full disk, must not end the service.
                    written = len(self._rest)
                self._rest = self._rest[written:]
            if self._rest or self._lines:
                return 0
            lost, self._lost = self._lost, 0
            return lost

    def await_reader(self) -> None:
        """Make a thread that writes a lot wait for the log's reader, if there is one."""
        if self._waiting < MOST_WAITING // 2:
            self._is_read = True
        elif self._is_read:
            reader = select.poll()
            reader.register(self._fd, select.POLLOUT)
            self._is_read = bool(reader.poll(SETTLE_S * 1000))

    def _next(self) -> bytes:
        text = self._lines.popleft()
        size = len(text)
        while self._lines and size + len(self._lines[0]) <= select.PIPE_BUF:
            size += len(self._lines[0])
            text += self._lines.popleft()
        self._waiting -= size
        return text.encode("utf-8", "backslashreplace")


SINK = Sink(1)


def settle() -> None:
    """Give the reader time for the last lines of this process."""
    SINK.flush(SETTLE_S)


class Log:
    """A named part of the log of one process.

    Workers ``wait`` for the reader, as their scripts do when they print. The service recognises
    finished records of a worker by their ``mark``; see ``workers.relay``.
    """

    def __init__(
        self, name: str, as_json: bool, level: str = "INFO", wait: bool = False, mark: str = ""
    ) -> None:
        self.json = as_json
        self._name = name
        self._threshold = LEVELS[level]
        self._wait = wait
        self._mark = mark
        self._pid = os.getpid()
        self._second = 0
        self._stamp = ""

    def debug(self, message: str, **fields: Any) -> None:
        """Write a line of level DEBUG."""
        self.write("DEBUG", message, fields)

    def info(self, message: str, **fields: Any) -> None:
        """Write a line of level INFO."""
        self.write("INFO", message, fields)

    def warning(self, message: str, **fields: Any) -> None:
        """Write a line of level WARNING."""
        self.write("WARNING", message, fields)

    def error(self, message: str, **fields: Any) -> None:
        """Write a line of level ERROR."""
        self.write("ERROR", message, fields)

    def fatal(self, message: str, code: int) -> None:
        """Write the line that explains why the process ends; it is meant to be the last."""
        self.write("CRITICAL", "{} (exit code {})".format(message, code), {"exit_code": code})

    def write(self, level: str, message: str, fields: Dict[str, Any]) -> None:
        """Write one record; the fields appear in JSON only."""
        if LEVELS[level] < self._threshold:
            return
        if self.json:
            self.record(level, message, **fields)
        else:
            self.line(
                "{} {} [{}] {} - {}".format(
                    self.stamp(" "), level[0], self._pid, self._name, as_continued(message)
                )
            )

    def record(self, level: str, message: str, **fields: Any) -> None:
        """Write one JSON line, whatever its level is."""
        record: Dict[str, Any] = {"time": self.stamp("T"), "level": level, "logger": self._name}
        record.update(pid=self._pid, message=message)
        record.update(fields)
        line = json.dumps(record, default=str)
        if self._mark and len(self._mark) + len(line) > LONGEST_LINE:
            line = json.dumps({**record, **_shortened(record), "cut": True}, default=str)
        self.line(self._mark + line)

    def line(self, line: str) -> None:
        """Write a finished line."""
        line += "\n"
        if self._wait:
            _write_all(line)
            return
        SINK.add(line)
        self.flush()

    def access(
        self,
        method: str,
        path: str,
        status: int,
        ms: float,
        size: int,
        request_id: str,
        client_id: str,
        run_ms: Optional[float],
        trace: str = "",
    ) -> None:
        """Prepare the line of one request; ``flush`` writes it."""
        if self._threshold > 20:
            return
        if len(path) > LONGEST_PATH:
            path = path[:LONGEST_PATH] + "..."
        if self.json:
            record: Dict[str, Any] = {"time": self.stamp("T"), "level": "INFO"}
            record["logger"] = "access"
            record.update(
                pid=self._pid,
                message="request",
                method=method,
                path=path,
                status=status,
                ms=round(ms, 3),
                run_ms=run_ms if run_ms is None else round(run_ms, 3),
                bytes=size,
                request_id=request_id,
            )
            if client_id:
                record["client_request_id"] = client_id
            if trace:
                record["traceparent"] = trace
            SINK.add(json.dumps(record) + "\n")
            return
        line = "%s I [%d] access - %s %s %d %.3fms %d id=%s" % (  # noqa: UP031 - the hot path
            self.stamp(" "),
            self._pid,
            method,
            path,
            status,
            ms,
            size,
            request_id,
        )
        if client_id:
            line += " client=" + client_id
        if trace:
            line += " traceparent=" + trace[:LONGEST_TRACE]
        if not line.isprintable():
            # Path and ids come from the client: they must not start a new line in the log.
            line = line.encode("unicode_escape").decode("ascii")
        SINK.add(line + "\n")

    def flush(self) -> None:
        """Write the prepared lines of requests, as far as that does not block."""
        lost = SINK.flush()
        if lost:
            self.warning("{} lines were lost: the log was not read".format(lost))

    def stamp(self, separator: str) -> str:
        """Date and time in UTC with milliseconds; the text of each second is made once."""
        now = time.time()
        second = int(now)
        if second != self._second:
            self._stamp = time.strftime("%Y-%m-%d{}%H:%M:%S".format(separator), time.gmtime(second))
            self._second = second
        return "%s,%03d" % (self._stamp, (now - second) * 1000)  # noqa: UP031 - the hot path


def _write_all(line: str) -> None:
    # In one call, so that lines of several processes do not mix.
    data = line.encode("utf-8", "backslashreplace")
    try:
        while data:
            data = data[os.write(1, data) :]
    except OSError:
        # A closed log must not end the process.
        pass


def _shortened(record: Dict[str, Any]) -> Dict[str, Any]:
    # In JSON, a character takes up to six. Message and traceback are long.
    limit = LONGEST_LINE // 16
    return {key: value[:limit] for key, value in record.items() if isinstance(value, str)}


def as_continued(message: str) -> str:
    """The message with its further lines indented, so that none looks like a new record.

    Messages of exceptions can contain text of clients, so other control characters are escaped.
    """
    if message.isprintable():
        return message
    return "\n  ".join(
        "".join(
            char
            if char == "\t" or char.isprintable()
            else char.encode("unicode_escape").decode("ascii")
            for char in line
        )
        for line in message.split("\n")
    )


class LogStream(io.TextIOBase):
    """Replaces stdout and stderr of the service for JSON logs: warnings, unexpected tracebacks."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._rest = ""

    def write(self, text: str) -> int:
        """Log each line as a record."""
        lines = (self._rest + text).split("\n")
        self._rest = lines.pop()
        for line in lines:
            self._log.record("ERROR", line)
        return len(text)


class JsonHandler(logging.Handler):
    """Writes the records of ``logging`` as JSON lines."""

    def __init__(self, log: Log) -> None:
        super().__init__()
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record, with its traceback as a field."""
        try:
            fields: Dict[str, Any] = {"logger": record.name, "pid": record.process}
            if record.exc_info:
                fields["traceback"] = logging.Formatter().formatException(record.exc_info)
            if record.stack_info:
                fields["stack"] = record.stack_info
            level = NAMES.get(record.levelno // 10 * 10, "INFO")
            self._log.write(level, record.getMessage(), fields)
        except Exception:
            self.handleError(record)


def route_script_output(log: Log, level: str) -> None:
    """Send ``print`` and ``logging`` of the entry script to the log, in their order.

    Stdout and stderr become one stream, because two pipes have no common order.
    """
    sys.stderr.flush()
    os.dup2(1, 2)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace", line_buffering=True)
    handler: logging.Handler = JsonHandler(log)
    if not log.json:
        handler = _StdoutHandler()
        formatter = logging.Formatter(TEXT_FORMAT)
        formatter.converter = time.gmtime
        handler.setFormatter(formatter)
    _install(handler, LEVELS[level])


class _StdoutHandler(logging.StreamHandler):  # type: ignore[type-arg]
    """Writes to whatever ``sys.stdout`` is at the moment."""

    @property
    def stream(self) -> Any:
        """Looked up for each record, because scripts and test tools replace ``sys.stdout``."""
        return sys.stdout

    @stream.setter
    def stream(self, _value: Any) -> None:
        """Ignored: the base class assigns one."""


def _install(handler: logging.Handler, level: int) -> None:
    """Make it the root handler until a script configures logging itself."""
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(level)
    original = logging.basicConfig

    def basic_config(**options: Any) -> None:
        # `logging.info` calls it without options to get a handler. A script that gives options
        # wants its own configuration.
        if options:
            root.removeHandler(handler)
        original(**options)

    logging.basicConfig = basic_config
