"""A container of an image, serving the example of its framework, and what can be asked of it."""

import io
import json
import os
import tarfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path, PurePath, PurePosixPath
from typing import Any
from unittest.mock import patch

import docker
import docker.errors
import testinfra
from docker.models.containers import Container
from docker.types import DeviceRequest
from testinfra.host import Host

from imagematrix.host.engine import Engine
from imagematrix.matrix.lockfile import Lock
from imagematrix.matrix.schema import Accelerator
from imagematrix.matrix.variant import Variant
from imagematrix.measure.contents import ImageFiles, LayerFiles, read_image
from imagematrix.repository.passed import CheckResult

START_SECONDS = 120
APP_ROOT = "/var/azureml-app"
ENTRY_SCRIPT = "score.py"
PORT = "5001/tcp"

# Not by importlib.metadata, which Python 3.7 lacks, and which leaves out files that are not there;
# nor by pip, which has no bytecode and takes a second to start. What markers are compared with:
# https://packaging.python.org/en/latest/specifications/dependency-specifiers/
_DISTRIBUTIONS = """
import csv, glob, json, os, platform, sys
from email.parser import HeaderParser

def read(path):
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()

found = []
for top in dict.fromkeys(filter(os.path.isdir, sys.path)):
    for path in sorted(glob.glob(top + "/*.dist-info") + glob.glob(top + "/*.egg-info")):
        places = [os.path.join(path, "METADATA"), os.path.join(path, "PKG-INFO"), path]
        head = HeaderParser().parsestr("".join([read(p) for p in places if os.path.isfile(p)][:1]))
        record = os.path.join(path, "RECORD")
        rows = csv.reader(read(record).splitlines()) if os.path.exists(record) else []
        files = [os.path.normpath(os.path.join(top, row[0])) for row in rows]
        name = head.get("Name", os.path.basename(path))
        version = head.get("Version", "0")
        found.append([name, version, head.get_all("Requires-Dist", []), files])
print(json.dumps([found, {
    "implementation_name": sys.implementation.name,
    "implementation_version": platform.python_version(),
    "os_name": os.name,
    "platform_machine": platform.machine(),
    "platform_python_implementation": platform.python_implementation(),
    "platform_release": platform.release(),
    "platform_system": platform.system(),
    "platform_version": platform.version(),
    "python_full_version": platform.python_version(),
    "python_version": ".".join(platform.python_version_tuple()[:2]),
    "sys_platform": sys.platform,
}]))
"""


# Of a Python that may be old.
_INTERPRETER = """
import json, platform, sys, sysconfig
print(json.dumps([platform.python_version(), sys.prefix, sysconfig.get_path("stdlib")]))
"""
# Prints status, headers and body of an answer.
_REQUEST = """
import json, sys, urllib.error, urllib.request

path, body, timeout = sys.argv[1:]
headers = {"Content-Type": "application/json"} if body else {}
request = urllib.request.Request(
    "http://127.0.0.1:5001" + path, data=bytes.fromhex(body) if body else None, headers=headers
)
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
try:
    answer = opener.open(request, timeout=float(timeout))
except urllib.error.HTTPError as error:
    answer = error
print(json.dumps([answer.code, dict(answer.headers), answer.read().hex()]))
"""


@dataclass(frozen=True)
class Entry:
    """One path of the image's file system, as `find` prints it. `mode` has the type bits off."""

    path: str
    kind: str
    mode: int


@dataclass(frozen=True)
class Distribution:
    """An installed distribution, by its metadata. `files` are those of its RECORD."""

    name: str
    version: str
    requires: Sequence[str]
    files: Sequence[str]


@dataclass(frozen=True)
class Interpreter:
    """A Python: its full version, its `sys.prefix`, and the folder of its standard library."""

    version: str
    prefix: str
    library: str


# Layers are read once, for all images that have them.
_LAYERS: dict[str, LayerFiles] = {}
# Made in every container when it starts, with what is mounted there.
_OF_THE_ENGINE = frozenset({"/", "/.dockerenv", "/etc", "/etc/mtab"})


@dataclass(frozen=True, kw_only=True)
class RunningImage:
    """A container of any image. `reference` is the image that runs, `image` what the engine says of
    it, `example` the folder below `root` that it serves; `address` is empty where its port is not
    one of this host."""

    reference: str
    root: Path
    example: PurePath
    image: Mapping[str, Any]
    container: Container
    host: Host
    address: str | None
    has_gpu: bool = False
    # What the start of the container and the loading of the framework took: no work of checks.
    seconds: dict[str, float] = field(default_factory=dict)

    @cached_property
    def config(self) -> Mapping[str, Any]:
        """The image's configuration, as `docker image inspect` prints it."""
        config: Mapping[str, Any] = self.image["Config"]
        return config

    @cached_property
    def labels(self) -> Mapping[str, str]:
        """The image's labels."""
        return self.config.get("Labels") or {}

    @property
    def own_labels(self) -> Mapping[str, str]:
        """The labels, where they are of this image: it inherits those of the image that it is
        based on, whose title is another name."""
        name = self.reference.partition("@")[0].rpartition("/")[2].partition(":")[0]
        return self.labels if self.labels.get("org.opencontainers.image.title") == name else {}

    @property
    def environment(self) -> Mapping[str, str]:
        """The environment variables of the image's configuration."""
        return dict(item.split("=", 1) for item in self.config.get("Env") or [])

    @cached_property
    def files(self) -> ImageFiles:
        """What the image's layers hold, without what its container adds."""
        client = self.container.client
        assert client is not None
        return read_image(client, self.reference, _LAYERS)

    @cached_property
    def entries(self) -> tuple[Entry, ...]:
        """Every path of the image's own file systems, /proc and its like left out."""
        fields = (row.split(" ", 2) for row in self._find("-printf", r"%m %y %p\0"))
        found = tuple(Entry(path, kind, int(mode, 8)) for mode, kind, path in fields)
        assert len(found) > 1000, f"only {len(found)} paths were seen: the scan saw nothing"
        return found

    @cached_property
    def file_sizes(self) -> tuple[tuple[str, int], ...]:
        """Folder and bytes of each file."""
        rows = self._find("-type", "f", "-printf", r"%s %h\0")
        fields = (row.split(" ", 1) for row in rows)
        return tuple((folder, int(size)) for size, folder in fields)

    def _find(self, *arguments: str) -> list[str]:
        """What find prints of the image's own file systems, in rows that each end with a zero."""
        # The last byte shows that all came: a busy engine may give a part, and say nothing.
        command = ["sh", "-c", 'find / -xdev "$@" && printf .', "sh", *arguments]
        end = b""
        for _ in range(3):
            status, output = self.container.exec_run(command, user="0", stderr=False)
            assert isinstance(output, bytes)
            if status == 0 and output.endswith(b"\0."):
                return output.decode().split("\0")[:-1]
            end = output[-80:]
        raise AssertionError(f"find ended with {status}, its output with {end!r}")

    @property
    def uid(self) -> str:
        """The user ID that its processes should have: the image's, or 1000 where that is root's."""
        return self.own_uid if self.own_uid != "0" else "1000"

    @cached_property
    def own_uid(self) -> str:
        """The user ID of the image's user, in its container."""
        reported = self.host.run("id -u")
        assert reported.rc == 0, f"id ended with {reported.rc}: {reported.stderr[-300:]}"
        return str(reported.stdout.strip())

    @cached_property
    def python_command(self) -> str:
        """The name of its Python; empty where there is none."""
        found = self.host.run("command -v python3 || command -v python").stdout.strip()
        return PurePosixPath(found).name

    def python(self, code: str) -> Any:
        """What `code` prints as JSON in the image's Python, run as the image's user."""
        result = self.host.run(f"{self.python_command} -c %s", code)
        assert result.rc == 0, f"python3 ended with {result.rc}: {result.stderr[-800:]}"
        return json.loads(result.stdout)

    @cached_property
    def interpreter(self) -> Interpreter:
        """The version of its Python, and where that is."""
        return Interpreter(*self.python(_INTERPRETER))

    @property
    def framework(self) -> str:
        """The framework that is asked what it says of CUDA; empty for none."""
        return ""

    @property
    def carries_cuda(self) -> bool:
        """Whether it says that a package carries CUDA, though the image is for the CPU."""
        return bool(self.own_labels.get("inference.bundled-cuda"))

    @property
    def declares_cuda(self) -> bool:
        """Whether it says that it is for NVIDIA's GPUs: to their runtime, or in a label."""
        asked = self.environment.get("NVIDIA_VISIBLE_DEVICES", "void") not in ("", "void", "none")
        return asked or bool(self.own_labels.get("inference.cuda"))

    @cached_property
    def accelerator(self) -> Mapping[str, Any]:
        """What `accelerator.py` reports: of CUDA's libraries where it is declared, and of the GPU
        where there is one."""
        script = Path(__file__).with_name("accelerator.py")
        put(self.container, "/tmp", archive(script.parent, [script]))
        arguments = [self.framework or "none"]
        if self.declares_cuda:
            arguments.append("--libraries")
        if self.has_gpu:
            arguments += ["--device", APP_ROOT]
        command = f"{self.python_command} /tmp/{script.name} {' '.join(arguments)}"
        result = self.host.run(command)
        assert result.rc == 0, f"{script.name} ended with {result.rc}: {result.stderr[-1500:]}"
        facts: Mapping[str, Any] = json.loads(result.stdout)
        self.seconds["loading"] = facts["loading_seconds"]
        return facts

    @cached_property
    def _distributions(self) -> tuple[tuple[Distribution, ...], dict[str, str]]:
        found, environment = self.python(_DISTRIBUTIONS)
        assert found, "no distribution was found"
        return tuple(Distribution(*row) for row in found), environment

    @property
    def distributions(self) -> tuple[Distribution, ...]:
        """The distributions that this Python finds, by their metadata."""
        return self._distributions[0]

    @property
    def marker_environment(self) -> dict[str, str]:
        """What the markers of requirements are compared with in this image."""
        return self._distributions[1]

    @property
    def installed(self) -> Mapping[str, str]:
        """The installed distributions: version by name, of the first that this Python finds."""
        return {found.name: found.version for found in reversed(self.distributions)}

    @property
    def written(self) -> tuple[str, ...]:
        """The paths of the image's own file systems that were made or changed since the example was
        put into the container, without what the engine puts there when it starts."""
        # Docker's own comparison reads both trees, which takes four times as long.
        seen = "/tmp/seen"
        script = (
            f"touch {seen} && cat /proc/self/mountinfo &&"
            f" find / -xdev -newercc {APP_ROOT}/{ENTRY_SCRIPT} -printf '%p\\0'"
        )
        status, output = self.container.exec_run(["sh", "-c", script], user="0", stderr=False)
        assert isinstance(output, bytes)
        # 1 where a file went while find looked at it.
        assert status in (0, 1), f"find ended with {status}"
        mounts, _, paths = output.decode().rpartition("\n")
        # man 5 proc_pid_mountinfo: the fifth field is where it is mounted.
        mounted = {line.split(" ")[4] for line in mounts.splitlines()}
        found = set(paths.split("\0"))
        assert seen in found, "what was just made was not seen: the scan saw nothing"
        return tuple(sorted(found - mounted - _OF_THE_ENGINE - {""}))

    def request(
        self, path: str, body: bytes | None = None, timeout: float = 60
    ) -> tuple[int, Mapping[str, str], bytes]:
        """Status, headers and body of a GET, or of a POST when there is a body."""
        if self.address is None:
            return self._request_inside(path, body, timeout)
        headers = {"Content-Type": "application/json"} if body is not None else {}
        request = urllib.request.Request(self.address + path, data=body, headers=headers)
        # Loopback must never go through a proxy of the host.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=timeout) as response:
                return response.status, dict(response.headers), response.read()
        except urllib.error.HTTPError as error:
            return error.code, dict(error.headers), error.read()

    def _request_inside(
        self, path: str, body: bytes | None, timeout: float
    ) -> tuple[int, Mapping[str, str], bytes]:
        """The same from inside of the container: the ports of another machine are not ours."""
        given = [path, "" if body is None else body.hex(), str(timeout)]
        status, output = self.container.exec_run(
            [self.python_command, "-c", _REQUEST, *given], stderr=False
        )
        assert isinstance(output, bytes)
        if status != 0:
            raise ConnectionError(f"python3 ended with {status} in the container")
        code, headers, content = json.loads(output)
        return code, headers, bytes.fromhex(content)


@dataclass(frozen=True, kw_only=True)
class RunningVariant(RunningImage):
    """A container of an image of the matrix: `variant` is what it is expected to be, `lock` what it
    is expected to hold, `parent_layers` the layers of the image that it is based on."""

    variant: Variant
    lock: Lock
    parent_layers: tuple[str, ...]
    # How the checks that were run so far ended, by name.
    results: dict[str, CheckResult] = field(default_factory=dict)

    @property
    def uid(self) -> str:
        return "1000"

    @property
    def framework(self) -> str:
        return self.variant.framework

    @property
    def carries_cuda(self) -> bool:
        return self.variant.bundled_cuda is not None

    @property
    def declares_cuda(self) -> bool:
        return self.variant.accelerator is not Accelerator.CPU


@contextmanager
def run_image(
    engine: Engine, reference: str, variant: Variant, lock: Lock, root: Path
) -> Iterator[RunningVariant]:
    """Starts a container of `reference` that serves the example, and removes it at the end."""
    client = engine.client()
    # testinfra runs `docker exec`, which looks for the engine in the environment.
    named = patch.dict(os.environ, engine.environ())
    named.start()
    on_gpu = variant.accelerator is not Accelerator.CPU and gives_gpus(engine, reference)
    gpus = [DeviceRequest(count=-1, capabilities=[["gpu"]])] if on_gpu else []
    local = engine.endpoint.socket is not None
    try:
        container = client.containers.create(
            reference,
            environment={"AZUREML_ENTRY_SCRIPT": ENTRY_SCRIPT},
            ports={PORT: ("127.0.0.1", 0)} if local else {},
            labels={"inference.test": "true"},
            device_requests=gpus,
        )
        try:
            example = root / variant.example
            put(container, APP_ROOT, example_archive(example))
            container.start()
            yield RunningVariant(
                reference=reference,
                variant=variant,
                lock=lock,
                root=root,
                example=variant.example,
                parent_layers=_layers(client, variant.parent),
                image=client.api.inspect_image(reference),
                container=container,
                host=testinfra.get_host(f"docker://{container.id}"),
                address=address_of(container) if local else None,
                has_gpu=bool(gpus),
            )
        finally:
            container.remove(force=True, v=True)
    finally:
        named.stop()
        client.close()


@cache
def gives_gpus(engine: Engine, reference: str) -> bool:
    """Whether the engine can give a container of the image its GPUs."""
    client = engine.client()
    try:
        gpus = [DeviceRequest(count=-1, capabilities=[["gpu"]])]
        container = client.containers.create(reference, ["true"], device_requests=gpus)
        try:
            container.start()
        finally:
            # The engine keeps one that it could not start.
            container.remove(force=True, v=True)
    except docker.errors.DockerException:
        return False
    finally:
        client.close()
    return True


def wait_until_healthy(running: RunningVariant) -> None:
    """Waits for the first 200 of the health route; fails with the log when it does not come."""
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            status, _, _ = running.request("/", timeout=5)
        except OSError:
            status = 0
        if status == 200:
            return
        running.container.reload()
        log = running.container.logs(tail=30).decode(errors="replace")
        assert running.container.status == "running", f"the container ended; its log:\n{log}"
        assert time.monotonic() < deadline, f"not healthy in {START_SECONDS} s; its log:\n{log}"
        time.sleep(0.1)


def _layers(client: docker.DockerClient, image: str | None) -> tuple[str, ...]:
    if image is None:
        return ()
    return tuple(client.api.inspect_image(f"{image}:latest")["RootFS"]["Layers"])


def address_of(container: Container) -> str:
    """Where this host reaches the port of a container that was started with one."""
    container.reload()
    bindings = (container.attrs["NetworkSettings"]["Ports"] or {}).get(PORT)
    # One that has ended has none.
    return f"http://127.0.0.1:{bindings[0]['HostPort']}" if bindings else "http://127.0.0.1:0"


def put(container: Container, folder: str, content: bytes) -> None:
    """Unpacks an archive in a folder of the container."""
    assert container.put_archive(folder, content), f"nothing could be put into {folder}"


def example_archive(folder: Path) -> bytes:
    """The files of an example as a tar archive."""
    return archive(folder, [p for p in sorted(folder.rglob("*")) if "__pycache__" not in p.parts])


def archive(folder: Path, paths: Iterable[Path]) -> bytes:
    """The files among the paths as a tar archive, named from the folder on."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for path in paths:
            if path.is_file():
                tar.add(path, path.relative_to(folder).as_posix(), filter=_as_root)
    return buffer.getvalue()


def _as_root(info: tarfile.TarInfo) -> tarfile.TarInfo:
    info.uid = info.gid = 0
    info.uname = info.gname = "root"
    info.mode = 0o644
    return info
