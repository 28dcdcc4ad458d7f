"""Ours and the reference, measured in turn in one run.

    PYTHONPATH=. python benchmarks/server/bench.py [--runs 5] [--seconds 2] [--no-containers]
        [--before FOLDER] [--wrk]

``--before`` measures another state of our server beside the two: a checkout of it. ``--wrk`` has
Debian's wrk make the load instead of load.py.

Writes ``scoring-server.json`` and ``scoring-server.md`` below ``--output``. The containers are of
the minimal image, and of one built on it that holds the reference; PYTHONPATH is for them.

One worker each, the server pinned to one core and the client to another, connections kept alive
where the server does so. Medians of several runs, which alternate between the two, because a
machine that does other things too is no steady measure: read the ratios, not the numbers.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import http.client
import json
import os
import platform
import socket
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from servers import KINDS, WORK, Kind, Running, start

from benchmarks.runs import Run, write_page

CLIENT = Path(__file__).parent / "load.py"
CONNECTIONS = (1, 32)
HALF_OPEN = 64
BLOCKED_S = 4.0

# name in the result, words, unit, better is more, target as a factor against the reference
ROWS: tuple[tuple[str, str, str, bool, float | None], ...] = (
    ("rps_1", "requests per second, 1 connection", "/s", True, 4),
    ("rps_32", "requests per second, 32 connections", "/s", True, 10),
    ("p50_ms_1", "median latency, 1 connection", "ms", False, None),
    ("p50_ms_32", "median latency, 32 connections", "ms", False, None),
    ("p99_ms_1", "99th percentile, 1 connection", "ms", False, None),
    ("p99_ms_32", "99th percentile, 32 connections", "ms", False, 4),
    (
        "health_p99_ms",
        "health, 99th percentile, run() blocked and 64 clients half-open",
        "ms",
        False,
        None,
    ),
    ("stream_first_s", "stream of 4 parts in 1 s: the first", "s", False, None),
    ("stream_mb_s", "stream of 64 KiB parts, 100 MB", "MB/s", True, None),
    ("start_s", "start to the first 200 on /score", "s", False, 2),
    ("rss_mib", "memory, idle, sum of resident sizes", "MiB", False, 2),
    ("pss_mib", "memory, idle, proportional", "MiB", False, 2),
    ("container_start_s", "container: start to the first 200 on /score", "s", False, 2),
    ("container_rss_mib", "container: memory, idle, sum of resident sizes", "MiB", False, 2),
    ("added_mb", "size that the server adds", "MB", False, 4),
    ("distributions", "distributions that the server adds", "", False, 4),
)
HEALTH_LIMIT_MS = 20.0
STREAM_PARTS = 100_000_000 // 65536
STREAM_SCRIPT = """
import time
from azureml_inference_server_http.api.aml_request import AMLRequest, rawhttp
from azureml_inference_server_http.api.aml_response import AMLResponse

def init():
    pass

def slowly():
    for number in range(4):
        yield "data: {}\\n\\n".format(number)
        time.sleep(0.25)

def quickly():
    part = b"x" * 65536
    for _ in range(PARTS):
        yield part

@rawhttp
def run(request):
    body = quickly() if request.args.get("quick") else slowly()
    return AMLResponse(body, 200, {"Content-Type": "text/event-stream"})
""".replace("PARTS", str(STREAM_PARTS))


WRK_SCRIPT = """
wrk.method = "POST"
wrk.body = '{"data": [1, 2, 3]}'
wrk.headers["Content-Type"] = "application/json"
done = function(summary, latency, requests)
  local errors = summary.errors
  local wrong = errors.connect + errors.write + errors.status + errors.timeout
  io.write(string.format("RESULT %f %f %f %d\\n", summary.requests / summary.duration * 1e6,
    latency:percentile(50) / 1000, latency:percentile(99) / 1000, wrong))
end
"""


def load_by_wrk(port: int, connections: int, seconds: float, core: int | None) -> dict[str, float]:
    """The same as `load`, by Debian's wrk."""
    script = WORK / "wrk.lua"
    script.write_text(WRK_SCRIPT)
    pin = [] if core is None else ["taskset", "--cpu-list", str(core)]
    command = [*pin, "wrk", "--threads", "1", "--connections", str(connections)]
    command += ["--duration", f"{seconds:g}s", "--script", str(script)]
    done = subprocess.run(
        [*command, f"http://127.0.0.1:{port}/score"], check=True, capture_output=True, text=True
    )
    [line] = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    names = ("rps", "p50_ms", "p99_ms", "wrong")
    return dict(zip(names, map(float, line.split()[1:]), strict=True))


def streams(kind: Kind, options: argparse.Namespace) -> dict[str, float]:
    """How soon a stream begins, and how fast it can be."""
    found: dict[str, float] = {}
    with start(kind, WORK, options.server_core, STREAM_SCRIPT) as server:
        server.await_first_score()
        for name, query in (("stream_first_s", ""), ("stream_mb_s", "?quick=1")):
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
            began = time.perf_counter()
            connection.request("GET", "/score" + query)
            response = connection.getresponse()
            if query:
                size = 0
                while part := response.read(1 << 20):
                    size += len(part)
                found[name] = size / 1e6 / (time.perf_counter() - began)
            else:
                response.read(1)
                found[name] = time.perf_counter() - began
            connection.close()
    return found


def load(port: int, connections: int, seconds: float, core: int | None) -> dict[str, float]:
    pin = [] if core is None else ["taskset", "--cpu-list", str(core)]
    command = [*pin, sys.executable, str(CLIENT), str(port), str(connections), str(seconds)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    result: dict[str, float] = json.loads(done.stdout)
    if result["wrong"]:
        raise RuntimeError(f"{result['wrong']} wrong answers")
    return result


def block(server: Running) -> None:
    """A request that keeps ``run()`` busy; whether it is answered does not matter here."""
    with contextlib.suppress(OSError):
        server.score(b'{"sleep": %.1f}' % BLOCKED_S)


def health_under_pressure(server: Running) -> list[float]:
    """Milliseconds of ``GET /`` while ``run()`` blocks and clients hold half a request each.

    A probe that gets no answer within five seconds counts as five seconds.
    """
    head = b"POST /score HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n{"
    taken: list[float] = []
    with contextlib.ExitStack() as stack:
        threading.Thread(target=block, args=(server,), daemon=True).start()
        time.sleep(0.2)
        for _ in range(HALF_OPEN):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", server.port)))
            client.sendall(head)
        end = time.perf_counter() + BLOCKED_S - 0.5
        while time.perf_counter() < end:
            began = time.perf_counter()
            with contextlib.suppress(OSError):
                server.get("/")
            taken.append((time.perf_counter() - began) * 1000)
            time.sleep(0.01)
    return taken


def measure(kind: Kind, folder: Path, options: argparse.Namespace) -> dict[str, float]:
    """One run of one server."""
    found: dict[str, float] = {}
    with start(kind, folder, options.server_core) as server:
        found["start_s"] = server.await_first_score()
        time.sleep(1)
        found.update(server.memory())
        load(server.port, 32, 0.5, options.client_core)
        for connections in CONNECTIONS:
            measured = load_by_wrk if options.wrk else load
            result = measured(server.port, connections, options.seconds, options.client_core)
            for name in ("rps", "p50_ms", "p99_ms"):
                found[f"{name}_{connections}"] = result[name]
        taken = sorted(health_under_pressure(server))
        found["health_p99_ms"] = taken[min(len(taken) - 1, int(len(taken) * 0.99))]
    found.update(streams(kind, options))
    return found


def medians(runs: list[dict[str, float]]) -> dict[str, float]:
    return {name: statistics.median(run[name] for run in runs) for name in runs[0]}


def table(results: dict[str, dict[str, float]]) -> tuple[str, list[str]]:
    """Markdown, and the targets that were missed."""
    ours, reference, before = results["ours"], results["reference"], results.get("before")
    titles = [*(["before"] if before is not None else []), "ours", "reference", "ratio"]
    lines = ["| | " + " | ".join(titles) + " | target |", "|---|" + "---:|" * len(titles) + "---|"]
    missed = []
    for name, words, unit, more, target in ROWS:
        if name not in ours:
            continue
        ratio = ours[name] / reference[name] if more else reference[name] / ours[name]
        verdict = ""
        if target is not None:
            held = ratio >= target
            verdict = f"≥ {target:g}: {'yes' if held else 'no'}"
            if not held:
                missed.append(f"{words}: {ratio:.2f}, wanted {target:g}")
        if name == "health_p99_ms":
            held = ours[name] <= HEALTH_LIMIT_MS
            verdict = f"≤ {HEALTH_LIMIT_MS:g} ms: {'yes' if held else 'no'}"
            if not held:
                missed.append(f"{words}: {ours[name]:.1f} ms")
        earlier = ""
        if before is not None:
            earlier = f"{shown(before[name])} {unit} | " if name in before else " | "
        lines.append(
            f"| {words} | {earlier}{shown(ours[name])} {unit} | {shown(reference[name])} {unit} "
            f"| {ratio:.2f} | {verdict} |"
        )
    return "\n".join(lines) + "\n", missed


def shown(value: float) -> str:
    """A figure with three or more digits that count."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def cores() -> tuple[int | None, int | None]:
    """Two cores, the first for the server; None where there is only one."""
    allowed = sorted(os.sched_getaffinity(0))
    return (allowed[0], allowed[1]) if len(allowed) > 1 else (None, None)


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure this server and the reference.")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--output", type=Path, default=WORK.parent)
    parser.add_argument("--before", type=Path, help="a checkout of another state of this server")
    parser.add_argument("--wrk", action="store_true", help="wrk makes the load")
    parser.add_argument("--no-containers", action="store_true", help="without a Docker engine")
    options = parser.parse_args()
    options.server_core, options.client_core = cores()
    run = Run.now()
    WORK.mkdir(parents=True, exist_ok=True)
    kinds = list(KINDS)
    if options.before is not None:
        source = options.before.resolve() / "base" / "server"
        kinds.insert(0, dataclasses.replace(KINDS[0], name="before", source=source))
    runs: dict[str, list[dict[str, float]]] = {kind.name: [] for kind in kinds}
    added = {kind.name: kind.added(WORK) for kind in kinds}
    with contextlib.ExitStack() as stack:
        both = None
        if not options.no_containers:
            from in_containers import containers

            both = stack.enter_context(containers())
        for number in range(options.runs):
            for kind in kinds:
                found = measure(kind, WORK, options)
                if both is not None and kind.name != "before":
                    found.update(both.measure(kind.name))
                found.update(added[kind.name])
                found["load"] = os.getloadavg()[0]
                runs[kind.name].append(found)
                print(
                    f"run {number + 1}: {kind.name}: {found['rps_32']:,.0f}/s with 32 "
                    f"connections, {found['rps_1']:,.0f}/s with 1, load {found['load']:.1f}",
                    flush=True,
                )
    results = {name: medians(found) for name, found in runs.items()}
    text, missed = table(results)
    about: dict[str, Any] = {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "runs": options.runs,
        "seconds": options.seconds,
    }
    about["load"] = "wrk" if options.wrk else "load.py"
    document = {"about": about, "medians": results, "runs": runs}
    stem = "scoring-server-wrk" if options.wrk else "scoring-server"
    loads = [run["load"] for found in runs.values() for run in found]
    note = (
        f"Medians of {options.runs} runs of {options.seconds:g} s that alternate, Python "
        f"{about['python']}, one worker, server pinned to one core, client to another.\n"
        f"The machine's load average was {min(loads):.1f} to {max(loads):.1f} (1 is the server "
        f"itself). The load is made by {about['load']}.\nRatios above 1: this server is better.\n\n"
    )
    title = "The scoring server and the reference, measured"
    write_page(options.output, stem, title, note + text.rstrip("\n"), document, run)
    print("\n" + text)
    for line in missed:
        print(f"missed: {line}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
