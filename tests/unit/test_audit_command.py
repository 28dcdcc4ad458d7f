"""What `audit` prints, and how it ends."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from imagematrix.audit.findings import Audited, Finding, Kind, Status
from imagematrix.cli import main
from imagematrix.commands import audit
from tests.unit.helpers import MINIMAL, PYTORCH, XGBOOST, Repository

FIX = Finding(Kind.DEB, "libssl3t64", "1", Status.PENDING, "2", ("CVE-2026-0001",), hours=60)
LATER = replace(FIX, name="tini", ids=(), hours=2)
UNKNOWN = Finding(Kind.PYPI, "numpy", "2.1", Status.NOT_AUDITED, detail="pypi.org answers 500")
NOTE = Finding(Kind.PYPI, "pip", "1", Status.NOTE, detail="withdrawn from the index: broken")

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(
    repository: Repository, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    """Audits published images with these findings: exit status, output, messages."""

    def run(found: dict[str, Audited], *arguments: str) -> tuple[int, str, str]:
        asked: list[Any] = []

        def pending_in_registry(*given: Any) -> dict[str, Audited]:
            asked.append(given[2])
            return found

        monkeypatch.chdir(repository.root)
        monkeypatch.setattr(audit, "pending_in_registry", pending_in_registry)
        status = main(["audit", "--registry", "registry.example/team", "--all", *arguments])
        assert asked == ["registry.example/team"]
        output = capsys.readouterr()
        return status, output.out, output.err

    return run


def test_clean_images_end_with_0(run: Run) -> None:
    status, out, err = run({MINIMAL: Audited(), XGBOOST: Audited((NOTE,))})

    assert status == 0
    assert out.splitlines()[1].split("  ")[0] == MINIMAL
    assert "no finding" in out.splitlines()[1]
    assert "note: withdrawn from the index: broken" in out
    assert f"Not in registry.example/team: {PYTORCH}." in err
    assert "0 fixes pending, 0 of them beyond the limits; 0 not audited" in out


@pytest.mark.parametrize(
    ("own", "inherited", "status"),
    [
        ((LATER,), (), 0),
        ((FIX,), (), 1),
        ((), (FIX,), 1),
        ((UNKNOWN,), (), 1),
        ((), (UNKNOWN,), 1),
        ((replace(LATER, hours=None),), (), 1),
    ],
)
def test_what_is_overdue_or_unknown_ends_with_1(
    own: tuple[Finding, ...], inherited: tuple[Finding, ...], status: int, run: Run
) -> None:
    assert run({XGBOOST: Audited(own, inherited)})[0] == status


def test_table_has_a_row_for_each_fix_and_each_reason(run: Run) -> None:
    """The oldest fix first; what a parent has is one row."""
    found = {
        MINIMAL: Audited((UNKNOWN, NOTE, LATER, FIX, replace(UNKNOWN, name="scipy"))),
        XGBOOST: Audited((), (FIX, LATER)),
    }
    _, out, _ = run(found)

    rows = [
        " | ".join(filter(None, map(str.strip, line.split("  ")))) for line in out.splitlines()[:-1]
    ]
    assert rows == [
        "image | package | installed | fixed | CVEs | age | verdict",
        f"{MINIMAL} | libssl3t64 | 1 | 2 | CVE-2026-0001 | 60 h | pending longer than 48 h",
        f"{MINIMAL} | tini | 1 | 2 | 2 h | pending, 48 h at most",
        f"{MINIMAL} | numpy 2.1, scipy 2.1 | not audited: pypi.org answers 500",
        f"{MINIMAL} | pip | 1 | note: withdrawn from the index: broken",
        f"{XGBOOST} | 2 of {MINIMAL} | 1 of them failed",
    ]


def test_json_has_all_findings_of_an_image(run: Run) -> None:
    status, out, _ = run({XGBOOST: Audited((UNKNOWN,), (FIX,))}, "--json")

    first, second = json.loads(out)[XGBOOST]
    assert status == 1
    assert (first["name"], first["own"], first["failed"]) == ("numpy", True, True)
    assert (second["kind"], second["status"], second["own"]) == ("deb", "pending", False)
    assert second["ids"] == ["CVE-2026-0001"]
    assert second["hours"] == 60


def test_nothing_to_audit_is_an_error(run: Run) -> None:
    status, out, err = run({})

    assert (status, out) == (2, "")
    assert "nothing to audit: registry.example/team has none of the images" in err


def test_registry_of_another_form_is_an_error(
    repository: Repository, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(repository.root)

    assert main(["audit", "--registry", "no registry"]) == 2
    assert "no registry is not host/namespace of a registry" in capsys.readouterr().err
