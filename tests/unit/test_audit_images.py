"""What is asked for several images together, and which of them a finding belongs to."""

from collections.abc import Mapping
from typing import Any

import pytest

from imagematrix.audit import images
from imagematrix.audit.findings import Audited, Finding, Kind, Status
from imagematrix.audit.images import Sources, audit_images
from imagematrix.audit.installed import Installed
from imagematrix.build.pending import newer_base
from imagematrix.errors import WorkError
from tests.unit.archive import NOW
from tests.unit.helpers import MINIMAL, PYTORCH, XGBOOST, Repository, lock_of

SSL, GOMP = ("libssl3t64", "1"), ("libgomp1", "1")
HTTPTOOLS, NUMPY = ("httptools", "1.0"), ("numpy", "2.1")
PARENT = Installed("trixie", "3.12.1", dict([SSL]), dict([HTTPTOOLS]))
CHILD = Installed("trixie", "3.12.1", dict([SSL, GOMP]), dict([HTTPTOOLS, NUMPY]))


class FakeAudit:
    """Stands in for what asks: a pending fix for every package. `asked` has all questions."""

    def __init__(self, kind: Kind, asked: list[Any], fails: str = "") -> None:
        self.kind, self.asked, self.fails = kind, asked, fails

    def __call__(self, *given: Any) -> "FakeAudit":
        self.suite = given[1]
        return self

    def findings(self, pairs: Any) -> dict[Any, Any]:
        wanted = sorted(set(pairs))
        self.asked.append((self.suite if self.kind is Kind.DEB else self.kind, wanted))
        if self.kind is Kind.DEB and self.suite == self.fails:
            raise WorkError("the index has expired")
        found = {
            (name, version): Finding(self.kind, name, version, Status.PENDING, "9.9")
            for name, version in wanted
        }
        return found if self.kind is Kind.DEB else {pair: (one,) for pair, one in found.items()}


class FakeReleases:
    """Has nothing newer, except for CPython 3.12.1."""

    def finding(self, installed: str, base: str) -> Finding | None:
        assert base == "python:3.12-slim-trixie"
        if installed != "3.12.1":
            return None
        return Finding(Kind.CPYTHON, "CPython", installed, Status.PENDING, "3.12.9")


class Quiet:
    signed = True

    def prune(self) -> None:
        """Nothing."""


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    questions: list[Any] = []
    monkeypatch.setattr(images, "DebianAudit", FakeAudit(Kind.DEB, questions, fails="bookworm"))
    monkeypatch.setattr(images, "PythonAudit", FakeAudit(Kind.PYPI, questions))
    return questions


def audit(
    repository: Repository, installed: Mapping[str, Installed | str], *pins: str
) -> dict[str, Audited]:
    quiet: Any = Quiet()
    releases: Any = FakeReleases()
    sources = Sources(quiet, quiet, "https://pypi.org/simple", releases, NOW)
    locks = dict.fromkeys((MINIMAL, XGBOOST, PYTORCH), lock_of(*pins))
    return audit_images(repository.project.variants, installed, locks, sources)


def names(findings: tuple[Finding, ...]) -> list[str]:
    return [finding.name for finding in findings]


def test_finding_belongs_to_the_image_that_adds_the_package(
    repository: Repository, asked: list[Any]
) -> None:
    found = audit(repository, {MINIMAL: PARENT, XGBOOST: CHILD})

    assert names(found[MINIMAL].own) == ["libssl3t64", "httptools", "CPython"]
    assert found[MINIMAL].inherited == ()
    assert names(found[XGBOOST].own) == ["libgomp1", "numpy"]
    assert names(found[XGBOOST].inherited) == ["libssl3t64", "httptools", "CPython"]


def test_each_package_is_asked_once_for_all_images(
    repository: Repository, asked: list[Any]
) -> None:
    audit(repository, {MINIMAL: PARENT, XGBOOST: CHILD, PYTORCH: CHILD})

    assert sorted(asked) == [
        (Kind.PYPI, sorted([HTTPTOOLS, NUMPY])),
        ("trixie", sorted([SSL, GOMP])),
    ]


def test_child_on_older_layers_has_findings_of_its_own(
    repository: Repository, asked: list[Any]
) -> None:
    newer = Installed("trixie", "3.12.9", {"libssl3t64": "2"}, {})

    found = audit(repository, {MINIMAL: newer, XGBOOST: CHILD})

    assert set(names(found[XGBOOST].own)) == {
        "libssl3t64", "libgomp1", "httptools", "numpy", "CPython",
    }  # fmt: skip


def test_image_without_its_parent_owns_all_findings(
    repository: Repository, asked: list[Any]
) -> None:
    assert len(audit(repository, {XGBOOST: CHILD})[XGBOOST].own) == 5


@pytest.mark.parametrize(("pin", "rebuilt"), [("9.9", True), ("10", True), ("9.8", False)])
def test_rebuild_applies_what_the_lock_has(
    pin: str, rebuilt: bool, repository: Repository, asked: list[Any]
) -> None:
    found = audit(repository, {MINIMAL: PARENT}, f"httptools=={pin}")

    (httptools,) = (one for one in found[MINIMAL].own if one.kind is Kind.PYPI)
    assert httptools.rebuilt is rebuilt


def test_archive_that_cannot_be_read_is_one_finding_of_each_of_its_images(
    repository: Repository, asked: list[Any]
) -> None:
    old = Installed("bookworm", "3.12.9", dict([SSL, GOMP]), {})

    found = audit(repository, {MINIMAL: PARENT, XGBOOST: old})

    (failed,) = found[XGBOOST].own
    assert (failed.status, failed.detail) == (Status.NOT_AUDITED, "the index has expired")
    assert failed.name == "Debian's 2 packages"
    assert names(found[MINIMAL].own) == ["libssl3t64", "httptools", "CPython"]


@pytest.mark.parametrize(
    "installed", ["it has no release statement", Installed("", "3.12.9", dict([SSL]), {}),
                  Installed("trixie", "3.12.9", {}, {})],
)  # fmt: skip
def test_image_that_does_not_say_its_packages_is_not_audited(
    installed: Installed | str, repository: Repository, asked: list[Any]
) -> None:
    (found,) = audit(repository, {MINIMAL: installed})[MINIMAL].own

    assert found.status is Status.NOT_AUDITED


def test_images_that_are_nowhere_are_left_out(repository: Repository, asked: list[Any]) -> None:
    assert audit(repository, {MINIMAL: PARENT}).keys() == {MINIMAL}


@pytest.mark.parametrize(
    ("kind", "rebuilt", "inherited", "newer"),
    [
        (Kind.CPYTHON, True, False, True),
        (Kind.CPYTHON, False, False, False),
        (Kind.CPYTHON, True, True, False),
        (Kind.DEB, True, False, False),
    ],
)
def test_base_images_are_pulled_again_for_a_newer_cpython(
    kind: Kind, rebuilt: bool, inherited: bool, newer: bool
) -> None:
    """Not for Debian's packages: the system image upgrades them."""
    found = (Finding(kind, "x", "1", Status.PENDING, "2", rebuilt=rebuilt),)

    assert newer_base({XGBOOST: Audited((), found) if inherited else Audited(found)}) is newer
