"""With INFERENCE_SERVER_LOG_FORMAT=json every line of the log is JSON, whoever wrote it."""

from __future__ import annotations

import json
import os
import subprocess
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest

from .conftest import Serve
from .harness import Server

LONGEST_LINE = 64 * 1024


def records(server: Server) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in server.log.splitlines()]
    assert all({"time", "level", "logger", "pid", "message"} <= set(record) for record in found)
    return found


def messages(server: Server) -> list[str]:
    return [record["message"] for record in records(server)]


# What a script does, and a line that it leaves in the log.
WRITES = [
    ("sys.stdout.reconfigure(line_buffering=True); print('x1')", "x1"),
    (
        "sys.stdout.buffer.write(b'raw \\xff bytes\\n'); sys.stdout.buffer.flush()",
        "raw \\xff bytes",
    ),
    (
        "sys.stdout = io.TextIOWrapper(sys.stdout.buffer, 'utf-8', line_buffering=True);"
        "print('h\\u00e9')",
        "h\u00e9",
    ),
    (
        "sys.stdout = io.TextIOWrapper(sys.stdout.detach(), line_buffering=True); print('y')",
        "y",
    ),
    ("sys.stdout.writelines(['a\\n', 'b\\n'])", "b"),
    ("assert not sys.stdout.closed and sys.stdout.mode == 'w'; print(sys.stdout.name)", "<stdout>"),
    ("assert not sys.stdout.isatty(); print(sys.stdout.fileno())", "1"),
    ("logging.getLogger('x').warning('two\\nlines')", "two\nlines"),
    ("warnings.warn('old', DeprecationWarning); warnings.warn('w')", "w')"),
    ("logging.getLogger('y').addHandler(logging.StreamHandler()); logging.error('boom')", "boom"),
    (
        "logging.basicConfig(format='own %(message)s'); logging.error('z')",
        "own z",
    ),
    ("logging.info('%d', 'x')", "--- Logging error ---"),
    ("threading.Thread(target=lambda: 1 / 0).start()", "ZeroDivisionError: division by zero"),
    ("os.write(2, b'native library\\n')", "native library"),
    ("os.write(1, b'no end')", "no end"),
    ("subprocess.run(['sh', '-c', 'echo of a child; echo of another >&2'])", "of another"),
    ("print('x', file=open('/dev/stderr', 'w'))", "x"),
    ("faulthandler.dump_traceback()", "Current thread"),
    ('print(\'{"level": "CRITICAL"}\')', '{"level": "CRITICAL"}'),
    ("print('')", ""),
    ("print('\\x1b[31mred \\u2028 next')", "\x1b[31mred \u2028 next"),
]


@pytest.mark.parametrize(("code", "line"), WRITES)
@pytest.mark.parametrize("kind", ["json", "text"])
def test_whatever_a_script_does(serve: Serve, code: str, line: str, kind: str) -> None:
    script = f"""
import faulthandler, io, logging, os, subprocess, sys, threading, warnings
def init():
    {code}
def run(data): return 1
"""
    server = serve(script, INFERENCE_SERVER_LOG_FORMAT=kind)
    assert server.score().json == 1
    server.stop()
    if kind == "json":
        found = messages(server)
        assert [text for text in found if text == line or (len(line) > 2 and line in text)], found


def test_levels_and_processes(serve: Serve) -> None:
    script = """
        import logging, os, sys
        def init():
            print("printed")
            logging.getLogger("mine").error("logged")
            try:
                1 / 0
            except ZeroDivisionError:
                logging.exception("failed")
            print("last", file=sys.stderr)
        def run(data): return os.getpid()
    """
    server = serve(script, INFERENCE_SERVER_LOG_FORMAT="json", AZUREML_LOG_LEVEL="WARNING")
    pid = server.score().json
    server.await_log('"last"')
    found = [record for record in records(server) if record["pid"] == pid]
    assert [(record["message"], record["level"], record["logger"]) for record in found] == [
        ("printed", "INFO", "script"),
        ("logged", "ERROR", "mine"),
        ("failed", "ERROR", "root"),
        ("last", "INFO", "script"),
    ]
    assert "ZeroDivisionError" in found[2]["traceback"]


def test_nothing_is_lost_when_a_worker_dies(serve: Serve) -> None:
    script = """
        import os, signal, time
        def init(): pass
        def run(data):
            for number in range(5000):
                print("line", number)
            print("rest", end="", flush=True)
            if data == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            os._exit(1)
    """
    server = serve(script, INFERENCE_SERVER_LOG_FORMAT="json")
    for data in (b"kill", b"exit"):
        assert server.score(data).status == 500
        server.await_log("is replaced")
        server.await_ready()
    server.stop()
    expected = [*(f"line {number}" for number in range(5000)), "rest"]
    assert [text for text in messages(server) if text[:4] in ("line", "rest")] == expected * 2


def test_a_crash_of_the_interpreter(serve: Serve) -> None:
    script = """
        import ctypes
        def init(): pass
        def run(data): ctypes.string_at(0)
    """
    server = serve(script, INFERENCE_SERVER_LOG_FORMAT="json")
    assert server.score().status == 500
    server.await_log("is replaced")
    found = messages(server)
    assert [text for text in found if text.startswith("Fatal Python error")], found


def test_the_reason_of_an_exit_comes_last(serve: Serve) -> None:
    script = """
        def init():
            print("about to fail")
            raise ValueError("no model")
        def run(data): return 1
    """
    server = serve(script, ready=False, INFERENCE_SERVER_LOG_FORMAT="json")
    assert server.await_exit() == 3
    found = records(server)
    assert found[-1]["exit_code"] == 3
    assert found[-1]["level"] == "CRITICAL"
    texts = messages(server)
    assert texts.index("about to fail") < len(texts) - 2
    assert "ValueError: no model" in texts[-2]


def test_a_line_without_end(serve: Serve) -> None:
    script = """
        import logging, sys
        def init():
            sys.stdout.write("x" * 300000)
            sys.stdout.flush()
            print()
            logging.error("y" * 300000)
        def run(data): return 1
    """
    server = serve(script, INFERENCE_SERVER_LOG_FORMAT="json")
    # It comes by the same pipe, after the others.
    server.await_log("init() took ")
    found = messages(server)
    pieces = [text for text in found if text.startswith("x")]
    assert "".join(pieces) == "x" * 300_000
    assert max(map(len, server.log.splitlines())) < LONGEST_LINE + 300
    assert [record.get("cut") for record in records(server) if record["message"][:1] == "y"] == [
        True
    ]


def test_packages_that_are_installed(serve: Serve) -> None:
    files = {"more.txt": "# nothing\n./missing\n"}
    server = serve(
        "def init(): pass\ndef run(data): return 1",
        files=files,
        ready=False,
        INFERENCE_SERVER_LOG_FORMAT="json",
        AZUREML_EXTRA_REQUIREMENTS_TXT="more.txt",
    )
    assert server.await_exit(60) == 95
    assert [record for record in records(server) if record["logger"] == "pip"]


def test_wrong_settings(serve: Serve) -> None:
    server = serve("", ready=False, INFERENCE_SERVER_LOG_FORMAT="json", WORKER_COUNT="two")
    assert server.await_exit() == 3
    assert "WORKER_COUNT='two'" in messages(server)[-1]


def test_what_a_script_left_behind_does_not_hold_up_the_stop(serve: Serve) -> None:
    script = """
        import subprocess
        def init(): subprocess.Popen(["sleep", "20"], start_new_session=True)
        def run(data): return 1
    """
    server = serve(script, INFERENCE_SERVER_LOG_FORMAT="json")
    started = time.monotonic()
    assert server.stop() == 0
    assert time.monotonic() - started < 10
    assert messages(server)[-1] == "stopped"


class Unread(Server):
    """Its log is a pipe that is not read."""

    def __init__(self, root: Path, environ: dict[str, str]) -> None:
        self.reader, writer = os.pipe()
        super().__init__(root, environ, Path(f"/proc/self/fd/{writer}"))
        os.close(writer)

    @property
    def log(self) -> str:
        return "not read yet"

    def memory(self) -> int:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) * 1024


def test_a_log_that_is_not_read(tmp_path: Path) -> None:
    script = """
        def init(): pass
        def run(data):
            for _ in range(1000):
                print("x" * 1000)
            return 1
    """
    (tmp_path / "main.py").write_text(textwrap.dedent(script))
    server = Unread(tmp_path, {"INFERENCE_SERVER_LOG_FORMAT": "json"})
    with server:
        server.await_ready()
        before = server.memory()
        for _ in range(50):
            assert server.score().json == 1
        assert server.memory() - before < 32 * 1024 * 1024
        # Then it is read.
        found = tmp_path / "found"
        with found.open("wb") as file, subprocess.Popen(["cat"], stdin=server.reader, stdout=file):
            deadline = time.monotonic() + 20
            while "the log was not read" not in found.read_text():
                assert time.monotonic() < deadline
                server.get("/nothing")
            assert server.stop() == 0
            os.close(server.reader)
        for line in found.read_text().splitlines():
            json.loads(line)


def test_a_log_that_is_never_read_does_not_hold_up_the_stop(tmp_path: Path) -> None:
    script = "def init(): print('x' * 1000000)\ndef run(data): return 1"
    (tmp_path / "main.py").write_text(script)
    server = Unread(tmp_path, {"INFERENCE_SERVER_LOG_FORMAT": "json"})
    with server:
        server.await_ready()
        assert server.stop() == 0
