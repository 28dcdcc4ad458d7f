"""What an audit finds: security fixes that an image lacks, for how long, and what was not audited.

What could not be asked is a finding too, so no image passes because a server did not answer.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from imagematrix.console import counted

# The ages in hours from which a pending fix is an error.
URGENT_HOURS = 48
OTHER_HOURS = 14 * 24


class Kind(StrEnum):
    """What a finding is about: a package of Debian, of Python, or CPython itself."""

    DEB = "deb"
    PYPI = "pypi"
    CPYTHON = "cpython"


class Severity(StrEnum):
    """How soon a fix has to be applied: within 48 hours, or within 14 days. Where a source does not
    say it, a fix is urgent."""

    URGENT = "urgent"
    OTHER = "other"


class Status(StrEnum):
    """`pending` is a security fix that exists and is not in the image. A `note` is no error: a
    vulnerability without a fix, a withdrawn release."""

    PENDING = "pending"
    NOT_AUDITED = "not audited"
    NOTE = "note"


@dataclass(frozen=True)
class Finding:
    """One finding about one package of an image.

    `ids` are the CVEs, else the advisories, that `fixed` fixes. `hours` is the age of the oldest of
    these fixes, None if it is unknown. `rebuilt` is whether a build without cache applies the fix;
    otherwise a lock or a base image has to change first. `detail` is a phrase for people: why it
    was not audited, or what the note says.
    """

    kind: Kind
    name: str
    installed: str
    status: Status
    fixed: str = ""
    ids: tuple[str, ...] = ()
    severity: Severity = Severity.URGENT
    hours: float | None = None
    rebuilt: bool = False
    detail: str = ""

    @property
    def limit(self) -> int:
        """The age in hours from which it is an error."""
        return URGENT_HOURS if self.severity is Severity.URGENT else OTHER_HOURS

    @property
    def overdue(self) -> bool:
        """Whether it is a pending fix that is older than its limit, or of unknown age."""
        return self.status is Status.PENDING and (self.hours is None or self.hours > self.limit)

    @property
    def failed(self) -> bool:
        """Whether it is an error: overdue, or not audited."""
        return self.overdue or self.status is Status.NOT_AUDITED

    @property
    def verdict(self) -> str:
        """The finding in words."""
        if self.status is not Status.PENDING:
            return f"{self.status}: {self.detail}" if self.detail else str(self.status)
        limit = f"{self.limit} h" if self.limit < 100 else f"{self.limit // 24} days"
        text = f"pending longer than {limit}" if self.overdue else f"pending, {limit} at most"
        return f"{text}: {self.detail}" if self.detail else text


@dataclass(frozen=True)
class Audited:
    """The findings of an image. Those in `inherited` are about packages that its parent has in the
    same version, so that a rebuild of the parent applies them."""

    own: tuple[Finding, ...] = ()
    inherited: tuple[Finding, ...] = ()

    @property
    def all(self) -> tuple[Finding, ...]:
        """All findings."""
        return (*self.own, *self.inherited)


def pending(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Those that are pending fixes."""
    return tuple(finding for finding in findings if finding.status is Status.PENDING)


def rebuild_reasons(audited: Mapping[str, Audited]) -> dict[str, str]:
    """Why images have to be rebuilt: `3 security fixes pending (libssl3t64, …)`, by their names.

    Only of images whose own packages have fixes that a rebuild applies. Their children are rebuilt
    because of their parent.
    """
    reasons = {}
    for image, found in audited.items():
        names = [finding.name for finding in pending(found.own) if finding.rebuilt]
        if names:
            fixes = "1 security fix" if len(names) == 1 else f"{len(names)} security fixes"
            reasons[image] = f"{fixes} pending ({', '.join(names)})"
    return reasons


def pending_refusals(audited: Mapping[str, Audited]) -> list[str]:
    """Why images must not be published, one line for each; those of parents count.

    What was not audited is refused as well. A reason for `--allow-pending` overrides these lines.
    """
    refusals = []
    for image, found in audited.items():
        fixes = [_named(finding) for finding in pending(found.all)]
        unknown = [finding for finding in found.all if finding.status is Status.NOT_AUDITED]
        parts = [f"pending security fixes: {'; '.join(fixes)}"] if fixes else []
        if unknown:
            whys = dict.fromkeys(finding.detail for finding in unknown)
            parts.append(f"not audited: {_listed(unknown)} ({'; '.join(whys)})")
        if parts:
            refusals.append(f"{image}: {'; '.join(parts)}")
    return refusals


def _named(finding: Finding) -> str:
    ids = f" {', '.join(finding.ids)}" if finding.ids else ""
    return f"{finding.name} {finding.installed} → {finding.fixed}{ids} ({age(finding)})"


def _listed(findings: Sequence[Finding], most: int = 3) -> str:
    names = list(dict.fromkeys(finding.name for finding in findings))
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{', '.join(names[:most])}{more}"


def age(finding: Finding) -> str:
    """The age of a pending fix, in words."""
    return "age unknown" if finding.hours is None else f"{finding.hours:,.0f} h"


def totals(audited: Mapping[str, Audited]) -> str:
    """The counts of an audit, a package that several images share once for each of them."""
    found = [finding for one in audited.values() for finding in one.all]
    overdue = sum(finding.overdue for finding in found)
    fixes = len(pending(found))
    unknown = sum(finding.status is Status.NOT_AUDITED for finding in found)
    clean = sum(not one.all for one in audited.values())
    kinds = counted(finding.kind for finding in pending(found))
    return (
        f"{len(audited)} images: {fixes} fixes pending{f' ({kinds})' if kinds else ''},"
        f" {overdue} of them beyond the limits; {unknown} not audited;"
        f" {clean} images without a finding"
    )
