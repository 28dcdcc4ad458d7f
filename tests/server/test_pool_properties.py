"""Queue, slots and workers under any order of events, with an exception at any call.

Time, loop, sockets, workers and clients are made here, so that every run can be repeated. What has
to hold in the end: each request was answered once or refused, none waits, and each slot is free
and works, or its worker was replaced.
"""

from __future__ import annotations

import heapq
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

sys.path.insert(0, str(Path(__file__).parents[2] / "base" / "server"))

from inference_server.workers import frames, messages, pool

RUN_LIMIT_S = 10.0
QUEUE_LIMIT = 20
# Small, so that little has to wait to be taken.
SOCKET_BYTES = 10_000
# An answer or a body of this size comes in several reads, and in parts where there are such.
LARGE = 150_000

# Until each limit is over, one after the other.
LONG = (0.0, 1.0, RUN_LIMIT_S + 1, RUN_LIMIT_S + 1, 400.0, RUN_LIMIT_S + 1)

SITES = [
    "add_reader",
    "add_writer",
    "begin",
    "call_at",
    "call_later",
    "cancel",
    "assigned",
    "close",
    "complete",
    "end",
    "fail",
    "lost",
    "pack",
    "part",
    "parts",
    "recv",
    "remove_reader",
    "remove_writer",
    "replace",
    "send",
    "sent",
]
EXCEPTIONS = [RecursionError, MemoryError, BrokenPipeError, ConnectionResetError, ValueError]
FAULTS = st.tuples(st.sampled_from(SITES), st.integers(1, 8), st.sampled_from(EXCEPTIONS))


class Faults:
    """Exceptions that wait for calls."""

    def __init__(self) -> None:
        self._armed: dict[str, tuple[int, type[Exception]]] = {}

    def arm(self, site: str, nth: int, error: type[Exception]) -> None:
        self._armed[site] = nth, error

    def disarm(self) -> None:
        self._armed.clear()

    def at(self, site: str) -> None:
        """A call is made: raise what waits for it."""
        if site not in self._armed:
            return
        nth, error = self._armed.pop(site)
        if nth > 1:
            self._armed[site] = nth - 1, error
        else:
            raise error("injected at " + site)


class Timer:
    def __init__(self, when: float, call: Callable[[], None]) -> None:
        self.when, self.call = when, call
        self.is_cancelled = False

    def __lt__(self, other: Timer) -> bool:
        return self.when < other.when

    def cancel(self) -> None:
        self.is_cancelled = True


class Loop:
    """What the pool needs of an event loop, in a time of its own."""

    def __init__(self, faults: Faults) -> None:
        self._faults = faults
        self._now = 0.0
        self._soon: list[Callable[[], None]] = []
        self._timers: list[Timer] = []
        self._readers: dict[End, Callable[[], None]] = {}
        self._writers: dict[End, Callable[[], None]] = {}

    def time(self) -> float:
        return self._now

    def call_soon_threadsafe(self, call: Callable[..., None], *arguments: Any) -> None:
        self._soon.append(lambda: call(*arguments))

    def call_at(self, when: float, call: Callable[[], None]) -> Timer:
        self._faults.at("call_at")
        return self._timer(when, call)

    def call_later(self, delay: float, call: Callable[[], None]) -> Timer:
        self._faults.at("call_later")
        return self._timer(self._now + delay, call)

    def _timer(self, when: float, call: Callable[[], None]) -> Timer:
        timer = Timer(when, call)
        heapq.heappush(self._timers, timer)
        return timer

    def add_reader(self, sock: End, call: Callable[[], None]) -> None:
        self._faults.at("add_reader")
        assert not sock.is_closed
        self._readers[sock] = call

    def add_writer(self, sock: End, call: Callable[[], None]) -> None:
        self._faults.at("add_writer")
        assert not sock.is_closed
        self._writers[sock] = call

    def remove_reader(self, sock: End) -> bool:
        self._faults.at("remove_reader")
        return self._readers.pop(sock, None) is not None

    def remove_writer(self, sock: End) -> bool:
        self._faults.at("remove_writer")
        return self._writers.pop(sock, None) is not None

    def advance(self, seconds: float) -> None:
        self._now += seconds

    def turn(self) -> bool:
        """Call what is due; whether there was something. What it raises is only reported."""
        due, self._soon = self._soon, []
        while self._timers and self._timers[0].when <= self._now:
            timer = heapq.heappop(self._timers)
            if not timer.is_cancelled:
                due.append(timer.call)
        # A closed socket is not heard of any more, as with epoll.
        due += [call for sock, call in self._readers.items() if sock.is_readable]
        due += [call for sock, call in self._writers.items() if sock.is_writable]
        for call in due:
            try:
                call()
            except AssertionError:
                raise
            except Exception:
                # As asyncio does, after a word in the log.
                pass
        return bool(due)


class End:
    """One end of a socket pair; ``faults`` for the end that the pool has."""

    def __init__(self, faults: Faults | None) -> None:
        self._faults = faults
        self.peer: End
        self.incoming = bytearray()
        self.is_closed = False

    @property
    def is_readable(self) -> bool:
        return not self.is_closed and bool(self.incoming or self.peer.is_closed)

    @property
    def is_writable(self) -> bool:
        if self.is_closed:
            return False
        return self.peer.is_closed or len(self.peer.incoming) < SOCKET_BYTES

    def setblocking(self, _flag: bool) -> None:
        pass

    def send(self, data: memoryview) -> int:
        self._check("send")
        if self.peer.is_closed:
            raise BrokenPipeError
        room = SOCKET_BYTES - len(self.peer.incoming)
        if room <= 0:
            raise BlockingIOError
        taken = bytes(data[:room])
        self.peer.incoming += taken
        return len(taken)

    def recv(self, size: int) -> bytes:
        self._check("recv")
        if not self.incoming and not self.peer.is_closed:
            raise BlockingIOError
        data = bytes(self.incoming[:size])
        del self.incoming[: len(data)]
        return data

    def recv_into(self, buffer: memoryview) -> int:
        data = self.recv(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self.is_closed = True
        if self._faults is not None:
            self._faults.at("close")

    def _check(self, site: str) -> None:
        if self.is_closed:
            raise OSError("the socket is closed")
        if self._faults is not None:
            self._faults.at(site)


def pair(faults: Faults) -> tuple[End, End]:
    ours, theirs = End(faults), End(None)
    ours.peer, theirs.peer = theirs, ours
    return ours, theirs


class Worker:
    """A process that answers in order, and its slot."""

    def __init__(self, faults: Faults) -> None:
        loud, self._loud = pair(faults)
        quiet, self._quiet = pair(faults)
        self._faults = faults
        self._frames = frames.Decoder()
        self._unsent: list[tuple[End, bytes]] = []
        self.requests: list[frames.Frame] = []
        self.received: list[int] = []
        # What the pool reported about it.
        self.is_to_go = False
        sockets: list[Any] = [loud, quiet]
        self.slot = pool.Slot(
            sockets[0], sockets[1], RUN_LIMIT_S, self._replace, self._lost, self._cancel
        )

    def _replace(self, _reason: str) -> None:
        self.is_to_go = True
        self._faults.at("replace")

    def _lost(self) -> None:
        self.is_to_go = True
        self._faults.at("lost")

    def _cancel(self, _number: int) -> None:
        # The worker may come to know too late, so it answers all the same.
        self._faults.at("cancel")

    @property
    def is_gone(self) -> bool:
        return self._loud.is_closed

    def die(self) -> None:
        self._loud.close()
        self._quiet.close()

    def work(self) -> bool:
        """Read what came and send what is left of answers; whether anything moved."""
        if self.is_gone:
            return False
        moved = False
        while self._unsent and self._unsent[0][0].is_writable:
            end, data = self._unsent.pop(0)
            try:
                sent = end.send(memoryview(data))
            except OSError:
                self.die()
                return True
            moved = True
            if sent < len(data):
                self._unsent.insert(0, (end, data[sent:]))
        while not self.is_gone and self._loud.is_readable:
            moved = True
            any_socket: Any = self._loud
            try:
                received = self._frames.receive(any_socket)
            except frames.ClosedError:
                self.die()
                return True
            for frame in received:
                self.requests.append(frame)
                self.received.append(frame[2])
        return moved

    def answer(self, ms: float, size: int) -> None:
        """Answer the first request that waits."""
        if self.is_gone or not self.requests:
            return
        _, more, meta, _, _ = self.requests.pop(0)
        end = self._quiet if more else self._loud
        if size >= LARGE:
            answer = [_pack(frames.START, 200, (size, None), b"", ms)]
            answer += [_pack(frames.PART, 0, None, b"p" * 50_000, 0.0)] * (size // 50_000)
            answer.append(_pack(frames.END, frames.WHOLE, None, b"", ms))
            data = b"".join(answer)
        else:
            data = _pack(frames.RESULT, 200, meta, b"r" * size, ms)
        self._unsent.append((end, data))
        self.work()


_pack = frames.pack


class Request(pool.Job):
    """A request that notes how it ended."""

    def __init__(self, number: int, size: int, faults: Faults, slow_reader: bool) -> None:
        super().__init__(number, b"b" * size)
        self.number = number
        self.ends: list[str] = []
        self.is_cancelled = False
        self.was_queued = False
        self.is_paused = False
        self._begun = False
        self._faults = faults
        self._slow_reader = slow_reader

    def assigned(self, _waited_s: float) -> None:
        self._faults.at("assigned")

    def sent(self) -> None:
        self._faults.at("sent")

    def complete(self, result: messages.Result, more: bool) -> None:
        if result.meta != self.number:
            self.ends.append("complete with the answer of another")
        self.ends.append("complete")
        self._faults.at("complete")

    def begin(self, _result: messages.Result, _length: int | None) -> None:
        assert not self._begun
        self._begun = True
        self._faults.at("begin")

    def part(self, _data: frames.Body) -> bool:
        assert self._begun
        self._faults.at("part")
        self.is_paused = self._slow_reader
        return not self._slow_reader

    def end(self, whole: bool) -> None:
        self.ends.append("end" if whole else "broken off")
        self._faults.at("end")

    def fail(self, error: Exception) -> None:
        self.ends.append(f"fail: {error!r}")
        self._faults.at("fail")

    def take(self) -> bool:
        """The client takes what was sent to it; whether it had to."""
        paused, self.is_paused = self.is_paused, False
        # As a connection does it: an answer that is there as a whole has no slot any more.
        if paused and self.slot is not None:
            self.slot.resume()
        return paused


class Service(RuleBasedStateMachine):
    """Events in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.faults = Faults()
        self.loop = Loop(self.faults)
        loop: Any = self.loop
        self.pool = pool.Pool(loop, QUEUE_LIMIT)
        self.workers: list[Worker] = []
        self.requests: list[Request] = []
        self.sweeps = False
        self.patches = [
            mock.patch.object(frames, name, self._faulty(name, getattr(frames, name)))
            for name in ("pack", "parts")
        ]
        for patch in self.patches:
            patch.start()

    def _faulty(self, site: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            self.faults.at(site)
            return function(*arguments, **options)

        return call

    @initialize(count=st.integers(1, 3), sweeps=st.booleans(), faults=st.lists(FAULTS, max_size=4))
    def start(
        self, count: int, sweeps: bool, faults: Sequence[tuple[str, int, type[Exception]]] = ()
    ) -> None:
        for fault in faults:
            self.faults.arm(*fault)
        # The sweep is the second net; the first has to hold as well.
        self.sweeps = sweeps
        self.workers = [self._worker() for _ in range(count)]
        self.loop.turn()

    def _worker(self) -> Worker:
        worker = Worker(self.faults)
        self.pool.add(worker.slot)
        return worker

    @rule(
        count=st.integers(1, 8),
        size=st.sampled_from([0, 10, 3000, LARGE]),
        slow_reader=st.booleans(),
    )
    def submit(self, count: int, size: int, slow_reader: bool) -> None:
        for _ in range(count):
            self._submit(size, slow_reader)

    def _submit(self, size: int, slow_reader: bool = False) -> Request:
        request = Request(len(self.requests), size, self.faults, slow_reader)
        self.requests.append(request)
        try:
            self.pool.submit(request)
        except Exception as error:
            request.ends.append(f"refused: {error!r}")
        return request

    @rule()
    def turn(self) -> None:
        self.loop.turn()

    @rule(seconds=st.sampled_from([0.001, 0.01, 1.0, RUN_LIMIT_S + 1, 400.0]))
    def time_passes(self, seconds: float) -> None:
        self.loop.advance(seconds % 1.0)
        self._wait(seconds)
        self.loop.turn()

    @rule(
        which=st.integers(0, 2),
        ms=st.sampled_from([0.1, 0.1, 50.0]),
        size=st.sampled_from([1, 1, 5000, LARGE]),
        count=st.integers(1, 40),
        heard=st.booleans(),
    )
    def worker_answers(
        self, which: int, ms: float, size: int, count: int, heard: bool = False
    ) -> None:
        worker = self.workers[which % len(self.workers)]
        worker.work()
        for _ in range(count):
            worker.answer(ms, size)
        if heard:
            self.loop.turn()
            worker.work()

    @rule(which=st.integers(0, 2))
    def worker_dies(self, which: int) -> None:
        self.workers[which % len(self.workers)].die()

    @rule()
    def supervisor_looks(self) -> None:
        self._supervise()

    def _supervise(self) -> bool:
        """What is gone, or is to go, is replaced; whether there was any."""
        replaced = False
        for index, worker in enumerate(self.workers):
            if worker.is_to_go:
                worker.die()
                self.workers[index] = self._worker()
                replaced = True
        return replaced

    @rule(which=st.integers(0, 50))
    def client_takes(self, which: int) -> None:
        paused = [request for request in self.requests if request.is_paused]
        if paused:
            self._take(paused[which % len(paused)])

    def _take(self, request: Request) -> bool:
        try:
            return request.take()
        except Exception:
            # On the loop, where it is reported.
            return True

    @precondition(lambda self: bool(self.requests))
    @rule(which=st.integers(0, 50))
    def client_leaves(self, which: int) -> None:
        request = self.requests[-1 - which % len(self.requests)]
        if request.ends or request.is_cancelled:
            return
        request.is_cancelled = True
        received = [number for worker in self.workers for number in worker.received]
        at_work = request.number in received or request.slot is not None
        request.was_queued = not at_work
        try:
            self.pool.cancel(request)
        except Exception:
            # On the loop, where it is reported; what became of the request is not known then.
            request.was_queued = False

    @rule()
    def sweep(self) -> None:
        self._sweep()

    def _sweep(self) -> None:
        if self.sweeps:
            try:
                self.pool.sweep()
            except (AssertionError, TypeError):
                raise
            except Exception:
                # On the loop, where it is reported.
                pass

    @rule(fault=FAULTS)
    def something_will_raise(self, fault: tuple[str, int, type[Exception]]) -> None:
        self.faults.arm(*fault)

    @invariant()
    def no_request_is_answered_twice(self) -> None:
        for request in self.requests:
            assert len(request.ends) <= 1, f"request {request.number}: {request.ends}"

    @invariant()
    def no_request_is_scored_twice_or_after_leaving_the_queue(self) -> None:
        for worker in self.workers:
            assert len(set(worker.received)) == len(worker.received)
            for number in worker.received:
                assert not self.requests[number].was_queued, f"request {number} had left"

    def teardown(self) -> None:
        try:
            if self.workers:
                self._end()
        finally:
            for patch in self.patches:
                patch.stop()

    def _end(self) -> None:
        """No more faults, and time for everything: then all has to be well."""
        self.faults.disarm()
        self.settle(*LONG)
        self.no_request_is_answered_twice()
        for request in self.requests:
            name = f"request {request.number} of {len(request.body)} bytes"
            assert request.ends or request.is_cancelled, f"{name} was lost"
        assert self.pool.waiting == 0
        assert self.pool.busy == 0, f"{self.pool.busy} slots are at work on nothing"
        assert self.pool.ready
        probes = [self._submit(10) for _ in self.workers]
        for _ in range(5):
            self.loop.turn()
            for worker in self.workers:
                worker.work()
        at_work = sum(bool(worker.requests) for worker in self.workers)
        assert at_work == len(self.workers), f"{at_work} of {len(self.workers)} slots take requests"
        self.settle(*LONG)
        for probe in probes:
            assert probe.ends == ["complete"]

    def settle(self, *times: float) -> None:
        """Until nothing moves, also when so many seconds pass."""
        for seconds in times:
            self._wait(seconds)
            for _ in range(3000):
                moved = self.loop.turn()
                moved |= self._supervise()
                for worker in self.workers:
                    moved |= worker.work()
                    moved |= bool(worker.requests)
                    worker.answer(0.1, 1)
                for request in self.requests:
                    moved |= self._take(request)
                if not moved:
                    break
            else:
                raise AssertionError("it never comes to rest")

    def _wait(self, seconds: float) -> None:
        """Time passes as it does: in small steps, with what is due at each."""
        for _ in range(round(seconds)):
            self.loop.advance(1.0)
            self._sweep()
            self.loop.turn()


CHECKS = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]


def test_no_request_and_no_slot_is_lost() -> None:
    run_state_machine_as_test(
        Service,
        settings=settings(
            max_examples=600,
            stateful_step_count=50,
            deadline=None,
            derandomize=True,
            database=None,
            print_blob=False,
            suppress_health_check=CHECKS,
        ),
    )


def play_a_day(service: Service) -> None:
    """A short request, a queue, batches, large ones, clients that are slow to take, a death."""
    service.submit(1, 10, False)
    service.worker_answers(0, 0.1, 1, 1)
    service.worker_answers(1, 0.1, 1, 1)
    service.turn()
    for _ in range(6):
        service.worker_answers(0, 0.1, 1, 40)
        service.turn()
        service.submit(8, 10, True)
        service.time_passes(0.01)
    service.submit(2, LARGE, True)
    for _ in range(40):
        service.turn()
        service.worker_answers(0, 0.1, LARGE, 1)
        service.worker_answers(1, 0.1, LARGE, 1)
        service.client_takes(0)
    service.no_request_is_answered_twice()


@pytest.mark.parametrize("sweeps", [True, False])
@pytest.mark.parametrize("error", EXCEPTIONS)
@pytest.mark.parametrize("nth", [1, 2])
@pytest.mark.parametrize("site", SITES)
def test_an_exception_at_each_call(
    site: str, nth: int, error: type[Exception], sweeps: bool
) -> None:
    service = Service()
    try:
        service.faults.arm(site, nth, error)
        service.start(2, sweeps)
        play_a_day(service)
        service.submit(3, 10, False)
        service.worker_dies(0)
        service.turn()
        service.no_request_is_answered_twice()
    finally:
        service.teardown()


def test_without_an_exception_all_is_answered() -> None:
    service = Service()
    try:
        service.start(2, False)
        play_a_day(service)
        service.settle(0.0, 1.0)
        answered = [request for request in service.requests if request.ends[0][:7] != "refused"]
        assert len(answered) >= QUEUE_LIMIT
        assert {request.ends[0] for request in answered} <= {"complete", "end"}
    finally:
        service.teardown()
