"""The two servers under measurement, ours and the reference, each in a virtual environment."""

from __future__ import annotations

import compileall
import contextlib
import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "base" / "server"
# Environments, applications and logs; git ignores it.
WORK = ROOT / "build" / "benchmarks" / "work"
REFERENCE = "azureml-inference-server-http==1.5.1"
OURS = "httptools>=0.9,<0.10"
SCRIPT = """
import json, time

def init():
    pass

def run(data):
    given = json.loads(data)
    if "sleep" in given:
        time.sleep(given["sleep"])
    return {"sum": sum(given.get("data", []))}
"""


@dataclass(frozen=True)
class Kind:
    """How a server is installed and started."""

    name: str
    requirement: str
    command: tuple[str, ...]
    # The image to run it from, with further words for `docker run`; without one, an environment.
    image: tuple[str, ...] = ()
    # Where the server's code is, if it is ours.
    source: Path | None = None

    def install(self, folder: Path) -> Path:
        environment = folder / ("reference" if self.source is None else "ours")
        done = environment / "installed"
        if not done.exists():
            subprocess.run([sys.executable, "-m", "venv", "--clear", str(environment)], check=True)
            pip = [str(environment / "bin" / "python"), "-m", "pip", "install", "--quiet"]
            subprocess.run([*pip, "--disable-pip-version-check", self.requirement], check=True)
            done.touch()
        return environment

    def added(self, folder: Path) -> dict[str, float]:
        """What this server brings to an environment: distributions, and MB with their bytecode."""
        [packages] = (self.install(folder) / "lib").glob("python*/site-packages")
        # Each environment has these, whatever is installed.
        present = ("pip", "setuptools", "pkg_resources", "distutils-", "_distutils", "__pycache__")
        found = [path for path in packages.iterdir() if not path.name.startswith(present)]
        size = sum(size_of(path) for path in found)
        if self.source is not None:
            copy = folder / "server"
            shutil.rmtree(copy, ignore_errors=True)
            shutil.copytree(self.source, copy, ignore=shutil.ignore_patterns("__pycache__"))
            compileall.compile_dir(copy, quiet=1)
            size += size_of(copy)
        names = [path for path in found if path.suffix == ".dist-info"]
        return {"distributions": len(names), "added_mb": size / 1e6}


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files below a folder."""
    if path.is_file():
        return path.stat().st_size
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


KINDS = (
    Kind("ours", OURS, ("bin/python", "-m", "inference_server"), source=SOURCE),
    Kind(
        "reference", REFERENCE, ("bin/azmlinfsrv", "--entry_script", "main.py", "--port", "{port}")
    ),
)


@dataclass
class Running:
    """A started server."""

    process: subprocess.Popen[bytes]
    port: int
    started: float
    container: str = ""

    def processes(self) -> list[int]:
        """The processes of the server, the youngest ones last."""
        if not self.container:
            return tree(self.process.pid)
        command = ["docker", "inspect", "--format", "{{.State.Pid}}", self.container]
        first = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        return tree(int(first))

    def get(self, path: str = "/", timeout: float = 5.0) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            connection.request("GET", path)
            return connection.getresponse().status
        finally:
            connection.close()

    def score(self, body: bytes = b'{"data": [1]}', timeout: float = 30.0) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            connection.request("POST", "/score", body, {"Content-Type": "application/json"})
            return connection.getresponse().status
        finally:
            connection.close()

    def await_first_score(self) -> float:
        """Seconds from the start of the process to the first 200 on ``/score``."""
        deadline = self.started + 60
        while time.perf_counter() < deadline:
            if self.process.poll() is not None:
                raise RuntimeError(f"the server left with {self.process.returncode}")
            with contextlib.suppress(OSError, http.client.HTTPException):
                if self.score() == 200:
                    return time.perf_counter() - self.started
            time.sleep(0.005)
        raise RuntimeError("the server does not answer")

    def memory(self) -> dict[str, float]:
        """MiB of the process tree: resident (shared pages counted each time) and proportional."""
        resident = proportional = 0.0
        for pid in self.processes():
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Rss:"):
                    resident += int(line.split()[1]) / 1024
                elif line.startswith("Pss:"):
                    proportional += int(line.split()[1]) / 1024
        return {"rss_mib": resident, "pss_mib": proportional}


def tree(pid: int) -> list[int]:
    """A process and all that descend from it."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                stat = (entry / "stat").read_text().rsplit(")", 1)[1].split()
                parents[int(entry.name)] = int(stat[1])
    found = [pid]
    for candidate in found:
        found += [child for child, parent in parents.items() if parent == candidate]
    return found


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@contextlib.contextmanager
def start(
    kind: Kind,
    folder: Path,
    core: int | None,
    script: str | None = SCRIPT,
    settings: Mapping[str, str] | None = None,
    port: int | None = None,
) -> Iterator[Running]:
    """A server with its defaults, every safety feature on, on a core of its own where given."""
    root = folder / "app"
    root.mkdir(exist_ok=True)
    (root / "main.py").unlink(missing_ok=True)
    if script is not None:
        (root / "main.py").write_text(script)
    port = port or free_port()
    variables = {"SERVER_PORT": str(port), "WORKER_COUNT": "1", **(settings or {})}
    environ = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("AML_", "AZUREML_", "INFERENCE_SERVER_", "PYTHONPATH"))
    }
    container = ""
    if kind.image:
        # On the host's network, so that requests take the same way.
        container = f"benchmark-{kind.name}-{port}"
        command = ["docker", "run", "--rm", "--name", container, "--network", "host"]
        command += ["--volume", f"{root}:/var/azureml-app:ro"]
        command += [word for key in variables for word in ("--env", f"{key}={variables[key]}")]
        command += [part.format(port=port) for part in kind.image]
    else:
        environment = kind.install(folder)
        environ.update({"AML_APP_ROOT": str(root), **variables})
        if kind.source is not None:
            environ["PYTHONPATH"] = str(kind.source)
        program, *arguments = [part.format(port=port) for part in kind.command]
        command = [str(environment / program), *arguments]
    pin = [] if core is None else ["taskset", "--cpu-list", str(core)]
    log = folder / f"{kind.name}.log"
    with log.open("wb") as file:
        started = time.perf_counter()
        process = subprocess.Popen(
            [*pin, *command], cwd=root, env=environ, stdout=file, stderr=subprocess.STDOUT
        )
    try:
        yield Running(process, port, started, container)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            if container:
                subprocess.run(["docker", "kill", container], capture_output=True)
            process.kill()
            process.wait()
