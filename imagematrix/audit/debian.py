"""Security fixes in Debian's archive that installed packages lack.

The signed indexes of the mirror say which version is newest, the changelog in that package which
CVEs it fixes since the installed version, and when. https://wiki.debian.org/DebianRepository/Format
"""

import io
import lzma
import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import Message
from email.parser import HeaderParser
from email.utils import parsedate_to_datetime
from functools import cached_property
from pathlib import Path

from debian.arfile import ArError
from debian.changelog import Changelog, ChangelogParseError
from debian.deb822 import Deb822
from debian.debfile import DebError, DebFile
from debian.debian_support import Version

from imagematrix.audit.download import CONNECTIONS, Downloads, shown
from imagematrix.audit.findings import Finding, Kind, Severity, Status
from imagematrix.console import say
from imagematrix.errors import WorkError
from imagematrix.host.debian import KEYRING, DebianMirrors

# The official mirror serves the same by HTTPS, which protects where no signature can be checked.
_PLAIN, _HTTPS = "http://deb.debian.org/", "https://deb.debian.org/"
_INDEX = "main/binary-amd64/Packages.xz"
_ENTRY = re.compile(r"^ ([0-9a-f]{64}) +\d+ (\S+)$", re.M)
_SOURCE = re.compile(r"\((.+)\)")
_CVE = re.compile(r"\bCVE-\d{4}-\d{4,}\b")
_URGENT = {"high", "emergency", "critical"}
_DOC = "usr/share/doc"


@dataclass(frozen=True)
class Candidate:
    """The newest version of a package in the archive, and the version of its source package."""

    name: str
    version: str
    source_version: str
    url: str
    sha256: str
    security: bool


class Archive:
    """The part of Debian's archive that images install from, read with all checks that apt makes.

    Where `keyring` or gpgv is missing on this host, signatures are not checked, and the official
    mirror is read by HTTPS; `signed` says which.
    """

    def __init__(
        self,
        downloads: Downloads,
        mirrors: DebianMirrors,
        now: datetime,
        keyring: Path = Path(KEYRING),
    ) -> None:
        self._downloads, self._now = downloads, now
        self.signed = shutil.which("gpgv") is not None and keyring.is_file()
        self._keyring = keyring
        self._mirrors = mirrors
        if not self.signed:
            main, security = (
                url.replace(_PLAIN, _HTTPS) for url in (mirrors.main, mirrors.security)
            )
            self._mirrors = DebianMirrors(main, security)

    def newest(self, suite: str, names: Iterable[str]) -> dict[str, Candidate]:
        """The newest version of each of the packages that a release has.

        Raises WorkError where an index is missing, expired, or not what its signature or hash says.
        """
        sources = (
            (self._mirrors.main, suite, False),
            (self._mirrors.main, f"{suite}-updates", False),
            (self._mirrors.security, f"{suite}-security", True),
        )
        wanted = frozenset(names)
        with ThreadPoolExecutor(len(sources)) as threads:
            tables = [threads.submit(self._candidates, *source, wanted) for source in sources]
            newest: dict[str, Candidate] = {}
            for candidate in (one for table in tables for one in table.result()):
                known = newest.get(candidate.name)
                # Both archives may have the same version: then it came by the security archive.
                order = (Version(candidate.version), candidate.security)
                if known is None or order > (Version(known.version), known.security):
                    newest[candidate.name] = candidate
        return newest

    def _candidates(
        self, mirror: str, suite: str, security: bool, wanted: frozenset[str]
    ) -> list[Candidate]:
        release = self._release(mirror, suite)
        hashes = {path: sha256 for sha256, path in _ENTRY.findall(release["SHA256"] or "")}
        if _INDEX not in hashes:
            raise WorkError(f"the index {suite} of {shown(mirror)} has no {_INDEX}")
        sha256 = hashes[_INDEX]
        folder = f"{mirror}/dists/{suite}/{_INDEX.rpartition('/')[0]}"
        by_hash = (release["Acquire-By-Hash"] or "").strip() == "yes"
        name = f"by-hash/SHA256/{sha256}" if by_hash else "Packages.xz"
        packed = self._downloads.file(f"{folder}/{name}", sha256)
        try:
            text = lzma.decompress(packed).decode()
        except (lzma.LZMAError, UnicodeDecodeError) as error:
            raise WorkError(
                f"the index {suite} of {shown(mirror)} cannot be read: {error}"
            ) from None
        found = []
        for stanza in text.split("\n\n"):
            # Most of the 70,000 are not wanted, and parsing them takes a minute.
            if stanza.lstrip("\n").split("\n", 1)[0].removeprefix("Package: ") in wanted:
                fields = Deb822(stanza)
                found.append(_candidate(fields, mirror, security))
        return found

    def _release(self, mirror: str, suite: str) -> Message:
        """The fields of an InRelease file, after all checks."""
        content = self._downloads.get(f"{mirror}/dists/{suite}/InRelease")
        if content is None:
            raise WorkError(f"{shown(mirror)} has no index {suite}")
        text = self._verified(content, mirror, suite)
        fields = HeaderParser().parsestr(text)
        if fields["Codename"] != suite:
            raise WorkError(f"{shown(mirror)} gives the index of {fields['Codename']} for {suite}")
        until = fields["Valid-Until"]
        if until and _date(until, f"the index {suite} of {shown(mirror)}") < self._now:
            raise WorkError(
                f"the index {suite} of {shown(mirror)} is from {fields['Date']} and has expired"
            )
        return fields

    def _verified(self, content: bytes, mirror: str, suite: str) -> str:
        """The text of an InRelease file, whose signature must be one of Debian's."""
        if not self.signed:
            text = content.decode(errors="replace")
            begin, _, signed = text.partition("\n\n")
            if not begin.startswith("-----BEGIN PGP SIGNED MESSAGE-----"):
                raise WorkError(f"the index {suite} of {shown(mirror)} is not signed")
            return signed.partition("\n-----BEGIN PGP SIGNATURE-----")[0]
        command = ["gpgv", "--keyring", str(self._keyring), "--status-fd", "2", "--output", "-"]
        result = subprocess.run([*command, "-"], input=content, capture_output=True, check=False)
        status = result.stderr.decode(errors="replace")
        # It is signed with the keys of several releases, not all of which every host has.
        if "[GNUPG:] GOODSIG " not in status or "[GNUPG:] BADSIG " in status:
            raise WorkError(
                f"the index {suite} of {shown(mirror)} has no valid signature of Debian (if that is"
                " newer than this host, its package debian-archive-keyring may be too old)"
            )
        return result.stdout.decode(errors="replace")

    def changelog(self, package: Candidate, newest: Mapping[str, Candidate]) -> Changelog:
        """The changelog inside of a package, or in the one that its documentation is a link to."""
        seen: set[str] = set()
        name, found = package.name, package
        while name not in seen:
            seen.add(name)
            content = self._downloads.file(found.url, found.sha256)
            try:
                with DebFile(fileobj=io.BytesIO(content)) as deb:
                    changelog = deb.changelog()
                    target = _documentation(deb, name)
            except (ArError, DebError, OSError, lzma.LZMAError, ChangelogParseError) as error:
                raise WorkError(f"{shown(found.url)} cannot be read: {error}") from None
            if changelog is not None and len(changelog):
                return changelog
            if target not in newest:
                break
            name, found = target, newest[target]
        raise WorkError(f"{package.name} {package.version} has no changelog")


def _candidate(fields: Mapping[str, str], mirror: str, security: bool) -> Candidate:
    version, source = fields["Version"], _SOURCE.search(fields.get("Source", ""))
    url = f"{mirror}/{fields['Filename']}"
    own = source[1] if source else version
    return Candidate(fields["Package"], version, own, url, fields["SHA256"], security)


def _documentation(deb: DebFile, name: str) -> str:
    """The package that the folder of documentation is a link to, "" if it is none."""
    try:
        member = deb.data.tgz().getmember(f"./{_DOC}/{name}")
    except KeyError:
        return ""
    return member.linkname.rstrip("/").rpartition("/")[2] if member.issym() else ""


@dataclass(frozen=True)
class Fixes:
    """What a newer version of a package fixes: the CVEs, when the first fix was made (with none,
    when the newest version was), and whether one of them is urgent. `security` says that they are
    security fixes."""

    ids: tuple[str, ...]
    since: datetime
    urgent: bool
    security: bool


def fixes_since(changelog: Changelog, installed: str, candidate: Candidate) -> Fixes:
    """The fixes in a changelog that are newer than the installed version.

    Security fixes are those that name a CVE, and what the security archive has newer. Raises
    WorkError where the changelog has no entry that is newer, or no date.
    """
    known = Version(_of_source(installed, candidate))
    blocks = [block for block in changelog if block.version is not None and block.version > known]
    if not blocks:
        # A build of the same source for another reason has no entry in it.
        if not candidate.security:
            return Fixes((), datetime.fromtimestamp(0, UTC), False, False)
        raise WorkError(f"the changelog of {candidate.name} has nothing newer than {installed}")
    fixing = [block for block in blocks if _CVE.search("\n".join(block.changes()))]
    named = "\n".join(line for block in fixing for line in block.changes())
    chosen = fixing or blocks
    oldest = chosen[-1] if fixing else chosen[0]
    return Fixes(
        ids=tuple(sorted(set(_CVE.findall(named)), key=_number)),
        since=_date(oldest.date or "", f"the changelog of {candidate.name}"),
        urgent=any((block.urgency or "high").lower() in _URGENT for block in chosen),
        security=bool(fixing) or candidate.security,
    )


def _of_source(installed: str, candidate: Candidate) -> str:
    """The version of the source of an installed package, as changelogs have it.

    Packages like `login` put something before the version of their source.
    """
    before, found, _ = candidate.version.partition(candidate.source_version)
    return installed.removeprefix(before) if found else installed


def _number(cve: str) -> tuple[int, ...]:
    return tuple(map(int, cve.split("-")[1:]))


def _date(text: str, what: str) -> datetime:
    try:
        # "UTC" is none of the zones of RFC 5322.
        date = parsedate_to_datetime(text.strip().replace("UTC", "+0000"))
    except ValueError:
        raise WorkError(f"{what} has the date {text!r}, which cannot be read") from None
    return date if date.tzinfo else date.replace(tzinfo=UTC)


class DebianAudit:
    """Audits packages of one Debian release; each version of a package is asked once."""

    def __init__(self, archive: Archive, suite: str, names: Iterable[str], now: datetime) -> None:
        self._archive, self._suite, self._now = archive, suite, now
        self._names = frozenset(names)

    @cached_property
    def _newest(self) -> Mapping[str, Candidate]:
        say(f"Asking Debian's archive for {self._suite} …")
        return self._archive.newest(self._suite, self._names)

    def findings(self, versions: Iterable[tuple[str, str]]) -> dict[tuple[str, str], Finding]:
        """The finding of each of these (package, version), for those that have one.

        Raises WorkError where the archive cannot be read.
        """
        newest, wanted = self._newest, sorted(set(versions))
        unknown = [pair for pair in wanted if pair[0] not in newest]
        found = {
            pair: _not_audited(*pair, f"it is not in Debian's archive for {self._suite}")
            for pair in unknown
        }
        older = [
            (name, version)
            for name, version in wanted
            if name in newest and Version(newest[name].version) > Version(version)
        ]
        if older:
            say(f"Reading the changelogs of {len({name for name, _ in older})} packages …")
        with ThreadPoolExecutor(CONNECTIONS) as threads:
            found |= zip(older, threads.map(lambda pair: self._finding(*pair), older), strict=True)
        return found

    def _finding(self, name: str, version: str) -> Finding:
        candidate = self._newest[name]
        try:
            changelog = self._archive.changelog(candidate, self._newest)
            fixes = fixes_since(changelog, version, candidate)
        except WorkError as error:
            return _not_audited(name, version, str(error))
        if not fixes.security:
            return Finding(
                Kind.DEB, name, version, Status.NOTE, candidate.version,
                detail="newer, no security fix",
            )  # fmt: skip
        return Finding(
            Kind.DEB,
            name,
            version,
            Status.PENDING,
            candidate.version,
            fixes.ids,
            Severity.URGENT if fixes.urgent else Severity.OTHER,
            (self._now - fixes.since).total_seconds() / 3600,
            rebuilt=True,
        )


def _not_audited(name: str, version: str, why: str) -> Finding:
    return Finding(Kind.DEB, name, version, Status.NOT_AUDITED, detail=why)
