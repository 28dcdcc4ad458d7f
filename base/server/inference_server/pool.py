"""Who scores the next request? A fixed set of slots and a bounded queue, first come first served.

All of it happens on the thread of an event loop. While requests queue, several short ones are
carried to a worker at a time, because a switch between two processes costs more than a small model.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from typing import Any, Callable, Deque, List, NamedTuple, Optional

from . import wire

# Requests are only carried together while run() takes less than this; the slowest one counts.
FAST_MS = 2.0
BATCH = 32
# Fits into the buffer of a socket, so that a worker seldom waits for the rest of a batch.
BATCH_BYTES = 64 * 1024
# What a frame adds to its body, at a guess; headers that scripts ask for make it larger.
FRAME_BYTES = 2048
# After this long the quiet answers of a batch are fetched while its last one is still awaited.
PATIENCE_S = 0.005


class Result(NamedTuple):
    """What came back for one request; see ``Worker._answer`` for the metadata."""

    status: int
    meta: Any
    body: bytes
    ms: float


class BusyError(Exception):
    """The queue is full."""


class NotReadyError(Exception):
    """No worker is there to take the request."""


class DiedError(Exception):
    """The worker went away with the request."""


class TooSlowError(Exception):
    """The worker did not answer within the limit."""


class Job:
    """A request that is to be scored; exactly one of the two methods is called, once."""

    __slots__ = ("meta", "body")

    def __init__(self, meta: Any, body: bytes) -> None:
        self.meta = meta
        self.body = body

    def complete(self, result: Result, more: bool) -> None:
        """The worker answered; ``more`` answers follow at once."""
        raise NotImplementedError

    def fail(self, error: Exception) -> None:
        """There will be no answer."""
        raise NotImplementedError


class Slot:
    """One place in which a request can run: two sockets to a worker.

    The worker answers on the loud socket, which wakes the loop, except for the requests of a batch
    that others follow: their answers gather on the quiet one, where they wake nobody and yet are
    safe should the worker die in the next request.
    """

    def __init__(
        self,
        loud: socket.socket,
        quiet: socket.socket,
        limit_s: float,
        replace: Callable[[str], None],
        lost: Callable[[], None],
    ) -> None:
        self.slowest_ms = FAST_MS
        self._pool: Optional[Pool] = None
        self._loop: Any = None
        self._limit_s = limit_s
        # What is to happen to the worker: it is stuck, or it is gone.
        self._replace = replace
        self._lost = lost
        self._loud, self._quiet = loud, quiet
        self._loud_frames, self._quiet_frames = wire.Frames(), wire.Frames()
        self._waiting: Deque[Job] = deque()
        self._unsent: Deque[memoryview] = deque()
        self._hears_quiet = False
        self._patience: Any = None
        self._deadline = 0.0
        self._watch: Any = None

    def open(self, loop: asyncio.AbstractEventLoop, pool: Pool) -> None:
        """Begin to take requests."""
        self._loop, self._pool = loop, pool
        self._loud.setblocking(False)
        self._quiet.setblocking(False)
        loop.add_reader(self._loud, self._on_loud)

    def carry(self, jobs: List[Job]) -> None:
        """Have requests scored, in order."""
        self._waiting.extend(jobs)
        self._deadline = self._loop.time() + self._limit_s
        if self._watch is None:
            self._watch = self._loop.call_at(self._deadline, self._on_deadline)
        if len(jobs) > 1:
            data = b"".join(
                [wire.pack(wire.SCORE, 1, job.meta, job.body) for job in jobs[:-1]]
                + [wire.pack(wire.SCORE, 0, jobs[-1].meta, jobs[-1].body)]
            )
            self._patience = self._loop.call_later(PATIENCE_S, self._hear_quiet)
            self._send(data)
        else:
            # A large body is not copied once more to glue it to its head.
            for part in wire.parts(wire.SCORE, 0, jobs[0].meta, jobs[0].body):
                self._send(part)

    def _send(self, data: bytes) -> None:
        view = memoryview(data)
        if not self._unsent:
            try:
                view = view[self._loud.send(view) :]
            except BlockingIOError:
                pass
            except OSError:
                # The loop hears of the end of the worker in a moment.
                pass
            if not view:
                return
            self._loop.add_writer(self._loud, self._on_writable)
        self._unsent.append(view)

    def _on_writable(self) -> None:
        unsent = self._unsent
        try:
            while unsent:
                unsent[0] = unsent[0][self._loud.send(unsent[0]) :]
                if unsent[0]:
                    return
                unsent.popleft()
        except BlockingIOError:
            return
        except OSError:
            pass
        self._loop.remove_writer(self._loud)

    def _on_loud(self) -> None:
        try:
            frames = self._loud_frames.receive(self._loud)
        except BlockingIOError:
            return
        except (wire.ClosedError, OSError):
            self._end(DiedError())
            return
        if not frames:
            # A large answer is on its way.
            self._deadline = self._loop.time() + self._limit_s
            return
        try:
            # What was answered before was sent before.
            while len(self._waiting) > 1:
                self._take_quiet(more=True)
        except (wire.ClosedError, OSError):
            self._end(DiedError())
            return
        self._end_batch()
        self._complete(frames[0], more=False)
        pool = self._pool
        assert pool is not None
        pool.release(self)

    def _end_batch(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None
        if self._hears_quiet:
            self._hears_quiet = False
            self._loop.remove_reader(self._quiet)

    def _hear_quiet(self) -> None:
        """The batch takes long: pass on what is there, and what comes."""
        self._patience = None
        self._hears_quiet = True
        self._loop.add_reader(self._quiet, self._on_quiet)

    def _on_quiet(self) -> None:
        try:
            self._take_quiet(more=False)
        except BlockingIOError:
            pass
        except (wire.ClosedError, OSError):
            self._end(DiedError())

    def _take_quiet(self, more: bool) -> None:
        self._deadline = self._loop.time() + self._limit_s
        for frame in self._quiet_frames.receive(self._quiet):
            self._complete(frame, more)

    def _complete(self, frame: wire.Frame, more: bool) -> None:
        _, status, meta, body, ms = frame
        # A decaying maximum: one slow run ends the batches for a while.
        slowest_ms = self.slowest_ms * 0.98
        self.slowest_ms = ms if ms > slowest_ms else slowest_ms
        self._waiting.popleft().complete(Result(status, meta, body, ms), more)

    def _on_deadline(self) -> None:
        self._watch = None
        if not self._waiting:
            return
        if self._loop.time() < self._deadline:
            self._watch = self._loop.call_at(self._deadline, self._on_deadline)
            return
        self._replace("run() did not end in time and did not react to being stopped")
        self._end(TooSlowError())

    def _end(self, error: Exception) -> None:
        """The worker is gone. The request it was at fails; those behind it go to the next one."""
        loop, pool, waiting = self._loop, self._pool, self._waiting
        assert pool is not None
        self._end_batch()
        loop.remove_reader(self._loud)
        loop.remove_writer(self._loud)
        try:
            # What it had finished before is still in the socket.
            while len(waiting) > 1:
                self._take_quiet(more=False)
        except (wire.ClosedError, OSError):
            pass
        # Of a request that did not get through whole the worker knows nothing.
        started = not (self._unsent and len(waiting) == 1)
        self._unsent.clear()
        failed = waiting.popleft() if waiting and started else None
        never_started = list(waiting)
        waiting.clear()
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        for sock in (self._loud, self._quiet):
            sock.close()
        pool.drop(self, never_started)
        if failed is not None:
            failed.fail(error)
        self._lost()


class Pool:
    """The slots of all live workers. Its methods belong to the thread of the loop, but for add."""

    def __init__(self, loop: asyncio.AbstractEventLoop, queue_limit: int) -> None:
        self._loop = loop
        self._limit = queue_limit
        self._free: List[Slot] = []
        self._queue: Deque[Job] = deque()
        self._slots = 0

    @property
    def ready(self) -> bool:
        """Whether at least one worker has finished ``init()``."""
        return self._slots > 0

    @property
    def waiting(self) -> int:
        """How many requests wait for a slot."""
        return len(self._queue)

    @property
    def busy(self) -> int:
        """How many slots are scoring."""
        return max(0, self._slots - len(self._free))

    def add(self, slot: Slot) -> None:
        """Take a new slot in; from any thread."""
        self._loop.call_soon_threadsafe(self._open, slot)

    def _open(self, slot: Slot) -> None:
        slot.open(self._loop, self)
        self._slots += 1
        self.release(slot)

    def drop(self, slot: Slot, never_started: List[Job]) -> None:
        """Forget a slot whose worker is gone; its requests go to the front of the queue."""
        self._slots -= 1
        if slot in self._free:
            self._free.remove(slot)
        self._queue.extendleft(reversed(never_started))
        if not self._slots:
            refused, self._queue = self._queue, deque()
            for job in refused:
                job.fail(NotReadyError())
        while self._free and self._queue:
            self.release(self._free.pop())

    def submit(self, job: Job) -> None:
        """Have a request scored, now or when a slot is free."""
        if self._free:
            self._free.pop().carry([job])
        elif not self._slots:
            raise NotReadyError
        elif len(self._queue) >= self._limit:
            raise BusyError
        else:
            self._queue.append(job)

    def release(self, slot: Slot) -> None:
        """A slot is free: it takes the next requests, if any wait."""
        if self._queue:
            slot.carry(self._next_jobs(slot))
        else:
            self._free.append(slot)

    def _next_jobs(self, slot: Slot) -> List[Job]:
        """The next requests for a slot: one, or several short ones, but never those of others."""
        queue = self._queue
        jobs = [queue.popleft()]
        if slot.slowest_ms >= FAST_MS:
            return jobs
        share = min(BATCH, (len(queue) + self._slots) // self._slots)
        size = FRAME_BYTES + len(jobs[0].body)
        while queue and len(jobs) < share:
            size += FRAME_BYTES + len(queue[0].body)
            if size > BATCH_BYTES:
                break
            jobs.append(queue.popleft())
        return jobs
