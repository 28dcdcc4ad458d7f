"""A container with a memory limit under clients that make it hold memory: it never dies of it."""

import docker
import pytest

from imagematrix.plan.bake import image_tag
from tests.derived.conftest import PARENT
from tests.derived.shapes import SHAPES, Shape, play

LIMITS_MB = [128, 256, 512]
SHORT = [shape for shape in SHAPES if shape.short]


@pytest.mark.parametrize("limit_mb", LIMITS_MB)
@pytest.mark.parametrize("shape", SHORT, ids=[shape.name for shape in SHORT])
def test_memory_is_enough(client: docker.DockerClient, shape: Shape, limit_mb: int) -> None:
    """Each answer is 200, 413 or 503, or says what is wrong; health answers, scoring goes on."""
    outcome = play(client, image_tag(PARENT), shape, limit_mb)
    assert not outcome.wrong, outcome
