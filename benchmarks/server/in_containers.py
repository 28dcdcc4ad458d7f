"""Both servers as containers: the minimal image, and one built on it that serves the reference."""

from __future__ import annotations

import contextlib
import http.client
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import docker
from servers import KINDS, REFERENCE, SCRIPT, Kind

from imagematrix.host.engine import Engine, find_engine
from imagematrix.plan.bake import image_tag
from imagematrix.repository.project import Project
from tests.derived.containers import Service, build, started
from tests.example_images import example

PARENT = example().name
TAG = "inference-benchmark-reference:latest"
REFERENCE_COMMAND = ("azmlinfsrv", "--entry_script", "main.py")
COMMANDS = {"ours": None, "reference": [*REFERENCE_COMMAND]}
# Adds up the memory of the processes of a container, without this one.
RESIDENT = """
import os, pathlib
total = 0
for entry in pathlib.Path("/proc").iterdir():
    if entry.name.isdigit() and int(entry.name) != os.getpid():
        for line in (entry / "status").read_text().splitlines():
            total += int(line.split()[1]) if line.startswith("VmRSS:") else 0
print(total)
"""


class Containers:
    """The images of the two servers; ``measure`` starts one container of one of them."""

    def __init__(self, engine: Engine) -> None:
        self._client = engine.client()
        parent = image_tag(PARENT)
        root = Path(__file__).parents[2]
        [variant] = [variant for variant in Project(root).variants if variant.name == PARENT]
        build(engine, parent, f"RUN pip install --no-cache-dir {REFERENCE}\n", variant.suite, TAG)
        self._images = {"ours": parent, "reference": TAG}
        # The first start of a new image takes longer, and does not count.
        for name in self._images:
            self.measure(name)

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """Both servers, to be started from their images."""
        commands = {"ours": (), "reference": (*REFERENCE_COMMAND, "--port", "{port}")}
        return tuple(
            replace(kind, image=(self._images[kind.name], *commands[kind.name])) for kind in KINDS
        )

    def measure(self, name: str) -> dict[str, float]:
        """Seconds until the first 200 on ``/score``, and MiB when idle."""
        context = started(
            self._client, self._images[name], {"main.py": SCRIPT}, {}, command=COMMANDS[name]
        )
        with context as service:
            seconds = await_score(service)
            time.sleep(1)
            resident = int(service.execute("python3", "-c", RESIDENT)) / 1024
        return {"container_start_s": seconds, "container_rss_mib": resident}

    def close(self) -> None:
        """Remove the image that was built."""
        self._client.images.remove(TAG, force=True)
        self._client.close()


def await_score(service: Service) -> float:
    """Seconds from the start of the container until ``/score`` answers 200."""
    while time.perf_counter() < service.began + 120:
        with contextlib.suppress(OSError, http.client.HTTPException):
            if service.score({"data": [1]}, timeout=5).status == 200:
                return time.perf_counter() - service.began
        time.sleep(0.01)
        service.container.reload()
        if service.container.status != "running":
            raise RuntimeError(f"the container ended:\n{service.log}")
    raise RuntimeError(f"the container does not answer:\n{service.log}")


@contextlib.contextmanager
def containers() -> Iterator[Containers]:
    """Both images, on the configured engine."""
    engine = find_engine()
    if engine is None:
        raise SystemExit("no Docker engine answers; with --no-containers none is needed")
    try:
        both = Containers(engine)
    except docker.errors.ImageNotFound:
        raise SystemExit(f"{PARENT} is not built: nox -s build -- {PARENT}") from None
    try:
        yield both
    finally:
        both.close()
