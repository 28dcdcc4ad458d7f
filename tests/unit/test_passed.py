"""An image that passed its checks is skipped, and only while all that the pass holds for is so."""

from typing import Any
from unittest.mock import Mock

import docker.errors
import pytest

from imagematrix.build.bake import image_tag
from imagematrix.host.engine import Engine
from tests.images.passed import Outcomes, evidence, passed_before
from tests.unit.helpers import MINIMAL, PYTORCH, XGBOOST, Repository

CHECKS = {MINIMAL: {"a", "b"}, XGBOOST: {"a", "b", "c"}}
EVIDENCE = {MINIMAL: "1", XGBOOST: "2"}
IDS = {MINIMAL: "sha256:m", XGBOOST: "sha256:x"}


def engine_with(ids: dict[str, str]) -> Any:
    """An engine that has these images."""
    tags = {image_tag(name): {"Id": value} for name, value in ids.items()}

    def inspect(tag: str) -> dict[str, str]:
        if tag not in tags:
            raise docker.errors.ImageNotFound(tag)
        return tags[tag]

    engine = Mock(spec=Engine)
    engine.client.return_value.api.inspect_image.side_effect = inspect
    return engine


def outcomes(*reports: tuple[str, str, str, str]) -> Outcomes:
    result = Outcomes()
    for report in reports:
        result.add(*report)
    return result


def passing(image: str, checks: set[str]) -> list[tuple[str, str, str, str]]:
    phases = ("setup", "call", "teardown")
    return [(image, check, phase, "passed") for check in checks for phase in phases]


def record(repository: Repository, *reports: tuple[str, str, str, str]) -> dict[str, str]:
    outcomes(*reports).record(repository.root, CHECKS, EVIDENCE)
    return dict(passed_before(repository.root))


def test_an_image_that_passed_everything_is_recorded(repository: Repository) -> None:
    assert record(repository, *passing(MINIMAL, {"a", "b"})) == {MINIMAL: "1"}
    both = record(repository, *passing(XGBOOST, {"a", "b", "c"}))
    assert both == {MINIMAL: "1", XGBOOST: "2"}


@pytest.mark.parametrize(
    "report",
    [
        (XGBOOST, "c", "call", "failed"),
        (XGBOOST, "c", "setup", "failed"),
        (XGBOOST, "c", "teardown", "failed"),
        (XGBOOST, "c", "setup", "skipped"),
        ("", "", "", "failed"),
    ],
    ids=["check", "start", "end", "skip", "dead worker"],
)
def test_what_did_not_pass_is_forgotten(
    report: tuple[str, str, str, str], repository: Repository
) -> None:
    record(repository, *passing(XGBOOST, {"a", "b", "c"}))

    assert record(repository, *passing(XGBOOST, {"a", "b", "c"}), report) == {}


def test_a_part_of_the_checks_is_no_pass(repository: Repository) -> None:
    assert record(repository, *passing(XGBOOST, {"a", "b"})) == {}


def test_an_image_that_was_not_there_at_the_start_is_no_pass(repository: Repository) -> None:
    assert record(repository, *passing(PYTORCH, {"a"})) == {}


@pytest.mark.parametrize("text", ["", "[]", "{", "null"])
def test_a_broken_record_holds_nothing(text: str, repository: Repository) -> None:
    repository.put("build/passed.json", text)

    assert passed_before(repository.root) == {}


@pytest.mark.parametrize(
    "path",
    [
        "tests/images/checks/content.py",
        "imagematrix/plan/content.py",
        "requirements.txt",
        "sizes.json",
        "base/server/app.py",
        f"frameworks/xgboost/{XGBOOST}/Dockerfile",
        f"frameworks/xgboost/{XGBOOST}/requirements.txt",
        "frameworks/xgboost/example/score.py",
        "frameworks/xgboost/example/deeper/model.json",
    ],
)
def test_whatever_a_check_looks_at_is_evidence(path: str, repository: Repository) -> None:
    variants = repository.project.variants
    before = evidence(repository.root, engine_with(IDS), variants)
    repository.put(path, "changed\n")

    after = evidence(repository.root, engine_with(IDS), variants)

    assert before.keys() == after.keys() == {MINIMAL, XGBOOST}
    assert before[XGBOOST] != after[XGBOOST]


@pytest.mark.parametrize("name", [MINIMAL, XGBOOST])
def test_another_image_and_another_parent_are_other_evidence(
    name: str, repository: Repository
) -> None:
    variants = repository.project.variants
    before = evidence(repository.root, engine_with(IDS), variants)

    after = evidence(repository.root, engine_with({**IDS, name: "sha256:other"}), variants)

    assert before[XGBOOST] != after[XGBOOST]
    assert evidence(repository.root, engine_with(IDS), variants) == before


def test_what_the_matrix_promises_is_evidence(repository: Repository) -> None:
    before = evidence(repository.root, engine_with(IDS), repository.project.variants)
    repository.change("matrix.yaml", ("numpy>=2", "numpy>=2.1"))

    after = evidence(repository.root, engine_with(IDS), repository.project.variants)

    assert before[XGBOOST] != after[XGBOOST]
    assert before[MINIMAL] == after[MINIMAL]
