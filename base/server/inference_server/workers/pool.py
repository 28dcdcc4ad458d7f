"""Which worker scores the next request? Slots and a bounded queue, first come first served.

All of it happens on the thread of an event loop. While requests queue, short ones go to a worker in
batches, because a switch between two processes costs more than a small model.

No exception may lose a request or a slot: a slot is free, at work or given up with its worker, and
a request is in the queue, in a slot, or answered.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from typing import Any, Callable, Deque, Dict, List, Optional

from . import frames
from .messages import Result

# Requests are batched only while run() takes less than this; the slowest run counts.
FAST_MS = 2.0
BATCH = 32
# Fits into the buffer of a socket, so that a worker rarely waits for the rest of a batch.
BATCH_BYTES = 64 * 1024
# An estimate of the frame without its body, which is larger for scripts that read headers.
FRAME_BYTES = 2048
# After this time, the answers on the quiet socket are read before the last one of the batch.
PATIENCE_S = 0.005
# If the timer of a slot does not end it after its time limit, the sweep does so this much later.
OVERDUE_S = 2.0


class BusyError(Exception):
    """The queue is full."""


class NotReadyError(Exception):
    """There is no worker that could take the request."""


class WaitedError(Exception):
    """The request waited too long for a worker."""


class DiedError(Exception):
    """The worker ended with the request."""


class TooSlowError(Exception):
    """The worker did not answer within the limit."""


class Job:
    """A request to score.

    It ends once: with ``complete``; with ``begin``, any number of ``part`` and ``end``; or with
    ``fail``.
    """

    __slots__ = ("body", "is_wanted", "meta", "queued_at", "slot", "tries")

    def __init__(self, meta: Any, body: frames.Buffer) -> None:
        self.meta = meta
        self.body = body
        self.queued_at = 0.0
        # How often it was sent to a worker, and whether its client waits for the answer.
        self.tries = 0
        self.is_wanted = True
        self.slot: Optional[Slot] = None

    def assigned(self, waited_s: float) -> None:
        """A worker gets the request, after this wait."""

    def sent(self) -> None:
        """The worker has the whole body, which was not in a batch: it is not needed here."""

    def complete(self, result: Result, more: bool) -> None:
        """The worker has answered; ``more`` answers follow at once."""
        raise NotImplementedError

    def begin(self, result: Result, length: Optional[int]) -> None:
        """The worker begins to answer; the body follows in parts. None: of unknown length."""
        raise NotImplementedError

    def part(self, data: frames.Body) -> bool:
        """A part of the body. False: no more until ``Slot.resume`` is called."""
        raise NotImplementedError

    def end(self, whole: bool) -> None:
        """The body is complete, or the worker stopped before its end."""
        raise NotImplementedError

    def fail(self, error: Exception) -> None:
        """There will be no answer, or no rest of it."""
        raise NotImplementedError


class Slot:
    """A place where a request can run: two sockets to a worker.

    Requests go to the loud socket. The answer to the last request of a batch comes on it, too, and
    wakes the loop. The answers before it come on the quiet socket, which the loop does not watch
    unless the batch takes long. They are not lost if the worker dies in the next request.
    """

    def __init__(
        self,
        loud: socket.socket,
        quiet: socket.socket,
        limit_s: float,
        replace: Callable[[str], None],
        lost: Callable[[], None],
        cancel: Callable[[int], None] = lambda _: None,
    ) -> None:
        self.slowest_ms = FAST_MS
        self.deadline = 0.0
        self._pool: Optional[Pool] = None
        self._loop: Any = None
        self._limit_s = limit_s
        # For the owner of the worker: it is stuck; it is lost; the request of this number need not
        # be finished.
        self._replace = replace
        self._lost = lost
        self._cancel = cancel
        self._loud, self._quiet = loud, quiet
        self._loud_frames, self._quiet_frames = frames.Decoder(), frames.Decoder()
        self._waiting: Deque[Job] = deque()
        self._answered = 0
        self._unsent: Deque[memoryview] = deque()
        self._hears_quiet = False
        self._paused = False
        self._patience: Any = None
        self._watch: Any = None
        self.ended = False

    @property
    def used(self) -> bool:
        """Whether it was ever given a request."""
        return self.deadline > 0

    @property
    def at_work(self) -> bool:
        """Whether it has requests."""
        return bool(self._waiting)

    def open(self, loop: asyncio.AbstractEventLoop, pool: Pool) -> None:
        """Begin to read answers, on this loop."""
        self._loop, self._pool = loop, pool
        self._loud.setblocking(False)
        self._quiet.setblocking(False)
        loop.add_reader(self._loud, self._on_loud)

    def assign(self, jobs: List[Job]) -> None:
        """Send requests to the worker, in order. After an exception, call ``break_down``."""
        self._waiting.extend(jobs)
        now = self._loop.time()
        for job in jobs:
            job.slot = self
            job.tries += 1
            job.assigned(now - job.queued_at)
        assert self._pool is not None
        self._pool.progress_at = now
        self.deadline = now + self._limit_s
        if self._watch is None:
            self._watch = self._loop.call_at(self.deadline, self._on_deadline)
        if len(jobs) > 1:
            data = b"".join(
                [frames.pack(frames.SCORE, 1, job.meta, job.body) for job in jobs[:-1]]
                + [frames.pack(frames.SCORE, 0, jobs[-1].meta, jobs[-1].body)]
            )
            self._patience = self._loop.call_later(PATIENCE_S, self._hear_quiet)
            self._send(data)
        else:
            job = jobs[0]
            parts = frames.parts(frames.SCORE, 0, job.meta, job.body)
            # A large body is sent by itself, which saves a copy.
            for part in parts:
                self._send(part)
            if len(parts) > 1 and not self._unsent:
                job.sent()

    def break_down(self, error: Exception, jobs: List[Job]) -> None:
        """After an internal error with these requests: give the worker up."""
        for job in jobs:
            if job not in self._waiting:
                self._waiting.append(job)
        self._try(self._replace, "internal error: {!r}".format(error))
        self._end(error)

    def cancel(self, job: Job) -> None:
        """The answer to a request in this slot is not wanted any more."""
        if self._waiting and self._waiting[0] is job:
            self._try(self._cancel, self._answered)
            self.resume()

    def resume(self) -> None:
        """Go on with an answer that was paused because the client was slow."""
        if self._paused and not self.ended:
            self._paused = False
            self.deadline = self._loop.time() + self._limit_s
            self._loop.add_reader(self._loud, self._on_loud)
            if self._hears_quiet:
                self._loop.add_reader(self._quiet, self._on_quiet)

    def _pause(self) -> None:
        self._paused = True
        self._loop.remove_reader(self._loud)
        self._loop.remove_reader(self._quiet)

    def _send(self, data: frames.Buffer) -> None:
        view = memoryview(data)
        if not self._unsent:
            try:
                view = view[self._loud.send(view) :]
            except BlockingIOError:
                pass
            except OSError:
                # The worker has ended, which `_on_loud` is about to see.
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
            if len(self._waiting) == 1:
                self._waiting[0].sent()
        except BlockingIOError:
            return
        except OSError:
            pass
        except Exception as error:
            self.break_down(error, [])
            return
        self._loop.remove_writer(self._loud)

    def _on_loud(self) -> None:
        try:
            received = self._loud_frames.receive(self._loud)
            if not received:
                return
            # The answers before this one are in the quiet socket by now.
            while len(self._waiting) > 1:
                self._take(self._quiet_frames.receive(self._quiet), more=True)
            self._end_batch()
            self._take(received, more=False)
        except BlockingIOError:
            return
        except (frames.ClosedError, OSError):
            self._end(DiedError())
            return
        except Exception as error:
            self.break_down(error, [])
            return
        if not self._waiting and not self.ended:
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
        """The batch takes long: pass its answers on as they come."""
        self._patience = None
        self._hears_quiet = True
        if not self._paused:
            self._loop.add_reader(self._quiet, self._on_quiet)

    def _on_quiet(self) -> None:
        try:
            self._take(self._quiet_frames.receive(self._quiet), more=False)
        except BlockingIOError:
            pass
        except (frames.ClosedError, OSError):
            self._end(DiedError())
        except Exception as error:
            self.break_down(error, [])

    def _take(self, received: List[frames.Frame], more: bool) -> None:
        """Pass on the frames of the worker."""
        assert self._pool is not None
        self._pool.progress_at = now = self._loop.time()
        self.deadline = now + self._limit_s
        waiting = self._waiting
        for kind, status, meta, body, ms in received:
            job = waiting[0]
            if kind == frames.PART:
                if not job.part(body) and not self._paused:
                    self._pause()
                continue
            if kind == frames.START:
                length, meta = meta
                job.begin(Result(status, meta, b"", ms), length)
                continue
            waiting.popleft()
            job.slot = None
            self._answered += 1
            # The answer has left the worker, even if the client has not taken all of it.
            self.resume()
            # A decaying maximum: one slow run prevents batches for a while.
            slowest_ms = self.slowest_ms * 0.98
            self.slowest_ms = ms if ms > slowest_ms else slowest_ms
            if kind == frames.END:
                job.end(status == frames.WHOLE)
            else:
                job.complete(Result(status, meta, body, ms), more)

    def _on_deadline(self) -> None:
        self._watch = None
        if not self._waiting:
            return
        now = self._loop.time()
        if self._paused:
            # The worker waits for the client, which has its own time limit.
            assert self._pool is not None
            self._pool.progress_at = now
            self.deadline = now + self._limit_s
        if now < self.deadline:
            self._watch = self._loop.call_at(self.deadline, self._on_deadline)
            return
        self.give_up()

    def give_up(self) -> None:
        """The time of the request is over, and the worker has not stopped it."""
        self._try(self._replace, "run() did not end in time and did not react to being stopped")
        self._end(TooSlowError())

    def _end(self, error: Exception) -> None:
        """The worker has ended. Its current request fails; those after it are queued again."""
        if self.ended:
            return
        self.ended = True
        loop, pool, waiting = self._loop, self._pool, self._waiting
        assert pool is not None
        self._paused = False
        self._try(self._end_batch)
        self._try(loop.remove_reader, self._loud)
        self._try(loop.remove_writer, self._loud)
        try:
            # Its finished answers are still in the socket.
            while len(waiting) > 1:
                self._take(self._quiet_frames.receive(self._quiet), more=False)
        except (frames.ClosedError, OSError):
            pass
        except Exception as failure:
            pool.report(failure)
        # The worker has not seen a request that was not sent completely, so it is tried again. But
        # only once: a large request may be what took all memory.
        unseen = self._unsent and len(waiting) == 1 and waiting[0].tries == 1
        started = isinstance(error, TooSlowError) or not unseen
        self._unsent.clear()
        failed = waiting.popleft() if waiting and started else None
        never_started = [job for job in waiting if job.is_wanted]
        if self._watch is not None:
            self._try(self._watch.cancel)
            self._watch = None
        for sock in (self._loud, self._quiet):
            self._try(sock.close)
        for job in waiting:
            job.slot = None
        waiting.clear()
        pool.drop(self, never_started)
        if failed is not None:
            failed.slot = None
            self._try(failed.fail, error)
        self._try(self._lost)

    def _try(self, step: Callable[..., Any], *arguments: Any) -> None:
        """Do a step, and report what it raises, so that the next steps follow."""
        try:
            step(*arguments)
        except Exception as failure:
            pool = self._pool
            if pool is not None:
                pool.report(failure)


class Pool:
    """The slots of all live workers. Only ``add`` and ``defer`` may be called on any thread."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        queue_limit: int,
        queue_timeout_s: float = 300.0,
        run_limit_s: float = 300.0,
    ) -> None:
        self._loop = loop
        self._limit = queue_limit
        self._timeout_s = queue_timeout_s
        self._stall_s = run_limit_s + 2 * OVERDUE_S
        # Is called with internal errors that do not end the service.
        self.report: Callable[[Exception], None] = lambda _: None
        # When a worker last got something, or sent something.
        self.progress_at = 0.0
        self._free: List[Slot] = []
        self._queue: Deque[Job] = deque()
        self._slots: Dict[Slot, None] = {}

    @property
    def ready(self) -> bool:
        """Whether at least one worker has finished ``init()``."""
        return bool(self._slots)

    @property
    def waiting(self) -> int:
        """How many requests wait for a slot."""
        return len(self._queue)

    @property
    def busy(self) -> int:
        """How many slots are scoring."""
        return len(self._slots) - len(self._free)

    @property
    def stalled(self) -> bool:
        """Whether requests wait, without any progress for longer than one may take."""
        waits = bool(self._queue and self._slots)
        return waits and self._loop.time() - self.progress_at > self._stall_s

    def add(self, slot: Slot) -> None:
        """Add the slot of a new worker; from any thread."""
        self.defer(self._open, slot)

    def defer(self, step: Callable[..., Any], *arguments: Any) -> None:
        """Do a step on the thread of the loop; from any thread."""
        self._loop.call_soon_threadsafe(step, *arguments)

    def _open(self, slot: Slot) -> None:
        self._slots[slot] = None
        try:
            slot.open(self._loop, self)
        except Exception as error:
            slot.break_down(error, [])
            return
        self.release(slot)

    def drop(self, slot: Slot, never_started: List[Job]) -> None:
        """Remove a slot whose worker has ended; its requests go to the front of the queue."""
        self._slots.pop(slot, None)
        if slot in self._free:
            self._free.remove(slot)
        # Without another slot they wait for the next worker, within their time limit.
        self._queue.extendleft(reversed(never_started))
        while self._free and self._queue:
            self.release(self._free.pop())

    def submit(self, job: Job) -> None:
        """Score a request, now or when a slot is free. ``NotReadyError`` or ``BusyError``."""
        job.queued_at = self._loop.time()
        if self._free:
            slot = self._free[-1]
            try:
                self._free.pop()
                slot.assign([job])
            except Exception as error:
                slot.break_down(error, [job])
        elif not self._slots:
            raise NotReadyError
        elif len(self._queue) >= self._limit:
            raise BusyError
        else:
            self._queue.append(job)

    def cancel(self, job: Job) -> None:
        """The answer to a request is not wanted any more: do not score it, or stop it."""
        job.is_wanted = False
        if job.slot is not None:
            job.slot.cancel(job)
        elif job in self._queue:
            self._queue.remove(job)

    def release(self, slot: Slot) -> None:
        """A slot is free: assign the next requests, if any wait."""
        if not self._queue:
            self._free.append(slot)
            return
        jobs = self._next_jobs(slot)
        try:
            slot.assign(jobs)
        except Exception as error:
            slot.break_down(error, jobs)

    def sweep(self) -> None:
        """End requests that wait too long, and slots whose own timer failed."""
        now = self._loop.time()
        while self._queue and self._queue[0].queued_at + self._timeout_s < now:
            self._fail(self._queue.popleft(), WaitedError())
        for slot in list(self._slots):
            if slot in self._free or slot.ended:
                continue
            if not slot.at_work:
                slot.break_down(RuntimeError("a slot was lost"), [])
            elif slot.deadline + OVERDUE_S < now:
                slot.give_up()

    def _fail(self, job: Job, error: Exception) -> None:
        try:
            job.fail(error)
        except Exception as failure:
            self.report(failure)

    def _next_jobs(self, slot: Slot) -> List[Job]:
        """The next requests for a slot: one, or several short ones, but no more than its share."""
        queue = self._queue
        jobs = [queue.popleft()]
        if slot.slowest_ms >= FAST_MS:
            return jobs
        slots = len(self._slots)
        share = min(BATCH, (len(queue) + slots) // slots)
        size = FRAME_BYTES + len(jobs[0].body)
        while queue and len(jobs) < share:
            size += FRAME_BYTES + len(queue[0].body)
            if size > BATCH_BYTES:
                break
            jobs.append(queue.popleft())
        return jobs
