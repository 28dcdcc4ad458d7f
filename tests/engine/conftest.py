"""A registry and a second engine that takes it for its mirror, both on loopback and short-lived."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import pytest

from imagematrix.files import WORK_FOLDER
from imagematrix.host.bases import BaseSource, ensure_bases
from imagematrix.host.debian import apt_get, os_release_ids
from imagematrix.host.engine import Engine
from imagematrix.repository.project import Project
from tests.engine.engines import OwnEngine, fresh_engine
from tests.engine.registries import SecureRegistry, serve_registry, serve_secure_registry
from tests.example_images import example
from tests.images.running import one_at_a_time

ROOT = Path(__file__).resolve().parents[2]
_CACHES = {"__pycache__", ".hypothesis", ".mypy_cache", ".pytest_cache", ".ruff_cache"}


def copy_repository(folder: Path) -> Path:
    """A copy of this repository below `folder`, without what git ignores."""
    root = folder / "repository"
    local = {ROOT / name for name in (".git", ".nox", ".venv", WORK_FOLDER)}

    def ignored(at: str, names: list[str]) -> list[str]:
        return [name for name in names if Path(at, name) in local or name in _CACHES]

    shutil.copytree(ROOT, root, ignore=ignored)
    return root


@pytest.fixture(scope="session")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of this repository: what builds leave there is of this process alone."""
    return copy_repository(tmp_path_factory.mktemp("tree"))


@pytest.fixture
def config(tmp_path: Path) -> Iterator[Path]:
    """A folder of docker's own, in which nothing is chosen."""
    without = {name: value for name, value in os.environ.items() if not name.startswith("DOCKER_")}
    with patch.dict(os.environ, {**without, "DOCKER_CONFIG": str(tmp_path)}, clear=True):
        # Plugins that a user installed stay there.
        yield tmp_path


def require(program: str, package: str) -> str:
    """The path of a program, after installing its Debian package where that is possible."""
    # Two processes cannot install at a time.
    with one_at_a_time():
        if shutil.which(program) is None:
            if os.geteuid() != 0 or "debian" not in os_release_ids():
                pytest.skip(
                    f"{program} is not installed, and only root on Debian could install it here"
                )
            apt_get("update")
            apt_get("install", "--no-install-recommends", package)
    found = shutil.which(program)
    if found is None:
        pytest.fail(f"the package {package} has no {program}")
    return found


@pytest.fixture(scope="session")
def registry() -> Iterator[str]:
    """The host:port of an empty registry on loopback, which removes nothing."""
    with serve_registry(require("docker-registry", "docker-registry")) as host:
        yield host


@pytest.fixture(scope="session")
def secure_registry() -> Iterator[SecureRegistry]:
    """An empty registry on loopback with TLS and a password."""
    with serve_secure_registry(require("docker-registry", "docker-registry")) as found:
        yield found


def publish_bases(engine: Engine, registry: str, image: str) -> None:
    """Pushes the base images of an image, as this host has them, under the official names."""
    variants = [variant for variant in Project(ROOT).variants if variant.name == image]
    bases = ensure_bases(engine, variants, BaseSource.AUTO)
    client = engine.client()
    try:
        for official, local in bases.images.items():
            name, tag = official.split(":")
            repository = f"{registry}/library/{name}"
            assert client.api.tag(local, repository, tag)
            for event in client.api.push(repository, tag=tag, stream=True, decode=True):
                assert "error" not in event, event["error"]
            client.api.remove_image(f"{repository}:{tag}")
    finally:
        client.close()


@pytest.fixture(scope="session")
def second_engine(engine: Engine, registry: str) -> Iterator[OwnEngine]:
    """An engine that knows no other source than the registry, with a bridge of its own."""
    if os.geteuid() != 0 or shutil.which("dockerd") is None:
        pytest.skip("a second engine needs root and an installed dockerd")
    require("ip", "iproute2")
    with fresh_engine([f"http://{registry}"]) as found:
        yield found


@pytest.fixture(scope="session")
def small_engine(engine: Engine) -> Iterator[Engine]:
    """An engine with nothing but the base images of a minimal image, which it keeps in another way
    than the engine of this host."""
    if os.geteuid() != 0 or not all(map(shutil.which, ("dockerd", "ip"))):
        pytest.skip("an engine of its own needs root, dockerd and ip")
    bases = ensure_bases(engine, [example()], BaseSource.AUTO)
    other = not engine.containerd_store
    with fresh_engine(containerd_store=other) as own:
        found = own.engine
        save = ["docker", "save", *bases.images.values()]
        saved = subprocess.Popen(save, env=engine.environ(), stdout=subprocess.PIPE)
        subprocess.run(["docker", "load"], env=found.environ(), stdin=saved.stdout, check=True)
        assert saved.wait() == 0
        yield found
