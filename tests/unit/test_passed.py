"""An image that passed its checks is skipped while all that its pass holds for is as it was."""

from typing import cast
from unittest.mock import patch

import pytest

from imagematrix.host.engine import Engine
from imagematrix.repository.passed import checks_digest, forget_pass, has_passed, record_pass
from tests.images import conftest
from tests.images.checks import checks_of
from tests.unit.helpers import XGBOOST, Repository

ID = "sha256:0123"


def digest(repository: Repository, parent: str = "sha256:m") -> str:
    variant = next(v for v in repository.project.variants if v.name == XGBOOST)
    return checks_digest(repository.root, variant, parent)


def test_record_holds_for_image_and_checks_until_it_is_forgotten(repository: Repository) -> None:
    root = repository.root
    assert not has_passed(root, ID, "d")
    record_pass(root, ID, XGBOOST, "d")
    assert has_passed(root, ID, "d")
    assert not has_passed(root, ID, "other checks")
    assert not has_passed(root, "sha256:other", "d")
    forget_pass(root, ID)
    assert not has_passed(root, ID, "d")


@pytest.mark.parametrize("text", ["", "[]", "{", "null"])
def test_broken_record_holds_nothing(text: str, repository: Repository) -> None:
    repository.put("build/passed/0123.json", text)
    assert not has_passed(repository.root, ID, "d")


def test_digest_covers_whatever_a_check_looks_at(repository: Repository) -> None:
    assert digest(repository) == digest(repository)
    assert digest(repository) != digest(repository, parent="sha256:other")
    for path in (
        "tests/images/checks/content.py",
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


@pytest.mark.parametrize("lacking", [set(), {"user_is_dockeruser"}])
def test_only_an_image_that_passed_every_check_is_recorded(
    lacking: set[str], repository: Repository
) -> None:
    """And one that is checked again has not passed while it is."""
    variant = next(v for v in repository.project.variants if v.name == XGBOOST)
    record_pass(repository.root, ID, XGBOOST, "d")
    with (
        patch.multiple(conftest, ROOT=repository.root, _project=lambda: repository.project),
        patch.object(conftest, "_pass_of", return_value=(ID, "d")),
        patch.object(conftest, "wait_until_healthy"),
        patch.object(conftest, "run_image") as run_image,
    ):
        running = run_image.return_value.__enter__.return_value
        running.variant, running.seconds = variant, {}
        running.passed = {check.__name__ for check in checks_of(variant)} - lacking
        stage = conftest.Stage(cast(Engine, None), lambda what, seconds: None)
        stage.show(variant)
        assert not has_passed(repository.root, ID, "d")
        stage.clear()
    assert has_passed(repository.root, ID, "d") == (not lacking)
