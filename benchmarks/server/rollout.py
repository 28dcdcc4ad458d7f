"""A rollout under load, a queue that is too long, and clients that leave it: with figures.

    PYTHONPATH=. python benchmarks/server/rollout.py [--output FOLDER] [--clients 16]

The rollout is played as Kubernetes does it with the timings of docs/kubernetes.md: a new server
starts, the old one gets SIGTERM, a probe asks both for their readiness, and clients are sent to
whichever was ready when the probe asked last. Each client keeps its connection and sends one
request after the other; a request without a 200 is lost. Writes ``rollout.json`` and
``rollout.md``. The exit code says whether nothing was lost and the limits held.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import signal
import socket
import sys
import threading
import time
from collections import Counter
from pathlib import Path

from servers import KINDS, WORK, Running, start

from benchmarks.runs import Run, write_page

# docs/kubernetes.md
SHUTDOWN_DELAY_S = 10
DRAIN_S = 45
PROBE_PERIOD_S = 5.0
OURS = KINDS[0]
SCRIPT = """
import json, time

def init():
    time.sleep(1)

def run(data):
    with open("runs", "a") as file:
        file.write("x")
    time.sleep(json.loads(data)["s"])
    return 1
"""


class Balancer:
    """Which server gets the next request, by the last results of the probes."""

    def __init__(self, servers: list[Running]) -> None:
        self._servers = servers
        self._ready = servers[:1]
        self._ended = threading.Event()
        threading.Thread(target=self._probe, daemon=True).start()

    def _probe(self) -> None:
        while not self._ended.wait(PROBE_PERIOD_S):
            ready = []
            for server in self._servers:
                with contextlib.suppress(OSError, http.client.HTTPException):
                    if server.get("/readyz", timeout=1) == 200:
                        ready.append(server)
            self._ready = ready

    def choose(self, number: int) -> Running | None:
        ready = self._ready
        return ready[number % len(ready)] if ready else None

    def end(self) -> None:
        self._ended.set()


class Client(threading.Thread):
    """A client that sends requests without pause, on a connection that it keeps as long as its
    server is chosen."""

    def __init__(self, balancer: Balancer, number: int, until: threading.Event) -> None:
        super().__init__(daemon=True)
        self.answers: Counter[str] = Counter()
        self.slowest_s = 0.0
        self._balancer, self._number, self._until = balancer, number, until

    def run(self) -> None:
        server: Running | None = None
        connection: http.client.HTTPConnection | None = None
        while not self._until.is_set():
            chosen = self._balancer.choose(self._number)
            if chosen is None:
                self.answers["no server is ready"] += 1
                time.sleep(0.1)
                continue
            if chosen is not server or connection is None:
                if connection is not None:
                    connection.close()
                server = chosen
                connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
            began = time.perf_counter()
            try:
                connection.request("POST", "/score", b'{"s": 0.01}')
                response = connection.getresponse()
                response.read()
                self.answers[str(response.status)] += 1
                if response.will_close:
                    connection.close()
            except (OSError, http.client.HTTPException) as error:
                self.answers[type(error).__name__] += 1
                connection.close()
                connection = None
            self.slowest_s = max(self.slowest_s, time.perf_counter() - began)


def rollout(clients: int) -> tuple[str, bool]:
    """The answers to requests while one server replaces another."""
    settings = {
        "INFERENCE_SERVER_SHUTDOWN_DELAY": str(SHUTDOWN_DELAY_S),
        "INFERENCE_SERVER_DRAIN_TIMEOUT": str(DRAIN_S),
    }
    with contextlib.ExitStack() as stack:
        old = stack.enter_context(start(OURS, WORK, None, SCRIPT, settings))
        _await(old)
        new = stack.enter_context(start(OURS, WORK, None, SCRIPT, settings))
        balancer, until = Balancer([old, new]), threading.Event()
        crowd = [Client(balancer, number, until) for number in range(clients)]
        for client in crowd:
            client.start()
        _await(new)
        time.sleep(PROBE_PERIOD_S + 1)
        began = time.perf_counter()
        old.process.send_signal(signal.SIGTERM)
        code = old.process.wait(SHUTDOWN_DELAY_S + DRAIN_S + 5)
        took_s = time.perf_counter() - began
        time.sleep(2)
        until.set()
        for client in crowd:
            client.join(30)
        balancer.end()
        answers = sum((client.answers for client in crowd), Counter[str]())
        slowest_s = max(client.slowest_s for client in crowd)
    lost = {what: count for what, count in answers.items() if what != "200"}
    words = (
        f"{answers['200']:,} answered, {sum(lost.values())} lost{f' {lost}' if lost else ''}, the "
        f"slowest in {slowest_s * 1000:.0f} ms; the old server left with {code} "
        f"after {took_s:.1f} s"
    )
    return words, not lost and code == 0


def too_long_a_queue(limit_s: int = 2) -> tuple[str, bool]:
    """When requests that wait behind a slow one are answered."""
    settings = {"INFERENCE_SERVER_QUEUE_TIMEOUT": str(limit_s)}
    with start(OURS, WORK, None, SCRIPT, settings) as server:
        _await(server)
        threading.Thread(target=server.score, args=(b'{"s": 6}',), daemon=True).start()
        time.sleep(0.3)
        taken: list[tuple[int, float]] = []

        def wait() -> None:
            began = time.perf_counter()
            status = server.score(b'{"s": 0}')
            taken.append((status, time.perf_counter() - began))

        waiting = [threading.Thread(target=wait) for _ in range(20)]
        for thread in waiting:
            thread.start()
        for thread in waiting:
            thread.join()
    statuses = Counter(status for status, _ in taken)
    latest = max(seconds for _, seconds in taken)
    words = f"{dict(statuses)} after {min(s for _, s in taken):.2f} to {latest:.2f} s"
    return words, set(statuses) == {503} and latest < limit_s + 1


def clients_that_leave(count: int = 40) -> tuple[str, bool]:
    """How many of the requests are scored whose clients have left, and when the next one is."""
    with start(OURS, WORK, None, SCRIPT, {}) as server:
        _await(server)
        runs = WORK / "app" / "runs"
        runs.unlink(missing_ok=True)
        body = b'{"s": 0.5}'
        head = b"POST /score HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body)
        socks = []
        for _ in range(count):
            sock = socket.create_connection(("127.0.0.1", server.port))
            sock.sendall(head + body)
            socks.append(sock)
        time.sleep(0.3)
        for sock in reversed(socks):
            sock.close()
        began = time.perf_counter()
        server.score(b'{"s": 0}')
        took_s = time.perf_counter() - began
        scored = len(runs.read_text()) - 1
    return f"{scored} of {count} begun, the next client waits {took_s:.2f} s", scored <= 1


def _await(server: Running) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError, http.client.HTTPException):
            if server.get("/readyz") == 200:
                return
        time.sleep(0.05)
    raise RuntimeError("the server does not become ready")


def main() -> int:
    parser = argparse.ArgumentParser(description="Rollout, queue and clients that leave.")
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--output", type=Path, default=WORK.parent)
    options = parser.parse_args()
    WORK.mkdir(parents=True, exist_ok=True)
    run = Run.now()
    found = {
        f"rollout under the load of {options.clients} clients, "
        f"delay {SHUTDOWN_DELAY_S} s, probe each {PROBE_PERIOD_S:g} s": rollout(options.clients),
        "20 requests wait behind one of 6 s, limit of the queue 2 s": too_long_a_queue(),
        "40 requests of 0.5 s whose clients leave": clients_that_leave(),
    }
    lines = ["| | | |", "|---|---|---|"]
    for what, (words, right) in found.items():
        lines.append(f"| {what} | {words} | {'yes' if right else 'NO'} |")
        print(lines[-1], flush=True)
    figures = {what: {"found": words, "right": right} for what, (words, right) in found.items()}
    title = "A rollout, a long queue, and clients that leave"
    write_page(options.output, "rollout", title, "\n".join(lines), figures, run)
    return 0 if all(right for _, right in found.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
