"""Every answer equals that of the reference, but for what the table says."""

from __future__ import annotations

import re

import pytest

from ..harness import Answer
from .cases import ALWAYS, CASES, INTENDED, Case
from .conftest import Pairs

pytestmark = pytest.mark.reference

MILLISECONDS = re.compile(r"\d+\.\d{3}\Z")
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")


def shown(name: str, value: str | None) -> str | None:
    """A header value without what differs from one request to the next."""
    if value is None:
        return None
    if name == "x-ms-run-fn-exec-ms" and MILLISECONDS.match(value):
        return "milliseconds"
    if name in ("x-request-id", "x-ms-request-id") and UUID.match(value):
        return "an id"
    if name == "allow":
        return ", ".join(sorted(value.split(", ")))
    return value


def differences(ours: Answer, theirs: Answer) -> dict[str, tuple[object, object]]:
    """What differs, by name of the header or as ``status`` and ``body``."""
    found: dict[str, tuple[object, object]] = {}
    if ours.status != theirs.status:
        found["status"] = (ours.status, theirs.status)
    if ours.body != theirs.body and not same_document(ours, theirs):
        found["body"] = (ours.body, theirs.body)
    for name in sorted({*ours.headers, *theirs.headers} - set(ALWAYS)):
        pair = shown(name, ours.headers.get(name)), shown(name, theirs.headers.get(name))
        if pair[0] != pair[1]:
            found[name] = pair
    return found


def same_document(ours: Answer, theirs: Answer) -> bool:
    """API descriptions may name their members in another order."""
    if not (ours.body[:1] == theirs.body[:1] == b"{"):
        return False
    document = ours.json
    if not ("swagger" in document or "openapi" in document):
        return False
    return bool(document == theirs.json)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_answer(pairs: Pairs, case: Case) -> None:
    found = differences(*pairs.answers(case))
    intended, reason = INTENDED.get(case.id, (set(), "no difference is intended"))
    assert set(found) == intended, f"{reason}; ours and theirs: {found}"


def test_the_table_names_cases_only() -> None:
    ids = [case.id for case in CASES]
    assert len(ids) == len(set(ids))
    assert set(INTENDED) <= set(ids)
