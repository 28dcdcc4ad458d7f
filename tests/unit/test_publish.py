"""What may be published, and under which tags."""

import datetime
from dataclasses import replace

import pytest

from imagematrix.build.publish import next_tag, publication, refusals, track_refusals
from imagematrix.matrix.schema import Track
from imagematrix.plan.plan import Action, Step
from tests.unit.helpers import XGBOOST, Repository


@pytest.fixture
def fresh(repository: Repository) -> Step:
    """An image that is built as the matrix has it."""
    return Step(repository.variant(XGBOOST), Action.UP_TO_DATE, (), None)  # type: ignore[arg-type]


def test_up_to_date_image_of_the_current_track_may_be_published(fresh: Step) -> None:
    assert refusals([fresh], official_bases=True) == []
    assert track_refusals([fresh.variant]) == []


def test_image_that_is_not_up_to_date_is_refused(fresh: Step) -> None:
    stale = replace(fresh, action=Action.BUILD, reasons=("lock: numpy 1 → 2",))

    (refused,) = refusals([stale], official_bases=True)

    assert refused.startswith(f"{XGBOOST} is not up to date (lock: numpy 1 → 2)")


def test_historical_image_is_published_only_with_its_option(fresh: Step) -> None:
    (refused,) = track_refusals([replace(fresh.variant, track=Track.HISTORICAL)])

    assert "unsupported, known vulnerabilities" in refused
    assert "--historical" in refused


def test_image_on_bootstrap_bases_is_published_only_with_its_option(fresh: Step) -> None:
    (refused,) = refusals([fresh], official_bases=False)

    assert "--bootstrap-bases" in refused


def test_tag_is_used_once() -> None:
    today = datetime.date(2026, 11, 21)

    assert next_tag(today, lambda _: False) == "20261121.v1"
    assert next_tag(today, {"20261121.v1", "20261121.v2"}.__contains__) == "20261121.v3"


def test_image_is_pushed_as_it_was_checked_with_its_layers_packed() -> None:
    definition = publication(
        ["xgboost3.4-py312-inference"], "ghcr.io/me", ["20261121.v1", "latest"]
    )

    (target,) = definition["target"].values()
    assert target["dockerfile-inline"] == "FROM xgboost3.4-py312-inference:latest\n"
    assert target["tags"] == [
        "ghcr.io/me/xgboost3.4-py312-inference:20261121.v1",
        "ghcr.io/me/xgboost3.4-py312-inference:latest",
    ]
    (output,) = target["output"]
    assert {
        "push=true",
        "compression=zstd",
        "compression-level=12",
        "force-compression=true",
    } <= set(output.split(","))
