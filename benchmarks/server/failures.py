"""What happens when something goes wrong: each mode on ours and on the reference, by one script.

    PYTHONPATH=. python benchmarks/server/failures.py [--output FOLDER] [--only WORD]

Both run as containers, of the minimal image and of one built on it that holds the reference; with
--no-containers both run as processes, and need no Docker engine.

For each mode: what the client got or how the process ended, and how long it took until a good
request was answered again. Writes ``failures.json`` and ``failures.md``. Ours is checked against
what it should do; the exit code says whether it did.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from servers import KINDS, WORK, Kind, Running, free_port, start

from benchmarks.runs import Run, write_page

PATIENCE_S = 6.0
GOOD = b'{"do": "good"}'
SCRIPT = """
import json, os, signal, sys, threading, time

def init():
    pass

def run(data):
    given = json.loads(data)
    action = given["do"]
    if action == "nan":
        return float("nan")
    if action == "object":
        return object()
    if action == "deep":
        deep = []
        for _ in range(100_000):
            deep = [deep]
        return deep
    if action == "raise":
        raise ValueError("secret")
    if action == "memory":
        raise MemoryError
    if action == "recursion":
        def again():
            return again()
        again()
    if action == "exit":
        sys.exit(7)
    if action == "die":
        os._exit(9)
    if action == "segfault":
        import ctypes
        ctypes.string_at(0)
    if action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if action == "abort":
        os.abort()
    if action == "fork":
        if os.fork() == 0:
            time.sleep(30)
            os._exit(0)
        os._exit(9)
    if action == "sleep":
        time.sleep(given["s"])
    if action == "spin":
        end = time.monotonic() + given["s"]
        while time.monotonic() < end:
            pass
    if action == "deaf":
        signal.pthread_sigmask(signal.SIG_BLOCK, range(1, signal.NSIG))
        time.sleep(given["s"])
    if action == "threads":
        threading.Thread(target=time.sleep, args=(600,)).start()
    if action == "stdout":
        os.close(1)
    return {"sum": 6}
"""
RAW_SCRIPT = """
from azureml_inference_server_http.api.aml_request import rawhttp
from azureml_inference_server_http.api.aml_response import AMLResponse

def init():
    pass

@rawhttp
def run(request):
    action = request.args.get("do")
    if action == "inject":
        return AMLResponse("x", 200, {"X-Bad": "a\\r\\nX-Injected: 1"})
    if action == "status":
        return AMLResponse("x", 42)
    if action == "name":
        return AMLResponse("x", 200, {"Bad Name": "1"})
    return AMLResponse("ok", 200)
"""


def ask(server: Running, method: str, path: str, body: bytes | None = None, **headers: str) -> str:
    """One request in words: the status, or how the connection ended."""
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE_S)
    try:
        names = {key.replace("_", "-"): value for key, value in headers.items()}
        connection.request(method, path, body, names)
        response = connection.getresponse()
        content = response.read()
    except TimeoutError:
        return f"no answer in {PATIENCE_S:g} s"
    except (OSError, http.client.HTTPException):
        return "connection closed"
    finally:
        connection.close()
    words = str(response.status)
    if b"Traceback" in content or b"secret" in content:
        words += ", with internals"
    if content[:1] == b"{":
        try:
            json.loads(content, parse_constant=lambda text: 1 / 0)
        except (ValueError, ZeroDivisionError):
            words += ", invalid JSON"
    if response.getheader("X-Injected"):
        words += ", header injected"
    return words


def send(server: Running, data: bytes, wait_s: float = PATIENCE_S) -> str:
    """Bytes as they are; the status, or how the connection ended."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=wait_s) as sock:
        try:
            sock.sendall(data)
            answer = sock.recv(4096)
        except TimeoutError:
            return f"no answer in {wait_s:g} s"
        except ConnectionError:
            return "connection closed"
    found = re.match(rb"HTTP/1\.[01] (\d+)", answer)
    return found.group(1).decode() if found else "connection closed"


def score(action: str, rest: str = "") -> Callable[[Running], str]:
    body = f'{{"do": "{action}"{rest}}}'.encode()
    return lambda server: ask(server, "POST", "/score", body)


def get(
    method: str, path: str, body: bytes | None = None, **headers: str
) -> Callable[[Running], str]:
    return lambda server: ask(server, method, path, body, **headers)


def raw(data: bytes) -> Callable[[Running], str]:
    return lambda server: send(server, data)


def head(rest: bytes, path: bytes = b"/score") -> bytes:
    return b"POST " + path + b" HTTP/1.1\r\nHost: a\r\n" + rest + b"\r\n\r\n"


def health_time(server: Running) -> str:
    """How ``GET /`` answers now."""
    began = time.perf_counter()
    words = ask(server, "GET", "/")
    milliseconds = (time.perf_counter() - began) * 1000
    return f"health: {words}" + (f" in {milliseconds:.0f} ms" if milliseconds > 50 else " at once")


def held(server: Running, count: int, data: bytes) -> str:
    """Health while clients have sent a part of a request each."""
    with contextlib.ExitStack() as stack:
        for _ in range(count):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", server.port)))
            client.sendall(data)
        time.sleep(0.2)
        return health_time(server)


def while_busy(action: str) -> Callable[[Running], str]:
    def act(server: Running) -> str:
        body = f'{{"do": "{action}", "s": 2}}'.encode()
        busy = threading.Thread(target=ask, args=(server, "POST", "/score", body), daemon=True)
        busy.start()
        time.sleep(0.2)
        words = health_time(server)
        busy.join()
        return words

    return act


def crowd(server: Running) -> str:
    """600 requests while ``run()`` is busy: refused or answered, and health in between."""
    found: list[str] = []

    def one(body: bytes) -> None:
        found.append(ask(server, "POST", "/score", body))

    # Long enough for a slow machine to start all the others meanwhile.
    bodies = [b'{"do": "sleep", "s": 0.8}'] * 3 + [GOOD] * 600
    threads = [threading.Thread(target=one, args=(body,), daemon=True) for body in bodies]
    for thread in threads[:3]:
        thread.start()
    time.sleep(0.1)
    for thread in threads[3:]:
        thread.start()
    words = health_time(server)
    for thread in threads:
        thread.join()
    counts = sorted({(status, found.count(status)) for status in found})
    return ", ".join(f"{count} x {status}" for status, count in counts) + "; " + words


def leave_while_running(server: Running) -> str:
    body = b'{"do": "sleep", "s": 0.5}'
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        client.sendall(head(b"Content-Length: %d" % len(body)) + body)
        time.sleep(0.1)
    return health_time(server)


def kill_worker(server: Running) -> str:
    """Kill an idle worker, as the kernel does when memory is short."""
    found: list[str] = []
    busy = threading.Thread(
        target=lambda: found.append(ask(server, "POST", "/score", b'{"do": "sleep", "s": 1}'))
    )
    busy.start()
    time.sleep(0.2)
    os.kill(server.processes()[-1], signal.SIGKILL)
    busy.join()
    return found[0]


@dataclass(frozen=True)
class Mode:
    """One way in which something goes wrong, and what ours should do."""

    name: str
    act: Callable[[Running], str]
    wanted: str
    script: str = SCRIPT


SLOW_START = "POST /score HTTP/1.1\r\nHost: a\r\nContent-Le"
MODES = [
    Mode("unknown path", get("GET", "/nothing"), "404"),
    Mode("method that is not allowed", get("DELETE", "/score"), "405"),
    Mode("body is not UTF-8", get("POST", "/score", b"\xff\xfe"), "400"),
    Mode("body is not JSON", get("POST", "/score", b'{"do": '), "400"),
    Mode("body is empty", get("POST", "/score", b""), "400"),
    Mode("body nested 200,000 deep", get("POST", "/score", b"[" * 200_000), "400"),
    Mode(
        "request id of 101 characters", get("POST", "/score", GOOD, x_request_id="a" * 101), "431"
    ),
    Mode("body declared as 200 MB", raw(head(b"Content-Length: 209715200")), "413"),
    Mode("length that is negative", raw(head(b"Content-Length: -1")), "(400|connection closed)"),
    Mode("length that is no number", raw(head(b"Content-Length: ten")), "(400|connection closed)"),
    Mode(
        "broken chunk",
        raw(head(b"Transfer-Encoding: chunked") + b"zz\r\n"),
        "(400|connection closed)",
    ),
    Mode(
        "length and chunks at once",
        raw(head(b"Content-Length: 4\r\nTransfer-Encoding: chunked") + b"0\r\n\r\n"),
        "4..",
    ),
    Mode("binary garbage", raw(b"\x00\x01\x02\r\n\r\n"), "(400|connection closed)"),
    Mode("HTTP/9.9", raw(b"GET / HTTP/9.9\r\n\r\n"), "(4..|505|connection closed)"),
    Mode("header of 300 kB", raw(head(b"X: " + b"x" * 300_000)), "(4..|connection closed)"),
    Mode("5,000 headers", raw(head(b"X: y\r\n" * 5000 + b"Y: z")), "(4..|connection closed)"),
    Mode("path of 300 kB", raw(head(b"X: y", b"/" + b"x" * 300_000)), "(4..|connection closed)"),
    Mode(
        "client leaves in the body",
        lambda s: send(s, head(b"Content-Length: 99") + b"{", 0.2) and health_time(s),
        "health: 200 at once",
    ),
    Mode("client leaves while run() works", leave_while_running, "health: 200 at once"),
    Mode(
        "64 bodies half sent",
        lambda s: held(s, 64, head(b"Content-Length: 99") + b"{"),
        "health: 200 at once",
    ),
    Mode("64 heads half sent", lambda s: held(s, 64, SLOW_START.encode()), "health: 200 at once"),
    Mode("run() sleeps 2 s", while_busy("sleep"), "health: 200 at once"),
    Mode("run() computes 2 s", while_busy("spin"), "health: 200 at once"),
    Mode("600 requests at once", crowd, ".*x 200.*x 503; health: 200.*"),
    Mode("run() raises", score("raise"), "500"),
    Mode("run() is out of memory", score("memory"), "500"),
    Mode("run() recurses without end", score("recursion"), "500"),
    Mode("run() calls sys.exit()", score("exit"), "500"),
    Mode("run() returns NaN", score("nan"), "500"),
    Mode("run() returns an object", score("object"), "500"),
    Mode("run() returns 100,000 nested lists", score("deep"), "500"),
    Mode("run() calls os._exit()", score("die"), "500"),
    Mode("run() calls abort()", score("abort"), "500"),
    Mode("run() crashes (segmentation fault)", score("segfault"), "500"),
    Mode("run() is killed", score("kill"), "500"),
    Mode("run() dies, a child of it lives on", score("fork"), "500"),
    Mode("worker is killed from outside", kill_worker, "500"),
    Mode("run() sleeps past its limit", score("sleep", ', "s": 30'), "500"),
    Mode("run() computes past its limit", score("spin", ', "s": 30'), "500"),
    Mode("run() exceeds its limit and blocks signals", score("deaf", ', "s": 30'), "500"),
    Mode("run() closes its output", score("stdout"), "200"),
    Mode("header with a line break", get("POST", "/score?do=inject", b""), "(200|500)", RAW_SCRIPT),
    Mode("header with a space in its name", get("POST", "/score?do=name", b""), "500", RAW_SCRIPT),
    Mode("status 42", get("POST", "/score?do=status", b""), "500", RAW_SCRIPT),
]

FINE = "def init(): pass\ndef run(data): return 1\n"


@dataclass(frozen=True)
class Start:
    """A way in which the service cannot start; ours exits with this code and this last line."""

    name: str
    code: int
    last: str
    script: str | None = FINE
    environ: dict[str, str] = field(default_factory=dict)


STARTS = [
    Start("no script", 3, "main.py does not exist", None),
    Start("script without init()", 3, "does not define init", "def run(data): pass"),
    Start("script without run()", 3, "does not define run", "def init(): pass"),
    Start("import fails", 3, "No module named 'nothing_here'", "import nothing_here"),
    Start("syntax error", 3, "SyntaxError", "def init(:"),
    Start(
        "init() raises", 3, "no model", "def init(): raise ValueError('no model')\ndef run(d): pass"
    ),
    Start(
        "init() calls sys.exit(0)",
        3,
        "SystemExit",
        "import sys\ndef init(): sys.exit(0)\ndef run(d): pass",
    ),
    Start(
        "init() is killed",
        3,
        "SIGKILL",
        "import os\ndef init(): os.kill(os.getpid(), 9)\ndef run(d): pass",
    ),
    Start("setting that is no number", 3, "WORKER_COUNT", FINE, {"WORKER_COUNT": "two"}),
    Start(
        "no folder of extra packages",
        97,
        "there is no folder",
        FINE,
        {"AZUREML_EXTRA_PYTHON_LIB_PATH": "x"},
    ),
    Start(
        "no requirements file",
        99,
        "there is no file",
        FINE,
        {"AZUREML_EXTRA_REQUIREMENTS_TXT": "x"},
    ),
    Start("conda environment", 96, "no conda", FINE, {"AZUREML_EXTRA_CONDA_YAML": "x"}),
]


def recovery(server: Running, raw_script: bool) -> str:
    """How long until a good request is answered."""
    began = time.perf_counter()
    path = "/score?do=good" if raw_script else "/score"
    while time.perf_counter() - began < PATIENCE_S:
        if server.process.poll() is not None:
            return "never: the process left"
        if ask(server, "POST", path, GOOD) == "200":
            return f"{time.perf_counter() - began:.2f} s"
        time.sleep(0.01)
    return f"not within {PATIENCE_S:g} s"


@contextlib.contextmanager
def ready(kind: Kind, folder: Path, script: str) -> Iterator[Running]:
    environ = {"SCORING_TIMEOUT_MS": "1000"}
    with start(kind, folder, None, script, environ) as server:
        recovery(server, script == RAW_SCRIPT)
        yield server


def request_modes(kind: Kind, folder: Path, only: str) -> dict[str, tuple[str, str]]:
    """Each mode on a server that answered a good request just before."""
    found: dict[str, tuple[str, str]] = {}
    for script in (SCRIPT, RAW_SCRIPT):
        modes = [mode for mode in MODES if mode.script == script and only in mode.name]
        while modes:
            with ready(kind, folder, script) as server:
                while modes:
                    mode = modes.pop(0)
                    words = mode.act(server)
                    again = recovery(server, script == RAW_SCRIPT)
                    found[mode.name] = (words, again)
                    print(f"{kind.name}: {mode.name}: {words}; good again: {again}", flush=True)
                    if not again.endswith(" s") or again.startswith("not"):
                        break
    return found


def stop(kind: Kind, folder: Path, number: signal.Signals, busy: bool) -> tuple[str, str]:
    with ready(kind, folder, SCRIPT) as server:
        found: list[str] = []
        if busy:
            body = b'{"do": "sleep", "s": 0.5}'
            thread = threading.Thread(
                target=lambda: found.append(ask(server, "POST", "/score", body))
            )
            thread.start()
            time.sleep(0.2)
        began = time.perf_counter()
        server.process.send_signal(number)
        code = server.process.wait(20)
        took = time.perf_counter() - began
        if busy:
            thread.join()
        answer = f"; the request got: {found[0]}" if busy else ""
        return f"exit code {code} after {took:.1f} s{answer}", "-"


def start_mode(kind: Kind, folder: Path, mode: Start) -> tuple[str, str]:
    with start(kind, folder, None, mode.script, mode.environ) as server:
        try:
            code = str(server.process.wait(PATIENCE_S))
        except Exception:
            code = f"none in {PATIENCE_S:g} s"
        log = (folder / f"{kind.name}.log").read_text().rstrip().splitlines() or [""]
        explained = mode.last in log[-1]
        return (
            f"exit code {code}; the last line says why: {'yes' if explained else 'no'}",
            "-",
        )


def port_taken(kind: Kind, folder: Path) -> tuple[str, str]:
    port = free_port()
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", port))
        sock.listen()
        with start(kind, folder, None, FINE, {}, port) as server:
            try:
                code = str(server.process.wait(PATIENCE_S + 4))
            except Exception:
                code = "none"
            log = (folder / f"{kind.name}.log").read_text().rstrip().splitlines() or [""]
            explained = "Address already in use" in log[-1]
            return (
                f"exit code {code}; the last line says why: {'yes' if explained else 'no'}",
                "-",
            )


def all_modes(kind: Kind, folder: Path, only: str) -> dict[str, tuple[str, str]]:
    found = request_modes(kind, folder, only)
    others: dict[str, Callable[[], tuple[str, str]]] = {
        "SIGTERM, idle": lambda: stop(kind, folder, signal.SIGTERM, False),
        "SIGTERM, a request in run()": lambda: stop(kind, folder, signal.SIGTERM, True),
        "SIGINT, idle": lambda: stop(kind, folder, signal.SIGINT, False),
        "port is taken": lambda: port_taken(kind, folder),
    }
    for mode in STARTS:
        others[mode.name] = lambda mode=mode: start_mode(kind, folder, mode)  # type: ignore[misc]
    for name, act in others.items():
        if only in name:
            found[name] = act()
            print(f"{kind.name}: {name}: {found[name][0]}", flush=True)
    return found


def wanted() -> dict[str, str]:
    """The expected behaviour of ours, as a pattern."""
    reason = r"; the last line says why: yes"
    patterns = {mode.name: mode.wanted for mode in MODES}
    patterns.update({mode.name: f"exit code {mode.code}{reason}" for mode in STARTS})
    patterns["SIGTERM, idle"] = patterns["SIGINT, idle"] = r"exit code 0 after \d\.\d s"
    patterns["SIGTERM, a request in run()"] = r"exit code 0 after \d\.\d s; the request got: 200"
    patterns["port is taken"] = "exit code 1" + reason
    return patterns


def main() -> int:
    parser = argparse.ArgumentParser(description="What happens when something goes wrong.")
    parser.add_argument("--output", type=Path, default=WORK.parent)
    parser.add_argument("--only", default="", help="modes whose name has this word")
    parser.add_argument("--no-containers", action="store_true", help="without a Docker engine")
    parser.add_argument("--kind", choices=["ours", "reference"], help="one server only")
    options = parser.parse_args()
    WORK.mkdir(parents=True, exist_ok=True)
    run = Run.now()
    with contextlib.ExitStack() as stack:
        kinds: tuple[Kind, ...] = KINDS
        where = f"as processes of Python {sys.version.split()[0]}"
        if not options.no_containers:
            from in_containers import PARENT, containers

            kinds = stack.enter_context(containers()).kinds
            where = f"as containers of {PARENT}, and of an image on it that holds the reference"
        results = {
            kind.name: all_modes(kind, WORK, options.only)
            for kind in kinds
            if options.kind in (None, kind.name)
        }
    lines = [f"Time limit of run(): 1 s. Both {where}.", ""]
    lines += ["| mode | " + " | ".join(f"{name} | good again" for name in results) + " |"]
    lines += ["|---|" + "---|---|" * len(results)]
    patterns = wanted()
    wrong = []
    for name in next(iter(results.values())):
        cells = [cell for found in results.values() for cell in found[name]]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
        ours = results.get("ours", {}).get(name)
        if ours and not re.fullmatch(patterns[name], ours[0]):
            wrong.append(f"{name}: {ours[0]}, wanted {patterns[name]}")
        if ours and ours[1] != "-" and (ours[1].startswith(("never", "not"))):
            wrong.append(f"{name}: good again: {ours[1]}")
    title, text = "When something goes wrong", "\n".join(lines)
    partial = bool(options.only or options.kind)
    write_page(options.output, "failures", title, text, results, run, partial)
    count = len(next(iter(results.values())))
    print(f"\n{count} modes; ours does not do as it should in {len(wrong)}:", *wrong, sep="\n  ")
    return 1 if wrong or not count else 0


if __name__ == "__main__":
    sys.exit(main())
