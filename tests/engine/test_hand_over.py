"""An image gets from the machine that built it to one that publishes it, up to date."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from imagematrix.host.engine import Engine
from imagematrix.plan.bake import image_tag
from imagematrix.repository.passed import CheckResult, Outcome, has_passed, record_results
from tests.engine.conftest import ROOT
from tests.unit.helpers import MINIMAL, XGBOOST, Repository

TEMPLATES = {
    "base/tools.Dockerfile.j2": "FROM scratch\nCOPY bin/ /\n",
    "base/system.Dockerfile.j2": "FROM scratch\nCOPY dpkg-excludes /\n",
    "base/Dockerfile.j2": "FROM system-{{ variant.suite }}\nUSER 1000:1000\n",
    "frameworks/Dockerfile.j2": (
        "ARG BASE_IMAGE={{ variant.parent }}\nFROM ${BASE_IMAGE}\nCOPY requirements.txt /\n"
    ),
}
PASSED = {"it_starts": CheckResult(Outcome.PASSED)}
Run = Callable[..., str]


@pytest.fixture
def repository(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """The repository, whose images are a file each."""
    small = Repository.write(tmp_path_factory.mktemp("hand-over"))
    for path, text in TEMPLATES.items():
        small.put(path, text)
    small.render()
    return small


@pytest.fixture
def run(small_engine: Engine, repository: Repository) -> Run:
    """Runs a command of the repository that succeeds; returns what it prints."""

    def command(*arguments: str) -> str:
        result = subprocess.run(
            [sys.executable, "-m", "imagematrix", *arguments],
            cwd=repository.root,
            env={**os.environ, **small_engine.environ(), "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 0, result.stderr[-3000:]
        return result.stdout

    return command


def test_an_image_is_handed_over_and_its_parent_is_pulled(
    small_engine: Engine, repository: Repository, registry: str, run: Run, tmp_path: Path
) -> None:
    client = small_engine.client()
    run("build", MINIMAL, XGBOOST)
    built = small_engine.ids([image_tag(XGBOOST)])[image_tag(XGBOOST)]
    assert built
    record_results(repository.root, built, XGBOOST, "checks", PASSED)
    run("save", "--output", str(tmp_path), XGBOOST)
    published = f"{registry}/hand-over/{MINIMAL}"
    assert client.api.tag(image_tag(MINIMAL), published, "latest")
    for event in client.api.push(published, tag="latest", stream=True, decode=True):
        assert "error" not in event, event["error"]
    for name in (f"{published}:latest", image_tag(XGBOOST), image_tag(MINIMAL)):
        client.images.remove(name)
    (repository.root / "build" / "passed" / f"{built.removeprefix('sha256:')}.json").unlink()

    assert run("load", str(tmp_path)) == f"{XGBOOST}\n"
    run("pull", "--registry", f"{registry}/hand-over".upper(), "--parents", XGBOOST)

    rows = json.loads(run("plan", MINIMAL, XGBOOST, "--json"))
    assert {row["image"]: row["action"] for row in rows} == {
        MINIMAL: "up to date",
        XGBOOST: "up to date",
    }
    assert small_engine.ids([image_tag(XGBOOST)])[image_tag(XGBOOST)] == built
    assert has_passed(repository.root, built, "checks")
    tags = {tag for image in client.images.list() for tag in image.tags}
    assert f"{published}:latest" not in tags
    # What is there already is not pulled.
    assert run("pull", "--registry", "registry.invalid/x", "--parents", XGBOOST) == ""
    for name in (MINIMAL, XGBOOST):
        client.images.remove(image_tag(name))
    client.close()


def test_an_image_that_is_not_published_is_one_line(
    small_engine: Engine, repository: Repository, registry: str
) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "imagematrix", "pull", "--registry", f"{registry}/none", MINIMAL],
        cwd=repository.root,
        env={**os.environ, **small_engine.environ(), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode, result.stdout) == (1, "")
    wanted = f"there is no image {registry}/none/{MINIMAL}:latest"
    assert wanted in result.stderr.splitlines()[-1]
