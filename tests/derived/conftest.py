"""The engine, the image that all of this is built on, and containers that end with their test."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

import docker
import pytest

from imagematrix.host.engine import Engine, find_engine
from imagematrix.matrix.variant import Variant
from imagematrix.plan.bake import image_tag
from imagematrix.repository.project import Project
from tests.derived.containers import Service, build, started
from tests.example_images import example
from tests.images.running import build_images

ROOT = Path(__file__).resolve().parents[2]
PARENT = example().name


class Build(Protocol):
    """Builds steps on the minimal image, or on another one of ours, and returns the tag."""

    def __call__(self, steps: str, parent: str = PARENT) -> str: ...


class Serve(Protocol):
    """Starts a container; `image` is the minimal one unless another is named."""

    def __call__(
        self,
        files: Mapping[str, str | bytes],
        environ: Mapping[str, str] | None = None,
        image: str | None = None,
        **options: Any,
    ) -> Service: ...


@pytest.fixture(scope="session")
def engine() -> Engine:
    """The engine that holds the images."""
    found = find_engine()
    if found is None:
        pytest.fail("no Docker engine answers; run `nox -s build` first")
    build_images(PARENT)
    return found


@pytest.fixture(scope="session")
def client(engine: Engine) -> Iterator[docker.DockerClient]:
    """A client of that engine."""
    client = engine.client()
    yield client
    client.close()


@pytest.fixture(scope="session")
def variant() -> Variant:
    """What the minimal image is said to be."""
    return _variant(PARENT)


def _variant(name: str) -> Variant:
    return next(variant for variant in Project(ROOT).variants if variant.name == name)


@pytest.fixture
def serve(client: docker.DockerClient) -> Iterator[Serve]:
    """Containers that are removed when the test ends."""
    with ExitStack() as stack:

        def start(
            files: Mapping[str, str | bytes],
            environ: Mapping[str, str] | None = None,
            image: str | None = None,
            **options: Any,
        ) -> Service:
            reference = image or image_tag(PARENT)
            context = started(client, reference, files, environ or {}, **options)
            return stack.enter_context(context)

        yield start


@pytest.fixture(scope="module")
def derive(engine: Engine, client: docker.DockerClient) -> Iterator[Build]:
    """Builds on our images; what it built goes with the module."""
    tags: list[str] = []

    def make(steps: str, parent: str = PARENT) -> str:
        if parent != PARENT:
            build_images(parent)
        tag = f"inference-test-derived:{uuid4().hex}"
        build(engine, image_tag(parent), steps, _variant(parent).suite, tag)
        tags.append(tag)
        return tag

    yield make
    for tag in tags:
        client.images.remove(tag, force=True)
