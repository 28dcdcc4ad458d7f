"""An engine of its own for a while: no other images and caches are touched."""

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from unittest.mock import patch

from imagematrix.host.engine import Engine, find_engine
from imagematrix.host.setup import EngineFiles, start_engine, started_pid, stop_engine


@dataclass(frozen=True)
class OwnEngine:
    """An engine, and the address of this host on its network."""

    engine: Engine
    gateway: str
    files: EngineFiles
    start: Callable[[], None]

    def crash(self) -> None:
        """Ends it without a chance to clean up; `start` starts it again on what it left."""
        pid = started_pid(self.files)
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


@contextmanager
def fresh_engine(
    registry_mirrors: Sequence[str] = (),
    parent: Path | None = None,
    *,
    containerd_store: bool = True,
) -> Iterator[OwnEngine]:
    """An engine without images and caches, with a network bridge of its own; gone at the end.

    It needs root, an installed dockerd and `ip`. What it keeps is in a folder below `parent`.
    """
    with _bridge() as (bridge, gateway):
        folder = Path(tempfile.mkdtemp(prefix="engine-", dir=parent))
        files = EngineFiles(
            folder / "docker.sock", folder / "data", folder / "run", folder / "state"
        )
        start = partial(
            start_engine,
            files,
            registry_mirrors=registry_mirrors,
            bridge=bridge,
            containerd_store=containerd_store,
        )
        try:
            start()
            found = find_engine(files.endpoint)
            assert found is not None, "the engine does not answer"
            assert found.containerd_store == containerd_store
            yield OwnEngine(found, gateway, files, start)
        finally:
            stop_engine(files)
            _unmount_below(folder)
            shutil.rmtree(folder, ignore_errors=True)


def _unmount_below(folder: Path) -> None:
    """Unmounts what an engine that was killed in the middle of a build left mounted."""
    mounted = [Path(line.split()[1]) for line in Path("/proc/mounts").read_text().splitlines()]
    for path in sorted((path for path in mounted if folder in path.parents), reverse=True):
        subprocess.run(["umount", path], check=True)


@contextmanager
def _bridge() -> Iterator[tuple[str, str]]:
    """A network bridge that no other process has, and the address of this host on it."""
    for number in range(200, 256):
        bridge, gateway = f"imagematrix{number}", f"172.31.{number}.1"
        # Who makes it has it.
        added = subprocess.run(
            ["ip", "link", "add", bridge, "type", "bridge"], capture_output=True, check=False
        )
        if added.returncode == 0:
            break
        assert b"File exists" in added.stderr, added.stderr
    else:
        raise AssertionError(f"all bridges are taken; `ip link delete {bridge}` removes one")
    try:
        subprocess.run(["ip", "address", "add", f"{gateway}/24", "dev", bridge], check=True)
        subprocess.run(["ip", "link", "set", bridge, "up"], check=True)
        yield bridge, gateway
    finally:
        subprocess.run(["ip", "link", "delete", bridge], check=False)


class NotToBeHad(Exception):  # noqa: N818  # It says why something is not there; nothing went wrong.
    """The packages cannot be had on this host; the message says why."""


# Without runc, for which newer releases want a newer libc: that of this host does.
_PACKAGES = ("docker.io", "docker-cli", "docker-buildx", "containerd")


def unpack_docker(suite: str, mirror: str, keyring: str, folder: Path) -> None:
    """Unpacks Docker of a Debian release below `folder`, and installs nothing: apt and dpkg of
    this host know nothing of it. Raises NotToBeHad."""
    lists, cache, debs = (folder / name for name in ("lists", "cache", "debs"))
    for made in (lists / "partial", cache / "archives" / "partial", debs):
        made.mkdir(parents=True, exist_ok=True)
    sources = folder / f"{suite}.sources"
    sources.write_text(
        f"Types: deb\nURIs: {mirror}\nSuites: {suite}\nComponents: main\nSigned-By: {keyring}\n"
    )
    given = {
        "Dir::State::lists": lists,
        "Dir::Cache": cache,
        "Dir::Etc::sourcelist": sources,
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::Etc::preferences": "/dev/null",
        "Dir::Etc::preferencesparts": "/dev/null",
        # A mirror may be some weeks behind; what it has is signed all the same.
        "Acquire::Check-Valid-Until": "false",
        "APT::Architecture": "amd64",
        "APT::Sandbox::User": "root",
    }
    options = [word for key, value in given.items() for word in ("-o", f"{key}={value}")]
    for command in (["update"], ["download", *_PACKAGES]):
        result = subprocess.run(
            ["apt-get", "--quiet", *options, *command],
            cwd=debs,
            capture_output=True,
            text=True,
            check=False,
        )
        # With a mirror that does not answer, `update` only warns.
        if result.returncode != 0:
            last = result.stderr.strip().splitlines()[-1:]
            raise NotToBeHad(f"Docker of Debian {suite} cannot be downloaded: {' '.join(last)}")
    for package in debs.glob("*.deb"):
        subprocess.run(["dpkg", "--extract", str(package), str(folder / "root")], check=True)
    shutil.rmtree(debs)


@contextmanager
def using_docker(root: Path) -> Iterator[Mapping[str, str]]:
    """Has the Docker that is unpacked below `root` in the place of the installed one."""
    config = root / "config"
    plugins = config / "cli-plugins"
    plugins.mkdir(parents=True, exist_ok=True)
    buildx = plugins / "docker-buildx"
    buildx.unlink(missing_ok=True)
    buildx.symlink_to(root / "usr/libexec/docker/cli-plugins/docker-buildx")
    path = f"{root}/usr/sbin:{root}/usr/bin:{os.environ['PATH']}"
    environ = {"PATH": path, "DOCKER_CONFIG": str(config)}
    with patch.dict(os.environ, environ):
        yield environ
