"""Known vulnerabilities of the Python packages in an image, from the advisories of their index.

https://docs.pypi.org/api/json/#known-vulnerabilities
"""

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from packaging.version import InvalidVersion, Version

from imagematrix.audit.download import CONNECTIONS, Downloads
from imagematrix.audit.findings import Finding, Kind, Status
from imagematrix.console import say
from imagematrix.errors import WorkError

Pair = tuple[str, str]


class PythonAudit:
    """Asks the index at `index_url` (`https://pypi.org/simple`) once for each (package, version).

    A version of another index (`2.13.0+cpu`) is asked for as the public version that it was built
    from.
    """

    def __init__(self, downloads: Downloads, index_url: str, now: datetime) -> None:
        self._downloads, self._now = downloads, now
        self._url = f"{index_url.rstrip('/').removesuffix('/simple')}/pypi"
        self._server = urlsplit(index_url).hostname or index_url

    def findings(self, versions: Iterable[Pair]) -> dict[Pair, tuple[Finding, ...]]:
        """The findings of each of these packages, for those that have any."""
        wanted = sorted(set(versions))
        if not wanted:
            return {}
        say(f"Asking {self._server} for the advisories of {len(wanted)} Python packages …")
        with ThreadPoolExecutor(CONNECTIONS) as threads:
            found = zip(wanted, threads.map(self._findings, wanted), strict=True)
            return {pair: findings for pair, findings in found if findings}

    def _findings(self, pair: Pair) -> tuple[Finding, ...]:
        name, version = pair
        try:
            return self._asked(name, version)
        except WorkError as error:
            why = str(error)
        except (AttributeError, KeyError, TypeError, ValueError):
            why = f"the page of {self._server} has another form"
        return (Finding(Kind.PYPI, name, version, Status.NOT_AUDITED, detail=why),)

    def _asked(self, name: str, version: str) -> tuple[Finding, ...]:
        public = Version(version).public
        page = self._downloads.json(f"{self._url}/{name}/{public}/json")
        if page is None:
            # Not every mirror has the pages of versions; that of the project is about the newest.
            page = self._downloads.json(f"{self._url}/{name}/json")
            if page is None:
                raise WorkError(f"{self._server} has no page about it")
            if Version(page["info"]["version"]) != Version(public):
                raise WorkError(f"{self._server} has advisories of the newest releases only")
        if Version(page["info"]["version"]) != Version(public):
            raise WorkError(f"{self._server} answers for another version")
        if not isinstance(page.get("vulnerabilities"), list):
            raise WorkError(f"{self._server} has no advisories")
        findings = []
        if page["info"].get("yanked"):
            reason = page["info"].get("yanked_reason") or "no reason is given"
            detail = f"withdrawn from the index: {reason}"
            findings.append(Finding(Kind.PYPI, name, version, Status.NOTE, detail=detail))
        known = [one for one in page["vulnerabilities"] if not one.get("withdrawn")]
        fixes = {_id(one): _fixed(one, Version(public)) for one in known}
        if unfixed := sorted(id_ for id_, fixed in fixes.items() if fixed is None):
            detail = "vulnerable, and no release fixes it"
            ids = tuple(unfixed)
            findings.append(Finding(Kind.PYPI, name, version, Status.NOTE, ids=ids, detail=detail))
        fixing = {id_: fixed for id_, fixed in fixes.items() if fixed is not None}
        if fixing:
            findings.append(
                Finding(
                    Kind.PYPI,
                    name,
                    version,
                    Status.PENDING,
                    str(max(fixing.values())),
                    tuple(sorted(fixing)),
                    hours=self._hours(name, set(fixing.values())),
                )
            )
        return tuple(findings)

    def _hours(self, name: str, releases: set[Version]) -> float | None:
        """The age of the oldest of these releases, None where the index does not say it."""
        page = self._downloads.json(f"{self._url}/{name}/json") or {}
        times = [
            datetime.fromisoformat(file["upload_time_iso_8601"])
            for text, files in (page.get("releases") or {}).items()
            if _version(text) in releases
            for file in files
        ]
        return (self._now - min(times)).total_seconds() / 3600 if times else None


def _id(advisory: Mapping[str, Any]) -> str:
    """The CVE of an advisory, its own ID where it has none."""
    names = [*(advisory.get("aliases") or ()), advisory["id"]]
    return next((name for name in names if name.startswith("CVE-")), str(advisory["id"]))


def _fixed(advisory: Mapping[str, Any], installed: Version) -> Version | None:
    """The lowest release that fixes an advisory and is newer, None if there is none."""
    versions = map(_version, advisory.get("fixed_in") or ())
    newer = [version for version in versions if version is not None and version > installed]
    return min(newer, default=None)


def _version(text: str) -> Version | None:
    try:
        return Version(text)
    except InvalidVersion:
        return None
