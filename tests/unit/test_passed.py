"""An image that passed its checks is skipped while all that its pass holds for is as it was."""

from typing import cast
from unittest.mock import patch

import pytest

from imagematrix.checks import checks_of
from imagematrix.host.engine import Engine
from imagematrix.repository.passed import (
    CheckResult,
    Outcome,
    checks_digest,
    forget_results,
    has_passed,
    read_results,
    record_results,
)
from tests.images import conftest
from tests.unit.helpers import XGBOOST, Repository

ID = "sha256:0123"
PASSED = {"user": CheckResult(Outcome.PASSED), "port": CheckResult(Outcome.PASSED)}


def digest(repository: Repository, parent: str = "sha256:m") -> str:
    variant = next(v for v in repository.project.variants if v.name == XGBOOST)
    return checks_digest(repository.root, variant, parent)


def test_record_holds_for_image_and_checks_until_it_is_forgotten(repository: Repository) -> None:
    root = repository.root
    assert not has_passed(root, ID, "d")
    record_results(root, ID, XGBOOST, "d", PASSED)
    assert has_passed(root, ID, "d")
    assert not has_passed(root, ID, "other checks")
    assert not has_passed(root, "sha256:other", "d")
    forget_results(root, ID)
    assert not has_passed(root, ID, "d")


@pytest.mark.parametrize(
    "text", ["", "[]", "{", "null", '{"checks": "d"}', '{"checks": "d", "results": {}}']
)
def test_broken_record_holds_nothing(text: str, repository: Repository) -> None:
    repository.put("build/passed/0123.json", text)
    assert not has_passed(repository.root, ID, "d")


def test_digest_covers_whatever_a_check_looks_at(repository: Repository) -> None:
    assert digest(repository) == digest(repository)
    assert digest(repository) != digest(repository, parent="sha256:other")
    for path in (
        "imagematrix/checks/content.py",
        "imagematrix/plan/content.py",
        "requirements.txt",
        "sizes.json",
        "base/server/app.py",
        f"frameworks/xgboost/{XGBOOST}/Dockerfile",
        f"frameworks/xgboost/{XGBOOST}/requirements.txt",
        "frameworks/xgboost/example/deeper/model.json",
    ):
        before = digest(repository)
        repository.put(path, "changed\n")
        assert digest(repository) != before, path
    before = digest(repository)
    repository.change("matrix.yaml", ("numpy>=2", "numpy>=2.1"))
    assert digest(repository) != before


@pytest.mark.parametrize(
    "other", [CheckResult(Outcome.SKIPPED, "no GPU"), CheckResult(Outcome.FAILED, "as root")]
)
def test_every_result_is_recorded_and_only_passes_are_a_pass(
    other: CheckResult, repository: Repository
) -> None:
    root, results = repository.root, {**PASSED, "gpu": other}
    record_results(root, ID, XGBOOST, "d", results)
    assert not has_passed(root, ID, "d")
    assert read_results(root, ID, "d") == results
    assert read_results(root, ID, "other checks") == {}


@pytest.mark.parametrize(
    ("lacking", "other", "is_recorded", "is_pass"),
    [
        (set(), {}, True, True),
        ({"user_is_dockeruser"}, {}, False, False),
        (set(), {"user_is_dockeruser": CheckResult(Outcome.SKIPPED, "why")}, True, False),
        (set(), {"user_is_dockeruser": CheckResult(Outcome.FAILED, "why")}, True, False),
    ],
)
def test_only_an_image_that_passed_every_check_is_recorded_as_that(
    lacking: set[str],
    other: dict[str, CheckResult],
    is_recorded: bool,
    is_pass: bool,
    repository: Repository,
) -> None:
    """And one that is checked again has not passed while it is."""
    variant = next(v for v in repository.project.variants if v.name == XGBOOST)
    record_results(repository.root, ID, XGBOOST, "d", PASSED)
    with (
        patch.multiple(conftest, ROOT=repository.root, _project=lambda: repository.project),
        patch.object(conftest, "_pass_of", return_value=(ID, "d")),
        patch.object(conftest, "wait_until_healthy"),
        patch.object(conftest, "run_image") as run_image,
    ):
        running = run_image.return_value.__enter__.return_value
        running.variant, running.seconds = variant, {}
        names = {check.__name__ for check in checks_of(variant)} - lacking
        running.results = {name: CheckResult(Outcome.PASSED) for name in names} | other
        stage = conftest.Stage(cast(Engine, None), lambda what, seconds: None)
        stage.show(variant)
        assert not has_passed(repository.root, ID, "d")
        stage.clear()
    assert has_passed(repository.root, ID, "d") == is_pass
    assert read_results(repository.root, ID, "d") == (running.results if is_recorded else {})
