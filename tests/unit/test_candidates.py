"""Which images may be published, and what the message for a refused one asks for."""

import datetime
from dataclasses import replace
from typing import Any

import pytest

from imagematrix.audit.findings import Audited, Finding, Kind, Status
from imagematrix.matrix.schema import Track
from imagematrix.plan.content import PYTHON_LABEL, REVISION_LABEL
from imagematrix.plan.plan import Action, Step
from imagematrix.publish.candidates import Candidate, Policy, early_refusals, refusals
from imagematrix.repository.passed import CheckResult, Outcome
from tests.unit.helpers import XGBOOST, Repository
from tests.unit.test_sbom import CONTENTS

TODAY = datetime.date(2026, 11, 28)
FIX = Finding(Kind.DEB, "libssl3t64", "3.5.1", Status.PENDING, "3.5.2", ("CVE-2026-1",), hours=60)
UNKNOWN = Finding(Kind.PYPI, "numpy", "2.5", Status.NOT_AUDITED, detail="the index is silent")


@pytest.fixture
def step(repository: Repository) -> Step:
    """An image that is built as the matrix has it."""
    return Step(repository.variant(XGBOOST), Action.UP_TO_DATE, (), None)  # type: ignore[arg-type]


@pytest.fixture
def candidate(step: Step) -> Candidate:
    """One that nothing refuses."""
    return Candidate(
        step=step,
        reference="sha256:image",
        labels={REVISION_LABEL: "c" * 40, PYTHON_LABEL: CONTENTS.python},
        layers=("sha256:a", "sha256:b"),
        base_layers=("sha256:a",),
        contents=CONTENTS,
        results={"score": CheckResult(Outcome.PASSED)},
        audited=Audited(),
        base_ids={},
        debian_sha256={},
        uncompressed=1,
    )


def early(step: Step, policy: Policy | None = None, *, official: bool = True) -> list[str]:
    return early_refusals(step, policy or Policy(), TODAY, official_bases=official)


def test_up_to_date_image_may_be_published(step: Step, candidate: Candidate) -> None:
    assert early(step) == refusals(candidate, Policy()) == []


def test_image_that_is_not_up_to_date_is_refused(step: Step) -> None:
    (refused,) = early(replace(step, action=Action.BUILD, reasons=("lock: numpy 1 → 2",)))

    assert refused.startswith("it is not up to date (lock: numpy 1 → 2)")
    assert f"nox -s build -- {XGBOOST}" in refused


def test_historical_image_is_published_only_with_its_option(step: Step) -> None:
    old = replace(step, variant=replace(step.variant, track=Track.HISTORICAL, supported_until=None))

    (refused,) = early(old)

    assert "--historical" in refused
    assert early(old, Policy(historical=True)) == []


def test_image_on_bootstrap_bases_is_published_only_with_its_option(step: Step) -> None:
    (refused,) = early(step, official=False)

    assert "--bootstrap-bases" in refused
    assert early(step, Policy(bootstrap_bases=True), official=False) == []


def test_image_is_published_until_the_last_day_of_its_support(step: Step) -> None:
    last = replace(step, variant=replace(step.variant, supported_until=TODAY))
    over = replace(
        step, variant=replace(step.variant, supported_until=TODAY - datetime.timedelta(days=1))
    )

    assert early(last) == []
    (refused,) = early(over)
    assert "supported until 2026-11-27" in refused


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"results": {}}, "its checks were not run for this image: run `nox -s test_images -- "),
        (
            {"results": {"score": CheckResult(Outcome.FAILED, "500")}},
            "it failed score: see `nox -s test_images -- ",
        ),
        ({"labels": {PYTHON_LABEL: CONTENTS.python}}, "of no commit: commit them, and build"),
        (
            {"labels": {REVISION_LABEL: "c" * 40, PYTHON_LABEL: "3.12.0"}},
            f"says 3.12.0, and it has CPython {CONTENTS.python}",
        ),
        ({"labels": {REVISION_LABEL: "c" * 40}}, "says nothing, and it has CPython"),
    ],
)
def test_refusal_says_what_to_do(change: Any, words: str, candidate: Candidate) -> None:
    (refused,) = refusals(replace(candidate, **change), Policy())

    assert words in refused


def test_skipped_check_is_no_refusal(candidate: Candidate) -> None:
    """It is published by name, with its reason."""
    results = {**candidate.results, "on_a_gpu": CheckResult(Outcome.SKIPPED, "no GPU")}

    assert refusals(replace(candidate, results=results), Policy()) == []


@pytest.mark.parametrize("where", ["own", "inherited"])
def test_pending_fix_is_refused_unless_it_is_allowed(where: str, candidate: Candidate) -> None:
    lacking = replace(candidate, audited=Audited(**{where: (FIX,)}))

    (refused,) = refusals(lacking, Policy())

    assert "libssl3t64 3.5.1 → 3.5.2 CVE-2026-1 (60 h)" in refused
    assert f"run `nox -s build -- --pending {XGBOOST}`" in refused
    assert '--allow-pending "reason"' in refused
    assert refusals(lacking, Policy(pending="it is not reachable")) == []


def test_what_was_not_audited_is_refused_and_asks_for_no_rebuild(candidate: Candidate) -> None:
    (refused,) = refusals(replace(candidate, audited=Audited((UNKNOWN,))), Policy())

    assert "not audited: numpy (the index is silent)" in refused
    assert "nox -s build" not in refused
