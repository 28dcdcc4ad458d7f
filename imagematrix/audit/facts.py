"""What Debian's archive says of packages that are published: their hashes, and the CVEs that an
update closes."""

from collections.abc import Mapping
from functools import cache

from imagematrix.audit.debian import Candidate, DebianAudit
from imagematrix.audit.findings import Status
from imagematrix.audit.images import Sources
from imagematrix.console import say
from imagematrix.errors import WorkError


class ArchiveFacts:
    """Facts of one Debian release. Where the archive cannot be read, there are none, and a message
    says so: they are for people, and nothing is refused without them."""

    def __init__(self, sources: Sources, suite: str) -> None:
        self._sources, self._suite = sources, suite

    def hashes(self, versions: Mapping[str, str]) -> dict[str, str]:
        """The SHA-256 of each of these packages whose version is the archive's present one."""
        try:
            newest = self._newest(frozenset(versions))
        except WorkError as error:
            say(f"The hashes of Debian packages are not known: {error}")
            return {}
        return {
            name: newest[name].sha256
            for name, version in versions.items()
            if name in newest and newest[name].version == version
        }

    @cache  # noqa: B019  # It lives as long as the command. Most images have the same packages.
    def _newest(self, names: frozenset[str]) -> Mapping[str, Candidate]:
        return self._sources.archive.newest(self._suite, names)

    def closed(self, old: Mapping[str, str], new: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
        """The CVEs that updates from the old to the new versions close, by package."""
        updated = {name: old[name] for name in old.keys() & new.keys() if old[name] != new[name]}
        if not updated:
            return {}
        audit = DebianAudit(self._sources.archive, self._suite, updated, self._sources.now)
        try:
            found = audit.findings(updated.items())
        except WorkError as error:
            say(f"The CVEs that Debian's updates close are not known: {error}")
            return {}
        return {
            name: one.ids
            for (name, _), one in found.items()
            if one.status is Status.PENDING and one.fixed == new[name]
        }
