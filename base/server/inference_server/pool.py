"""Who scores the next request? A fixed set of slots and a bounded queue, first come first served.

The thread that brings a request to a free slot carries it to the worker and back itself, without
a hand-over. While requests queue, a thread of the slot takes over and carries several at a time,
because a switch between two processes costs more than a small model does.
"""

from __future__ import annotations

import select
import socket
import threading
from collections import deque
from typing import TYPE_CHECKING, Any, Deque, List, NamedTuple

from . import wire

if TYPE_CHECKING:
    from .supervisor import WorkerProcess

# Requests are only carried together while run() takes less than this; the slowest one counts.
FAST_MS = 2.0
BATCH = 32
# Fits into the buffer of a socket: sending a batch must not wait for the worker to read, which may
# itself be waiting for its answers to be read.
BATCH_BYTES = 64 * 1024
# What a frame adds to its body, at a guess; headers that scripts ask for make it larger.
FRAME_BYTES = 2048
# After this long the quiet answers of a batch are fetched while its last one is still awaited.
PATIENCE_MS = 5


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
        """The worker answered; ``more`` answers follow at once on this thread."""
        raise NotImplementedError

    def fail(self, error: Exception) -> None:
        """There will be no answer."""
        raise NotImplementedError


class Slot:
    """One place in which a request can run: two sockets to a worker.

    The worker answers on the loud socket, where the front waits, except for the requests of a
    batch that others follow: their answers gather on the quiet one, where they wake nobody and
    yet are safe should the worker die in the next request.
    """

    def __init__(
        self,
        loud: socket.socket,
        quiet: socket.socket,
        worker: "WorkerProcess",
        limit_s: float,
    ) -> None:
        self.worker = worker
        self.dead = False
        self.slowest_ms = FAST_MS
        self.handed_over = threading.Semaphore(0)
        self._loud = wire.Reader(loud)
        self._quiet = wire.Reader(quiet)
        self._sock = loud
        self._limit_ms = limit_s * 1000
        self._loud_ready = select.poll()
        self._loud_ready.register(loud, select.POLLIN)
        self._any_ready = select.poll()
        self._any_ready.register(loud, select.POLLIN)
        self._any_ready.register(quiet, select.POLLIN)
        self._loud_fd = loud.fileno()

    def carry(self, jobs: List[Job]) -> List[Job]:
        """Have requests scored, in order. Returns those that a dying worker never started."""
        data = self._pack_batch(jobs) if len(jobs) > 1 else b""
        if len(data) > 2 * BATCH_BYTES:
            # Larger than guessed: the first one goes alone, the others wait for their turn.
            return self.carry(jobs[:1]) + jobs[1:]
        waiting = deque(jobs)
        try:
            if len(jobs) == 1:
                try:
                    wire.send(self._sock, wire.SCORE, 0, jobs[0].meta, jobs[0].body)
                except (BrokenPipeError, ConnectionResetError):
                    # The worker was dead before the request came through whole.
                    self.worker.lost()
                    return jobs
            else:
                self._sock.sendall(data)
                self._await_batch(waiting)
                while len(waiting) > 1:
                    self._take(self._quiet, waiting, more=True)
            self._take(self._loud, waiting)
            return []
        except (BlockingIOError, TooSlowError):
            self.worker.replace("run() did not end in time and did not react to being stopped")
            error: Exception = TooSlowError()
        except (wire.ClosedError, OSError):
            error = DiedError()
            self.worker.lost()
            # What the worker had finished before is still in the socket.
            try:
                while len(waiting) > 1:
                    self._take(self._quiet, waiting)
            except (wire.ClosedError, OSError):
                pass
        waiting.popleft().fail(error)
        return list(waiting)

    @staticmethod
    def _pack_batch(jobs: List[Job]) -> bytes:
        frames = [wire.pack(wire.SCORE, 1, job.meta, job.body) for job in jobs[:-1]]
        frames.append(wire.pack(wire.SCORE, 0, jobs[-1].meta, jobs[-1].body))
        return b"".join(frames)

    def _await_batch(self, waiting: Deque[Job]) -> None:
        """Wait for the end of a batch; if that takes long, pass on what is there already."""
        if self._loud_ready.poll(PATIENCE_MS):
            return
        while len(waiting) > 1:
            ready = self._any_ready.poll(self._limit_ms)
            if not ready:
                raise TooSlowError
            if any(fd == self._loud_fd for fd, _ in ready):
                return
            self._take(self._quiet, waiting)

    def _take(self, reader: wire.Reader, waiting: Deque[Job], more: bool = False) -> None:
        _, status, meta, body, ms = reader.next()
        # A decaying maximum: one slow run ends the batches for a while.
        slowest_ms = self.slowest_ms * 0.98
        self.slowest_ms = ms if ms > slowest_ms else slowest_ms
        waiting.popleft().complete(Result(status, meta, body, ms), more)


class Pool:
    """The slots of all live workers."""

    def __init__(self, queue_limit: int) -> None:
        self._limit = queue_limit
        self._mutex = threading.Lock()
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
        """Take a new slot in."""
        threading.Thread(target=self._help, args=(slot,), name="slot", daemon=True).start()
        with self._mutex:
            self._slots += 1
        self._give_back(slot)

    def remove(self, slot: Slot) -> None:
        """Drop the slot of a worker that is gone; nobody gets it any more."""
        with self._mutex:
            if slot.dead:
                return
            slot.dead = True
            self._slots -= 1
            if slot in self._free:
                self._free.remove(slot)
        slot.handed_over.release()

    def submit(self, job: Job) -> None:
        """Have a request scored; it may be done on return, or later on another thread."""
        with self._mutex:
            if self._free:
                slot = self._free.pop()
            elif not self._slots:
                raise NotReadyError
            elif len(self._queue) >= self._limit:
                raise BusyError
            else:
                self._queue.append(job)
                return
        self._carry(slot, [job])
        self._give_back(slot)

    def refuse_waiting(self) -> None:
        """Send everyone who waits away; used when no worker is there for them."""
        with self._mutex:
            refused = list(self._queue)
            self._queue.clear()
        for job in refused:
            job.fail(NotReadyError())

    def _carry(self, slot: Slot, jobs: List[Job]) -> None:
        never_started = slot.carry(jobs)
        if never_started:
            with self._mutex:
                self._queue.extendleft(reversed(never_started))

    def _give_back(self, slot: Slot) -> None:
        with self._mutex:
            if slot.dead:
                return
            if not self._queue:
                self._free.append(slot)
                return
        # The caller has a client of its own to answer; the slot's thread goes on.
        slot.handed_over.release()

    def _help(self, slot: Slot) -> None:
        """The thread of a slot: carries requests for as long as any wait."""
        while True:
            slot.handed_over.acquire()
            while True:
                with self._mutex:
                    if slot.dead:
                        return
                    if not self._queue:
                        self._free.append(slot)
                        break
                    jobs = self._next_jobs(slot)
                self._carry(slot, jobs)

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
