"""Two builds of an image are the same, or it is said where they are not.

In an engine of its own, with a small repository whose images differ by as much as a test wants.
"""

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from imagematrix.host.engine import Engine
from tests.engine.conftest import ROOT
from tests.unit.helpers import MINIMAL, XGBOOST, Repository

# All that Docker's own steps write has one time here; what the checkout gives keeps its own.
SYSTEM = """\
FROM {{ suite.debian_image }} AS written
RUN mkdir /tree /tree/server && cp /etc/debian_version /tree/ && RANDOM_STEP
COPY server /checkout
RUN cp /checkout/*.py /tree/server/ && chmod -R u=rwX,go=rX /tree \\
 && find /tree -exec touch --no-dereference --date @1577836800 {} +
FROM scratch
COPY --from=written /tree/ /
"""
TEMPLATES = {
    "base/tools.Dockerfile.j2": "FROM scratch\nCOPY bin/ /\n",
    "base/system.Dockerfile.j2": SYSTEM.replace("RANDOM_STEP", "true"),
    "base/Dockerfile.j2": "FROM system-{{ variant.suite }}\nUSER 1000:1000\n",
    "frameworks/Dockerfile.j2": (
        "ARG BASE_IMAGE={{ variant.parent }}\nFROM ${BASE_IMAGE}\nCOPY requirements.txt /\n"
    ),
}


@pytest.fixture
def repository(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """The repository; its images come out the same."""
    small = Repository.write(tmp_path_factory.mktemp("reproduce"))
    for path, text in TEMPLATES.items():
        small.put(path, text)
    small.render()
    return small


def reproduce(engine: Engine, repository: Repository, *arguments: str) -> tuple[int, Any, str]:
    """Exit status, what it prints as JSON for each image, and what it says meanwhile."""
    result = subprocess.run(
        [sys.executable, "-m", "imagematrix", "reproduce", *arguments, "--json"],
        cwd=repository.root,
        env={**os.environ, **engine.environ(), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.stdout, result.stderr[-3000:]
    return result.returncode, json.loads(result.stdout), result.stderr


def test_reproducible_image_is_reported_as_the_same(
    small_engine: Engine, repository: Repository
) -> None:
    """From two checkouts; the images of the user are left as they are, and none is added."""
    client = small_engine.client()
    before = {tag for image in client.images.list() for tag in image.tags}

    status, rows, said = reproduce(small_engine, repository, MINIMAL)

    after = {tag for image in client.images.list() for tag in image.tags}
    client.close()
    assert (status, [row["same"] for row in rows]) == (0, [True]), said[-3000:]
    assert len(set(rows[0]["digests"])) == 1
    assert "umask 0077" in said
    assert before == after


def test_differences_are_reported_by_layer_and_path(
    small_engine: Engine, repository: Repository
) -> None:
    """In the minimal image what a step makes of the clock; in its child what the checkout gives."""
    random = "date +%N > /tree/clock && mkdir /tree/$(date +%N)"
    repository.put("base/system.Dockerfile.j2", SYSTEM.replace("RANDOM_STEP", random))
    repository.render()

    status, rows, said = reproduce(small_engine, repository, MINIMAL, XGBOOST)

    assert status == 1, said[-3000:]
    differences = {row["image"]: row["differences"] for row in rows}
    clock = [one for one in differences[MINIMAL] if one["path"] == "/clock"]
    assert {(one["layer"], one["what"]) for one in clock} >= {(1, "sha256")}
    folders = [one for one in differences[MINIMAL] if one["path"] not in ("/clock", "")]
    assert {(one["first"], one["second"]) for one in folders} == {
        ("folder", "missing"),
        ("missing", "folder"),
    }
    child = {(one["layer"], one["path"], one["what"]) for one in differences[XGBOOST]}
    assert child == {(2, "/requirements.txt", "mode"), (2, "/requirements.txt", "mtime")}


def test_two_images_are_compared_however_they_are_layered(
    small_engine: Engine, repository: Repository
) -> None:
    """Their trees and their settings; neither times nor the number of layers."""
    files = {
        "one": "FROM scratch\nCOPY base/server /a\nCOPY matrix.yaml /a/\nENV A=1",
        "same": "FROM scratch\nCOPY base/server matrix.yaml /a/\nENV A=1",
        "other": "FROM scratch\nCOPY base/server /a\nENV A=2",
    }
    for name, text in files.items():
        command = ["docker", "build", "--quiet", "--tag", f"compared:{name}", "--file", "-"]
        environ = {**os.environ, **small_engine.environ(), "DOCKER_BUILDKIT": "1"}
        subprocess.run(
            [*command, "."], cwd=repository.root, env=environ, input=text, text=True, check=True
        )
    compare = ("--compare", "compared:one")
    assert reproduce(small_engine, repository, *compare, "compared:same")[0] == 0
    status, row, _ = reproduce(small_engine, repository, *compare, "compared:other")
    assert status == 1
    assert {(one["path"], one["what"]) for one in row["differences"]} == {
        ("/a/matrix.yaml", "type"),
        ("", "Env"),
    }
