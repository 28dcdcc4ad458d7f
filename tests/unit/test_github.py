"""What commands say to GitHub Actions, and the notes of a release."""

import json
from pathlib import Path

import pytest

from imagematrix import cli
from imagematrix.commands import names, release_notes
from imagematrix.commands.release_notes import section
from imagematrix.errors import UserError, WorkError
from imagematrix.plan.content import Content
from imagematrix.plan.plan import Action, Step
from imagematrix.release.statement import Change
from tests.unit.helpers import MINIMAL, PYTORCH, XGBOOST, Repository
from tests.unit.statements import statement


@pytest.fixture(autouse=True)
def _here(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(repository.root)
    for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY"):
        monkeypatch.delenv(name, raising=False)


def test_plan_sets_the_images_that_are_due_as_outputs(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The images without a parent are built first, in a job of their own."""
    minimal, xgboost, pytorch = repository.project.variants
    steps = [
        Step(minimal, Action.BUILD, (), Content({})),
        Step(xgboost, Action.UP_TO_DATE, (), Content({})),
        Step(pytorch, Action.BUILD, (), Content({})),
    ]
    monkeypatch.setattr("imagematrix.build.published_plan.plan_against", lambda *_: steps)
    file = tmp_path / "output"
    monkeypatch.setenv("GITHUB_OUTPUT", str(file))

    assert cli.main(["plan", "--against", "r.example/x", "--github-output"]) == 0

    outputs = dict(line.split("=", 1) for line in file.read_text().splitlines())
    assert {name: json.loads(value) for name, value in outputs.items()} == {
        "images": [MINIMAL, PYTORCH],
        "roots": [MINIMAL],
        "children": [PYTORCH],
    }


@pytest.mark.parametrize("option", [["--github-output", "images"], ["--summary", "Images"]])
def test_outside_of_actions_their_options_are_refused(
    option: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["names", *option]) == 2
    assert "is for GitHub Actions" in capsys.readouterr().err


def test_the_summary_has_what_the_command_prints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "summary"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(file))

    assert cli.main(["names", "xgboost*", "--summary", "What is due"]) == 0

    assert capsys.readouterr().out == f"{XGBOOST}\n"
    assert file.read_text() == f"### What is due\n\n```text\n{XGBOOST}\n```\n\n"


def test_the_summary_of_a_failed_command_has_its_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "summary"
    file.write_text("before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(file))

    def fail(*_: object) -> int:
        print("one of two")
        raise WorkError("the second")

    monkeypatch.setattr(names, "run", fail)
    assert cli.main(["names", "--summary", "T"]) == 1
    assert file.read_text() == "before\n### T\n\n```text\none of two\nthe second\n```\n\n"


CHANGELOG = """\
# Changelog

## Unreleased

- soon

## [0.2.0] - 2026-11-28

### Added

- this

## 0.1.0

- first

## [0.0.1] - 2026-01-01

"""


def test_the_notes_of_a_release_are_its_section() -> None:
    assert section(CHANGELOG, "0.2.0") == "### Added\n\n- this"


@pytest.mark.parametrize(
    ("version", "message"),
    [
        ("0.3.0", "has no section for 0.3.0; rename `Unreleased`"),
        # Not that of 0.2.0, which begins alike.
        ("0.2", "has no section for 0.2"),
        ("0.1.0", "has no date; write `## \\[0.1.0\\] - YYYY-MM-DD`"),
        ("0.0.1", "the section of 0.0.1 is empty"),
    ],
)
def test_a_changelog_without_its_section_is_an_error(version: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        section(CHANGELOG, version)


def test_a_tag_of_another_version_is_an_error(
    repository: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    repository.put("pyproject.toml", '[project]\nversion = "0.2.0"\n')
    repository.put("CHANGELOG.md", CHANGELOG)
    assert cli.main(["release_notes", "v0.1.0"]) == 2
    assert "whose tag is v0.2.0" in capsys.readouterr().err
    assert cli.main(["release_notes", "v0.2.0"]) == 0
    assert "- this" in capsys.readouterr().out
    assert cli.main(["release_notes", "v0.2.0", "--output", "notes.md"]) == 0
    assert repository.files()["notes.md"] == b"### Added\n\n- this\n"


def test_the_notes_of_a_release_list_the_published_images(
    repository: Repository, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    repository.put("pyproject.toml", '[project]\nversion = "0.2.0"\n')
    repository.put("CHANGELOG.md", CHANGELOG)
    numpy = Change("pypi", "numpy", "2.5.4", "2.5.5")
    published = {
        f"me/{XGBOOST}": statement(changes=(numpy,)),
        f"me/{MINIMAL}": statement(name=MINIMAL, previous=""),
    }
    monkeypatch.setattr(
        release_notes, "said_of", lambda registry, where, reference: published.get(where)
    )

    assert cli.main(["release_notes", "v0.2.0", "--registry", "ghcr.io/Me"]) == 0

    notes = capsys.readouterr().out
    assert notes.startswith("### Added\n\n- this\n\n### Images\n")
    minimal, xgboost = notes.split("\n#### ")[1:]
    assert "The first publication." in minimal
    assert xgboost.startswith(f"{XGBOOST}:20261128.v1\n\n`sha256:")
    assert "##### Python packages\n\n- `numpy` `2.5.4` → `2.5.5`" in xgboost
    published.clear()
    assert cli.main(["release_notes", "v0.2.0", "--registry", "ghcr.io/Me"]) == 0
    assert capsys.readouterr().out.endswith("### Images\n\nNone is published yet.\n")
