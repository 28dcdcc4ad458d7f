"""Pending fixes of Debian packages, from an archive on loopback."""

import hashlib
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from unittest.mock import Mock

import pytest

from imagematrix.audit.debian import Archive, DebianAudit
from imagematrix.audit.download import CACHE, Downloads
from imagematrix.audit.facts import ArchiveFacts
from imagematrix.audit.findings import Finding, Severity, Status
from imagematrix.audit.images import Sources
from imagematrix.errors import WorkError
from imagematrix.host.debian import DebianMirrors
from tests.unit.archive import NOW, DebianArchive, deb, entry, serving
from tests.unit.helpers import host_config

OLD = "1.0-1"
MAIN, SECURITY = "trixie", "trixie-security"
INRELEASE = f"/debian-security/dists/{SECURITY}/InRelease"


def ago(hours: float) -> str:
    """An entry of the changelog of `libx` that fixes a CVE, so many hours old."""
    return entry(
        "libx", "1.0-1+deb13u1", NOW - timedelta(hours=hours), "Fix CVE-2026-0001.", "high"
    )


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DebianArchive]:
    """An empty archive. GnuPG allows no long path for its socket."""
    with serving() as site:
        archive = DebianArchive(site, tmp_path_factory.mktemp("gpg"))
        archive.make_key()
        yield archive


@pytest.fixture
def archive(signed: DebianArchive) -> DebianArchive:
    signed.site.answers.clear()
    signed.site.asked.clear()
    signed.stanzas.clear()
    return signed


Audit = Callable[..., dict[tuple[str, str], Finding]]


@pytest.fixture
def audit(archive: DebianArchive, tmp_path: Path) -> Audit:
    mirrors = DebianMirrors(f"{archive.site.url}/debian", f"{archive.site.url}/debian-security")

    def run(*pairs: tuple[str, str]) -> dict[tuple[str, str], Finding]:
        asked = Archive(Downloads(tmp_path, host_config()), mirrors, NOW, archive.keyring)
        assert asked.signed
        return DebianAudit(asked, "trixie", {name for name, _ in pairs}, NOW).findings(pairs)

    return run


def fixed(archive: DebianArchive, *entries: str, suite: str = SECURITY) -> str:
    """Publishes `libx` 1.0-1+deb13u1 with a changelog of these entries."""
    text = "".join(
        [*entries, entry("libx", OLD, NOW - timedelta(days=900), "CVE-2020-0007 fixed.")]
    )
    path = archive.add(suite, "libx", "1.0-1+deb13u1", deb("libx", text))
    archive.publish_all()
    return path


def test_newest_version_has_no_finding(archive: DebianArchive, audit: Audit) -> None:
    fixed(archive, ago(1))

    assert audit(("libx", "1.0-1+deb13u1")) == {}
    assert audit(("libx", "1.0-2")) == {}


def test_fix_has_its_cves_and_hours(archive: DebianArchive, audit: Audit) -> None:
    """Of the entries that the image lacks; the age is that of the oldest of them with a CVE."""
    text = "CVE-2026-10000, CVE-2025-9999 and CVE-2026-0001"
    fixed(archive, entry("libx", "1.0-1+deb13u2", NOW - timedelta(hours=5), text), ago(60))

    found = audit(("libx", OLD))[("libx", OLD)]

    assert found.ids == ("CVE-2025-9999", "CVE-2026-0001", "CVE-2026-10000")
    assert found.hours == 60
    assert (found.installed, found.fixed) == (OLD, "1.0-1+deb13u1")
    assert found.severity is Severity.URGENT
    assert found.rebuilt
    assert found.overdue


@pytest.mark.parametrize(
    ("urgency", "severity"),
    [
        ("high", Severity.URGENT),
        ("emergency", Severity.URGENT),
        ("HIGH", Severity.URGENT),
        ("medium", Severity.OTHER),
        ("low", Severity.OTHER),
    ],
)
def test_urgency_of_the_changelog_is_the_severity(
    urgency: str, severity: Severity, archive: DebianArchive, audit: Audit
) -> None:
    day = NOW - timedelta(hours=50)
    fixed(archive, entry("libx", "1.0-1+deb13u1", day, "CVE-2026-0001", urgency))

    found = audit(("libx", OLD))[("libx", OLD)]

    assert found.severity is severity
    assert found.overdue is (severity is Severity.URGENT)


def test_update_that_names_no_cve_is_a_note(archive: DebianArchive, audit: Audit) -> None:
    """Unless it comes by the security archive, where everything is a security fix."""
    later = entry("libx", "1.0-1+deb13u1", NOW - timedelta(hours=50), "New translations.", "high")
    fixed(archive, later, suite=MAIN)
    assert [one.status for one in audit(("libx", OLD)).values()] == [Status.NOTE]

    archive.stanzas.clear()
    fixed(archive, later, suite=SECURITY)
    found = audit(("libx", OLD))[("libx", OLD)]
    assert (found.status, found.ids, found.hours) == (Status.PENDING, (), 50)


def test_build_of_the_same_source_is_a_note(archive: DebianArchive, audit: Audit) -> None:
    text = entry("libx", "1.0-1", NOW - timedelta(days=9), "CVE-2020-0007")
    archive.add(MAIN, "libx", "1.0-1+b2", deb("libx", text), "libx (1.0-1)")
    archive.publish_all()

    assert audit(("libx", "1.0-1+b1"))[("libx", "1.0-1+b1")].status is Status.NOTE


@pytest.mark.parametrize(
    ("newest", "installed"),
    [
        ("1:1.0-1+deb13u1", "1:1.0-1"),
        ("4.16.0-2+really1.0-1+deb13u1", "4.16.0-2+really1.0-1"),
        ("1.0-1+deb13u1+b1", "1.0-1+b4"),
    ],
)
def test_changelog_has_versions_of_the_source(
    newest: str, installed: str, archive: DebianArchive, audit: Audit
) -> None:
    """As of `bsdutils`, `login`, and packages that were built again."""
    old = entry("libx", OLD, NOW - timedelta(days=900), "Fix CVE-2020-0007.")
    archive.add(SECURITY, "libx", newest, deb("libx", ago(7) + old), "libx (1.0-1+deb13u1)")
    archive.publish_all()

    found = audit(("libx", installed))[("libx", installed)]

    assert (found.fixed, found.ids, found.hours) == (newest, ("CVE-2026-0001",), 7)


def test_changelog_may_be_in_another_package(archive: DebianArchive, audit: Audit) -> None:
    """`libgcc-s1` has a link to the documentation of `gcc-14-base`."""
    archive.add(MAIN, "libx", "1.0-1+deb13u1", deb("libx", link="x-base"), "x")
    archive.add(MAIN, "x-base", "1.0-1+deb13u1", deb("x-base", ago(7)), "x")
    archive.publish_all()

    found = audit(("libx", OLD), ("x-base", "1.0-1+deb13u1"))

    assert [(name, one.ids) for (name, _), one in found.items()] == [("libx", ("CVE-2026-0001",))]


def test_newest_of_all_suites_counts(archive: DebianArchive, audit: Audit) -> None:
    """By Debian's order of versions, in which `~` comes first and 10 after 9."""
    for suite, version in (
        (MAIN, "1.0-9"),
        ("trixie-updates", "1.0-10"),
        (SECURITY, "1.0-10~deb13u1"),
    ):
        archive.add(suite, "libx", version, deb("libx", entry("libx", version, NOW, "-")))
    archive.publish_all()

    assert audit(("libx", "1.0-9"))[("libx", "1.0-9")].fixed == "1.0-10"
    assert audit(("libx", "1.0-10")) == {}


def test_package_that_the_archive_does_not_have_is_not_audited(
    archive: DebianArchive, audit: Audit
) -> None:
    fixed(archive, ago(1))

    assert audit(("other", "1"))[("other", "1")].status is Status.NOT_AUDITED


@pytest.mark.parametrize(
    ("package", "why"),
    [
        (deb("libx"), "has no changelog"),
        (deb("libx", link="libx"), "has no changelog"),
        (b"no package", "cannot be read"),
        (deb("libx", "no changelog at all\n"), ""),
        (deb("libx", entry("libx", OLD, NOW, "-")), "has nothing newer than 1.0-1"),
        (deb("libx", ago(1).replace(" 2026 ", " never ")), ""),
    ],
)
def test_package_that_does_not_say_what_it_fixes_is_not_audited(
    package: bytes, why: str, archive: DebianArchive, audit: Audit
) -> None:
    archive.add(SECURITY, "libx", "1.0-1+deb13u1", package)
    archive.publish_all()

    found = audit(("libx", OLD))[("libx", OLD)]

    assert found.status is Status.NOT_AUDITED
    assert why in found.detail
    assert found.failed


def test_download_with_another_hash_is_not_audited(archive: DebianArchive, audit: Audit) -> None:
    archive.site.answers[fixed(archive, ago(1))] = b"another package"

    found = audit(("libx", OLD))[("libx", OLD)]

    assert found.status is Status.NOT_AUDITED
    assert "has not the hash of its index" in found.detail


def expired(archive: DebianArchive) -> None:
    archive.publish(SECURITY, until=NOW - timedelta(seconds=1))


def index_is_gone(archive: DebianArchive) -> None:
    del archive.site.answers[INRELEASE]


def packages_are_gone(archive: DebianArchive) -> None:
    index = next(path for path in archive.site.answers if f"{SECURITY}/main" in path)
    del archive.site.answers[index]


def packages_are_others(archive: DebianArchive) -> None:
    index = next(path for path in archive.site.answers if f"{SECURITY}/main" in path)
    archive.site.answers[index] = b"other"


def text_was_changed(archive: DebianArchive) -> None:
    signed = archive.site.answers[INRELEASE]
    assert isinstance(signed, bytes)
    archive.site.answers[INRELEASE] = signed.replace(
        b"Acquire-By-Hash: yes", b"Acquire-By-Hash: no"
    )


def is_not_signed(archive: DebianArchive) -> None:
    archive.site.answers[INRELEASE] = f"Codename: {SECURITY}\n".encode()


def is_a_web_page(archive: DebianArchive) -> None:
    archive.site.answers[INRELEASE] = b"<html>Please log in</html>"


def is_of_another_suite(archive: DebianArchive) -> None:
    archive.publish(SECURITY, codename="bookworm-security")


def server_is_broken(archive: DebianArchive) -> None:
    archive.site.answers[INRELEASE] = 500


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (expired, "has expired"),
        (index_is_gone, "has no index trixie-security"),
        (packages_are_gone, "which its index names"),
        (packages_are_others, "has not the hash of its index"),
        (text_was_changed, "no valid signature"),
        (is_not_signed, "no valid signature"),
        (is_a_web_page, "no valid signature"),
        (is_of_another_suite, "gives the index of bookworm-security"),
        (server_is_broken, "answers 500"),
    ],
)
def test_archive_that_cannot_be_read_is_an_error(
    change: Callable[[DebianArchive], None], why: str, archive: DebianArchive, audit: Audit
) -> None:
    """One of the three suites is enough: the fix may be in that."""
    fixed(archive, ago(1))
    change(archive)

    with pytest.raises(WorkError, match=why):
        audit(("libx", OLD))


def test_signature_of_another_key_is_an_error(
    archive: DebianArchive, audit: Audit, tmp_path_factory: pytest.TempPathFactory
) -> None:
    fixed(archive, ago(1))
    other = DebianArchive(archive.site, tmp_path_factory.mktemp("gpg"))
    other.make_key()
    other.publish(SECURITY)

    with pytest.raises(WorkError, match="no valid signature"):
        audit(("libx", OLD))


def test_archive_without_an_end_of_validity_is_read(archive: DebianArchive, audit: Audit) -> None:
    """That of a release itself has none."""
    fixed(archive, ago(1))
    archive.publish(MAIN, until=None)

    assert audit(("libx", OLD))


def test_without_gpgv_the_signature_is_not_checked(
    archive: DebianArchive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """macOS and Fedora have neither gpgv nor Debian's keyring."""
    monkeypatch.setattr("shutil.which", lambda _: None)
    fixed(archive, ago(1))
    mirrors = DebianMirrors(f"{archive.site.url}/debian", f"{archive.site.url}/debian-security")
    asked = Archive(Downloads(tmp_path, host_config()), mirrors, NOW)

    assert not asked.signed
    assert asked.newest("trixie", ["libx"])["libx"].version == "1.0-1+deb13u1"
    is_a_web_page(archive)
    with pytest.raises(WorkError, match="is not signed"):
        asked.newest("trixie", ["libx"])


def test_without_gpgv_the_official_mirror_is_read_by_https(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr("shutil.which", lambda _: None)
    monkeypatch.setattr(Downloads, "get", lambda _, url: asked.append(url))
    with pytest.raises(WorkError, match="has no index"):
        Archive(Downloads(tmp_path, host_config()), DebianMirrors(), NOW).newest("trixie", ["x"])

    assert {url.split("/")[0] for url in asked} == {"https:"}


def test_downloads_are_kept_by_their_hash(
    archive: DebianArchive, audit: Audit, tmp_path: Path
) -> None:
    path = fixed(archive, ago(1))
    before = audit(("libx", OLD))
    content = archive.site.answers[path]
    assert isinstance(content, bytes)
    # A file that was cut off is not used.
    (tmp_path / CACHE / hashlib.sha256(content).hexdigest()).write_bytes(b"")
    first = dict(archive.site.asked)

    assert audit(("libx", OLD)) == before
    again = {name: count - first[name] for name, count in archive.site.asked.items()}
    assert again[path] == 1
    assert {name for name in again if "by-hash" in name and again[name]} == set()


def facts_of(archive: DebianArchive, tmp_path: Path) -> ArchiveFacts:
    mirrors = DebianMirrors(f"{archive.site.url}/debian", f"{archive.site.url}/debian-security")
    asked = Archive(Downloads(tmp_path, host_config()), mirrors, NOW, archive.keyring)
    sources = Mock(Sources, archive=asked, now=NOW)
    return ArchiveFacts(sources, "trixie")


def test_published_packages_have_the_hashes_of_the_archive(
    archive: DebianArchive, tmp_path: Path
) -> None:
    path = fixed(archive, ago(1))
    content = archive.site.answers[path]
    facts = facts_of(archive, tmp_path)

    assert isinstance(content, bytes)
    sha256 = hashlib.sha256(content).hexdigest()
    assert facts.hashes({"libx": "1.0-1+deb13u1", "other": "1"}) == {"libx": sha256}
    # The archive has only one version of a package.
    assert facts.hashes({"libx": OLD}) == {}


def test_update_closes_the_cves_of_the_versions_between(
    archive: DebianArchive, tmp_path: Path
) -> None:
    fixed(archive, entry("libx", "1.0-1+deb13u1", NOW, "CVE-2026-0001 and CVE-2026-0002"))
    facts = facts_of(archive, tmp_path)

    assert facts.closed({"libx": OLD}, {"libx": "1.0-1+deb13u1"}) == {
        "libx": ("CVE-2026-0001", "CVE-2026-0002")
    }
    assert facts.closed({"libx": OLD}, {"libx": OLD}) == {}
    assert facts.closed({}, {"libx": "1.0-1+deb13u1"}) == {}


def test_without_the_archive_there_are_no_facts_and_a_word(
    archive: DebianArchive, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fixed(archive, ago(1))
    index_is_gone(archive)
    facts = facts_of(archive, tmp_path)

    assert facts.hashes({"libx": OLD}) == {}
    assert facts.closed({"libx": OLD}, {"libx": "2"}) == {}
    said = capsys.readouterr().err
    assert "The hashes of Debian packages are not known" in said
    assert "The CVEs that Debian's updates close are not known" in said
