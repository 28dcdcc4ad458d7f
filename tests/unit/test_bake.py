"""The bake file: one target per image that is built, and nothing of the host."""

import json
from dataclasses import replace
from typing import Any

import pytest

from imagematrix.build.bake import BuildEnvironment, bake_file, target_images, target_name
from imagematrix.matrix.schema import Suite
from imagematrix.matrix.variant import Trim
from imagematrix.plan.content import INPUTS_LABEL, Content, decode_inputs
from imagematrix.plan.plan import Action, Step
from tests.unit.helpers import MINIMAL, PYTORCH, REPOSITORY, XGBOOST, Repository

XGBOOST_TARGET = "xgboost3_4-py312-inference"
PYTORCH_TARGET = "pytorch2_0-py312-inference"


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
    return {name: target for name, target in found.items() if "target" not in target}


def stages(steps: tuple[Step, ...], environment: BuildEnvironment | None = None) -> dict[str, Any]:
    file = bake_file(steps, environment or BuildEnvironment())
    return {name: target for name, target in file["target"].items() if "target" in target}


def test_every_image_that_is_built_is_a_target_and_no_other(steps: tuple[Step, ...]) -> None:
    assert list(targets(steps)) == [MINIMAL, XGBOOST_TARGET, PYTORCH_TARGET]
    assert list(targets(acting(steps, minimal=Action.FRESH, pytorch=Action.UNAVAILABLE))) == [
        XGBOOST_TARGET
    ]
    nothing = acting(steps, minimal=Action.FRESH, pytorch=Action.FRESH, xgboost=Action.FRESH)
    assert targets(nothing) == stages(nothing) == {}


def test_a_target_says_all_that_its_build_needs(steps: tuple[Step, ...]) -> None:
    assert targets(steps)[XGBOOST_TARGET] == {
        "context": f"frameworks/xgboost/{XGBOOST}",
        "dockerfile": "Dockerfile",
        "contexts": {MINIMAL: f"target:{MINIMAL}", "installer": f"target:{MINIMAL}-installer"},
        "tags": [f"{XGBOOST}:latest"],
        "labels": steps[1].content.labels,
        "args": {},
        "secret": [],
        "attest": ["type=provenance,disabled=true"],
        "platforms": ["linux/amd64"],
        "output": ["type=docker"],
    }
    assert decode_inputs(targets(steps)[MINIMAL]["labels"][INPUTS_LABEL]) == {"a": MINIMAL}


def test_a_root_has_the_folder_of_the_server_as_its_context(steps: tuple[Step, ...]) -> None:
    target = targets(steps)[MINIMAL]

    assert (target["context"], target["dockerfile"]) == ("base", f"{MINIMAL}/Dockerfile")
    assert target["contexts"] == {"installer": f"target:{MINIMAL}-installer"}


def test_a_parent_that_is_not_built_is_the_local_image(steps: tuple[Step, ...]) -> None:
    target = targets(acting(steps, minimal=Action.FRESH))[XGBOOST_TARGET]

    assert target["contexts"][MINIMAL] == f"docker-image://{MINIMAL}:latest"


def test_stand_ins_take_the_place_of_base_images(steps: tuple[Step, ...]) -> None:
    sources = {
        "debian:trixie-slim": "bootstrap/debian:trixie-slim",
        "python:3.12-slim-trixie": "python:3.12-slim-trixie",
    }

    built = targets(steps, BuildEnvironment(base_sources=sources))

    assert built[MINIMAL]["contexts"] == {
        "debian:trixie-slim": "docker-image://bootstrap/debian:trixie-slim",
        "installer": f"target:{MINIMAL}-installer",
    }
    assert "debian:trixie-slim" not in built[XGBOOST_TARGET]["contexts"]


def stripping(steps: tuple[Step, ...], *frameworks: str) -> tuple[Step, ...]:
    """The steps, where libraries of those frameworks are stripped."""
    strip = (Trim("symbols", "x/*.so"),)
    return tuple(
        replace(step, variant=replace(step.variant, strip=strip))
        if step.variant.framework in frameworks
        else step
        for step in steps
    )


def test_the_installer_is_made_once_from_the_first_image_of_the_run(
    steps: tuple[Step, ...],
) -> None:
    environment = BuildEnvironment(secrets=("id=ca-bundle,src=/ca.crt",))

    assert stages(steps, environment) == {
        f"{MINIMAL}-installer": {
            "context": "base",
            "dockerfile": f"{MINIMAL}/Dockerfile",
            "contexts": {},
            "target": "installer",
            "args": {},
            "secret": ["id=ca-bundle,src=/ca.crt"],
            "attest": ["type=provenance,disabled=true"],
            "platforms": ["linux/amd64"],
            "output": ["type=cacheonly"],
        }
    }
    without_minimal = acting(steps, minimal=Action.FRESH)
    assert list(stages(without_minimal)) == [f"{XGBOOST_TARGET}-installer"]
    for target in targets(without_minimal).values():
        assert target["contexts"]["installer"] == f"target:{XGBOOST_TARGET}-installer"


def test_the_program_that_strips_is_made_once_and_waits_for_no_parent(
    steps: tuple[Step, ...],
) -> None:
    sources = {"debian:trixie-slim": "bootstrap/debian:trixie-slim"}
    both = stripping(steps, "xgboost", "pytorch")

    made = stages(both, BuildEnvironment(base_sources=sources, proxies=("https_proxy",)))

    binutils = made[f"{XGBOOST_TARGET}-binutils"]
    assert len(made) == 2
    assert binutils["contexts"] == {
        "debian:trixie-slim": "docker-image://bootstrap/debian:trixie-slim"
    }
    assert binutils["args"] == {
        "https_proxy": "${https_proxy}", "BASE_IMAGE": "debian:trixie-slim"
    }  # fmt: skip
    built = targets(both)
    assert "binutils" not in built[MINIMAL]["contexts"]
    for name in (XGBOOST_TARGET, PYTORCH_TARGET):
        assert built[name]["contexts"]["binutils"] == f"target:{XGBOOST_TARGET}-binutils"


def test_images_of_two_debian_releases_share_no_stage(steps: tuple[Step, ...]) -> None:
    of_two = tuple(
        replace(step, variant=replace(step.variant, suite=Suite.BOOKWORM))
        if step.variant.framework == "pytorch"
        else step
        for step in stripping(steps, "xgboost", "pytorch")
    )

    assert list(stages(of_two)) == [
        f"{MINIMAL}-installer",
        f"{XGBOOST_TARGET}-binutils",
        f"{PYTORCH_TARGET}-binutils",
    ]
    assert "installer" not in targets(of_two)[PYTORCH_TARGET]["contexts"]


def test_targets_are_told_of_images(steps: tuple[Step, ...]) -> None:
    both = stripping(steps, "pytorch")
    own = {MINIMAL: MINIMAL, XGBOOST_TARGET: XGBOOST, PYTORCH_TARGET: PYTORCH}
    binutils = {f"{PYTORCH_TARGET}-binutils": PYTORCH}

    assert target_images(both) == {**own, f"{MINIMAL}-installer": MINIMAL, **binutils}
    assert target_images(both, share=False) == {**own, **binutils}


def test_what_one_image_alone_needs_is_made_in_its_own_build(steps: tuple[Step, ...]) -> None:
    alone = acting(steps, minimal=Action.FRESH, pytorch=Action.FRESH)

    assert stages(alone) == {}
    assert "installer" not in targets(alone)[XGBOOST_TARGET]["contexts"]


def test_unless_it_is_to_be_no_image_is_given_a_stage_of_another(steps: tuple[Step, ...]) -> None:
    file = bake_file(steps, BuildEnvironment(), share=False)

    assert file["target"].keys() == {MINIMAL, XGBOOST_TARGET, PYTORCH_TARGET}
    assert not any("installer" in target["contexts"] for target in file["target"].values())


def test_secrets_and_wheels_go_to_the_images_that_they_are_for(steps: tuple[Step, ...]) -> None:
    environment = BuildEnvironment(
        secrets=("id=ca-bundle,src=/ca.crt",),
        image_secrets={PYTORCH: ("id=uv-config,env=UV",)},
        wheel_folders={PYTORCH: f"build/wheels/{PYTORCH}"},
        uncompressed=True,
    )

    built = targets(steps, environment)
    pytorch, xgboost = built[PYTORCH_TARGET], built[XGBOOST_TARGET]

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
    for target in targets(steps, BuildEnvironment(proxies=("https_proxy", "NO_PROXY"))).values():
        assert target["args"] == {"https_proxy": "${https_proxy}", "NO_PROXY": "${NO_PROXY}"}


def test_the_name_of_a_target_has_no_dot() -> None:
    assert target_name("pytorch2.13-py3.7-inference-cpu") == "pytorch2_13-py3_7-inference-cpu"


def test_the_cache_of_each_image_has_a_place_of_its_own(steps: tuple[Step, ...]) -> None:
    environment = BuildEnvironment(cache_from="r.example/old", cache_to="r.example/new")

    target = targets(steps, environment)[XGBOOST_TARGET]

    place = f"type=registry,ref=r.example/{{}}/{XGBOOST}:buildcache"
    assert target["cache-from"] == [place.format("old")]
    assert target["cache-to"] == [f"{place.format('new')},mode=max"]
    assert not {"cache-from", "cache-to"} & targets(steps)[XGBOOST_TARGET].keys()


def test_a_builder_without_images_is_given_official_bases_too(steps: tuple[Step, ...]) -> None:
    """What it would pull by itself may be newer than what the keys are of."""
    sources = {name: name for name in ("debian:trixie-slim", "python:3.12-slim-trixie")}

    built = targets(steps, BuildEnvironment(base_sources=sources, names_bases=True))

    given = {name: f"docker-image://{name}" for name in sources}
    assert built[MINIMAL]["contexts"].items() >= given.items()
    usual = targets(steps, BuildEnvironment(base_sources=sources))[MINIMAL]["contexts"]
    assert not usual.keys() & sources.keys()
