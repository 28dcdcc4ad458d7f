"""The oldest Docker that is supported and the newest in Debian, each with both of its image stores.

Both are unpacked beside what is installed. Each builds the smallest image from the registry, as
users do, and runs it.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from imagematrix.checks import checks_of
from imagematrix.checks.running import run_image, wait_until_healthy
from imagematrix.host.debian import KEYRING, debian_mirrors, os_release_ids
from imagematrix.host.engine import Engine
from imagematrix.repository.project import Project
from tests.engine.conftest import publish_bases
from tests.engine.engines import NotToBeHad, fresh_engine, unpack_docker, using_docker
from tests.example_images import example

IMAGE = example().name
# The Debian releases that have them.
CHECKS = {"distributions_equal_the_lock", "example_is_scored", "labels_tell_the_variant"}
OLDEST, NEWEST = "trixie", "forky"


@pytest.fixture(scope="module", params=[OLDEST, NEWEST])
def docker(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a Docker is unpacked."""
    if os.geteuid() != 0 or "debian" not in os_release_ids():
        pytest.skip("another Docker can be unpacked and run only by root on Debian or Ubuntu")
    folder = tmp_path_factory.mktemp(f"docker-{request.param}")
    try:
        unpack_docker(request.param, debian_mirrors().main, KEYRING, folder)
    except NotToBeHad as reason:
        pytest.skip(str(reason))
    return folder / "root"


@pytest.fixture(params=[True, False], ids=["containerd", "overlay2"])
def its_engine(
    request: pytest.FixtureRequest, docker: Path, engine: Engine, registry: str
) -> Iterator[Engine]:
    """An engine of that Docker with one of its stores, and the registry as its mirror."""
    publish_bases(engine, registry, IMAGE)
    with (
        using_docker(docker),
        fresh_engine([f"http://{registry}"], containerd_store=request.param) as found,
    ):
        yield found.engine


def test_the_smallest_image_is_built_and_served(its_engine: Engine, tree: Path) -> None:
    """With the certificates of this host, which bake reads only where it is allowed to; and the
    printed bake file, which is for people without these tools, asks for no such thing."""
    row = json.loads(_build(its_engine, tree, "--json"))
    assert [image["outcome"] for image in row] == ["built"]
    project = Project(tree)
    variant = next(v for v in project.variants if v.name == IMAGE)
    lock = project.locks[IMAGE]
    with run_image(its_engine, f"{IMAGE}:latest", variant, lock, tree) as image:
        wait_until_healthy(image)
        checks = [check for check in checks_of(variant) if check.__name__ in CHECKS]
        assert len(checks) == len(CHECKS)
        for check in checks:
            check(image)
    result = subprocess.run(
        ["docker", "buildx", "bake", "--file", "-", "--progress=plain"],
        input=_build(its_engine, tree, "--print"),
        cwd=tree,
        env=its_engine.environ(),
        capture_output=True,
        text=True,
        check=False,
    )
    # All steps are cached: without secrets, some could not be run on every host.
    assert result.returncode == 0, result.stderr[-4000:]


def _build(engine: Engine, tree: Path, option: str) -> str:
    command = [sys.executable, "-m", "imagematrix", "build", IMAGE, "--bases", "registry", option]
    result = subprocess.run(
        command, cwd=tree, env=engine.environ(), capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr[-4000:]
    return result.stdout
