"""Which rules slim which image, and what is wrong with rules."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from imagematrix.errors import InputError
from imagematrix.matrix.slim import SlimRule, Verb
from tests.unit.helpers import (
    BASE_SLIM,
    MINIMAL,
    PYTORCH,
    XGBOOST,
    XGBOOST_SLIM,
    Repository,
)

CASES = yaml.safe_load((Path(__file__).parent / "slim_errors.yaml").read_text())
STUBS = SlimRule(Verb.REMOVE, "site-packages/*.pyi", "type stubs")
PIP = SlimRule(Verb.SOURCE, "site-packages/pip/*", "pip")
SUITES = SlimRule(Verb.REMOVE, "site-packages/xgboost/tests", "test suites")


def rules(repository: Repository) -> dict[str, tuple[SlimRule, ...]]:
    return {variant.name: variant.slim for variant in repository.project.variants}


@pytest.mark.parametrize(
    "case", CASES, ids=[case["errors"][0].split(": ", 1)[1][:70] for case in CASES]
)
def test_an_error_has_its_place_value_and_remedy(
    case: dict[str, Any], repository: Repository
) -> None:
    for name, folder in (("base", "base"), ("xgboost", "frameworks/xgboost")):
        if name in case:
            repository.put(f"{folder}/slim.yaml", f"{case[name]}\n" if case[name] else "")

    with pytest.raises(InputError) as error:
        _ = repository.project.variants

    assert [str(one) for one in error.value.diagnostics] == case["errors"]


def test_errors_of_all_files_come_at_once(repository: Repository) -> None:
    repository.put("base/slim.yaml", "remove: {tests: [/]}\n")
    repository.put("frameworks/xgboost/slim.yaml", "remove: {tests: [/]}\n")
    repository.put("frameworks/pytorch/slim.yaml", "\n")

    assert [problem.split(":")[0] for problem in repository.problems()] == [
        "base/slim.yaml",
        "frameworks/pytorch/slim.yaml",
        "frameworks/xgboost/slim.yaml",
    ]


def test_rules_come_by_verb_and_those_of_every_image_first(repository: Repository) -> None:
    assert rules(repository) == {
        MINIMAL: (STUBS, PIP),
        XGBOOST: (STUBS, SUITES, PIP),
        PYTORCH: (STUBS, PIP),
    }


def test_a_rule_may_hold_for_some_images_only(repository: Repository) -> None:
    own = "only:\n  - {frameworks: [minimal], strip: {a: [a.so]}}\n"
    cuda = "  - {accelerators: [cuda], remove: {headers: [site-packages/nvidia/include]}}\n"
    repository.put("base/slim.yaml", BASE_SLIM + own + cuda)
    narrow = """\
only:
  - {tracks: [current], versions: ["3.4"], accelerators: [cpu], strip: {b: [site-packages/b]}}
"""
    repository.put("frameworks/xgboost/slim.yaml", XGBOOST_SLIM + narrow)

    assert rules(repository) == {
        MINIMAL: (STUBS, SlimRule(Verb.STRIP, "a.so", "a"), PIP),
        XGBOOST: (STUBS, SUITES, SlimRule(Verb.STRIP, "site-packages/b", "b"), PIP),
        PYTORCH: (STUBS, PIP),
    }


def test_the_rules_of_an_image_are_listed_beside_its_lock(repository: Repository) -> None:
    xgboost, pytorch = repository.variant(XGBOOST), repository.variant(PYTORCH)

    assert (repository.root / xgboost.slim_file).read_text() == (
        "# Rendered from base/slim.yaml and frameworks/xgboost/slim.yaml by `nox -s render`."
        " Do not edit.\n"
        "remove site-packages/*.pyi  # type stubs\n"
        "remove site-packages/xgboost/tests  # test suites\n"
        "source site-packages/pip/*  # pip\n"
    )
    assert (repository.root / pytorch.slim_file).read_text() == (
        "# Rendered from base/slim.yaml by `nox -s render`. Do not edit.\n"
        "remove site-packages/*.pyi  # type stubs\n"
        "source site-packages/pip/*  # pip\n"
    )
