"""Asks for the health of a service each 10 ms until its input ends: ``probe.py HOST PORT LIMIT_S``.

A program of its own, so that a load client in another process does not slow it. Each question is on
a connection of its own, as the probes of orchestrators ask. Prints JSON. Standard library only.
"""

from __future__ import annotations

import collections
import http.client
import json
import select
import sys
import time

PAUSE_S = 0.01


def ask(host: str, port: int, limit_s: float) -> str:
    """The status of ``GET /``, or the name of what went wrong."""
    connection = http.client.HTTPConnection(host, port, timeout=limit_s)
    try:
        connection.request("GET", "/")
        response = connection.getresponse()
        response.read()
        return str(response.status)
    except (OSError, http.client.HTTPException) as error:
        return type(error).__name__
    finally:
        connection.close()


def main() -> None:
    host, port, limit_s = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    answers: collections.Counter[str] = collections.Counter()
    taken: list[float] = []
    while True:
        began = time.perf_counter()
        answers[ask(host, port, limit_s)] += 1
        taken.append((time.perf_counter() - began) * 1000)
        if select.select([sys.stdin], [], [], PAUSE_S)[0]:
            break
    taken.sort()
    found = {
        "answers": answers,
        "p50_ms": taken[len(taken) // 2],
        "p99_ms": taken[int(len(taken) * 0.99)],
        "worst_ms": taken[-1],
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
