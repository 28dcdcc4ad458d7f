"""What does ``/metrics`` show? Counters of this service in the text format of Prometheus."""

from __future__ import annotations

import os
from bisect import bisect_left
from typing import Dict, List, Tuple

from .memory import Memory

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0)


class Histogram:
    """Counts values below the bounds of its buckets."""

    def __init__(self, name: str, text: str) -> None:
        self._name = name
        self._text = text
        self._buckets: List[int] = [0] * (len(BUCKETS) + 1)
        self._sum = 0.0

    def observe(self, seconds: float) -> None:
        """Count one value."""
        self._buckets[bisect_left(BUCKETS, seconds)] += 1
        self._sum += seconds

    def lines(self) -> List[str]:
        """Its part of the page."""
        name = self._name
        lines = ["# HELP {} {}".format(name, self._text), "# TYPE {} histogram".format(name)]
        total = 0
        for bound, count in zip(BUCKETS, self._buckets):  # noqa: B905 - Python 3.7
            total += count
            lines.append('{}_bucket{{le="{:g}"}} {}'.format(name, bound, total))
        total += self._buckets[-1]
        lines.append('{}_bucket{{le="+Inf"}} {}'.format(name, total))
        return [*lines, "{}_sum {:.6f}".format(name, self._sum), "{}_count {}".format(name, total)]


class Metrics:
    """Plain counters: all requests pass one thread of one process."""

    def __init__(self, paths: Tuple[str, ...]) -> None:
        self._paths = paths
        self._requests: Dict[Tuple[str, str, int], int] = {}
        self._refusals: Dict[str, int] = {}
        self._score = Histogram(
            "inference_score_seconds", "Time from request to response on /score."
        )
        self._wait = Histogram(
            "inference_wait_seconds", "Time that requests waited before a worker took them."
        )

    def observe(self, method: str, path: str, status: int, seconds: float) -> None:
        """Count one request. Unknown paths and methods share one label: clients choose them."""
        path = path if path in self._paths else "other"
        method = method if method in ("GET", "POST", "HEAD", "OPTIONS") else "other"
        key = (method, path, status)
        self._requests[key] = self._requests.get(key, 0) + 1
        if path == "/score":
            self._score.observe(seconds)

    def observe_wait(self, seconds: float) -> None:
        """Count a request that a worker took after this wait."""
        self._wait.observe(seconds)

    def observe_refusal(self, reason: str) -> None:
        """Count a request that was refused."""
        self._refusals[reason] = self._refusals.get(reason, 0) + 1

    def render(self, ready: bool, waiting: int, busy: int, restarts: int, memory: Memory) -> bytes:
        """The page."""
        lines = [
            "# HELP inference_requests_total Requests by method, path and status.",
            "# TYPE inference_requests_total counter",
        ]
        for (method, path, status), count in sorted(self._requests.items()):
            lines.append(
                'inference_requests_total{{method="{}",path="{}",status="{}"}} {}'.format(
                    method, path, status, count
                )
            )
        lines += [
            "# HELP inference_refusals_total Requests that were refused, by reason.",
            "# TYPE inference_refusals_total counter",
        ]
        for reason, count in sorted(self._refusals.items()):
            lines.append('inference_refusals_total{{reason="{}"}} {}'.format(reason, count))
        lines += self._score.lines() + self._wait.lines()
        gauges = (
            ("inference_ready", "Whether a worker is ready.", "gauge", int(ready)),
            ("inference_requests_waiting", "Requests in the queue.", "gauge", waiting),
            ("inference_requests_running", "Requests in run().", "gauge", busy),
            ("inference_memory_held_bytes", "Held for clients.", "gauge", memory.held),
            ("inference_memory_limit_bytes", "That may be held.", "gauge", memory.limit),
            ("inference_worker_restarts_total", "Workers replaced.", "counter", restarts),
            (
                "process_resident_memory_bytes",
                "Memory of the service.",
                "gauge",
                _resident(),
            ),
        )
        for name, text, kind, value in gauges:
            lines += ["# HELP {} {}".format(name, text), "# TYPE {} {}".format(name, kind)]
            lines.append("{} {}".format(name, value))
        return ("\n".join(lines) + "\n").encode("ascii")


def _resident() -> int:
    with open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
