"""Whether an image has the newest patch of its CPython.

CPython's own list of releases says which patches there are, and since when. The official base image
says which one a rebuild would bring.
"""

import json
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from functools import cached_property

from packaging.version import InvalidVersion, Version

from imagematrix.audit.download import Downloads
from imagematrix.audit.findings import Finding, Kind, Status
from imagematrix.console import say
from imagematrix.errors import WorkError
from imagematrix.host.bootstrap import PYTHON_VARIABLE
from imagematrix.host.registry import Registry

# https://www.python.org/api/v2/ (the API of the site's pages about downloads)
RELEASES = "https://www.python.org/api/v2/downloads/release/?is_published=true&pre_release=false"
HUB = "docker.io"
_NAME = re.compile(r"Python (3\.\d+\.\d+)")


class PythonReleases:
    """The releases of CPython, and those in its base images; each is asked once."""

    def __init__(
        self, downloads: Downloads, hub: Registry, now: datetime, url: str = RELEASES
    ) -> None:
        self._downloads, self._hub, self._now, self._url = downloads, hub, now, url
        self._in_bases: dict[str, Version | str] = {}
        self._hub_failed = ""

    def finding(self, installed: str, base: str) -> Finding | None:
        """The finding of an image with this full version, whose CPython is from the base image
        `base` (`python:3.12-slim-trixie`); None if it has the newest."""
        try:
            own = Version(installed)
        except InvalidVersion:
            return _not_audited(installed, "the image does not say its full version")
        dates = self._dates
        known = {version: date for version, date in _patches(dates, own) if version > own}
        if not known and not isinstance(dates, str):
            return None
        in_base = self._in_base(base)
        if isinstance(dates, str) and isinstance(in_base, str):
            return _not_audited(installed, f"{dates}; {in_base}")
        newest = max([*known, *([in_base] if isinstance(in_base, Version) else [])], default=own)
        if newest <= own:
            return None
        since = min(known.values(), default=None)
        hours = None if since is None else (self._now - since).total_seconds() / 3600
        rebuilt = isinstance(in_base, Version) and in_base > own
        detail = "" if rebuilt else f"{base} does not have it yet"
        return Finding(
            Kind.CPYTHON, "CPython", installed, Status.PENDING, str(newest),
            hours=hours, rebuilt=rebuilt, detail=detail,
        )  # fmt: skip

    @cached_property
    def _dates(self) -> Mapping[Version, datetime] | str:
        """The date of each release, or why it is not known."""
        say("Asking for the releases of CPython …")
        try:
            content = self._downloads.get(self._url)
            rows = json.loads(content or b"null")
            found = {
                Version(match[1]): _date(row["release_date"])
                for row in rows
                if (match := _NAME.fullmatch(row["name"]))
            }
        except WorkError as error:
            return str(error)
        except (AttributeError, KeyError, TypeError, ValueError):
            found = {}
        return found or "the list of CPython's releases has another form"

    def _in_base(self, reference: str) -> Version | str:
        """The version in a base image, or why it is not known. A registry that fails once is not
        asked again."""
        if self._hub_failed:
            return self._hub_failed
        if reference not in self._in_bases:
            try:
                self._in_bases[reference] = self._asked(reference)
            except WorkError as error:
                # What to do comes after the reason.
                self._hub_failed = str(error).split(";")[0]
                return self._hub_failed
        return self._in_bases[reference]

    def _asked(self, reference: str) -> Version | str:
        name, tag = reference.split(":")
        try:
            manifest = self._hub.image_manifest(name, tag)
            if manifest is None:
                return f"{HUB} has no {reference}"
            config = self._hub.config(name, manifest)
            variables = (config.get("config") or {}).get("Env") or ()
            texts = dict(variable.partition("=")[::2] for variable in variables)
            return Version(texts[PYTHON_VARIABLE])
        except (AttributeError, KeyError, TypeError, InvalidVersion):
            return f"{reference} has no {PYTHON_VARIABLE} in its environment"


def _patches(
    dates: Mapping[Version, datetime] | str, own: Version
) -> Iterable[tuple[Version, datetime]]:
    if isinstance(dates, str):
        return []
    return [pair for pair in dates.items() if pair[0].release[:2] == own.release[:2]]


def _date(text: str) -> datetime:
    date = datetime.fromisoformat(text)
    return date if date.tzinfo else date.replace(tzinfo=UTC)


def _not_audited(installed: str, why: str) -> Finding:
    return Finding(Kind.CPYTHON, "CPython", installed or "?", Status.NOT_AUDITED, detail=why)
