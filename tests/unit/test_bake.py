"""The bake file: one target per image that is built, and nothing of the host."""

import json
from dataclasses import replace
from typing import Any

import pytest

from imagematrix.bake import BuildEnvironment, bake_file, target_name
from imagematrix.keys import INPUTS_LABEL, Content, decode_inputs
from imagematrix.plan import Action, Step
from tests.unit.helpers import MINIMAL, PYTORCH, REPOSITORY, XGBOOST, Repository

XGBOOST_TARGET = "xgboost3_4-py312-inference"


@pytest.fixture
def steps(repository: Repository) -> tuple[Step, ...]:
    """Every image, to be built."""
    return tuple(
        Step(variant, Action.BUILD, ("no such image yet",), Content({"a": variant.name}))
        for variant in repository.project.variants
    )


def acting(steps: tuple[Step, ...], **actions: Action) -> tuple[Step, ...]:
    """The steps with other actions, by framework."""
    return tuple(
        replace(step, action=actions.get(step.variant.framework, step.action)) for step in steps
    )


def targets(steps: tuple[Step, ...], environment: BuildEnvironment | None = None) -> dict[str, Any]:
    file = bake_file(steps, environment or BuildEnvironment())
    assert file["group"] == {"default": {"targets": sorted(file["target"])}}
    found: dict[str, Any] = file["target"]
    return found


def test_every_image_that_is_built_is_a_target_and_no_other(steps: tuple[Step, ...]) -> None:
    assert list(targets(steps)) == [MINIMAL, XGBOOST_TARGET, "pytorch2_0-py312-inference"]
    assert list(targets(acting(steps, minimal=Action.FRESH, pytorch=Action.UNAVAILABLE))) == [
        XGBOOST_TARGET
    ]
    assert (
        targets(acting(steps, minimal=Action.FRESH, pytorch=Action.FRESH, xgboost=Action.FRESH))
        == {}
    )


def test_a_target_says_all_that_its_build_needs(steps: tuple[Step, ...]) -> None:
    assert targets(steps)[XGBOOST_TARGET] == {
        "context": f"frameworks/xgboost/{XGBOOST}",
        "dockerfile": "Dockerfile",
        "contexts": {MINIMAL: f"target:{MINIMAL}"},
        "tags": [f"{XGBOOST}:latest"],
        "labels": steps[1].content.labels,
        "args": {},
        "secret": [],
        "attest": ["type=provenance,disabled=true"],
        "output": ["type=docker"],
    }
    assert decode_inputs(targets(steps)[MINIMAL]["labels"][INPUTS_LABEL]) == {"a": MINIMAL}


def test_a_root_has_the_folder_of_the_server_as_its_context(steps: tuple[Step, ...]) -> None:
    target = targets(steps)[MINIMAL]

    assert (target["context"], target["dockerfile"]) == ("base", f"{MINIMAL}/Dockerfile")
    assert target["contexts"] == {}


def test_a_parent_that_is_not_built_is_the_local_image(steps: tuple[Step, ...]) -> None:
    target = targets(acting(steps, minimal=Action.FRESH))[XGBOOST_TARGET]

    assert target["contexts"] == {MINIMAL: f"docker-image://{MINIMAL}:latest"}


def test_stand_ins_take_the_place_of_base_images(steps: tuple[Step, ...]) -> None:
    sources = {
        "debian:trixie-slim": "bootstrap/debian:trixie-slim",
        "python:3.12-slim-trixie": "python:3.12-slim-trixie",
    }

    built = targets(steps, BuildEnvironment(base_sources=sources))

    assert built[MINIMAL]["contexts"] == {
        "debian:trixie-slim": "docker-image://bootstrap/debian:trixie-slim"
    }
    assert built[XGBOOST_TARGET]["contexts"] == {MINIMAL: f"target:{MINIMAL}"}


def test_secrets_and_wheels_go_to_the_images_that_they_are_for(steps: tuple[Step, ...]) -> None:
    environment = BuildEnvironment(
        secrets=("id=ca-bundle,src=/ca.crt",),
        image_secrets={PYTORCH: ("id=uv-config,env=UV",)},
        wheel_folders={PYTORCH: f"build/wheels/{PYTORCH}"},
        uncompressed=True,
    )

    built = targets(steps, environment)
    pytorch, xgboost = built["pytorch2_0-py312-inference"], built[XGBOOST_TARGET]

    assert pytorch["secret"] == ["id=ca-bundle,src=/ca.crt", "id=uv-config,env=UV"]
    assert pytorch["contexts"]["wheels"] == f"build/wheels/{PYTORCH}"
    assert pytorch["output"] == ["type=docker,compression=uncompressed"]
    assert xgboost["secret"] == ["id=ca-bundle,src=/ca.crt"]
    assert "wheels" not in xgboost["contexts"]


def test_nothing_of_the_host_is_in_a_file_for_anybody(
    steps: tuple[Step, ...], repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("https_proxy", "http://user:word@proxy.example")

    text = json.dumps(bake_file(steps, BuildEnvironment()))

    assert str(repository.root) not in text
    assert str(REPOSITORY) not in text
    assert "proxy" not in text


def test_proxies_are_taken_from_the_environment_by_name(steps: tuple[Step, ...]) -> None:
    assert "variable" not in bake_file(steps, BuildEnvironment())

    file = bake_file(steps, BuildEnvironment(proxies=("https_proxy", "NO_PROXY")))

    assert file["variable"] == {"https_proxy": {"default": ""}, "NO_PROXY": {"default": ""}}
    for target in file["target"].values():
        assert target["args"] == {"https_proxy": "${https_proxy}", "NO_PROXY": "${NO_PROXY}"}


def test_the_name_of_a_target_has_no_dot() -> None:
    assert target_name("pytorch2.13-py3.7-inference-cpu") == "pytorch2_13-py3_7-inference-cpu"
