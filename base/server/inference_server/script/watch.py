"""When is a ``run()`` stopped? When its time is over, or when nobody waits for its answer any more.

A thread looks at the clock and listens to the front. It stops ``run()`` on the main thread by a
signal, whose handler raises: not SIGALRM, which belongs to the script, and no timer of the system.
SIGURG is ignored by whoever does not expect it, so it does no harm to what a script starts.
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
# How exactly a very short limit is kept while nothing runs.
LEAST_SLEEP_S = 0.02


class StoppedError(BaseException):
    """Raised inside ``run()`` to stop it.

    Not an ``Exception``, so that a script's own ``except Exception`` does not swallow it.
    """


class TimedOutError(StoppedError):
    """Its time is over."""


class LeftError(StoppedError, GeneratorExit):
    """The client is gone. A generator that makes its response is told as if it were closed."""


class Lane:
    """One of the places in which this worker scores: the requests there have numbers."""

    def __init__(self, on_main_thread: bool) -> None:
        self.on_main_thread = on_main_thread
        # Of the request that is being scored; the first has 0.
        self.number = -1
        # The last one that nobody waits for.
        self.cancelled = -1

    @property
    def is_wanted(self) -> bool:
        """Whether somebody waits for the request that is being scored."""
        return self.cancelled < self.number


class Watch:
    """Stops what runs on the main thread; on other threads, only between the parts of an answer."""

    def __init__(self, limit_s: float, cancels: bool) -> None:
        self._limit_s = limit_s
        self._cancels = cancels
        self._lanes: Dict[int, Lane] = {}
        # What runs on the main thread, if anything does, and when its time is over.
        self._main_lane: Optional[Lane] = None
        self._runs = False
        self._ends = 0.0

    def start(self, leash: int) -> None:
        """Begin to watch, and to listen to the front; this process ends when the front is gone."""
        signal.signal(STOP, self._on_signal)
        threading.Thread(target=self._watch, args=(leash,), name="watch", daemon=True).start()

    def add(self, lane: Lane) -> None:
        """A further lane; the first is that of the main thread."""
        self._lanes[len(self._lanes)] = lane
        if lane.on_main_thread:
            self._main_lane = lane

    def limited(
        self, lane: Lane, ends: float, call: Callable[..., Any], arguments: Mapping[str, Any]
    ) -> Any:
        """Call something of the script that is stopped at a time of ``perf_counter``.

        ``TimedOutError`` and ``LeftError`` are raised before the call, too, or, on the main thread,
        in its middle.
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
        """The handler of the signal, on the main thread; what it stops it stops once."""
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
            # What begins while this sleeps does not end before it wakes.
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
                # No orphan keeps a model.
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
