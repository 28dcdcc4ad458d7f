"""Installs, starts and stops a Docker engine where there is none.

Two engines on the same socket or data destroy each other's work. So one is set up only if the
default socket is configured and has no listener, no other engine uses the data, and no service
manages one. Only an engine that was started here is stopped here.
"""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from packaging.version import InvalidVersion, Version

from imagematrix.console import say
from imagematrix.errors import UserError, WorkError
from imagematrix.host.buildx import has_buildx
from imagematrix.host.debian import KEYRING, apt_get, debian_mirrors, os_release, os_release_ids
from imagematrix.host.endpoint import DEFAULT_SOCKET, Endpoint, configured_endpoint
from imagematrix.host.engine import MINIMUM_VERSION, Engine, find_engine, plain_version

# The limit of the build cache of an engine that is started here: enough for the downloads of the
# current CPU images, and the steps of a few. BuildKit's default is a tenth of the disk.
_KEPT_CACHE = "8GB"
_PACKAGES = ("docker.io", "docker-cli", "docker-buildx")
# Debian's stable release: its engine and buildx are new enough, and install on the one before it.
_NEWER_SUITE = "trixie"
_NAME = "inference-images"
# Exists where systemd starts services (man 3 sd_booted).
_SYSTEMD = Path("/run/systemd/system")
# The time within which an engine must answer after its start.
_START_SECONDS = 90
_SERVICES = ("docker.service", "docker.socket", "snap.docker.dockerd.service")


@dataclass(frozen=True)
class EngineFiles:
    """The files of an engine that is started here."""

    socket: Path = DEFAULT_SOCKET
    data: Path = Path("/var/lib/docker")
    run: Path = Path("/var/run/docker")
    state: Path = Path("/var/lib") / _NAME

    @property
    def endpoint(self) -> Endpoint:
        """Its endpoint."""
        return Endpoint(f"unix://{self.socket}")

    @property
    def pid_file(self) -> Path:
        """The file with its process ID."""
        return self.state / "dockerd.pid"

    @property
    def log(self) -> Path:
        """Its log."""
        return self.state / "dockerd.log"


def ensure_engine(files: EngineFiles | None = None) -> Engine:
    """The configured engine; one is set up if there is none and that is possible.

    Raises UserError, with what to do, where none can be used or set up.
    """
    files = files or EngineFiles()
    endpoint = configured_endpoint()
    engine = find_engine(endpoint)
    if engine is not None:
        return engine
    if problem := _why_not_here(endpoint, files):
        raise UserError(
            f"no Docker engine listens at {endpoint}, and none can be set up here: {problem}.\n"
            f"Install Docker Engine {MINIMUM_VERSION} or newer with buildx (https://docs.docker.com/engine/"
            "install/) and start it, or set DOCKER_HOST to one."
        )
    if problem := _why_not_ours(files):
        raise UserError(f"no Docker engine listens at {endpoint}: {problem}")
    _set_up(files)
    engine = find_engine(files.endpoint)
    if engine is None:
        raise WorkError(f"the engine was started but does not answer; see {files.log}")
    return engine


def _set_up(files: EngineFiles) -> None:
    if _installed_engine() is None or not has_buildx():
        say("No Docker engine is here: installing Debian's docker.io and docker-buildx.")
        _install()
        # The package may start one, which takes a moment.
        deadline = time.monotonic() + _START_SECONDS
        while any(_engines()) and time.monotonic() < deadline:
            if find_engine(files.endpoint) is not None:
                return
            time.sleep(0.2)
        if problem := _why_not_ours(files):
            raise WorkError(f"Docker was installed, and no engine came up: {problem}")
    start_engine(files)


def _why_not_here(endpoint: Endpoint, files: EngineFiles) -> str:
    """Why no engine can be set up here for `endpoint`, which has no listener; "" if one can."""
    if endpoint != files.endpoint:
        return f"{endpoint.named_by or 'the configuration'} names another one, which does not run"
    if sys.platform != "linux":
        return "this is not Linux"
    if "debian" not in os_release_ids():
        return "this is not Debian or Ubuntu"
    if os.geteuid() != 0:
        return "that needs root"
    return ""


def _why_not_ours(files: EngineFiles) -> str:
    """Which other process or service has an engine on this machine; "" if none has."""
    if pid := _engine_on(files.data):
        return (
            f"a dockerd (process {pid}) runs on {files.data} and does not listen there."
            " Set DOCKER_HOST to its socket, or end it and try again."
        )
    if service := _managed_service():
        return f"its service is installed and does not run. Start it: systemctl start {service}"
    return ""


def _engine_on(data: Path) -> int | None:
    """The process of a running engine that has files below `data` open."""
    return next((int(process.name) for process in _engines() if _holds(process, data)), None)


def _engines() -> Iterator[Path]:
    """The folder in /proc of each dockerd."""
    for comm in Path("/proc").glob("[0-9]*/comm"):
        with contextlib.suppress(OSError):
            if comm.read_text().strip() == "dockerd":
                yield comm.parent


def _holds(process: Path, data: Path) -> bool:
    real = data.resolve()
    descriptors: list[Path] = []
    # The process may have ended, or belong to another user.
    with contextlib.suppress(OSError):
        descriptors += (process / "fd").iterdir()
    for descriptor in descriptors:
        with contextlib.suppress(OSError):
            path = descriptor.readlink()
            # The same path of a process in a container is another file.
            if path.is_relative_to(real) and path.samefile(descriptor):
                return True
    return False


def _managed_service() -> str:
    """The systemd unit of an engine on this machine, "" if there is none."""
    if not _SYSTEMD.is_dir() or shutil.which("systemctl") is None:
        return ""
    for unit in _SERVICES:
        command = ["systemctl", "show", "--property=LoadState", "--value", unit]
        state = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
        if state in ("loaded", "masked"):
            return unit
    return ""


def _installed_engine() -> str | None:
    """The path of an installed dockerd that is new enough, None if there is none."""
    dockerd = shutil.which("dockerd")
    if dockerd is None:
        return None
    result = subprocess.run([dockerd, "--version"], capture_output=True, text=True, check=False)
    match = re.search(r"version (\S+?),?\s", result.stdout)
    try:
        new_enough = match is not None and Version(plain_version(match[1])) >= MINIMUM_VERSION
    except InvalidVersion:
        return None
    return dockerd if new_enough else None


def _install() -> None:
    apt_get("update")
    if not _candidates_suffice():
        if os_release().get("ID") != "debian":
            raise UserError(
                f"this release has no docker.io of version {MINIMUM_VERSION} or no docker-buildx;"
                " install Docker"
                " from https://docs.docker.com/engine/install/"
            )
        _pin_newer_suite(debian_mirrors().main)
        say(f"This release's are too old: only these packages come from Debian {_NEWER_SUITE}.")
        apt_get("update")
    apt_get("install", "--no-install-recommends", *_PACKAGES)


def _candidates_suffice() -> bool:
    candidates = {name: _candidate(name) for name in ("docker.io", "docker-buildx")}
    engine = candidates["docker.io"]
    newest = engine is not None and Version(plain_version(engine)) >= MINIMUM_VERSION
    return newest and candidates["docker-buildx"] is not None


def _candidate(package: str) -> str | None:
    command = ["apt-cache", "policy", package]
    output = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    match = re.search(r"^\s*Candidate: (\S+)", output, re.MULTILINE)
    return match[1] if match and match[1] != "(none)" else None


def _pin_newer_suite(mirror: str) -> None:
    apt = Path("/etc/apt")
    (apt / f"preferences.d/{_NAME}").write_text(
        f"# Only the Docker engine comes from {_NEWER_SUITE}.\n"
        f"Package: *\nPin: release n={_NEWER_SUITE}\nPin-Priority: -10\n\n"
        f"Package: {' '.join(_PACKAGES)} containerd\n"
        f"Pin: release n={_NEWER_SUITE}\nPin-Priority: 600\n"
    )
    (apt / f"sources.list.d/{_NAME}.sources").write_text(
        f"Types: deb\nURIs: {mirror}\nSuites: {_NEWER_SUITE}\nComponents: main\n"
        f"Signed-By: {KEYRING}\n"
    )


def start_engine(
    files: EngineFiles,
    *,
    registry_mirrors: Sequence[str] = (),
    bridge: str | None = None,
    containerd_store: bool = True,
) -> None:
    """Starts a dockerd that outlives this process, and waits until it answers.

    Raises WorkError, with the end of its log, if it does not, and if one already runs on its data.
    """
    dockerd = _installed_engine()
    if dockerd is None:
        raise WorkError("dockerd is not installed")
    if pid := _engine_on(files.data):
        raise WorkError(f"a dockerd (process {pid}) already runs on {files.data}")
    say(f"Starting a Docker engine at {files.endpoint.host} (`nox -s engine -- stop` stops it).")
    files.state.mkdir(parents=True, exist_ok=True)
    settings: dict[str, object] = {
        "features": {"containerd-snapshotter": containerd_store},
        "builder": {"gc": {"enabled": True, "defaultKeepStorage": _KEPT_CACHE}},
    }
    if registry_mirrors:
        settings["registry-mirrors"] = list(registry_mirrors)
    if bridge is not None:
        settings["bridge"] = bridge
    config = files.state / "daemon.json"
    config.write_text(json.dumps(settings))
    files.pid_file.unlink(missing_ok=True)
    command = [dockerd, "--config-file", str(config), "--host", files.endpoint.host]
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
    deadline = time.monotonic() + _START_SECONDS
    while find_engine(files.endpoint) is None:
        if process.poll() is not None or time.monotonic() > deadline:
            tail = "\n  ".join(files.log.read_text().splitlines()[-8:])
            raise WorkError(f"the Docker engine did not start; the end of {files.log}:\n  {tail}")
        time.sleep(0.2)


def started_pid(files: EngineFiles) -> int | None:
    """The process ID of the engine that was started here, None if it does not run."""
    try:
        pid = int(files.pid_file.read_text())
        name = Path(f"/proc/{pid}/comm").read_text().strip()
    except (OSError, ValueError):
        return None
    return pid if name == "dockerd" else None


def stop_engine(files: EngineFiles) -> bool:
    """Stops the engine that was started here and waits for its end; returns whether it ran.

    Raises WorkError if it does not end.
    """
    pid = started_pid(files)
    if pid is None:
        return False
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + 60
    while started_pid(files) is not None:
        if time.monotonic() > deadline:
            raise WorkError(f"the Docker engine (process {pid}) does not stop; see {files.log}")
        # A child process stays a zombie until it is waited for.
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
        time.sleep(0.2)
    return True
