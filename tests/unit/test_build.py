"""Building a plan: what is tried again after a failure, and who is blamed for it."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from imagematrix.build import run as build
from imagematrix.build.progress import BuildLog
from imagematrix.build.results import Outcome
from imagematrix.build.run import run_build
from imagematrix.errors import WorkError
from imagematrix.host.buildx import Builder
from imagematrix.host.engine import Engine
from imagematrix.plan.bake import TOOLS, BuildEnvironment
from imagematrix.plan.content import Content
from imagematrix.plan.plan import Action, Step
from tests.unit.helpers import MINIMAL, PYTORCH, XGBOOST, Repository

ENGINE = SimpleNamespace(inspect=lambda _images: {})
# What BuildKit says of a run, given its bake file and its options, and how the run ends.
BuildKit = Callable[[Mapping[str, Any], Sequence[str]], tuple[int, str]]


@pytest.fixture
def steps(repository: Repository) -> tuple[Step, ...]:
    """Every image, to be built."""
    return tuple(
        Step(variant, Action.BUILD, (), Content({"a": variant.name}))
        for variant in repository.project.variants
    )


def outcomes(
    steps: tuple[Step, ...],
    buildkit: BuildKit,
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    no_cache: bool = False,
    engine: object = ENGINE,
) -> dict[str, tuple[Outcome, str]]:
    """What becomes of each image, with BuildKit's part played by `buildkit`."""

    def bake(
        _root: Path,
        _engine: Engine,
        _builder: Builder,
        definition: Mapping[str, Any],
        options: Sequence[str],
        _variables: Mapping[str, str],
        progress: BuildLog,
        _log: object,
    ) -> int:
        status, output = buildkit(definition, options)
        for line in output.splitlines():
            progress.feed(line)
        return status

    monkeypatch.setattr(build, "bake", bake)
    results = run_build(
        root,
        cast("Engine", engine),
        Builder(),
        steps,
        BuildEnvironment(),
        {},
        {},
        no_cache=no_cache,
    )
    return {result.name: (result.outcome, result.detail) for result in results}


@pytest.mark.parametrize(
    ("target", "failed"),
    [(TOOLS, {MINIMAL, XGBOOST, PYTORCH}), ("system-trixie", {MINIMAL, XGBOOST, PYTORCH})],
)
def test_what_images_share_fails_all_that_need_it(
    target: str,
    failed: set[str],
    steps: tuple[Step, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def buildkit(definition: Mapping[str, Any], _options: Sequence[str]) -> tuple[int, str]:
        if target in definition["target"]:
            return 1, f"#7 [{target} 1/1] RUN apt\n#7 ERROR: no network"
        return 0, ""

    found = outcomes(steps, buildkit, tmp_path, monkeypatch)

    assert {name for name, (outcome, _) in found.items() if outcome == Outcome.FAILED} == failed
    assert "no network" in found[MINIMAL][1]


def test_an_image_that_fails_does_not_stop_the_others(
    steps: tuple[Step, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def buildkit(definition: Mapping[str, Any], _options: Sequence[str]) -> tuple[int, str]:
        name = "pytorch2_0-py312-inference"
        if name in definition["target"]:
            return 1, f"#9 [{name} stage-2 1/2] RUN uv\n#9 ERROR: hash mismatch"
        return 0, ""

    found = outcomes(steps, buildkit, tmp_path, monkeypatch)

    assert found[MINIMAL][0] == found[XGBOOST][0] == Outcome.BUILT
    outcome, detail = found[PYTORCH]
    assert outcome == Outcome.FAILED
    assert detail.startswith("RUN failed: hash mismatch; the whole log: ")


def test_children_of_an_image_that_fails_are_not_tried(
    steps: tuple[Step, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def buildkit(_definition: Mapping[str, Any], _options: Sequence[str]) -> tuple[int, str]:
        return 1, f"#9 [{MINIMAL} system 1/5] RUN apt-get\n#9 ERROR: no mirror"

    found = outcomes(steps, buildkit, tmp_path, monkeypatch)

    assert {outcome for outcome, _ in found.values()} == {Outcome.FAILED}
    assert found[XGBOOST][1] == f"its parent {MINIMAL} failed"


@pytest.mark.parametrize(
    "error",
    [
        "failed to receive status: rpc error: code = Unavailable desc = error reading from server",
        "failed to solve: rpc error: code = Unavailable desc = closing transport",
    ],
)
def test_a_builder_that_is_gone_is_named_and_not_tried_again(
    error: str, steps: tuple[Step, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own error is reported, not that of another attempt to reach it."""
    runs = []

    def buildkit(_definition: Mapping[str, Any], _options: Sequence[str]) -> tuple[int, str]:
        runs.append(1)
        return 1, f"#9 [{MINIMAL} 1/2] RUN something\nERROR: {error}"

    with pytest.raises(WorkError, match=r"the connection to the engine broke \(.*Unavailable"):
        outcomes(steps, buildkit, tmp_path, monkeypatch)
    assert len(runs) == 1


@pytest.mark.parametrize(("no_cache", "options"), [(True, ["--no-cache"]), (False, [])])
def test_cache_is_used_unless_images_are_forced(
    steps: tuple[Step, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    no_cache: bool,
    options: list[str],
) -> None:
    """After a failure, too: the cache may hold steps that the failed run did not reach."""
    given: list[Sequence[str]] = []

    def buildkit(_definition: Mapping[str, Any], options: Sequence[str]) -> tuple[int, str]:
        given.append(options)
        return (1, "") if len(given) == 1 else (0, "")

    outcomes(steps, buildkit, tmp_path, monkeypatch, no_cache=no_cache)

    assert given == [options] * 3


def engine_with(layers: Mapping[str, Sequence[str]]) -> object:
    """An engine with images of these layers."""

    def inspect(images: Iterable[str]) -> dict[str, Any]:
        return {
            image: {"Size": 1, "Config": {}, "RootFS": {"Layers": layers[name]}}
            for image in images
            if (name := image.removesuffix(":latest")) in layers
        }

    return SimpleNamespace(inspect=inspect)


@pytest.mark.parametrize(("second", "outcome"), [("new", Outcome.BUILT), ("old", Outcome.FAILED)])
def test_child_on_older_layers_of_its_parent_is_built_again_on_its_image(
    steps: tuple[Step, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    second: str,
    outcome: Outcome,
) -> None:
    """BuildKit's cache finds it where a parent was rebuilt with the same content."""
    layers = {MINIMAL: ["new"], XGBOOST: ["old", "x"], PYTORCH: ["new", "p"]}
    parents: list[dict[str, str]] = []

    def buildkit(definition: Mapping[str, Any], _options: Sequence[str]) -> tuple[int, str]:
        targets = definition["target"]
        if parents:
            layers[XGBOOST] = [second, "x"]
        parents.append(
            {name: contexts[MINIMAL] for name in targets
             if MINIMAL in (contexts := targets[name]["contexts"])}
        )  # fmt: skip
        return 0, ""

    found = outcomes(steps, buildkit, tmp_path, monkeypatch, engine=engine_with(layers))

    first, again = parents
    assert set(first.values()) == {f"target:{MINIMAL}"}
    assert again == {"xgboost3_4-py312-inference": f"docker-image://{MINIMAL}:latest"}
    assert {name: result for name, (result, _) in found.items()} == {
        MINIMAL: Outcome.BUILT,
        XGBOOST: outcome,
        PYTORCH: Outcome.BUILT,
    }
    detail = "" if outcome is Outcome.BUILT else "it is not based on the layers of its parent"
    assert found[XGBOOST][1].startswith(detail)
