"""Hostile clients for long: what they get, what others notice, and what is left afterwards.

    PYTHONPATH=. python benchmarks/server/hostile.py [--requests 20000] [--output FOLDER]

The scenes of ``tests/server/test_hostile.py`` in full size, each on a server of its own, while a
probe asks for the health. Writes ``hostile.json`` and ``hostile.md``. The exit code says whether
health was answered in time throughout, no client caused an error, the service did not grow, and
scoring worked right afterwards. It takes a few minutes, on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import re
import socket
import sys
import tempfile
import textwrap
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from servers import WORK

from benchmarks.runs import Run, write_page
from tests.server.harness import Server
from tests.server.hostile import (
    AHEAD,
    DEPTHS,
    SCRIPT,
    Probe,
    Seen,
    exchange,
    faults,
    halves,
    held,
    mutate,
    post,
    reset,
    resident,
    statuses,
)

HEALTH_P99_MS = 20.0
# The limits for the first time that a scene is played, and for the second.
NEEDED_MIB = 32.0
GROWTH_MIB = 4.0
CALLS = "calls"
CLOSE = b"Connection: close"


@dataclass
class Scene:
    """The result of a scene: answers by status, and faults."""

    answers: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def count(self, received: bytes) -> list[int]:
        found = statuses(received)
        self.answers.update(str(status) for status in found)
        self.answers["none"] += not found
        self.wrong += faults(received)
        return found


# The ways in which clients leave: by the end of the stream, and by a reset.
LEAVE: list[Callable[[socket.socket], None]] = [socket.socket.close, reset]
Act = Callable[[Server, Scene, int], None]


def idle(_server: Server, _scene: Scene, _size: int) -> None:
    """No client: what the probe measures of this machine."""
    time.sleep(5)


def upgrades(server: Server, scene: Scene, _size: int) -> None:
    """Many requests ahead of one to score, of every kind and depth."""
    for name, ahead in AHEAD.items():
        missing = []
        for depth in DEPTHS:
            [received] = exchange(address(server), [ahead * depth + post(b"last", CLOSE)])
            if len(scene.count(received)) != depth + 1:
                missing.append(depth)
            if not scores(server):
                scene.wrong.append(f"{name}, {depth} deep: scoring hangs")
                return
        if missing:
            depths = f"{min(missing)} to {max(missing)}"
            scene.wrong.append(f"{name}, {depths} deep: not all are answered")


def flood(server: Server, scene: Scene, size: int) -> None:
    """40 connections, each with 9,000 requests ahead."""
    count = max(1, size * 9 // 20)
    requests = b"".join(
        b"GET / HTTP/1.1\r\nHost: a\r\nx-request-id: %d\r\n%s\r\n"
        % (number, b"Connection: close\r\n" if number == count - 1 else b"")
        for number in range(count)
    )
    expected = [str(number).encode() for number in range(count)]
    wrong = 0
    for received in exchange(address(server), [requests] * 40, patience_s=60):
        scene.count(received)
        wrong += re.findall(rb"\r\nx-request-id: (\d+)\r\n", received) != expected
    if wrong:
        scene.wrong.append(f"on {wrong} connections answers are missing, or in another order")


def mutated(server: Server, scene: Scene, size: int) -> None:
    """Requests with bytes flipped, cut, doubled, and lies about sizes."""
    chance = random.Random(12)
    for _ in range(10):
        requests = [mutate(chance) for _ in range(size // 10)]
        for received in exchange(address(server), requests, half_close=True, at_a_time=32):
            scene.count(received)


def half(server: Server, scene: Scene, size: int) -> None:
    """1,500 requests that are begun and held open; in between, others score."""
    with held(address(server), halves(random.Random(12), size * 3 // 40)):
        for _ in range(50):
            began = time.perf_counter()
            scene.answers[str(server.score(b"x").status)] += 1
            if time.perf_counter() - began > 1:
                scene.wrong.append("scoring took more than a second")
            time.sleep(0.1)


def leaving(server: Server, scene: Scene, _size: int) -> None:
    """Clients that queue behind a slow run and leave, by closing and by a reset."""
    for leave in LEAVE:
        requests = [post(b"sleep 2"), *[post(b"left")] * 200]
        with held(address(server), requests) as socks:
            time.sleep(1)
            for sock in socks[1:]:
                leave(sock)
            scene.answers[str(server.score(b"x").status)] += 1
    scored = (server.root / CALLS).read_text().count("left")
    if scored:
        scene.wrong.append(f"{scored} requests of clients that left were scored")


SCENES: dict[str, Act] = {
    "none": idle,
    "requests ahead, of each kind, at each depth": upgrades,
    "40 connections with 9,000 requests ahead": flood,
    "mutated requests": mutated,
    "1,500 half requests held open": half,
    "400 clients leave the queue": leaving,
}


def address(server: Server) -> tuple[str, int]:
    return "127.0.0.1", server.port


def scores(server: Server) -> bool:
    with contextlib.suppress(OSError):
        return server.score(b"after", timeout=5).status == 200
    return False


@dataclass(frozen=True)
class Report:
    """The report on a scene."""

    name: str
    answers: dict[str, int]
    seconds: float
    health: Seen
    growth_mib: tuple[float, float]
    wrong: list[str]

    @property
    def row(self) -> str:
        counts = ", ".join(
            f"{count:,} x {status}" for status, count in sorted(self.answers.items())
        )
        health = ", ".join(
            f"{count:,} x {status}" for status, count in sorted(self.health.answers.items())
        )
        times = f"{self.health.p50_ms:.1f} / {self.health.p99_ms:.1f} / {self.health.worst_ms:.1f}"
        growth = "{:.1f}, then {:.1f}".format(*self.growth_mib)
        right = "; ".join(self.wrong[:3]) or "yes"
        cells = [self.name, counts, f"{self.seconds:.1f}", health, times, growth, right]
        return f"| {' | '.join(cells)} |"


@contextlib.contextmanager
def served() -> Iterator[Server]:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "app"
        root.mkdir()
        (root / "main.py").write_text(textwrap.dedent(SCRIPT))
        with Server(root, {"TEST_CALLS": str(root / CALLS)}) as server:
            yield server.await_ready()


def play(name: str, act: Act, size: int) -> Report:
    """Plays a scene twice. The memory of its peak stays allocated; growth beyond it is a leak."""
    scene = Scene()
    with served() as server:
        resting = [resident(server.process.pid)]
        began = time.perf_counter()
        with Probe(address(server)) as probe:
            for _ in range(2):
                act(server, scene, size)
                time.sleep(1)
                resting.append(resident(server.process.pid))
        seconds = time.perf_counter() - began
        if not scores(server):
            scene.wrong.append("scoring hangs afterwards")
    health = probe.seen
    if not health.healthy or health.p99_ms > HEALTH_P99_MS:
        scene.wrong.append(f"health: {health}")
    first, then = resting[1] - resting[0], resting[2] - resting[1]
    if first > NEEDED_MIB or then > GROWTH_MIB:
        scene.wrong.append(f"the service grew by {first:.1f} MiB, then by {then:.1f}")
    wrong = list(dict.fromkeys(scene.wrong))
    return Report(name, dict(+scene.answers), seconds, health, (first, then), wrong)


def main() -> int:
    parser = argparse.ArgumentParser(description="Hostile clients for long.")
    parser.add_argument(
        "--requests", type=int, default=20_000, help="mutated ones; scales the rest"
    )
    parser.add_argument("--only", default="", help="scenes whose name has this word")
    parser.add_argument("--output", type=Path, default=WORK.parent)
    options = parser.parse_args()
    run = Run.now()
    reports = []
    for name, act in SCENES.items():
        if options.only in name:
            reports.append(play(name, act, options.requests))
            print(reports[-1].row, flush=True)
    lines = [
        f"{options.requests:,} mutated requests; Python {sys.version.split()[0]}. The times are of"
        " `GET /` on new connections, one each 10 ms, in milliseconds: median / p99 / worst. The"
        " first row is what the probe sees without other clients. Each scene is played twice.",
        "",
        "| clients | answers | seconds | health | times | service grew, MiB | as it should |",
        "|---|---|---|---|---|---|---|",
        *(report.row for report in reports),
    ]
    scenes = [
        {**vars(report), "health": {**vars(report.health), "answers": dict(report.health.answers)}}
        for report in reports
    ]
    title, text = "Hostile clients", "\n".join(lines)
    write_page(options.output, "hostile", title, text, scenes, run, partial=bool(options.only))
    wrong = [f"{report.name}: {fault}" for report in reports for fault in report.wrong]
    print(f"\n{len(reports)} scenes, {len(wrong)} faults", *wrong[:20], sep="\n  ")
    return 1 if wrong or not reports else 0


if __name__ == "__main__":
    sys.exit(main())
