"""How a container ends: with which exit code and which last line, and what it leaves behind."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.derived.conftest import Serve
from tests.derived.containers import Service

FINE = "def init(): pass\ndef run(data): return 1\n"
SCRIPT = """
import json, os, subprocess, time

def init():
    pass

def run(data):
    given = json.loads(data)
    if given.get("orphan"):
        # Its parent ends at once, and only process 1 is left to wait for it.
        subprocess.run(["sh", "-c", "sleep 300 & echo $! > /tmp/orphan"])
    time.sleep(given.get("sleep", 0))
    return {}
"""
STATES = """
import pathlib
for entry in pathlib.Path("/proc").iterdir():
    if entry.name.isdigit():
        try:
            fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
            print(entry.name, fields[0], fields[1])
        except OSError:
            pass
"""


@pytest.mark.parametrize(
    ("files", "environ", "code", "last"),
    [
        pytest.param({}, {}, 3, "main.py does not exist; /var/azureml-app holds:", id="no script"),
        pytest.param(
            {"main.py": "def run(data): pass\n"}, {}, 3, "does not define init()", id="no init"
        ),
        pytest.param(
            {"main.py": "def init(): raise OSError('no model')\ndef run(data): pass\n"},
            {},
            3,
            "init() in /var/azureml-app/main.py raised OSError: no model (",
            id="init raises",
        ),
        pytest.param(
            {"main.py": FINE},
            {"AZUREML_EXTRA_PYTHON_LIB_PATH": "libs"},
            97,
            "there is no folder /var/azureml-app/libs",
            id="no folder",
        ),
        pytest.param(
            {"main.py": FINE},
            {"AZUREML_EXTRA_REQUIREMENTS_TXT": "more.txt"},
            99,
            "there is no file /var/azureml-app/more.txt",
            id="no file",
        ),
        pytest.param(
            {"main.py": FINE, "more.txt": "--no-index\nno-such-thing==1\n"},
            {"AZUREML_EXTRA_REQUIREMENTS_TXT": "more.txt"},
            95,
            "No matching distribution found for no-such-thing==1",
            id="failed install",
        ),
    ],
)
def test_start_up_faults(
    serve: Serve, files: dict[str, str | bytes], environ: dict[str, str], code: int, last: str
) -> None:
    service = serve(files, environ)
    assert service.await_exit() == code
    assert last in service.last_line
    assert service.last_line.endswith(f"(exit code {code})")


def test_stop_answers_what_is_in_flight(serve: Serve) -> None:
    service = serve({"main.py": SCRIPT}).await_ready()
    with ThreadPoolExecutor() as pool:
        answer = pool.submit(service.score, {"sleep": 2})
        time.sleep(0.5)
        began = time.monotonic()
        service.container.stop(timeout=20)
        seconds = time.monotonic() - began
        assert answer.result().status == 200
    assert service.await_exit() == 0
    assert service.last_line.endswith("stopped")
    assert seconds < 6, f"it took {seconds:.1f} s to stop"


def test_orphans_are_reaped(serve: Serve) -> None:
    service = serve({"main.py": SCRIPT}).await_ready()
    assert service.execute("cat", "/proc/1/comm").strip() == "tini"
    assert service.score({"orphan": True}).status == 200
    orphan = service.execute("cat", "/tmp/orphan").strip()
    assert [orphan, "S", "1"] in _processes(service)
    service.execute("sh", "-c", f"kill {orphan}")
    deadline = time.monotonic() + 5
    while orphan in [pid for pid, _, _ in _processes(service)]:
        assert time.monotonic() < deadline, f"{orphan} was not reaped: {_processes(service)}"
        time.sleep(0.1)
    assert [row for row in _processes(service) if row[1] == "Z"] == []


def _processes(service: Service) -> list[list[str]]:
    """Process id, state and parent of every process in the container."""
    rows = [line.split() for line in service.execute("python3", "-c", STATES).splitlines()]
    assert len(rows) >= 4, f"only {rows} was seen"
    return rows
