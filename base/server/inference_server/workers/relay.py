"""How does the output of a worker become records of a JSON log?

A worker writes to a pipe: ``print`` in its script, native libraries, the interpreter, and child
processes. A thread of the service makes a record of each line. Among the lines are finished records
of the worker, which begin with a mark that the script does not know.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
from typing import Any, Dict, Optional

from ..log import LONGEST_LINE, SINK, Log
from .messages import MARK


class Relay:
    """The output of one process that is about to start.

    With a text log, ``fd`` is None, and the process inherits the stdout of the service.
    """

    def __init__(self, log: Log, logger: str) -> None:
        self.fd: Optional[int] = None
        self.environ: Dict[str, str] = {}
        self.pid = 0
        self._log = log
        self._logger = logger
        self._thread: Optional[threading.Thread] = None
        if log.json:
            mark = os.urandom(16).hex()
            self.environ[MARK] = mark
            self._mark = mark.encode()
            read_end, self.fd = os.pipe()
            self._thread = threading.Thread(
                target=self._run, args=(read_end,), name="relay", daemon=True
            )
            self._thread.start()

    def started(self) -> None:
        """The process was started, or not: close the write end here, so that the pipe can end."""
        if self.fd is not None:
            os.close(self.fd)
            self.fd = None

    def finish(self, limit_s: float) -> None:
        """Wait for the last lines; child processes may hold the pipe open for longer."""
        if self._thread is not None:
            self._thread.join(limit_s)

    def _run(self, fd: int) -> None:
        rest = b""
        while True:
            chunk = os.read(fd, LONGEST_LINE)
            lines = (rest + chunk).split(b"\n")
            rest = lines.pop()
            if rest and (len(rest) >= LONGEST_LINE or not chunk):
                lines.append(rest)
                rest = b""
            for line in lines:
                for start in range(0, len(line) or 1, LONGEST_LINE):
                    SINK.await_reader()
                    # No error with one line may stop this thread: a full pipe blocks the process.
                    with contextlib.suppress(Exception):
                        self._line(line[start : start + LONGEST_LINE])
            if not chunk:
                os.close(fd)
                return

    def _line(self, line: bytes) -> None:
        text, mark, record = line.partition(self._mark)
        if mark and _is_record(record):
            if text:
                self._wrap(text)
            self._log.line(record.decode("ascii"))
        else:
            self._wrap(line)

    def _wrap(self, line: bytes) -> None:
        text = line.replace(self._mark, b"").decode("utf-8", "backslashreplace")
        self._log.record("INFO", text, logger=self._logger, pid=self.pid)


def _is_record(line: bytes) -> bool:
    """Whether it is a record; other output may come between the parts of a long one."""
    try:
        content: Any = json.loads(line.decode("ascii"))
    except ValueError:
        return False
    return isinstance(content, dict)
