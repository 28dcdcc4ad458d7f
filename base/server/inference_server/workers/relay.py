"""How does what another process writes become records of a JSON log?

A process that we start writes to a pipe: its script's ``print``, native libraries, the interpreter
itself, and what it starts in turn. A thread here makes a record of each line. The finished records
that a worker writes among them begin with a mark that its script does not know.
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

    In a text log there is nothing to do: ``fd`` is None, and the process writes to ours.
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
            ours, self.fd = os.pipe()
            self._thread = threading.Thread(
                target=self._run, args=(ours,), name="relay", daemon=True
            )
            self._thread.start()

    def started(self) -> None:
        """The process has the pipe, or could not be started: its end is the pipe's end."""
        if self.fd is not None:
            os.close(self.fd)
            self.fd = None

    def finish(self, limit_s: float) -> None:
        """Wait for the last lines; what the process left behind may hold the pipe open."""
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
                    # Whatever befalls one line: a pipe that nobody empties stops the process.
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
    """Whether nothing came between the parts of a record that was too long for one write."""
    try:
        found: Any = json.loads(line.decode("ascii"))
    except ValueError:
        return False
    return isinstance(found, dict)
