"""The committed files, for people without these tools: `docker buildx bake`, and `docker build`."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from imagematrix.build.inputs import APT_CONFIG, pip_config, uv_config
from imagematrix.checks.content import distributions_equal_the_lock
from imagematrix.checks.running import run_image, wait_until_healthy
from imagematrix.checks.serving import example_is_scored
from imagematrix.host.bases import Bases, BaseSource, ensure_bases
from imagematrix.host.config import read_host_config
from imagematrix.host.debian import debian_mirrors, debian_sources
from imagematrix.host.engine import Engine
from imagematrix.host.supply import Supply
from imagematrix.matrix.selection import Selection, select, with_parents
from imagematrix.matrix.variant import Variant
from imagematrix.plan.bake import TOOLS, target_name
from imagematrix.repository.project import Project
from tests.engine.conftest import ROOT
from tests.images.running import build_images

HOST = read_host_config(os.environ, Path.home())
BUILT = "test/built-by-hand"


@pytest.fixture(scope="module")
def images(engine: Engine) -> tuple[Variant, Variant]:
    """A current image with a parent that needs no index of its own, and that parent, which is in
    the engine."""
    variants = Project(ROOT).variants
    child = next(v for v in select(variants, Selection()) if v.parent and not v.index)
    parent, child = with_parents([child], variants)
    build_images(engine, parent.name)
    return parent, child


@pytest.fixture(scope="module")
def bases(engine: Engine, images: tuple[Variant, Variant]) -> Bases:
    return ensure_bases(engine, images, BaseSource.AUTO)


@pytest.fixture(autouse=True)
def _nothing_stays(engine: Engine) -> Iterator[None]:
    yield
    names = [BUILT, TOOLS, "system-trixie", f"{BUILT}-parent"]
    subprocess.run(["docker", "rmi", "--force", *names], env=engine.environ(), capture_output=True)


@pytest.fixture(scope="module")
def secrets(images: tuple[Variant, Variant], tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What this host needs to reach indexes and mirrors, as the docs say it."""
    folder, mirrors = tmp_path_factory.mktemp("secrets"), debian_mirrors()
    files = {"uv-config": uv_config(HOST, Supply()), "pip-config": pip_config(HOST)}
    if mirrors.are_custom():
        files["apt-sources"] = debian_sources(images[0].suite, mirrors)
        files["apt-config"] = APT_CONFIG
    paths = {}
    for name, text in files.items():
        paths[name] = folder / name
        paths[name].write_text(text)
    if HOST.ca_bundle:
        paths["ca-bundle"] = HOST.ca_bundle
    return [f"id={name},src={path}" for name, path in paths.items()]


def _docker(engine: Engine, *arguments: str) -> str:
    result = subprocess.run(
        ["docker", *arguments],
        cwd=ROOT,
        env=engine.environ(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return result.stdout


def _check(engine: Engine, variant: Variant) -> None:
    """What was built holds what is locked, and scores its example."""
    with run_image(engine, BUILT, variant, Project(ROOT).locks[variant.name], ROOT) as running:
        wait_until_healthy(running)
        distributions_equal_the_lock(running)
        example_is_scored(running)


def test_committed_bake_file_builds_an_image_with_all_it_needs(
    engine: Engine, images: tuple[Variant, Variant], bases: Bases, secrets: list[str]
) -> None:
    parent, child = images
    target = target_name(child.name)
    definition = json.loads((ROOT / "docker-bake.json").read_text())
    # What `--set` cannot say of the bases, which come from a registry elsewhere.
    contexts = {
        name: {
            "contexts": {base: f"docker-image://{image}" for base, image in bases.images.items()}
        }
        for name in (TOOLS, parent.system_image, target_name(parent.name))
    }
    here = ROOT / "build" / "bases.json"
    here.write_text(json.dumps({"target": contexts}))
    # The images of this host keep their names.
    options = [f"--set={target}.tags={BUILT}"]
    options.append(f"--set={target_name(parent.name)}.tags={BUILT}-parent")
    if HOST.proxies:
        options += [f"--set=*.args.{name}={os.environ[name]}" for name in HOST.proxies]
    options += [f"--set=*.secrets={secret}" for secret in secrets]
    files = ["--file", "docker-bake.json", "--file", str(here)]
    assert target in definition["target"]

    _docker(engine, "buildx", "bake", *files, *options, target)

    _check(engine, child)


def test_plain_docker_build_makes_an_image_from_what_the_docs_name(
    engine: Engine, images: tuple[Variant, Variant], bases: Bases, secrets: list[str]
) -> None:
    parent, child = images
    common = [f"--secret={secret}" for secret in secrets]
    common += [f"--build-arg={name}={os.environ[name]}" for name in HOST.proxies]
    common += [f"--build-context={b}=docker-image://{i}" for b, i in bases.images.items()]

    def build(tag: str, context: str, *options: str) -> None:
        _docker(engine, "build", "--tag", tag, *common, *options, context)

    system = str(parent.system_dockerfile)
    build(TOOLS, "base/tools")
    build(parent.system_image, "base", "--file", system)
    build(f"{BUILT}-parent", "base", "--file", str(parent.dockerfile))
    build(BUILT, str(child.context), f"--build-arg=BASE_IMAGE={BUILT}-parent")

    _check(engine, child)
