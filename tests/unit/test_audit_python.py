"""Advisories of Python packages, from an index on loopback."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import requests

from imagematrix.audit.download import Downloads
from imagematrix.audit.findings import Finding, Status
from imagematrix.audit.python import PythonAudit
from imagematrix.errors import WorkError
from tests.unit.archive import NOW, Site, serving
from tests.unit.helpers import host_config

VERSION, PROJECT = "/pypi/numpy/1.0/json", "/pypi/numpy/json"


@pytest.fixture
def site() -> Iterator[Site]:
    with serving() as site:
        yield site


Audit = Callable[..., tuple[Finding, ...]]


@pytest.fixture
def audit(site: Site, tmp_path: Path) -> Audit:
    def run(version: str = "1.0", index: str = "/simple") -> tuple[Finding, ...]:
        asked = PythonAudit(Downloads(tmp_path, host_config()), f"{site.url}{index}", NOW)
        return asked.findings([("numpy", version)]).get(("numpy", version), ())

    return run


def page(version: str = "1.0", *advisories: Any, **info: Any) -> dict[str, Any]:
    return {"info": {"version": version, **info}, "vulnerabilities": list(advisories)}


def advisory(*fixed_in: str, id: str = "PYSEC-2026-1", **more: Any) -> dict[str, Any]:
    return {"id": id, "aliases": ["GHSA-x", "CVE-2026-0001"], "fixed_in": fixed_in, **more}


def releases(site: Site, **hours: float) -> None:
    """A page of the project with releases of that age."""
    times = {
        name.replace("_", ".").removeprefix("v"): [
            {"upload_time_iso_8601": (NOW - timedelta(hours=age)).isoformat()},
            {"upload_time_iso_8601": (NOW - timedelta(hours=age - 0.5)).isoformat()},
        ]
        for name, age in hours.items()
    }
    site.put(PROJECT, {"info": {"version": "9"}, "vulnerabilities": [], "releases": times})


def test_version_without_advisories_has_no_finding(site: Site, audit: Audit) -> None:
    site.put(VERSION, page())

    assert audit() == ()
    assert audit(index="/simple/") == ()


def test_advisory_has_its_cve_fix_and_hours(site: Site, audit: Audit) -> None:
    """The fix is the lowest newer release; its age counts from its first file."""
    site.put(VERSION, page("1.0", advisory("0.9.7", "1.0.2", "1.1")))
    releases(site, v0_9_7=900, v1_0_2=50, v1_1=5)

    (found,) = audit()

    assert (found.status, found.fixed) == (Status.PENDING, "1.0.2")
    assert found.ids == ("CVE-2026-0001",)
    assert found.hours == 50
    assert found.overdue


def test_several_advisories_are_one_finding(site: Site, audit: Audit) -> None:
    """Of the release that fixes all, and as old as the first that fixes one."""
    other = advisory("1.1", id="PYSEC-2026-2", aliases=[])
    site.put(VERSION, page("1.0", advisory("1.0.2"), other))
    releases(site, v1_0_2=30, v1_1=5)

    (found,) = audit()

    assert (found.fixed, found.hours) == ("1.1", 30)
    assert found.ids == ("CVE-2026-0001", "PYSEC-2026-2")
    assert not found.overdue


def test_fix_of_unknown_age_is_overdue(site: Site, audit: Audit) -> None:
    site.put(VERSION, page("1.0", advisory("1.0.2")))

    (found,) = audit()

    assert found.hours is None
    assert found.overdue


def test_withdrawn_advisory_is_left_out(site: Site, audit: Audit) -> None:
    site.put(VERSION, page("1.0", advisory("1.1", withdrawn="2026-01-01T00:00:00Z")))

    assert audit() == ()


def test_vulnerability_without_a_fix_is_a_note(site: Site, audit: Audit) -> None:
    """No rebuild helps, so it fails nothing; it is listed."""
    site.put(VERSION, page("1.0", advisory(), advisory("0.9", id="PYSEC-2026-3", aliases=[])))

    (found,) = audit()

    assert (found.status, found.ids) == (Status.NOTE, ("CVE-2026-0001", "PYSEC-2026-3"))
    assert not found.failed


def test_yanked_release_is_reported(site: Site, audit: Audit) -> None:
    site.put(VERSION, page("1.0", yanked=True, yanked_reason="broken on Sundays"))

    (found,) = audit()

    assert "broken on Sundays" in found.verdict


def test_local_version_is_asked_for_as_the_public_one(site: Site, audit: Audit) -> None:
    site.put(VERSION, page("1.0", advisory()))

    (found,) = audit("1.0+cpu")

    assert found.installed == "1.0+cpu"


def test_page_of_the_project_is_enough_for_the_newest_release(site: Site, audit: Audit) -> None:
    site.put(PROJECT, page("1.0.0"))

    assert audit() == ()


@pytest.mark.parametrize(
    ("answers", "why"),
    [
        ({}, "has no page about it"),
        ({PROJECT: page("2.0")}, "of the newest releases only"),
        ({VERSION: page("2.0")}, "another version"),
        ({VERSION: {"info": {"version": "1.0"}}}, "has no advisories"),
        ({VERSION: {"info": {"version": "1.0"}, "vulnerabilities": None}}, "has no advisories"),
        ({VERSION: page("1.0", {"fixed_in": []})}, "another form"),
        ({VERSION: page("1.0", "text")}, "another form"),
        ({VERSION: {"info": {"version": None}}}, "another form"),
        ({VERSION: {}}, "another form"),
        ({VERSION: []}, "no JSON object"),
        ({VERSION: 500}, "answers 500"),
        ({VERSION: 403}, "answers 403"),
        ({VERSION: b"<html>Please log in</html>"}, "no JSON object"),
        ({VERSION: 500, PROJECT: page("1.0")}, "answers 500"),
    ],
)
def test_what_was_not_answered_is_not_audited(
    answers: dict[str, Any], why: str, site: Site, audit: Audit
) -> None:
    for path, answer in answers.items():
        if isinstance(answer, int | bytes):
            site.answers[path] = answer
        else:
            site.put(path, answer)

    (found,) = audit()

    assert found.status is Status.NOT_AUDITED
    assert why in found.detail
    assert found.failed


def test_index_that_does_not_answer_is_not_audited(tmp_path: Path) -> None:
    with serving() as site:
        url = site.url.replace("http://", "http://me:secret@")
    asked = PythonAudit(Downloads(tmp_path, host_config()), f"{url}/simple", NOW)

    (found,) = asked.findings([("numpy", "1.0")])[("numpy", "1.0")]

    assert found.detail == "127.0.0.1 cannot be reached (connection refused)"


def test_server_that_cannot_be_reached_is_asked_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each try may take as long as the timeout, and there are dozens of packages."""
    tried: list[str] = []

    def get(_: requests.Session, url: str, **given: Any) -> None:
        tried.append(url)
        raise requests.ConnectTimeout("timed out")

    monkeypatch.setattr(requests.Session, "get", get)
    downloads = Downloads(tmp_path, host_config())
    for url in ("https://a.example/1", "https://a.example/2", "https://b.example/1"):
        with pytest.raises(WorkError, match="cannot be reached"):
            downloads.get(url)

    assert tried == ["https://a.example/1", "https://b.example/1"]


def test_each_version_is_asked_once(site: Site, tmp_path: Path) -> None:
    site.put(VERSION, page())
    asked = PythonAudit(Downloads(tmp_path, host_config()), f"{site.url}/simple", NOW)

    assert asked.findings([("numpy", "1.0")] * 5) == {}
    assert site.asked == {VERSION: 1}
