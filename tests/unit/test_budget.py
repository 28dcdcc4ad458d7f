"""Sizes against their record: growth is reported with what to look at."""

import json
from collections.abc import Iterable
from unittest.mock import Mock

import pytest

from imagematrix import cli
from imagematrix.commands import budget as budget_command
from imagematrix.host.bases import BaseSource
from imagematrix.measure.budget import Kind, compare, growth_report, largest
from imagematrix.plan.bake import image_tag
from imagematrix.plan.content import LOCK_LABEL
from imagematrix.repository.sizes import (
    Budgets,
    Measured,
    Size,
    budgets_text,
    read_budgets,
    updated,
)
from tests.unit.helpers import MINIMAL, PYTORCH, XGBOOST, Repository

MB = 10**6
MEASURED = {
    MINIMAL: Measured(
        Size(100 * MB, 30 * MB), Size(100 * MB, 30 * MB), 3, {"httptools": "2.0"}, "bootstrap"
    ),
    XGBOOST: Measured(
        Size(300 * MB, 90 * MB),
        Size(200 * MB, 60 * MB),
        4,
        {"httptools": "2.0", "numpy": "2.1"},
        "bootstrap",
    ),
}
BUDGETS = Budgets(2.0, MEASURED, {PYTORCH: "no wheel"})
NOW = {name: measured.size for name, measured in MEASURED.items()}


def of_child(uncompressed: float, compressed: float, minimal: float = 100) -> tuple[Kind, str]:
    sizes = {
        MINIMAL: Size(int(minimal * MB), 30 * MB),
        XGBOOST: Size(int(uncompressed * MB), int(compressed * MB)),
    }
    verdict = compare(XGBOOST, MINIMAL, sizes, "bootstrap", BUDGETS)
    return verdict.kind, verdict.text


@pytest.mark.parametrize(("uncompressed", "compressed"), [(300, 90), (303.9, 91.1), (296.1, 88.9)])
def test_size_within_the_tolerance_passes(uncompressed: float, compressed: float) -> None:
    assert of_child(uncompressed, compressed) == (Kind.WITHIN, "")


def test_growth_has_its_figures_without_the_parent() -> None:
    assert of_child(310, 90) == (
        Kind.GREW,
        f"grew by more than 2 %, without its parent {MINIMAL}:"
        " uncompressed 200.0 → 210.0 MB (+5.0 %)",
    )
    kind, text = of_child(280, 96)
    assert kind is Kind.GREW
    assert text.endswith(": compressed 60.0 → 66.0 MB (+10.0 %)")


def test_growth_of_a_parent_is_not_that_of_its_children() -> None:
    assert of_child(320, 90, minimal=120) == (Kind.WITHIN, "")
    grown = compare(MINIMAL, None, {MINIMAL: Size(120 * MB, 30 * MB)}, "bootstrap", BUDGETS)
    assert (grown.kind, grown.text) == (
        Kind.GREW,
        "grew by more than 2 %: uncompressed 100.0 → 120.0 MB (+20.0 %)",
    )


def test_shrinking_is_no_failure() -> None:
    kind, text = of_child(280, 80)
    assert kind is Kind.SHRANK
    assert "uncompressed 200.0 → 180.0 MB (-10.0 %); compressed 60.0 → 50.0 MB (-16.7 %)" in text


def test_size_without_record_says_what_to_do() -> None:
    verdict = compare("new", None, {"new": Size(1, 1)}, "bootstrap", BUDGETS)
    assert verdict.kind is Kind.UNKNOWN
    assert verdict.text == "no size is recorded; run `nox -s budget -- --update new`"


def test_size_that_could_not_be_recorded_says_why() -> None:
    verdict = compare(PYTORCH, MINIMAL, {**NOW, PYTORCH: Size(1, 1)}, "bootstrap", BUDGETS)
    assert (verdict.kind, verdict.text) == (
        Kind.OTHER_BASES, "no size is recorded: no wheel"
    )  # fmt: skip


def test_other_bases_make_no_difference_for_a_child() -> None:
    sizes = {MINIMAL: Size(200 * MB, 60 * MB), XGBOOST: Size(400 * MB, 120 * MB)}
    child = compare(XGBOOST, MINIMAL, sizes, "registry", BUDGETS)
    root = compare(MINIMAL, None, sizes, "registry", BUDGETS)
    assert (child.kind, root.kind) == (Kind.WITHIN, Kind.OTHER_BASES)
    assert root.text == "its size was recorded on bootstrap bases, and it is based on registry ones"


def test_record_can_be_read_again(repository: Repository) -> None:
    assert read_budgets(repository.root) == Budgets()
    repository.put("sizes.json", budgets_text(BUDGETS))

    assert read_budgets(repository.root) == BUDGETS
    assert repository.project.sizes == {MINIMAL: 100.0, XGBOOST: 300.0}
    assert '"packages": "httptools 2.0, numpy 2.1"' in budgets_text(BUDGETS)


def test_update_keeps_what_was_not_measured_and_drops_images_that_are_gone() -> None:
    new = Measured(Size(7, 7), Size(7, 7), 1, {}, "registry")
    budgets = Budgets(5.0, {**MEASURED, "gone": new}, {PYTORCH: "no wheel", "gone too": "so"})

    result = updated(budgets, {XGBOOST: new}, ["other"], [MINIMAL, XGBOOST, PYTORCH, "other"])

    assert result.tolerance == 5.0
    assert result.measured == {MINIMAL: MEASURED[MINIMAL], XGBOOST: new}
    assert result.unmeasured == {
        PYTORCH: "no wheel",
        "other": "it was not built where the others were measured",
    }
    measured = updated(result, {PYTORCH: new}, [MINIMAL], [MINIMAL, PYTORCH])
    assert measured.measured.keys() == {MINIMAL, PYTORCH}
    assert measured.unmeasured == {}


def test_record_is_written_for_the_images_of_the_matrix(repository: Repository) -> None:
    repository.put("sizes.json", budgets_text(Budgets(2.0, {"gone": MEASURED[MINIMAL]})))

    assert repository.project.record({MINIMAL: MEASURED[MINIMAL]}, [XGBOOST])

    assert repository.project.budgets.measured == {MINIMAL: MEASURED[MINIMAL]}
    assert repository.project.budgets.unmeasured.keys() == {XGBOOST}
    assert not repository.project.record({MINIMAL: MEASURED[MINIMAL]}, [XGBOOST])


def test_largest_directories_are_those_that_hold_the_bytes() -> None:
    files = [
        ("/usr/lib/site-packages/torch/lib", 500),
        ("/usr/lib/site-packages/torch/lib", 100),
        ("/usr/lib/site-packages/torch", 50),
        ("/usr/lib/site-packages/numpy", 90),
        ("/opt", 10),
    ]
    assert largest(files, 4) == [
        ("/usr/lib/site-packages", 740),
        ("/usr/lib/site-packages/torch/lib", 600),
        ("/usr/lib/site-packages/numpy", 90),
        ("/opt", 10),
    ]


def test_report_of_growth_says_what_changed_and_what_to_do() -> None:
    verdict = compare(MINIMAL, None, {MINIMAL: Size(120 * MB, 30 * MB)}, "bootstrap", BUDGETS)
    report = growth_report(
        MINIMAL,
        verdict,
        {"httptools": "2.0"},
        {"httptools": "2.1", "click": "8"},
        [("/opt", 20 * MB)],
    )
    assert report == (
        "grew by more than 2 %: uncompressed 100.0 → 120.0 MB (+20.0 %)\n"
        "what changed since: click 8 is new, httptools 2.0 → 2.1\n"
        "its largest directories:\n"
        "      20.0 MB  /opt\n"
        f"if the growth is intended, record it with `nox -s budget -- --update {MINIMAL}`"
    )


@pytest.fixture
def sizes(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> dict[str, Size]:
    """An engine with all images but PYTORCH, of these sizes."""
    sizes = dict(NOW)
    by_tag = {image_tag(name): name for name in sizes}
    labels = {name: {LOCK_LABEL: '{"httptools":["2.0","0000"]}'} for name in sizes}

    def measured(root: object, client: object, tags: Iterable[str]) -> dict[str, Size]:
        return {tag: sizes[by_tag[tag]] for tag in tags if tag in by_tag}

    monkeypatch.chdir(repository.root)
    monkeypatch.setattr(budget_command, "ensure_engine", Mock())
    monkeypatch.setattr(budget_command, "image_sizes", measured)
    present = {
        name: {"Config": {"Labels": own}, "RootFS": {"Layers": ["a", "b"]}}
        for name, own in labels.items()
    }
    monkeypatch.setattr(budget_command, "present_images", lambda *_: present)
    monkeypatch.setattr(budget_command, "bases_of", lambda *_: BaseSource.BOOTSTRAP)
    return sizes


def test_command_fails_for_a_size_without_record_and_update_records_it(
    sizes: dict[str, Size], repository: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["budget"]) == 1
    assert f"no size is recorded; run `nox -s budget -- --update {XGBOOST}`" in (
        capsys.readouterr().out
    )

    assert cli.main(["budget", "--update"]) == 0

    assert capsys.readouterr().err == "wrote README.md\nwrote docs/images.md\n"
    assert "| 300 MB |" in (repository.root / "README.md").read_text()
    budgets = repository.project.budgets
    assert budgets.measured[XGBOOST] == Measured(
        NOW[XGBOOST], Size(200 * MB, 60 * MB), 2, {"httptools": "2.0"}, "bootstrap"
    )
    assert budgets.unmeasured.keys() == {PYTORCH}
    assert cli.main(["budget"]) == 0


def test_update_of_an_image_keeps_the_record_of_its_parent(
    repository: Repository, sizes: dict[str, Size]
) -> None:
    assert cli.main(["budget", "--update", XGBOOST]) == 0
    first = repository.project.budgets.measured
    assert first.keys() == {MINIMAL, XGBOOST}
    # The parent grew by more than what the child may grow by.
    sizes[MINIMAL] += Size(10 * MB, 3 * MB)
    sizes[XGBOOST] += Size(11 * MB, 3 * MB)

    cli.main(["budget", "--update", XGBOOST])

    measured = repository.project.budgets.measured
    assert measured[MINIMAL] == first[MINIMAL]
    assert measured[XGBOOST].size == sizes[XGBOOST]
    assert measured[XGBOOST].added == Size(201 * MB, 60 * MB)


def test_update_of_a_parent_changes_no_verdict_on_its_children(
    repository: Repository, sizes: dict[str, Size]
) -> None:
    cli.main(["budget", "--update"])
    sizes[MINIMAL] += Size(50 * MB, 10 * MB)
    sizes[XGBOOST] += Size(50 * MB, 10 * MB)

    cli.main(["budget", "--update", MINIMAL])

    budgets = repository.project.budgets
    child = compare(XGBOOST, MINIMAL, sizes, "bootstrap", budgets)
    grown = {**sizes, XGBOOST: sizes[XGBOOST] + Size(10 * MB, 0)}
    assert child.kind is Kind.WITHIN
    assert compare(XGBOOST, MINIMAL, grown, "bootstrap", budgets).kind is Kind.GREW


def test_command_fails_for_growth_and_prints_all_as_json(
    sizes: dict[str, Size], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["budget", "--update", XGBOOST]) == 0
    capsys.readouterr()
    sizes[XGBOOST] = Size(400 * MB, 90 * MB)

    assert cli.main(["budget", "--json"]) == 1

    rows = {row["image"]: row for row in json.loads(capsys.readouterr().out)}
    assert {name: row["kind"] for name, row in rows.items()} == {
        MINIMAL: "within",
        XGBOOST: "grew",
        PYTORCH: "unknown",
    }
    assert (rows[XGBOOST]["uncompressed"], rows[PYTORCH]["uncompressed"]) == (400 * MB, 0)
