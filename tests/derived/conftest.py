"""The engine, the image that all of this is built on, and containers that end with their test."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

import docker
import pytest

from imagematrix.host.engine import Engine
from imagematrix.matrix.schema import Track
from imagematrix.matrix.variant import Variant
from imagematrix.plan.bake import image_tag
from imagematrix.repository.project import Project
from tests.derived.containers import Service, build, started
from tests.example_images import example
from tests.images.running import build_images

ROOT = Path(__file__).resolve().parents[2]
PARENT = example().name


class Build(Protocol):
    """Builds steps on the minimal image, or on another one of the matrix, and returns the tag."""

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
def engine(engine: Engine) -> Engine:
    """The engine, with the image that all of this is built on."""
    build_images(engine, PARENT)
    return engine


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


@pytest.fixture(scope="session")
def current(client: docker.DockerClient) -> list[Variant]:
    """The current images that are here, as they are now or not."""
    here = {tag for image in client.images.list() for tag in image.tags}
    variants = [v for v in Project(ROOT).variants if v.track is Track.CURRENT]
    found = [variant for variant in variants if image_tag(variant.name) in here]
    assert PARENT in [variant.name for variant in found], f"only {found} are here"
    return found


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
    """Builds on our images, each once; what it built goes with the module."""
    tags: dict[tuple[str, str], str] = {}

    def make(steps: str, parent: str = PARENT) -> str:
        if (steps, parent) not in tags:
            if parent != PARENT:
                build_images(engine, parent)
            tag = f"inference-test-derived:{uuid4().hex}"
            build(engine, image_tag(parent), steps, _variant(parent).suite, tag)
            tags[steps, parent] = tag
        return tags[steps, parent]

    yield make
    for tag in tags.values():
        client.images.remove(tag, force=True)
