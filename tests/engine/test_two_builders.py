"""Two BuildKits that build the images of one matrix together, and one of them killed.

They are those of two engines, each behind a socket of its own. What they make comes into the engine
of this host, with tags of these tests.
"""

import json
import os
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from imagematrix.build.run import present_images
from imagematrix.host.engine import Engine, layers_of
from imagematrix.plan.bake import image_tag
from imagematrix.plan.content import KEY_LABEL
from tests.engine.engines import OwnEngine, fresh_engine
from tests.engine.forwarding import buildkit
from tests.engine.small_project import (
    GOOD,
    OTHER,
    PARENT,
    SLOW,
    command_of,
    environ_of,
    run_in,
    small_project,
)

# The builder, and its tag of the images: two builds of one tag would each replace the other's.
TAG = "two-builders-{}"
# Each with the image that it builds in the first test.
SELECTIONS = {"near": GOOD, "far": OTHER}
IMAGES = (PARENT, GOOD, OTHER, SLOW)


@dataclass(frozen=True)
class Node:
    """A builder: its engine, and a clone for what it builds."""

    engine: OwnEngine
    clone: Path


@pytest.fixture(scope="module")
def nodes(
    engine: Engine, second_engine: OwnEngine, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Node]]:
    """Two builders of one clone each, by their names."""
    folder = tmp_path_factory.mktemp("builders")
    with ExitStack() as stack:
        stack.enter_context(patch.dict(os.environ, {"BUILDX_CONFIG": str(folder)}))
        found = {}
        for name, own in {
            "near": second_engine,
            "far": stack.enter_context(fresh_engine()),
        }.items():
            address = stack.enter_context(buildkit(own.engine, folder / f"{name}.sock"))
            create = ["docker", "buildx", "create", "--name", name, "--driver", "remote", address]
            subprocess.run(create, check=True, capture_output=True)
            clone = tmp_path_factory.mktemp(name)
            small_project(clone)
            found[name] = Node(own, clone)
        try:
            yield found
        finally:
            _remove(engine)


def _remove(engine: Engine) -> None:
    tags = [image_tag(i, TAG.format(n)) for n in SELECTIONS for i in IMAGES]
    client = engine.client()
    for tag, description in engine.inspect(tags).items():
        if description:
            client.images.remove(tag, force=True)
    client.close()


def _build(name: str, node: Node, image: str) -> "subprocess.Popen[str]":
    """A build that runs, on one of the builders."""
    command = command_of("build", image, "--builder", name, "--tag", TAG.format(name))
    with (node.clone / "log").open("w") as log:
        return subprocess.Popen(
            [*command, "--json"],
            cwd=node.clone,
            env=environ_of(),
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )


def _outcomes(process: "subprocess.Popen[str]", node: Node) -> dict[str, str]:
    """What became of the images of a build that ends well."""
    output, _ = process.communicate()
    assert process.returncode == 0, (node.clone / "log").read_text()[-3000:]
    return {row["name"]: row["outcome"] for row in json.loads(output)}


def _present(engine: Engine, name: str) -> Mapping[str, Mapping[str, Any]]:
    return present_images(engine, IMAGES, TAG.format(name))


def _wait_for_the_slow_step(process: "subprocess.Popen[str]", node: Node) -> None:
    log = node.clone / "log"
    deadline = time.monotonic() + 300
    while "RUN sleep 30" not in log.read_text():
        assert process.poll() is None, log.read_text()[-3000:]
        assert time.monotonic() < deadline, "the slow step did not begin"
        time.sleep(0.2)


def test_two_builders_build_the_matrix_together(nodes: dict[str, Node], engine: Engine) -> None:
    """Both make the parent, with the same layers, and all keys are those of the plan."""
    _remove(engine)
    begun = {name: _build(name, node, SELECTIONS[name]) for name, node in nodes.items()}
    for name, process in begun.items():
        assert _outcomes(process, nodes[name]) == {PARENT: "built", SELECTIONS[name]: "built"}
    images = {name: _present(engine, name) for name in nodes}
    near, far = (layers_of(images[name][PARENT]) for name in nodes)
    assert near == far
    plan = json.loads(run_in(nodes["near"].clone, "plan", *IMAGES, "--json").stdout)
    keys = {row["image"]: row["key"] for row in plan}
    for name, image in SELECTIONS.items():
        made = {made: row["Config"]["Labels"][KEY_LABEL] for made, row in images[name].items()}
        assert made == {made: keys[made] for made in (PARENT, image)}


def test_a_killed_builder_is_named_and_the_repeat_finishes(
    nodes: dict[str, Node], engine: Engine
) -> None:
    """What was in the making on it gets no tag; the other builder's build ends well."""
    _remove(engine)
    # The builders have the parent from before; the slow image is the same for both.
    begun = {name: _build(name, node, SLOW) for name, node in nodes.items()}
    for name, node in nodes.items():
        _wait_for_the_slow_step(begun[name], node)
    far = nodes["far"]
    log = far.clone / "log"
    far.engine.crash()
    try:
        begun["far"].communicate(timeout=60)
        said = log.read_text()
        assert begun["far"].returncode == 1, said[-3000:]
        assert "the builder far " in said.splitlines()[-1], said[-3000:]
        assert "Traceback" not in said
        # The parent may have been finished before.
        assert SLOW not in _present(engine, "far")
        assert _outcomes(begun["near"], nodes["near"])[SLOW] == "built"
    finally:
        far.engine.start()
    outcomes = _outcomes(_build("far", far, SLOW), far)
    assert outcomes[SLOW] == "built"
    assert layers_of(_present(engine, "far")[PARENT]) == layers_of(_present(engine, "near")[PARENT])
