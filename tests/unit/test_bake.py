"""The bake file: one target per image that is built, and nothing of the host."""

import json
import re
from dataclasses import replace
from typing import Any

import pytest

from imagematrix.matrix.platforms import EPOCH
from imagematrix.matrix.schema import Suite
from imagematrix.matrix.selection import Selection, select
from imagematrix.plan.bake import TOOLS, BuildEnvironment, bake_file, target_name, targets_of
from imagematrix.plan.content import (
    INPUTS_LABEL,
    PYTHON_LABEL,
    REVISION_LABEL,
    SOURCE_LABEL,
    Content,
    decode_inputs,
)
from imagematrix.plan.plan import Action, Step
from imagematrix.repository.project import Project
from tests.unit.helpers import MINIMAL, PYTORCH, REPOSITORY, XGBOOST, Repository

SYSTEM, DEBIAN = "system-trixie", "debian:trixie-slim"
XGBOOST_TARGET = "xgboost3_4-py312-inference"
PYTORCH_TARGET = "pytorch2_0-py312-inference"
# The date of the configuration, the same for every image: 2020-01-01.
EPOCH_ARG = {"SOURCE_DATE_EPOCH": str(EPOCH)}


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


def all_targets(
    steps: tuple[Step, ...], environment: BuildEnvironment | None = None
) -> dict[str, Any]:
    file = bake_file(steps, environment or BuildEnvironment())
    assert file["group"] == {"default": {"targets": sorted(file["target"])}}
    found: dict[str, Any] = file["target"]
    return found


def targets(steps: tuple[Step, ...], environment: BuildEnvironment | None = None) -> dict[str, Any]:
    """Those of images."""
    found = all_targets(steps, environment)
    return {name: target for name, target in found.items() if "tags" in target}


def test_every_image_that_is_built_is_a_target_and_no_other(steps: tuple[Step, ...]) -> None:
    assert list(targets(steps)) == [MINIMAL, XGBOOST_TARGET, PYTORCH_TARGET]
    assert list(targets(acting(steps, minimal=Action.UP_TO_DATE, pytorch=Action.UNAVAILABLE))) == [
        XGBOOST_TARGET
    ]
    nothing = acting(
        steps, minimal=Action.UP_TO_DATE, pytorch=Action.UP_TO_DATE, xgboost=Action.UP_TO_DATE
    )
    assert all_targets(nothing) == {}


def test_images_that_lack_fixes_use_no_cache(steps: tuple[Step, ...]) -> None:
    """With the system image, whose packages come from Debian's mirror; the others use it."""

    def uncached(*frameworks: str) -> set[str]:
        stale = tuple(
            replace(step, no_cache=step.variant.framework in frameworks) for step in steps
        )
        found = all_targets(stale)
        assert all(target.get("no-cache", True) is True for target in found.values())
        return {name for name, target in found.items() if "no-cache" in target}

    assert uncached() == set()
    assert uncached("xgboost") == {XGBOOST_TARGET}
    assert uncached("minimal") == {MINIMAL, SYSTEM}


def test_a_target_says_all_that_its_build_needs(steps: tuple[Step, ...]) -> None:
    assert targets(steps)[XGBOOST_TARGET] == {
        "context": f"frameworks/xgboost/{XGBOOST}",
        "dockerfile": "Dockerfile",
        "contexts": {MINIMAL: f"target:{MINIMAL}", TOOLS: f"target:{TOOLS}"},
        "tags": [f"{XGBOOST}:latest"],
        "labels": {**steps[1].content.labels, SOURCE_LABEL: "", REVISION_LABEL: ""},
        "args": EPOCH_ARG,
        "secret": [],
        "attest": ["type=provenance,disabled=true"],
        "platforms": ["linux/amd64"],
        "output": ["type=docker"],
    }
    assert decode_inputs(targets(steps)[MINIMAL]["labels"][INPUTS_LABEL]) == {"a": MINIMAL}


def test_labels_of_the_build_are_those_of_the_image_itself(steps: tuple[Step, ...]) -> None:
    """A child is on its parent's CPython, and of a commit of its own."""
    environment = BuildEnvironment(
        python_versions={"python:3.12-slim-trixie": "3.12.9"},
        source="https://git.example/images",
        revision="c" * 40,
    )

    def labels(steps: tuple[Step, ...], environment: BuildEnvironment) -> list[dict[str, str]]:
        found = targets(steps, environment)
        contents = [step.content.labels for step in steps]
        own = [found[name]["labels"] for name in (MINIMAL, XGBOOST_TARGET)]
        return [
            {name: value for name, value in all_.items() if name not in content}
            for all_, content in zip(own, contents, strict=False)
        ]

    of_commit = {SOURCE_LABEL: "https://git.example/images", REVISION_LABEL: "c" * 40}
    assert labels(steps, environment) == [{**of_commit, PYTHON_LABEL: "3.12.9"}, of_commit]
    # Its parent may be an image of a commit.
    assert labels(steps, BuildEnvironment()) == [{}, {SOURCE_LABEL: "", REVISION_LABEL: ""}]


def test_a_root_has_the_folder_of_the_server_as_its_context(steps: tuple[Step, ...]) -> None:
    target = targets(steps)[MINIMAL]

    assert (target["context"], target["dockerfile"]) == ("base", f"{MINIMAL}/Dockerfile")
    assert target["contexts"] == {TOOLS: f"target:{TOOLS}", SYSTEM: f"target:{SYSTEM}"}


def test_a_parent_that_is_not_built_is_the_local_image(steps: tuple[Step, ...]) -> None:
    target = targets(acting(steps, minimal=Action.UP_TO_DATE))[XGBOOST_TARGET]

    assert target["contexts"][MINIMAL] == f"docker-image://{MINIMAL}:latest"


def test_bootstrap_bases_replace_base_images_where_they_are_used(steps: tuple[Step, ...]) -> None:
    sources = {DEBIAN: f"bootstrap/{DEBIAN}", "python:3.12-slim-trixie": "mirror/python:3.12"}

    contexts = {
        name: target["contexts"]
        for name, target in all_targets(steps, BuildEnvironment(base_sources=sources)).items()
    }

    debian = {DEBIAN: f"docker-image://bootstrap/{DEBIAN}"}
    assert contexts[TOOLS] == debian
    assert contexts[SYSTEM] == debian
    assert contexts[MINIMAL]["python:3.12-slim-trixie"] == "docker-image://mirror/python:3.12"
    assert DEBIAN not in contexts[MINIMAL].keys() | contexts[XGBOOST_TARGET].keys()


def test_the_tools_and_the_system_are_made_once_and_are_no_images(
    steps: tuple[Step, ...],
) -> None:
    secret = "id=ca-bundle,src=/ca.crt"
    sources = "id=apt-sources,env=TRIXIE"
    environment = BuildEnvironment(
        secrets=(secret,), suite_secrets={Suite.TRIXIE: (sources,), Suite.BOOKWORM: ("id=other",)}
    )
    common = {
        "args": EPOCH_ARG,
        "secret": [secret, sources],
        "attest": ["type=provenance,disabled=true"],
        "platforms": ["linux/amd64"],
        "output": ["type=cacheonly"],
    }

    found = all_targets(steps, environment)

    assert found[TOOLS] == {**common, "context": "base/tools", "contexts": {}}
    assert found[SYSTEM] == {
        **common,
        "context": "base",
        "dockerfile": f"{SYSTEM}/Dockerfile",
        "contexts": {},
    }
    # Only images without a parent start from the system.
    assert SYSTEM not in all_targets(acting(steps, minimal=Action.UP_TO_DATE), environment)


def test_each_debian_release_has_its_own_system(steps: tuple[Step, ...]) -> None:
    minimal = replace(steps[0].variant, name="old", suite=Suite.BOOKWORM)
    of_two = (*steps, replace(steps[0], variant=minimal))

    found = all_targets(of_two)

    assert found["old"]["contexts"] == {
        TOOLS: f"target:{TOOLS}",
        "system-bookworm": "target:system-bookworm",
    }
    assert {SYSTEM, "system-bookworm", TOOLS} < found.keys()


def test_a_target_is_for_all_images_that_cannot_be_built_without_it(
    steps: tuple[Step, ...],
) -> None:
    assert targets_of(steps) == {
        MINIMAL: (MINIMAL,),
        XGBOOST_TARGET: (XGBOOST,),
        PYTORCH_TARGET: (PYTORCH,),
        TOOLS: (MINIMAL, XGBOOST, PYTORCH),
        SYSTEM: (MINIMAL,),
    }
    assert targets_of(steps).keys() == all_targets(steps).keys()


def test_files_have_the_date_of_the_configuration() -> None:
    programs = (REPOSITORY / "base" / "tools" / "bin").iterdir()
    dates = [date for path in programs for date in re.findall(r"\d{10}", path.read_text())]
    assert set(dates) == {str(EPOCH)}


def test_the_committed_file_builds_every_image_and_names_nothing_of_a_host() -> None:
    definition = json.loads((REPOSITORY / "docker-bake.json").read_text())
    variants = Project(REPOSITORY).variants

    for variant in variants:
        target = definition["target"][target_name(variant.name)]
        assert (REPOSITORY / target["context"] / target["dockerfile"]).is_file()
        for context in target["contexts"].values():
            assert context.removeprefix("target:") in definition["target"]
        assert not target["secret"]
        assert "labels" not in target
    default = {target_name(variant.name) for variant in select(variants, Selection())}
    assert set(definition["group"]["default"]["targets"]) == default


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
        proxies = {"https_proxy": "${https_proxy}", "NO_PROXY": "${NO_PROXY}"}
        assert target["args"] == {**EPOCH_ARG, **proxies}


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

    def contexts(names_bases: bool) -> set[str]:
        environment = BuildEnvironment(base_sources=sources, names_bases=names_bases)
        found = all_targets(steps, environment).values()
        return {context for target in found for context in target["contexts"].values()}

    given = {f"docker-image://{name}" for name in sources}
    assert contexts(names_bases=True) >= given
    assert not contexts(names_bases=False) & given
