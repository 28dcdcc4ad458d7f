"""When is a ``run()`` stopped? When its time is over, or when its client has left.

A thread watches the clock, and the pipe from the service. It stops ``run()`` on the main thread by
a signal, whose handler raises. SIGALRM and the timers of the system belong to the script. SIGURG is
ignored by default, so it does no harm to child processes of a script.
"""

from __future__ import annotations

import os
import select
import signal
import threading
import time
from types import FrameType
from typing import Any, Callable, Dict, Mapping, Optional

from ..workers.messages import CANCEL

STOP = signal.SIGURG
# The shortest sleep while nothing runs. Shorter limits are kept less exactly.
LEAST_SLEEP_S = 0.02


class StoppedError(BaseException):
    """Raised in ``run()`` to stop it.

    Not an ``Exception``, so that ``except Exception`` in a script does not catch it.
    """


class TimedOutError(StoppedError):
    """The time of ``run()`` is over."""


class LeftError(StoppedError, GeneratorExit):
    """The client has left. For a generator that makes a response, it looks like ``close()``."""


class Lane:
    """A place where this worker scores, with the numbers of its requests."""

    def __init__(self, on_main_thread: bool) -> None:
        self.on_main_thread = on_main_thread
        # The number of the current request; the first has 0.
        self.number = -1
        # The number of the last request whose client has left.
        self.cancelled = -1

    @property
    def is_wanted(self) -> bool:
        """Whether the client of the current request waits for its answer."""
        return self.cancelled < self.number


class Watch:
    """Stops ``run()`` on the main thread; on other threads only between the parts of an answer."""

    def __init__(self, limit_s: float, cancels: bool) -> None:
        self._limit_s = limit_s
        self._cancels = cancels
        self._lanes: Dict[int, Lane] = {}
        # The lane of the main thread, whether run() is in progress there, and when its time ends.
        self._main_lane: Optional[Lane] = None
        self._runs = False
        self._ends = 0.0

    def start(self, leash: int) -> None:
        """Begin to watch clock and service; this process ends when the service has ended."""
        signal.signal(STOP, self._on_signal)
        threading.Thread(target=self._watch, args=(leash,), name="watch", daemon=True).start()

    def add(self, lane: Lane) -> None:
        """Watch another lane."""
        self._lanes[len(self._lanes)] = lane
        if lane.on_main_thread:
            self._main_lane = lane

    def limited(
        self, lane: Lane, ends: float, call: Callable[..., Any], arguments: Mapping[str, Any]
    ) -> Any:
        """Call a function of the script, until ``ends``, a time of ``perf_counter``.

        Raises ``TimedOutError`` or ``LeftError`` before the call or, on the main thread, in it.
        """
        if not lane.on_main_thread:
            self._check(lane, ends)
            return call(**arguments)
        self._ends = ends
        self._runs = True
        try:
            self._check(lane, ends)
            return call(**arguments)
        finally:
            self._runs = False

    def _check(self, lane: Lane, ends: float) -> None:
        if not lane.is_wanted and self._cancels:
            raise LeftError
        if time.perf_counter() >= ends:
            raise TimedOutError

    def _on_signal(self, _signal: int, _frame: Optional[FrameType]) -> None:
        """The signal handler, on the main thread; it raises once per call."""
        if self._runs and self._main_lane is not None:
            try:
                self._check(self._main_lane, self._ends)
            except StoppedError:
                self._runs = False
                raise

    def _watch(self, leash: int) -> None:
        main = threading.main_thread().ident
        assert main is not None
        received = b""
        while True:
            # A call that begins during this sleep does not end before it.
            ends = self._ends
            now = time.perf_counter()
            sleep_s = ends - now if ends > now else max(self._limit_s, LEAST_SLEEP_S)
            readable, _, _ = select.select([leash], [], [], min(sleep_s, 3600.0))
            if not readable:
                if self._runs and time.perf_counter() >= self._ends:
                    signal.pthread_kill(main, STOP)
                continue
            data = os.read(leash, 4096)
            if not data:
                # The service has ended: do not stay behind with a model in memory.
                os._exit(0)
            received += data
            while len(received) >= CANCEL.size:
                index, number = CANCEL.unpack_from(received)
                received = received[CANCEL.size :]
                lane = self._lanes.get(index)
                if lane is not None:
                    lane.cancelled = number
                    if lane is self._main_lane and self._runs:
                        signal.pthread_kill(main, STOP)
