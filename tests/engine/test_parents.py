"""A child is on its parent as it is: of what was rebuilt since, whatever has it in its cache.

In an engine of its own, with a small repository whose minimal image writes a file at another time
with each build, and the same content.
"""

import json
import subprocess
import sys

import pytest

from imagematrix.host.bases import BaseSource, ensure_bases
from imagematrix.host.engine import Engine, layers_of
from imagematrix.plan.bake import image_tag
from tests.engine.conftest import ROOT
from tests.unit.helpers import MINIMAL, XGBOOST, Repository, lock_text

SERVER = "base/server/app.py"
PINS = ("httptools==2.0", "numpy==2.1", "xgboost-cpu==3.4.1")
TEMPLATES = {
    "base/tools.Dockerfile.j2": "FROM scratch\nCOPY bin/ /\n",
    "base/system.Dockerfile.j2": (
        "FROM {{ suite.debian_image }} AS slimmed\n"
        "RUN touch /written\n"
        "FROM scratch\n"
        "COPY --from=slimmed /written /written\n"
    ),
    "base/Dockerfile.j2": "FROM system-{{ variant.suite }}\nUSER 1000:1000\n",
    "frameworks/Dockerfile.j2": (
        "ARG BASE_IMAGE={{ variant.parent }}\nFROM ${BASE_IMAGE}\n"
        "WORKDIR /opt/child\n"
        "COPY requirements.txt .\n"
    ),
}


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """The repository, both of whose images are built one after the other."""
    small = Repository.write(tmp_path_factory.mktemp("parents"))
    for path, text in TEMPLATES.items():
        small.put(path, text)
    small.render()
    return small


def run(engine: Engine, repository: Repository, *arguments: str) -> dict[str, tuple[str, str]]:
    """What a command says of each image: the outcome, and why."""
    result = subprocess.run(
        [sys.executable, "-m", "imagematrix", *arguments, "--json"],
        cwd=repository.root,
        env={**engine.environ(), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    rows = json.loads(result.stdout)
    if "action" in rows[0]:
        return {row["image"]: (row["action"], "; ".join(row["reasons"])) for row in rows}
    return {row["name"]: (row["outcome"], row["detail"]) for row in rows}


def layers(engine: Engine) -> dict[str, tuple[str, ...]]:
    """The layers of both images."""
    found = engine.inspect([image_tag(MINIMAL), image_tag(XGBOOST)])
    return {name: layers_of(found[image_tag(name)]) for name in (MINIMAL, XGBOOST)}


def is_on_parent(engine: Engine) -> bool:
    """Whether the child's lowest layers are those that the parent has now."""
    found = layers(engine)
    return found[XGBOOST][: len(found[MINIMAL])] == found[MINIMAL]


def test_a_child_follows_a_parent_that_was_rebuilt(
    small_engine: Engine, repository: Repository
) -> None:
    """With the same content at another time, after which nothing that is described differs."""
    run(small_engine, repository, "build", XGBOOST)
    before = layers(small_engine)
    assert is_on_parent(small_engine)

    run(small_engine, repository, "build", MINIMAL, "--force")
    assert layers(small_engine)[MINIMAL] != before[MINIMAL], "the same times: nothing is shown"
    rebuilt = ("build", f"its parent {MINIMAL} was rebuilt")
    assert run(small_engine, repository, "plan", XGBOOST) == {
        MINIMAL: ("up to date", ""),
        XGBOOST: rebuilt,
    }

    assert run(small_engine, repository, "build", XGBOOST)[XGBOOST] == ("built", rebuilt[1])
    assert is_on_parent(small_engine)
    assert run(small_engine, repository, "plan", XGBOOST)[XGBOOST] == ("up to date", "")


def test_a_child_that_is_rebuilt_with_its_parent_is_on_its_layers(
    small_engine: Engine, repository: Repository
) -> None:
    """Though BuildKit's cache has the child's first step on the layers of the build before."""
    run(small_engine, repository, "build", XGBOOST)
    run(small_engine, repository, "build", MINIMAL, "--force")
    repository.put(SERVER, "changed = True\n")
    lock = str(repository.variant(XGBOOST).lock)
    repository.put(lock, lock_text((*PINS, "six==1.17.0")))

    found = run(small_engine, repository, "build", XGBOOST)

    assert {outcome for outcome, _ in found.values()} == {"built"}
    assert is_on_parent(small_engine)
    assert {action for action, _ in run(small_engine, repository, "plan", XGBOOST).values()} == {
        "up to date"
    }


def test_a_base_has_one_identity_on_every_engine(
    engine: Engine, small_engine: Engine, repository: Repository
) -> None:
    """And a bootstrap base that is imported again, which has another ID, is the same base."""
    variants = [repository.variant(MINIMAL)]
    here = ensure_bases(engine, variants, BaseSource.AUTO)
    there = ensure_bases(small_engine, variants, BaseSource.AUTO)
    assert there.ids == here.ids

    image = next(iter(there.images.values()))
    before = small_engine.ids([image])
    subprocess.run(
        ["docker", "build", "--quiet", "--tag", image, "-"],
        env={**small_engine.environ(), "DOCKER_BUILDKIT": "1"},
        input=f"FROM {image}\nLABEL imported=again\n",
        text=True,
        check=True,
    )
    assert small_engine.ids([image]) != before
    assert ensure_bases(small_engine, variants, BaseSource.AUTO).ids == here.ids
