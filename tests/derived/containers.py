"""Containers as a consumer runs them, with an application in a volume, and images built on ours."""

import http.client
import io
import json
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import docker
from docker.models.containers import Container

from imagematrix.build.inputs import APT_CONFIG, SECRETS, pip_config
from imagematrix.checks.running import APP_ROOT
from imagematrix.host.config import read_host_config
from imagematrix.host.debian import debian_mirrors, debian_sources
from imagematrix.host.engine import Engine

START_SECONDS = 30
PORT = "5001/tcp"

# How a build step reaches an index and a mirror where this host needs more than a plain network.
# BuildKit leaves out the mount of a secret that it is not given.
_MOUNTS = " ".join(
    f"--mount=type=secret,id={name},target={target},mode=0444" for name, target in SECRETS.items()
)


@dataclass(frozen=True)
class Answer:
    """What a container answered."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


@dataclass(frozen=True)
class Service:
    """A container of some image with some application, started at `began` (perf_counter)."""

    container: Container
    began: float

    @cached_property
    def port(self) -> int:
        """The port of this host that leads to it."""
        self.container.reload()
        (binding,) = self.container.attrs["NetworkSettings"]["Ports"][PORT]
        return int(binding["HostPort"])

    @property
    def log(self) -> str:
        """Everything that it wrote."""
        return self.container.logs().decode(errors="replace")

    @property
    def last_line(self) -> str:
        """What a person sees last."""
        return self.log.rstrip().rpartition("\n")[2]

    def request(self, method: str, path: str, body: object = None, timeout: float = 30) -> Answer:
        """One request; a body is sent as JSON."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            data = None if body is None else json.dumps(body)
            connection.request(method, path, data, {"Content-Type": "application/json"})
            response = connection.getresponse()
            headers = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, headers, response.read())
        finally:
            connection.close()

    def score(self, body: object, timeout: float = 30) -> Answer:
        """`POST /score`."""
        return self.request("POST", "/score", body, timeout)

    def await_ready(self) -> "Service":
        """Waits for the first 200 of the health route; fails with the log if it does not come."""
        deadline = time.monotonic() + START_SECONDS
        while True:
            self.container.reload()
            assert self.container.status == "running", f"the container ended:\n{self.log}"
            try:
                if self.request("GET", "/", timeout=5).status == 200:
                    return self
            except (OSError, http.client.HTTPException):
                pass
            assert time.monotonic() < deadline, f"not ready in {START_SECONDS} s:\n{self.log}"
            time.sleep(0.05)

    def await_exit(self) -> int:
        """Waits for the end of the container; returns its exit code."""
        code: int = self.container.wait(timeout=START_SECONDS)["StatusCode"]
        return code

    def execute(self, *command: str, user: str = "") -> str:
        """The output of a command in the container; fails when the command does."""
        code, output = self.container.exec_run(list(command), user=user)
        assert isinstance(output, bytes)
        text = output.decode(errors="replace")
        assert code == 0, f"{command} ended with {code}: {text}"
        return text


@contextmanager
def started(
    client: docker.DockerClient,
    image: str,
    files: Mapping[str, str | bytes],
    environ: Mapping[str, str],
    **options: Any,
) -> Iterator[Service]:
    """A container that serves `files`, mounted read-only; gone at the end, with its volume."""
    labels = {"inference.test": "true"}
    volume = client.volumes.create(labels=labels)
    try:
        # A volume is filled through the engine, so that this works with one on another machine.
        filler = client.containers.create(image, volumes={volume.name: {"bind": APP_ROOT}})
        try:
            filler.put_archive(APP_ROOT, archive(files))
        finally:
            filler.remove(v=False)
        container = client.containers.create(
            image,
            environment=dict(environ),
            labels=labels,
            volumes={volume.name: {"bind": APP_ROOT, "mode": "ro"}},
            ports={PORT: ("127.0.0.1", 0)},
            **options,
        )
        try:
            began = time.perf_counter()
            container.start()
            yield Service(container, began)
        finally:
            container.remove(force=True, v=True)
    finally:
        volume.remove(force=True)


def archive(files: Mapping[str, str | bytes]) -> bytes:
    """A tar of files, readable by everybody and owned by root."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in files.items():
            data = content.encode() if isinstance(content, str) else content
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def build(engine: Engine, parent: str, steps: str, suite: str, tag: str) -> None:
    """Builds `steps`, as a consumer would write them, on `parent`."""
    host = read_host_config(engine.environ(), Path.home())
    mirrors = debian_mirrors()
    secrets: dict[str, str] = {}
    settings = pip_config(host) or "[global]\n"
    if host.ca_bundle is not None:
        settings += f"cert = {SECRETS['ca-bundle']}\n"
        secrets["ca-bundle"] = host.ca_bundle.read_text()
    secrets["pip-config"] = settings
    if mirrors.are_custom():
        secrets["apt-sources"] = debian_sources(suite, mirrors)
        secrets["apt-config"] = APT_CONFIG
    dockerfile = f"FROM {parent}\n" + steps.replace("RUN ", f"RUN {_MOUNTS} ")
    command = ["docker", "build", "--tag", tag, "--label", "inference.test=true"]
    for name in host.proxies:
        command += ["--build-arg", name]
    with tempfile.TemporaryDirectory() as folder:
        for name, content in secrets.items():
            (Path(folder) / name).write_text(content)
            command += ["--secret", f"id={name},src={folder}/{name}"]
        result = subprocess.run(
            [*command, "-"],
            input=dockerfile,
            env=engine.environ(),
            capture_output=True,
            text=True,
            check=False,
        )
    assert result.returncode == 0, f"the build failed:\n{result.stderr[-3000:]}"
