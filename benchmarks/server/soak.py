"""Mixed load for a long time: every good request is answered rightly or refused cleanly.

    PYTHONPATH=. python benchmarks/server/soak.py [--seconds 600] [--output FOLDER]

Good clients beside broken, slow and oversized ones, while workers are killed from outside and by
requests. At the end: the counts, the memory before and after, processes that are left over. The
exit code says whether a good request went wrong, memory grew or a process leaked.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import http.client
import json
import os
import random
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from servers import KINDS, WORK, Running, start, tree

from benchmarks.runs import Run, write_page

SCRIPT = """
import json, os, time

def init():
    pass

def run(data):
    given = json.loads(data)
    if given.get("die"):
        os._exit(9)
    time.sleep(given.get("sleep", 0))
    return {"double": [2 * n for n in given["data"]]}
"""
GROWTH_MIB = 40.0


class Soak:
    """The clients and what they saw."""

    def __init__(self, server: Running, seconds: float) -> None:
        self.server = server
        self.end = time.monotonic() + seconds
        self.seen: collections.Counter[str] = collections.Counter()
        self.wrong: list[str] = []

    @property
    def running(self) -> bool:
        return time.monotonic() < self.end

    def good(self) -> None:
        """Scores on a connection that is kept; a reset of the connection is not clean."""
        connection = self.connection()
        chance = random.Random(threading.get_ident())
        while self.running:
            data = [chance.randrange(10**6) for _ in range(chance.randrange(1, 200))]
            body = json.dumps({"data": data, "sleep": chance.choice([0, 0, 0, 0.01])})
            try:
                connection.request("POST", "/score", body)
                response = connection.getresponse()
                content = response.read()
            except (OSError, http.client.HTTPException) as error:
                self.wrong.append(f"good request: {error!r}")
                connection = self.connection()
                continue
            if response.status == 200:
                right = json.loads(content) == {"double": [2 * n for n in data]}
                self.seen["good: right" if right else "good: wrong"] += 1
                if not right:
                    self.wrong.append("good request: wrong answer")
            else:
                self.seen[f"good: {response.status}"] += 1
                if response.status not in (500, 503):
                    self.wrong.append(f"good request: {response.status}")
                time.sleep(0.02)
            if chance.random() < 0.01:
                connection.close()
                connection = self.connection()

    def connection(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=30)

    def one(self, name: str, body: bytes, pause_s: float) -> None:
        while self.running:
            connection = self.connection()
            try:
                connection.request("POST", "/score", body)
                self.seen[f"{name}: {connection.getresponse().status}"] += 1
            except (OSError, http.client.HTTPException):
                self.seen[f"{name}: connection closed"] += 1
            connection.close()
            time.sleep(pause_s)

    def slow(self) -> None:
        """Half a body, then nothing for a while."""
        while self.running:
            head = b"POST /score HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n{"
            with (
                contextlib.suppress(OSError),
                socket.create_connection(("127.0.0.1", self.server.port)) as client,
            ):
                client.sendall(head)
                time.sleep(random.random() * 4)
                self.seen["slow: left"] += 1

    def health(self) -> None:
        while self.running:
            began = time.perf_counter()
            try:
                status = self.server.get("/")
            except OSError as error:
                self.wrong.append(f"health: {error!r}")
                continue
            self.seen[f"health: {status}"] += 1
            if time.perf_counter() - began > 0.5:
                self.seen["health: slower than 0.5 s"] += 1
            time.sleep(0.05)

    def killer(self) -> None:
        while self.running:
            time.sleep(5)
            workers = tree(self.server.process.pid)[1:]
            if workers:
                with contextlib.suppress(OSError):
                    os.kill(random.choice(workers), signal.SIGKILL)
                    self.seen["workers killed from outside"] += 1

    def run(self) -> None:
        acts: list[Callable[[], None]] = [self.good] * 8 + [self.slow] * 8
        acts += [self.health, self.killer]
        acts += [
            lambda: self.one("not JSON", b'{"data": ', 0.05),
            lambda: self.one("not UTF-8", b"\xff\xfe", 0.05),
            lambda: self.one("oversized", b"x" * 2_000_000, 0.2),
            lambda: self.one("fails", b'{"data": 1}', 0.05),
            lambda: self.one("kills its worker", b'{"die": true}', 7),
            lambda: self.one("too slow", b'{"data": [], "sleep": 5}', 3),
        ]
        threads = [threading.Thread(target=act, daemon=True) for act in acts]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def main() -> int:
    parser = argparse.ArgumentParser(description="Mixed load for a long time.")
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--output", type=Path, default=WORK.parent)
    options = parser.parse_args()
    WORK.mkdir(parents=True, exist_ok=True)
    run = Run.now()
    settings = {
        "WORKER_COUNT": "2",
        "SCORING_TIMEOUT_MS": "1000",
        "INFERENCE_SERVER_BODY_LIMIT": "1000000",
        "INFERENCE_SERVER_READ_TIMEOUT": "2",
    }
    [ours] = [kind for kind in KINDS if kind.name == "ours"]
    with start(ours, WORK, None, SCRIPT, settings) as server:
        server.await_first_score()
        # Buffers and threads come with the first load; what grows after that is a leak.
        Soak(server, min(20.0, options.seconds / 5)).run()
        time.sleep(1)
        before = server.memory()["rss_mib"]
        soak = Soak(server, options.seconds)
        soak.run()
        time.sleep(3)
        after = server.memory()["rss_mib"]
        processes = len(tree(server.process.pid))
        everyone = tree(server.process.pid)
        server.process.send_signal(signal.SIGTERM)
        code = server.process.wait(20)
    left = [pid for pid in everyone if Path(f"/proc/{pid}").exists()]
    faults = soak.wrong[:20]
    if after - before > GROWTH_MIB:
        faults.append(f"memory grew from {before:.0f} to {after:.0f} MiB")
    if processes != 3:
        faults.append(f"{processes} processes, wanted 3")
    if left or code:
        faults.append(f"after the end: exit code {code}, processes {left}")
    lines = [f"{count:>9,}  {name}" for name, count in sorted(soak.seen.items())]
    lines.append(f"memory {before:.1f} MiB, then {after:.1f} MiB; exit code {code}")
    lines.append(f"{len(soak.wrong)} good requests went wrong" if soak.wrong else "all good")
    text = "\n  ".join(["\n".join(lines), *faults])
    print(text)
    report = {"seen": soak.seen, "before_mib": before, "after_mib": after, "faults": soak.wrong}
    title = f"{options.seconds:g} s of mixed load"
    write_page(options.output, "soak", title, f"```\n{text}\n```", report, run)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
