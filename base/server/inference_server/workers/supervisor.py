"""Which worker processes run, and what happens when one ends?"""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import socket
import subprocess
import threading
import time
from typing import Callable, List, Mapping, Optional, Union

from .. import exit_codes, interpreter
from ..config import Settings
from ..log import Log
from . import frames
from .messages import CANCEL, LEASH, SOCKETS, Failure, ScriptFacts
from .pool import Pool, Slot
from .relay import Relay

# How long run() may go on after the worker tried to stop it, before the process is killed.
GRACE_S = 1.0
GIVE_UP_AFTER = 5
OOM_SCORE = "500"
# A worker that ends so soon, without any request, would do so again.
SHORT_LIFE_S = 5.0


class WorkerProcess:
    """One worker process and its sockets."""

    def __init__(
        self, settings: Settings, pool: Pool, log: Log, environ: Mapping[str, str]
    ) -> None:
        self._pool = pool
        self._log = log
        self._reason = ""
        self.ready = False
        pairs = [socket.socketpair() for _ in range(settings.concurrency * 2)]
        leash, self._leash = os.pipe()
        os.set_blocking(self._leash, False)
        theirs = [pair[1].fileno() for pair in pairs]
        self._output = Relay(log, "script")
        child_environ = {**environ, **self._output.environ}
        child_environ[SOCKETS] = ",".join(str(fd) for fd in theirs)
        child_environ[LEASH] = str(leash)
        try:
            # With `-c`, `__main__` is no file, so child processes of `multiprocessing` do not run
            # the server again.
            self._process = subprocess.Popen(
                interpreter.command(interpreter.of_the_app(environ), "start.run_worker()"),
                cwd=settings.app_root,
                env=child_environ,
                stdin=subprocess.DEVNULL,
                stdout=self._output.fd,
                stderr=self._output.fd,
                pass_fds=[*theirs, leash],
                # A process group of its own, which is killed with its child processes.
                start_new_session=True,
            )
            self._output.pid = self._process.pid
        finally:
            self._output.started()
            os.close(leash)
            for _, other in pairs:
                other.close()
        self._socks = [pair[0] for pair in pairs]
        self._slots: List[Slot] = []
        # If memory runs out, the kernel is to kill the worker, which can be replaced.
        path = "/proc/{}/oom_score_adj".format(self._process.pid)
        with contextlib.suppress(OSError), open(path, "w", encoding="ascii") as file:
            file.write(OOM_SCORE)

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def await_ready(self, limit_s: float) -> Union[ScriptFacts, Failure]:
        """Wait for the end of ``init()``: the facts about the script, or why it failed."""
        sock = self._socks[0]
        sock.settimeout(limit_s or None)
        try:
            kind, _, meta, _, _ = frames.Reader(sock).next()
        except socket.timeout:
            self.kill()
            message = "init() did not end within {:g} s (WORKER_TIMEOUT)".format(limit_s)
            return Failure(exit_codes.SCRIPT, message)
        except (frames.ClosedError, OSError):
            message = "the worker ended before init() was done: " + self.end()
            return Failure(exit_codes.SCRIPT, message)
        if kind != frames.READY:
            self._process.wait()
            return Failure(*meta)
        sock.settimeout(None)
        self.ready = True
        return ScriptFacts(*meta)

    def open(self, limit_s: float) -> None:
        """Offer the worker's slots to requests."""
        pairs = zip(self._socks[::2], self._socks[1::2])  # noqa: B905 - Python 3.7
        for lane, (loud, quiet) in enumerate(pairs):
            cancel = functools.partial(self.cancel, lane)
            slot = Slot(loud, quiet, limit_s, self.replace, self.lost, cancel)
            self._slots.append(slot)
            self._pool.add(slot)

    @property
    def used(self) -> bool:
        """Whether it was ever given a request."""
        return any(slot.used for slot in self._slots)

    def cancel(self, lane: int, number: int) -> None:
        """Let the worker know that the client of the request of this number has left."""
        with contextlib.suppress(OSError):
            os.write(self._leash, CANCEL.pack(lane, number))

    def _let_go(self) -> None:
        leash, self._leash = self._leash, -1
        if leash >= 0:
            os.close(leash)

    def replace(self, reason: str) -> None:
        """Kill a worker that is stuck; its thread starts the next one."""
        self._reason = self._reason or reason
        self.lost()
        self.kill()

    def lost(self) -> None:
        """Shut the sockets down, so that requests in the worker fail at once."""
        for sock in self._socks:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def kill(self) -> None:
        """Kill the process and its child processes."""
        with contextlib.suppress(OSError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def retire(self) -> None:
        """Let the worker end by itself, if it is idle."""
        self.lost()

    def end(self) -> str:
        """Wait for the end of the process; returns how it ended."""
        code = self._process.wait()
        self.lost()
        # Child processes may survive it and hold memory or a device.
        self.kill()
        self._output.finish(GRACE_S)
        # On the thread that writes to it, because the number may belong to another file by then.
        self._pool.defer(self._let_go)
        # The slots close the sockets after they have read the last answers. Slots and worker refer
        # to each other, which would leave both to the garbage collector.
        self._socks = []
        if self._reason:
            return self._reason
        if code >= 0:
            return "it exited with code {}".format(code)
        name = signal.Signals(-code).name
        hint = " (was it out of memory?)" if name == "SIGKILL" else ""
        return "it was killed by {}{}".format(name, hint)

    def wait(self, limit_s: float) -> bool:
        """Whether the process ended within the limit."""
        try:
            self._process.wait(limit_s)
        except subprocess.TimeoutExpired:
            return False
        return True


class Supervisor:
    """Keeps ``WORKER_COUNT`` workers running, each with a thread that waits for its end."""

    def __init__(
        self,
        settings: Settings,
        pool: Pool,
        log: Log,
        environ: Mapping[str, str],
        on_ready: Callable[[ScriptFacts], None],
        give_up: Callable[[exit_codes.FatalError], None],
    ) -> None:
        self._settings = settings
        self._pool = pool
        self._log = log
        self._environ = environ
        self._give_up = give_up
        self._stopping = threading.Event()
        self._workers: List[Optional[WorkerProcess]] = [None] * settings.worker_count
        self._threads: List[threading.Thread] = []
        self._ever_ready = False
        self._on_ready = on_ready
        self.restarts = 0
        self._run_limit_s = settings.run_limit_s + GRACE_S

    def start(self) -> None:
        """Start all workers; returns at once."""
        for index in range(self._settings.worker_count):
            thread = threading.Thread(
                target=self._keep, args=(index,), name="worker-{}".format(index + 1), daemon=True
            )
            self._threads.append(thread)
            thread.start()

    def stop(self) -> None:
        """End all workers: idle ones end by themselves, the others are killed."""
        self._stopping.set()
        workers = [process for process in self._workers if process is not None]
        for process in workers:
            process.retire()
        deadline = time.monotonic() + GRACE_S
        for process in workers:
            process.wait(max(0.0, deadline - time.monotonic()))
            process.kill()
        for thread in self._threads:
            thread.join(GRACE_S)

    def _keep(self, index: int) -> None:
        failures = 0
        while not self._stopping.is_set():
            failure = self._live(index)
            if self._stopping.is_set():
                return
            if failure is None:
                failures = 0
                self.restarts += 1
                continue
            failures += 1
            if not self._recover(failure, failures):
                return

    def _live(self, index: int) -> Optional[Failure]:
        """The life of one worker: None after it has served, else why it did not."""
        process: Optional[WorkerProcess] = None
        try:
            process = WorkerProcess(self._settings, self._pool, self._log, self._environ)
            self._workers[index] = process
            if self._stopping.is_set():
                process.kill()
            outcome = process.await_ready(self._settings.worker_timeout_s)
            if isinstance(outcome, Failure):
                process.end()
                return outcome
            self._announce(process, outcome)
            ready_at = time.monotonic()
            how = process.end()
            if not process.used and time.monotonic() - ready_at < SHORT_LIFE_S:
                message = "the worker ended as soon as it was ready: " + how
                return Failure(exit_codes.SCRIPT, message)
        except Exception as error:
            # An internal error costs this worker, but not the next one.
            if process is not None:
                process.kill()
                process.end()
            if isinstance(error, OSError) and process is None:
                message = "a worker cannot be started in {}: {}".format(
                    self._settings.app_root, error
                )
            else:
                message = "internal error: {!r}".format(error)
            return Failure(exit_codes.SCRIPT, message)
        if not self._stopping.is_set():
            self._log.error(
                "worker {} is replaced: {}".format(process.pid, how), worker=process.pid
            )
        return None

    def _recover(self, failure: Failure, failures: int) -> bool:
        """Whether to try again after a start that failed."""
        code, message = failure
        if not self._ever_ready or (failures >= GIVE_UP_AFTER and not self._pool.ready):
            self._give_up(exit_codes.FatalError(code, message))
            return False
        pause = min(30.0, 2.0 ** (failures - 1))
        self._log.error("a new worker failed, next try in {:g} s: {}".format(pause, message))
        return not self._stopping.wait(pause)

    def _announce(self, process: WorkerProcess, facts: ScriptFacts) -> None:
        self._on_ready(facts)
        first = not self._ever_ready
        self._ever_ready = True
        process.open(self._run_limit_s)
        if first:
            self._log.info("ready: POST /score on port {}".format(self._settings.port))
