"""From a requirements.txt to a container that answers, and back to how its image was made."""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import docker
import pytest

from imagematrix.build.inputs import APT_CONFIG, pip_config, uv_config
from imagematrix.host.bases import BaseSource, ensure_bases
from imagematrix.host.config import read_host_config
from imagematrix.host.debian import debian_mirrors, debian_sources
from imagematrix.host.engine import Engine, layers_of
from imagematrix.host.supply import Supply, why_unreachable
from imagematrix.plan.bake import TOOLS_SUITE, image_tag
from tests.derived.containers import started
from tests.example_images import example
from tests.images.running import build_images

HOST = read_host_config(os.environ, Path.home())
PLAIN, OTHER_NAME = "azureml_made-by-docker", "azureml_my-model"
REQUIREMENTS = "# What the script imports.\nsix==1.17.0\nidna>=3\n"
LOCKED_DOWN = {
    "read_only": True,
    "tmpfs": {"/tmp": ""},
    "cap_drop": ["ALL"],
    "security_opt": ["no-new-privileges"],
    "user": "12345:0",
}
SCRIPT = """
import os, idna, six

def init():
    pass

def run(data):
    return [six.__version__, idna.encode("grün.example").decode(), os.getuid(), len(data)]
"""

Make = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def client(engine: Engine) -> Iterator[docker.DockerClient]:
    with contextlib.closing(engine.client()) as client:
        yield client


@pytest.fixture(scope="module")
def made(
    engine: Engine,
    client: docker.DockerClient,
    tree: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Make]:
    """Calls the command for a text of requirements; its images go at the end."""
    if reason := why_unreachable(f"{HOST.index_url}/six/", HOST.ca_bundle):
        pytest.skip(f"the index {reason}")
    build_images(engine, example().name)
    file = tmp_path_factory.mktemp("specification") / "requirements.txt"
    names = {PLAIN, OTHER_NAME}

    def make(text: str, *options: str) -> subprocess.CompletedProcess[str]:
        file.write_text(text)
        result = _command(engine, tree, str(file), *options)
        names.update(path.name for path in (tree / "build/environments").glob("azureml_*"))
        return result

    try:
        yield make
    finally:
        for name in names:
            with contextlib.suppress(docker.errors.ImageNotFound):
                client.images.remove(name, force=True)


def _command(engine: Engine, tree: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "imagematrix", "environment", *arguments],
        cwd=tree,
        env=engine.environ(),
        capture_output=True,
        text=True,
        check=False,
    )


def _result(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    (row,) = json.loads(done.stdout)
    return dict(row)


@pytest.fixture(scope="module")
def first(made: Make, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    """The result of the first run, and the folder that it wrote."""
    folder = tmp_path_factory.mktemp("out") / "mine"
    options = ("--json", "--tag", OTHER_NAME, "--output", str(folder))
    return _result(made(REQUIREMENTS, *options)), folder


def test_image_answers_locked_down(
    first: tuple[dict[str, Any], Path], client: docker.DockerClient
) -> None:
    row, _ = first
    assert (row["outcome"], row["detail"].startswith("no such image yet; ")) == ("built", True)
    assert row["detail"].endswith("checks passed")
    # By the name that it was given.
    with started(client, OTHER_NAME, {"main.py": SCRIPT}, {}, **LOCKED_DOWN) as service:
        answer = service.await_ready().score("text")
    assert (answer.status, answer.json[:3]) == (200, ["1.17.0", "xn--grn-ioa.example", 12345])


def test_second_run_has_nothing_to_do(first: tuple[dict[str, Any], Path], made: Make) -> None:
    """Whatever the order and the comments of the file, and though no index can be reached."""
    row, _ = first
    again = _result(made("idna>=3\nsix==1.17.0  # pinned\n", "--json"))

    assert (again["name"], again["outcome"]) == (row["name"], "up to date")


def test_changed_requirement_gives_another_image(
    first: tuple[dict[str, Any], Path], made: Make, client: docker.DockerClient
) -> None:
    row, _ = first
    other = _result(made(REQUIREMENTS.replace("1.17.0", "1.16.0"), "--json"))

    assert other["name"] != row["name"]
    assert other["outcome"] == "built"
    run = client.containers.run(
        other["name"], ["python", "-c", "import six; print(six.__version__)"], remove=True
    )
    assert run.strip() == b"1.16.0"


def test_plain_docker_build_of_the_folder_makes_the_same_layers(
    first: tuple[dict[str, Any], Path], engine: Engine, tree: Path, tmp_path: Path
) -> None:
    row, folder = first
    bases = ensure_bases(engine, [example()], BaseSource.AUTO)
    mirrors = debian_mirrors()
    files = {"uv-config": uv_config(HOST, Supply()), "pip-config": pip_config(HOST)}
    if mirrors.are_custom():
        files["apt-sources"] = debian_sources(TOOLS_SUITE, mirrors)
        files["apt-config"] = APT_CONFIG
    options = [f"--build-arg={name}={os.environ[name]}" for name in HOST.proxies]
    for name, text in files.items():
        (tmp_path / name).write_text(text)
        options.append(f"--secret=id={name},src={tmp_path / name}")
    if HOST.ca_bundle:
        options.append(f"--secret=id=ca-bundle,src={HOST.ca_bundle}")
    debian = TOOLS_SUITE.debian_image
    options.append(f"--build-context={debian}=docker-image://{bases.images[debian]}")

    done = subprocess.run(
        ["docker", "build", "--tag", PLAIN, *options, str(folder)],
        env=engine.environ(),
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr[-3000:]
    images = engine.inspect([PLAIN, row["name"]])
    assert layers_of(images[PLAIN]) == layers_of(images[row["name"]])
    shown = _command(engine, tree, "--show", PLAIN)
    assert shown.returncode == 2
    assert "does not say how it was made" in shown.stderr


def test_image_says_how_it_was_made_in_the_engine_and_in_a_registry(
    first: tuple[dict[str, Any], Path],
    engine: Engine,
    client: docker.DockerClient,
    registry: str,
    tree: Path,
) -> None:
    row, folder = first
    details = json.loads((folder / "details.json").read_text())
    assert details["ingredients"]["dockerfile"] == (folder / "Dockerfile").read_text()
    assert "six==1.17.0" in details["ingredients"]["condaDependencies"]

    here = _command(engine, tree, "--show", OTHER_NAME)
    assert json.loads(here.stdout) == details

    repository = f"{registry}/mine/model"
    assert client.api.tag(image_tag(row["name"]), repository, "1")
    try:
        for event in client.api.push(repository, tag="1", stream=True, decode=True):
            assert "error" not in event, event["error"]
    finally:
        client.api.remove_image(f"{repository}:1")
    there = _command(engine, tree, "--show", f"{repository}:1")
    assert there.returncode == 0, there.stderr
    found = json.loads(there.stdout)
    assert found["ingredients"] == details["ingredients"]
    assert found["dockerImage"]["registry"]["address"] == registry
    assert found["imageExistsInRegistry"] is True

    absent = _command(engine, tree, "--show", f"{repository}:2")
    assert (absent.returncode, absent.stdout) == (1, "")


def test_requirement_without_a_wheel_says_so_and_leaves_nothing(made: Make, tree: Path) -> None:
    folders = tree / "build/environments"
    before = set(folders.iterdir())
    done = made("scikit-learn==0.20.0\n", "--json")

    assert (done.returncode, done.stdout) == (1, "")
    assert "scikit-learn==0.20.0 has no usable wheels" in done.stderr
    assert set(folders.iterdir()) == before
