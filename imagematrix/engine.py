"""The Docker engine: the one that answers, or one that is set up here.

Only an engine that this module started is ever stopped by it.
"""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packaging.version import InvalidVersion, Version

from imagematrix.debian import KEYRING, apt_get, debian_mirrors, os_release, os_release_ids
from imagematrix.errors import UserError, WorkError

# Importing it takes as long as all the rest of a plan: only what needs it does.
if TYPE_CHECKING:
    import docker

MINIMUM_VERSION = Version("23")
# Of builds, by an engine of ours: enough for the downloads of the current CPU images, and the steps
# of a few. By itself BuildKit would keep a tenth of the disk.
_KEPT_CACHE = "8GB"
_PACKAGES = ("docker.io", "docker-cli", "docker-buildx")
# Stable, and with an engine and a buildx that are new enough and install on the release before it.
_NEWER_SUITE = "trixie"
_NAME = "inference-images"
# How long an engine may take to say what it is, and how much it is asked at a time.
_SECONDS = 20
_QUESTIONS = 4


@dataclass(frozen=True)
class EngineFiles:
    """Where an engine that we start keeps things."""

    socket: Path = Path("/var/run/docker.sock")
    data: Path = Path("/var/lib/docker")
    run: Path = Path("/var/run/docker")
    state: Path = Path("/var/lib") / _NAME

    @property
    def host(self) -> str:
        """Its address, as DOCKER_HOST has it."""
        return f"unix://{self.socket}"

    @property
    def pid_file(self) -> Path:
        """Holds the process id of the engine that we started."""
        return self.state / "dockerd.pid"

    @property
    def log(self) -> Path:
        """What the engine says."""
        return self.state / "dockerd.log"


@dataclass(frozen=True)
class Engine:
    """An engine that answers. `host` is its address, as DOCKER_HOST has it."""

    host: str
    version: str
    containerd_store: bool
    data: Path | None

    def client(self) -> "docker.DockerClient":
        """A client of this engine; the caller closes it."""
        return _client(self.host, 600)

    def inspect(self, images: Iterable[str]) -> dict[str, Mapping[str, Any]]:
        """What the engine tells of those of the images that it has.

        Each is asked for by its name: with containerd's store, a list of images takes more than
        twice the time for each of them, and has all that the engine holds.
        """
        images = tuple(images)
        answers = _ask_socket(self.host, [f"/images/{image}/json" for image in images])
        if answers is not None:
            found = zip(images, answers, strict=True)
            return {image: told for image, told in found if told is not None}
        with contextlib.closing(self.client()) as client:
            return inspect_images(client, images)

    def ids(self, images: Collection[str]) -> dict[str, str | None]:
        """The ID of each of the images, None for one that the engine does not have."""
        told = self.inspect(images)
        return {image: told[image]["Id"] if image in told else None for image in images}

    def environ(self) -> dict[str, str]:
        """The environment for commands that shall talk to this engine."""
        environ = {**os.environ, "DOCKER_HOST": self.host}
        environ.pop("DOCKER_CONTEXT", None)
        return environ


def say(message: str) -> None:
    """One line to the person at the terminal; standard output is kept for results."""
    print(message, file=sys.stderr, flush=True)


def ensure_engine(files: EngineFiles | None = None) -> Engine:
    """The engine that answers, after setting one up where that is possible.

    Raises UserError with what to install where no engine answers and none can be set up, or the
    one that answers is too old.
    """
    files = files or EngineFiles()
    host = _configured_host()
    answer = _ask(host)
    if isinstance(answer, str):
        problem = _why_not_here(host, files, answer)
        if problem:
            raise UserError(
                f"no Docker engine answers at {host}, and none can be set up here: {problem}.\n"
                "Install Docker Engine 23 or newer with buildx (https://docs.docker.com/engine/"
                "install/) and start it, or set DOCKER_HOST to one."
            )
        _set_up(files)
        answer = _ask(files.host)
        if isinstance(answer, str):
            raise WorkError(f"the engine was started but does not answer; see {files.log}")
    engine = answer
    if Version(engine.version) < MINIMUM_VERSION:
        message = f"the Docker engine at {engine.host} is {engine.version}"
        raise UserError(f"{message}; {MINIMUM_VERSION} or newer is needed")
    return engine


def require_buildx() -> None:
    """Raises UserError with what to install where buildx is missing, which is for building."""
    if not _buildx():
        raise UserError(
            "docker buildx is missing; install it: https://docs.docker.com/build/install-buildx/"
            " (Debian and Ubuntu: apt-get install docker-buildx)"
        )


def find_engine(host: str | None = None) -> Engine | None:
    """The engine at `host`, or at DOCKER_HOST, or of the current context; None if none answers."""
    answer = _ask(host or _configured_host())
    return answer if isinstance(answer, Engine) else None


def _ask(host: str) -> Engine | str:
    """The engine at `host`, or why it does not answer."""
    answers = _ask_socket(host, ["/info"])
    info = answers[0] if answers else None
    if info is None:
        import docker.errors

        try:
            with contextlib.closing(_client(host, _SECONDS)) as client:
                info = client.info()
        except (docker.errors.DockerException, OSError) as error:
            return str(error)
    status = dict(item for item in info.get("DriverStatus") or [] if len(item) == 2)
    store = "containerd.snapshotter" in status.get("driver-type", "")
    data = Path(info["DockerRootDir"]) if host.startswith("unix://") else None
    return Engine(host, _plain_version(info["ServerVersion"]), store, data)


def _client(host: str, seconds: int) -> "docker.DockerClient":
    import docker

    return docker.DockerClient(base_url=host, timeout=seconds, use_ssh_client=True)


def _ask_socket(host: str, paths: Sequence[str]) -> list[Any] | None:
    """What an engine on this machine answers to each question, None for what it does not have.

    None for all where `host` is no socket, or an answer is none: Docker's own client then asks,
    which reaches every engine, and has the words for what is wrong with one.
    """
    if not host.startswith("unix://"):
        return None
    ask = partial(_get, host.removeprefix("unix://"))
    try:
        # With containerd's store, the engine takes milliseconds for each image.
        with ThreadPoolExecutor(_QUESTIONS) as threads:
            answers = list(threads.map(ask, paths))
        if any(status not in (200, 404) for status, _ in answers):
            return None
        return [json.loads(content) if status == 200 else None for status, content in answers]
    except (OSError, ValueError, LookupError):
        return None


def _get(socket_path: str, path: str) -> tuple[int, bytes]:
    """Status and content of an answer by HTTP/1.0. To import the standard library's client takes
    longer than the answer."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(_SECONDS)
        connection.connect(socket_path)
        connection.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
        answer = b"".join(iter(lambda: connection.recv(1 << 16), b""))
    head, _, content = answer.partition(b"\r\n\r\n")
    return int(head.split(maxsplit=2)[1]), content


def inspect_images(
    client: "docker.DockerClient", images: Iterable[str]
) -> dict[str, Mapping[str, Any]]:
    """What the engine of a client tells of those of the images that it has."""
    import docker.errors

    told = {}
    for image in images:
        with contextlib.suppress(docker.errors.ImageNotFound):
            told[image] = client.api.inspect_image(image)
    return told


def _configured_host() -> str:
    return os.environ.get("DOCKER_HOST") or _context_host()


def _plain_version(text: str) -> str:
    """`26.1.5+dfsg1` as `26.1.5`."""
    match = re.match(r"\d+(\.\d+)*", text)
    return match[0] if match else "0"


def _context_host() -> str:
    default = EngineFiles().host
    if not _names_context() or shutil.which("docker") is None:
        return default
    command = ["docker", "context", "inspect", "--format", "{{.Endpoints.docker.Host}}"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    return result.stdout.strip() or default if result.returncode == 0 else default


def _names_context() -> bool:
    """Whether a context was chosen, as docker looks for one: it takes a while to start."""
    if os.environ.get("DOCKER_CONTEXT") or os.environ.get("DOCKER_TLS_VERIFY"):
        return True
    try:
        folder = os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker"
        return bool(json.loads(Path(folder, "config.json").read_bytes()).get("currentContext"))
    except FileNotFoundError:
        return False
    except (OSError, ValueError, AttributeError, RuntimeError):
        # Docker has the words for what is wrong with it.
        return True


def _buildx() -> bool:
    if shutil.which("docker") is None:
        return False
    command = ["docker", "buildx", "version"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _set_up(files: EngineFiles) -> None:
    if _installed_engine() is None or not _buildx():
        say("No Docker engine answers: installing Debian's docker.io and docker-buildx.")
        _install()
        if find_engine(files.host) is not None:
            return  # The package has started it.
    start_engine(files)


def _why_not_here(host: str, files: EngineFiles, answer: str) -> str:
    """Why no engine is set up on this machine, after `host` gave no other answer; or nothing."""
    if host != files.host and os.environ.get("DOCKER_HOST") == host:
        return f"DOCKER_HOST names another one, which says: {answer}"
    if "Permission denied" in answer:
        return "one is there, but this user may not ask it (is it in the group docker?)"
    if sys.platform != "linux":
        return "this is not Linux"
    if "debian" not in os_release_ids():
        return "this is no Debian or Ubuntu"
    if os.geteuid() != 0:
        return "that needs root"
    return ""


def _installed_engine() -> str | None:
    """The path of an installed dockerd that is new enough."""
    dockerd = shutil.which("dockerd")
    if dockerd is None:
        return None
    result = subprocess.run([dockerd, "--version"], capture_output=True, text=True, check=False)
    match = re.search(r"version (\S+?),?\s", result.stdout)
    try:
        new_enough = match is not None and Version(_plain_version(match[1])) >= MINIMUM_VERSION
    except InvalidVersion:
        return None
    return dockerd if new_enough else None


def _install() -> None:
    apt_get("update")
    if not _candidates_suffice():
        if os_release().get("ID") != "debian":
            raise UserError(
                "this release has no docker.io of version 23 or no docker-buildx; install Docker"
                " from https://docs.docker.com/engine/install/"
            )
        _pin_newer_suite(debian_mirrors().main)
        say(f"This release's are too old: these packages alone come from Debian {_NEWER_SUITE}.")
        apt_get("update")
    apt_get("install", "--no-install-recommends", *_PACKAGES)


def _candidates_suffice() -> bool:
    candidates = {name: _candidate(name) for name in ("docker.io", "docker-buildx")}
    engine = candidates["docker.io"]
    newest = engine is not None and Version(_plain_version(engine)) >= MINIMUM_VERSION
    return newest and candidates["docker-buildx"] is not None


def _candidate(package: str) -> str | None:
    command = ["apt-cache", "policy", package]
    output = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    match = re.search(r"^\s*Candidate: (\S+)", output, re.MULTILINE)
    return match[1] if match and match[1] != "(none)" else None


def _pin_newer_suite(mirror: str) -> None:
    apt = Path("/etc/apt")
    (apt / f"preferences.d/{_NAME}").write_text(
        f"# Nothing comes from {_NEWER_SUITE} but the Docker engine.\n"
        f"Package: *\nPin: release n={_NEWER_SUITE}\nPin-Priority: -10\n\n"
        f"Package: {' '.join(_PACKAGES)} containerd\n"
        f"Pin: release n={_NEWER_SUITE}\nPin-Priority: 600\n"
    )
    (apt / f"sources.list.d/{_NAME}.sources").write_text(
        f"Types: deb\nURIs: {mirror}\nSuites: {_NEWER_SUITE}\nComponents: main\n"
        f"Signed-By: {KEYRING}\n"
    )


def start_engine(
    files: EngineFiles, *, registry_mirrors: Sequence[str] = (), bridge: str | None = None
) -> None:
    """Starts a dockerd of our own and waits until it answers; it goes on when we end.

    Raises WorkError with the end of its log when it does not come up.
    """
    dockerd = _installed_engine()
    if dockerd is None:
        raise WorkError("dockerd is not installed")
    say(f"Starting a Docker engine at {files.host} (`nox -s engine -- stop` stops it).")
    files.state.mkdir(parents=True, exist_ok=True)
    settings: dict[str, object] = {
        "features": {"containerd-snapshotter": True},
        "builder": {"gc": {"enabled": True, "defaultKeepStorage": _KEPT_CACHE}},
    }
    if registry_mirrors:
        settings["registry-mirrors"] = list(registry_mirrors)
    if bridge is not None:
        settings["bridge"] = bridge
    config = files.state / "daemon.json"
    config.write_text(json.dumps(settings))
    files.pid_file.unlink(missing_ok=True)
    command = [dockerd, "--config-file", str(config), "--host", files.host]
    command += ["--data-root", str(files.data), "--exec-root", str(files.run)]
    command += ["--pidfile", str(files.pid_file)]
    with files.log.open("w") as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            cwd="/",
        )
    deadline = time.monotonic() + 90
    while find_engine(files.host) is None:
        if process.poll() is not None or time.monotonic() > deadline:
            tail = "\n  ".join(files.log.read_text().splitlines()[-8:])
            raise WorkError(f"the Docker engine did not start; the end of {files.log}:\n  {tail}")
        time.sleep(0.2)


def started_pid(files: EngineFiles) -> int | None:
    """The process id of the engine that we started, None when it does not run."""
    try:
        pid = int(files.pid_file.read_text())
        name = Path(f"/proc/{pid}/comm").read_text().strip()
    except (OSError, ValueError):
        return None
    return pid if name == "dockerd" else None


def stop_engine(files: EngineFiles) -> bool:
    """Stops the engine that we started and waits for its end; returns whether there was one."""
    pid = started_pid(files)
    if pid is None:
        return False
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + 60
    while started_pid(files) is not None:
        if time.monotonic() > deadline:
            raise WorkError(f"the Docker engine (process {pid}) does not stop; see {files.log}")
        # A child of ours stays a zombie until it is waited for.
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
        time.sleep(0.2)
    return True
