"""Limits, reasons and refusals of findings."""

from dataclasses import replace

import pytest

from imagematrix.audit.findings import (
    Audited,
    Finding,
    Kind,
    Severity,
    Status,
    pending_refusals,
    rebuild_reasons,
    totals,
)

FIX = Finding(
    Kind.DEB, "libssl3t64", "1", Status.PENDING, "2", ("CVE-2026-0001",), hours=1, rebuilt=True
)  # fmt: skip
UNKNOWN = Finding(Kind.PYPI, "numpy", "1", Status.NOT_AUDITED, detail="the index answers 500")
NOTE = Finding(Kind.PYPI, "pip", "1", Status.NOTE, detail="withdrawn")


@pytest.mark.parametrize(
    ("severity", "hours", "overdue"),
    [
        (Severity.URGENT, 48, False),
        (Severity.URGENT, 48.1, True),
        (Severity.OTHER, 48.1, False),
        (Severity.OTHER, 14 * 24, False),
        (Severity.OTHER, 14 * 24 + 0.1, True),
        (Severity.OTHER, None, True),
    ],
)
def test_limits(severity: Severity, hours: float | None, overdue: bool) -> None:
    found = replace(FIX, severity=severity, hours=hours)

    assert found.overdue is overdue
    assert found.failed is overdue
    assert found.verdict.startswith("pending longer than" if overdue else "pending, ")


def test_unknown_severity_is_urgent() -> None:
    assert Finding(Kind.DEB, "x", "1", Status.PENDING).severity is Severity.URGENT


def test_not_audited_fails_and_a_note_does_not() -> None:
    assert UNKNOWN.failed
    assert not NOTE.failed


def test_image_is_rebuilt_for_its_own_fixes_only() -> None:
    """Those that a rebuild applies. Its children are rebuilt because it is."""
    locked = replace(FIX, kind=Kind.PYPI, name="numpy", rebuilt=False)
    found = {
        "minimal": Audited((FIX, replace(FIX, name="tini"), UNKNOWN, NOTE)),
        "child": Audited((UNKNOWN, locked), (FIX,)),
        "other": Audited((replace(FIX, name="libgomp1"),), (FIX,)),
        "clean": Audited(),
    }

    assert rebuild_reasons(found) == {
        "minimal": "2 security fixes pending (libssl3t64, tini)",
        "other": "1 security fix pending (libgomp1)",
    }


def test_publication_is_refused_for_all_that_is_inside() -> None:
    found = {
        "minimal": Audited((replace(FIX, hours=60.4), NOTE)),
        "child": Audited((UNKNOWN,), (replace(FIX, hours=None),)),
        "clean": Audited((NOTE,)),
    }

    assert pending_refusals(found) == [
        "minimal: pending security fixes: libssl3t64 1 → 2 CVE-2026-0001 (60 h)",
        "child: pending security fixes: libssl3t64 1 → 2 CVE-2026-0001 (age unknown);"
        " not audited: numpy (the index answers 500)",
    ]


def test_totals_have_both_counts() -> None:
    found = {
        "a": Audited((FIX, UNKNOWN)),
        "b": Audited((), (replace(FIX, hours=99),)),
        "c": Audited(),
    }

    assert totals(found) == (
        "3 images: 2 fixes pending (2 deb), 1 of them beyond the limits; 1 not audited;"
        " 1 images without a finding"
    )
