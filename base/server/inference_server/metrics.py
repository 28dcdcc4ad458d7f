"""What does ``/metrics`` show? Counters of this service in the text format of Prometheus."""

from __future__ import annotations

import os
import threading
from typing import Dict, List, Tuple

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0)


class Metrics:
    """All requests pass one process, so plain counters are the truth."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._requests: Dict[Tuple[str, str, int], int] = {}
        self._buckets: List[int] = [0] * (len(BUCKETS) + 1)
        self._sum = 0.0
        self._count = 0

    def observe(self, method: str, path: str, status: int, seconds: float) -> None:
        """Count one request. Unknown paths and methods share one label: clients choose them."""
        path = path if path in ("/", "/score", "/swagger.json", "/metrics") else "other"
        method = method if method in ("GET", "POST", "HEAD", "OPTIONS") else "other"
        with self._mutex:
            key = (method, path, status)
            self._requests[key] = self._requests.get(key, 0) + 1
            if path == "/score":
                self._count += 1
                self._sum += seconds
                for index, bound in enumerate(BUCKETS):
                    if seconds <= bound:
                        self._buckets[index] += 1
                        break
                else:
                    self._buckets[-1] += 1

    def render(self, ready: bool, waiting: int, busy: int, restarts: int) -> bytes:
        """The page."""
        lines = [
            "# HELP inference_requests_total Requests by method, path and status.",
            "# TYPE inference_requests_total counter",
        ]
        with self._mutex:
            for (method, path, status), count in sorted(self._requests.items()):
                lines.append(
                    'inference_requests_total{{method="{}",path="{}",status="{}"}} {}'.format(
                        method, path, status, count
                    )
                )
            lines += [
                "# HELP inference_score_seconds Time from request to response on /score.",
                "# TYPE inference_score_seconds histogram",
            ]
            total = 0
            for bound, count in zip(BUCKETS, self._buckets):  # noqa: B905 - Python 3.7
                total += count
                lines.append('inference_score_seconds_bucket{{le="{:g}"}} {}'.format(bound, total))
            lines += [
                'inference_score_seconds_bucket{{le="+Inf"}} {}'.format(self._count),
                "inference_score_seconds_sum {:.6f}".format(self._sum),
                "inference_score_seconds_count {}".format(self._count),
            ]
        gauges = (
            ("inference_ready", "Whether a worker is ready.", "gauge", int(ready)),
            ("inference_requests_waiting", "Requests in the queue.", "gauge", waiting),
            ("inference_requests_running", "Requests in run().", "gauge", busy),
            ("inference_worker_restarts_total", "Workers replaced.", "counter", restarts),
            ("process_resident_memory_bytes", "Memory of the front.", "gauge", _resident()),
        )
        for name, text, kind, value in gauges:
            lines += ["# HELP {} {}".format(name, text), "# TYPE {} {}".format(name, kind)]
            lines.append("{} {}".format(name, value))
        return ("\n".join(lines) + "\n").encode("ascii")


def _resident() -> int:
    with open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
