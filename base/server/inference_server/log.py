"""How does a line reach the log? One ``os.write`` per line, as text or as JSON.

Nothing stays in a buffer: lines of requests that end together are written together, all others at
once, so that nothing is lost when a process is killed. Only when nobody reads the log, the lines
of requests wait, because requests must not.
"""

from __future__ import annotations

import json
import logging
import os
import select
import sys
import time
from collections import deque
from typing import Any, Deque, Dict, Optional

TEXT_FORMAT = "%(asctime)s %(levelname).1s [%(process)d] %(name)s - %(message)s"
LEVELS = {"DEBUG": 10, "INFO": 20, "WARNING": 30, "ERROR": 40, "CRITICAL": 50}
NAMES = {number: name for name, number in LEVELS.items()}
LONGEST_PATH = 1000
LONGEST_TRACE = 100
# So many lines of requests wait for a log that is not read; the oldest are lost first.
WAITING_LINES = 10_000


class Log:
    """The log of one process."""

    def __init__(self, name: str, as_json: bool, level: str = "INFO", fd: int = 1) -> None:
        self._name = name
        self._json = as_json
        self._threshold = LEVELS[level]
        self._fd = fd
        self._pid = os.getpid()
        self._lines: Deque[str] = deque(maxlen=WAITING_LINES)
        self._reader = select.poll()
        self._reader.register(fd, select.POLLOUT)
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
        """Write one record; in text form the fields are only those that the message names."""
        if LEVELS[level] < self._threshold:
            return
        if self._json:
            record: Dict[str, Any] = {"time": self.stamp("T"), "level": level}
            record["logger"] = self._name
            record.update(pid=self._pid, message=message, **fields)
            line = json.dumps(record, default=str) + "\n"
        else:
            line = "{} {} [{}] {} - {}\n".format(
                self.stamp(" "), level[0], self._pid, self._name, message
            )
        self.raw(line)

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
        if self._json:
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
            self._lines.append(json.dumps(record) + "\n")
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
            # Path and ids are the client's: they must not start a line of their own in the log.
            line = line.encode("unicode_escape").decode("ascii")
        self._lines.append(line + "\n")

    def flush(self) -> None:
        """Write the prepared lines of requests in their order, as long as that does not block."""
        lines = self._lines
        while lines and self._reader.poll(0):
            # So much fits into a pipe that is ready, see POLLOUT in pipe(7).
            text = lines.popleft()
            while lines and len(text) + len(lines[0]) <= select.PIPE_BUF:
                text += lines.popleft()
            self.raw(text)

    def stamp(self, separator: str) -> str:
        """The time of day in UTC with milliseconds; the text of a second is made once."""
        now = time.time()
        second = int(now)
        if second != self._second:
            self._stamp = time.strftime("%Y-%m-%d{}%H:%M:%S".format(separator), time.gmtime(second))
            self._second = second
        return "%s,%03d" % (self._stamp, (now - second) * 1000)  # noqa: UP031 - the hot path

    def raw(self, line: str) -> None:
        """Write a finished line in one call, so that lines of several processes do not mix."""
        data = line.encode("utf-8", "backslashreplace")
        try:
            written = os.write(self._fd, data)
            while written < len(data):
                data = data[written:]
                written = os.write(self._fd, data)
        except OSError:
            # A closed or full log must not take the service down.
            pass


class JsonHandler(logging.Handler):
    """Turns the records of ``logging`` into the JSON lines of this log."""

    def __init__(self, log: Log) -> None:
        super().__init__()
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record, with its traceback as a field."""
        fields: Dict[str, Any] = {"logger": record.name}
        if record.exc_info:
            fields["traceback"] = logging.Formatter().formatException(record.exc_info)
        level = NAMES.get(record.levelno // 10 * 10, "INFO")
        self._log.write(level, record.getMessage(), fields)


class JsonStream:
    """Stands in for ``sys.stdout``: every printed line becomes a JSON line."""

    encoding = "utf-8"
    errors = "backslashreplace"

    def __init__(self, log: Log, stream_name: str) -> None:
        self._log = log
        self._stream = stream_name
        self._rest = ""

    def write(self, text: str) -> int:
        """Collect text and pass on what ends with a newline."""
        lines = (self._rest + text).split("\n")
        self._rest = lines.pop()
        for line in lines:
            self._log.write("INFO", line, {"stream": self._stream})
        return len(text)

    def flush(self) -> None:
        """Pass on a line that has no end yet."""
        if self._rest:
            rest, self._rest = self._rest, ""
            self._log.write("INFO", rest, {"stream": self._stream})

    def isatty(self) -> bool:
        """A log is never a terminal."""
        return False

    def fileno(self) -> int:
        """The descriptor that children of a script would write to."""
        return 1

    def writable(self) -> bool:
        """Like any output stream."""
        return True


def route_script_output(log: Log, as_json: bool, level: str) -> None:
    """Bring ``print`` and ``logging`` of the entry script into the log, in the order they happen.

    Both of the process's streams become one, because two pipes have no common order.
    """
    sys.stderr.flush()
    os.dup2(1, 2)
    if as_json:
        sys.stdout = JsonStream(log, "stdout")
        sys.stderr = JsonStream(log, "stderr")
        handler: logging.Handler = JsonHandler(log)
    else:
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(encoding="utf-8", errors="backslashreplace", line_buffering=True)
        handler = _StdoutHandler()
        formatter = logging.Formatter(TEXT_FORMAT)
        formatter.converter = time.gmtime
        handler.setFormatter(formatter)
    _install(handler, LEVELS[level])


class _StdoutHandler(logging.StreamHandler):  # type: ignore[type-arg]
    """Writes to whatever ``sys.stdout`` is at the moment."""

    @property
    def stream(self) -> Any:
        """Looked up for each record: scripts and test tools replace ``sys.stdout``."""
        return sys.stdout

    @stream.setter
    def stream(self, _value: Any) -> None:
        """The base class assigns one; it is not kept."""


def _install(handler: logging.Handler, level: int) -> None:
    """Make it the root handler, but let a script that configures logging have its own way."""
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(level)
    original = logging.basicConfig

    def basic_config(**options: Any) -> None:
        # `logging.info` calls this without options to be sure of a handler; only a script that
        # gives options wants something else than what is there.
        if options:
            root.removeHandler(handler)
        original(**options)

    logging.basicConfig = basic_config
