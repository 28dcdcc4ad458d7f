"""Containers of an image from anywhere: one to look into, and those that it serves in."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import docker
import docker.errors
import testinfra
from docker.models.containers import Container
from docker.types import Mount

from imagematrix.checks.running import (
    APP_ROOT,
    ENTRY_SCRIPT,
    PORT,
    RunningImage,
    address_of,
    example_archive,
    put,
)
from imagematrix.host.engine import Engine
from imagematrix.matrix.platforms import PLATFORM

# Served by an image of any framework: it needs Python alone.
EXAMPLE = PurePath("base/example")
LABELS = {"inference.verify": "true"}
_ASLEEP = ["/bin/sh", "-c", "exec sleep 86400"]


@dataclass(frozen=True, kw_only=True)
class ForeignImage(RunningImage):
    """A container of an image from anywhere. `again` starts another one that serves the example,
    with other variables and options of docker-py; it is not waited for. `patience` is how many
    seconds a container may take to get healthy."""

    again: Callable[..., AbstractContextManager["ForeignImage"]]
    patience: float

    def await_healthy(self) -> str:
        """Waits until GET / is 200; why it is not in time, or empty."""
        deadline = time.monotonic() + self.patience
        while True:
            try:
                status, _, _ = self.request("/", timeout=5)
            except OSError:
                status = 0
            if status == 200:
                return ""
            self.container.reload()
            state = self.container.attrs["State"]
            if self.container.status != "running":
                ended = state.get("Error") or f"it ended with exit code {state['ExitCode']}"
                return f"{ended}; {self.last_line()}"
            if time.monotonic() > deadline:
                answer = f"GET / is {status}" if status else "no answer on port 5001"
                return f"{answer} in {self.patience:g} s; {self.last_line()}"
            time.sleep(0.1)

    def last_line(self) -> str:
        """The last line of its log, for people."""
        lines = self.container.logs(tail=20).decode(errors="replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "")
        return f"the last line of its log: {last[:500]}" if last else "its log is empty"


@contextmanager
def looked_into(engine: Engine, reference: str, root: Path) -> Iterator[RunningImage]:
    """A container that does nothing, without a network, so that the image can be looked into."""
    client = engine.client()
    try:
        with _created(
            client, reference, entrypoint=_ASLEEP, command=[], network_mode="none"
        ) as container:
            _start(container)
            yield RunningImage(
                reference=reference,
                root=root,
                example=EXAMPLE,
                image=client.api.inspect_image(reference),
                container=container,
                host=testinfra.get_host(f"docker://{container.id}"),
                address=None,
            )
    finally:
        client.close()


@contextmanager
def serving(
    engine: Engine,
    reference: str,
    root: Path,
    patience: float,
    environment: Mapping[str, str] | None = None,
    **options: Any,
) -> Iterator[ForeignImage]:
    """A container that runs as the image says, with the example as its application."""
    client = engine.client()
    local = engine.endpoint.socket is not None

    def again(
        environment: Mapping[str, str] | None = None, **options: Any
    ) -> AbstractContextManager[ForeignImage]:
        return serving(engine, reference, root, patience, environment, **options)

    variables = {
        "AML_APP_ROOT": APP_ROOT,
        "AZUREML_ENTRY_SCRIPT": ENTRY_SCRIPT,
        **(environment or {}),
    }
    try:
        with _created(
            client,
            reference,
            environment=variables,
            ports={PORT: ("127.0.0.1", 0)} if local else {},
            # The root file system may be read-only, and the folder need not be in the image.
            mounts=[Mount(APP_ROOT, None)],
            **options,
        ) as container:
            put(container, APP_ROOT, example_archive(root / EXAMPLE))
            _start(container)
            yield ForeignImage(
                reference=reference,
                root=root,
                example=EXAMPLE,
                image=client.api.inspect_image(reference),
                container=container,
                host=testinfra.get_host(f"docker://{container.id}"),
                address=address_of(container) if local else None,
                again=again,
                patience=patience,
            )
    finally:
        client.close()


@contextmanager
def _created(client: docker.DockerClient, reference: str, **options: Any) -> Iterator[Container]:
    """A container that is not started yet; gone at the end, with its volume."""
    container = client.containers.create(reference, labels=LABELS, platform=PLATFORM, **options)
    try:
        yield container
    finally:
        container.remove(force=True, v=True)


def _start(container: Container) -> None:
    """Starts it. Where the engine cannot, that is in the container's state, and no exception."""
    try:
        container.start()
    except docker.errors.APIError:
        container.reload()
        if not container.attrs["State"].get("Error"):
            raise
