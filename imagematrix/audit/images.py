"""Audits images: each package version is asked once for all images that have it."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from packaging.version import Version

from imagematrix.audit.cpython import HUB, PythonReleases
from imagematrix.audit.debian import Archive, DebianAudit
from imagematrix.audit.download import Downloads
from imagematrix.audit.findings import Audited, Finding, Kind, Status
from imagematrix.audit.installed import Installed
from imagematrix.audit.python import PythonAudit
from imagematrix.console import say
from imagematrix.errors import WorkError
from imagematrix.host.config import HostConfig
from imagematrix.host.debian import debian_mirrors
from imagematrix.host.registry import Registry
from imagematrix.matrix.lockfile import Lock
from imagematrix.matrix.variant import Variant


@dataclass(frozen=True)
class Sources:
    """What audits ask: Debian's archive, an index of Python packages, the releases of CPython."""

    downloads: Downloads
    archive: Archive
    index_url: str
    releases: PythonReleases
    now: datetime


def sources_of(root: Path, host: HostConfig) -> Sources:
    """The sources as this host reaches them; downloads are kept below the work folder of `root`."""
    now = datetime.now(UTC)
    downloads = Downloads(root, host)
    archive = Archive(downloads, debian_mirrors(), now)
    releases = PythonReleases(downloads, Registry(HUB, host.ca_bundle), now)
    return Sources(downloads, archive, host.index_url, releases, now)


def audit_images(
    variants: Sequence[Variant],
    installed: Mapping[str, Installed | str],
    locks: Mapping[str, Lock],
    sources: Sources,
) -> dict[str, Audited]:
    """The findings of each image, by its name.

    `installed` has what is in each image, or why that is not known; images without an entry are
    left out. `locks` say which Python packages a rebuild would install.
    """
    if not sources.archive.signed:
        say("Debian's indexes are read without their signatures: no gpgv or Debian keyring here.")
    known = {name: one for name, one in installed.items() if isinstance(one, Installed)}
    pairs = [pair for one in known.values() for pair in one.distributions.items()]
    index = PythonAudit(sources.downloads, sources.index_url, sources.now)
    # They ask different servers.
    with ThreadPoolExecutor() as threads:
        asked_archive = threads.submit(_debian_findings, known, sources)
        asked_index = threads.submit(index.findings, pairs)
        cpython = _cpython_findings(variants, known, sources)
        debian, python = asked_archive.result(), asked_index.result()
    result = {}
    for variant in (variant for variant in variants if variant.name in installed):
        one = installed[variant.name]
        if isinstance(one, str):
            unknown = Finding(Kind.DEB, "all packages", "?", Status.NOT_AUDITED, detail=one)
            result[variant.name] = Audited((unknown,))
            continue
        found = list(debian[variant.name])
        for pair in one.distributions.items():
            found += (
                _with_lock(finding, locks.get(variant.name, {})) for finding in python.get(pair, ())
            )
        found += cpython[variant.name]
        parent = known.get(variant.parent or "")
        inherited = [finding for finding in found if parent and _has(parent, finding)]
        own = [finding for finding in found if finding not in inherited]
        result[variant.name] = Audited(tuple(own), tuple(inherited))
    sources.downloads.prune()
    return result


def _debian_findings(
    installed: Mapping[str, Installed], sources: Sources
) -> dict[str, list[Finding]]:
    """The findings about Debian's packages of each image; one for all where nothing was asked."""
    result: dict[str, list[Finding]] = {}
    for suite in sorted({one.suite for one in installed.values()}):
        images = {name: one.debian for name, one in installed.items() if one.suite == suite}
        pairs = {pair for packages in images.values() for pair in packages.items()}
        why, found = "", dict[tuple[str, str], Finding]()
        if not suite or not pairs:
            why = "the image does not say its Debian release and packages"
        else:
            audit = DebianAudit(sources.archive, suite, {name for name, _ in pairs}, sources.now)
            try:
                found = audit.findings(pairs)
            except WorkError as error:
                why = str(error)
        for name, packages in images.items():
            everything = f"Debian's {len(packages)} packages"
            failed = Finding(Kind.DEB, everything, suite, Status.NOT_AUDITED, detail=why)
            own = [found[pair] for pair in packages.items() if pair in found]
            result[name] = [failed] if why else own
    return result


def _cpython_findings(
    variants: Sequence[Variant], installed: Mapping[str, Installed], sources: Sources
) -> dict[str, list[Finding]]:
    found = {
        variant.name: sources.releases.finding(installed[variant.name].python, variant.python_image)
        for variant in variants
        if variant.name in installed
    }
    return {name: [finding] if finding else [] for name, finding in found.items()}


def _with_lock(finding: Finding, lock: Lock) -> Finding:
    """The finding of a Python package, with whether the lock brings another version."""
    locked = lock.get(finding.name)
    if finding.status is not Status.PENDING or locked is None:
        return finding
    if Version(finding.fixed) <= locked.version:
        return replace(finding, rebuilt=True)
    return replace(finding, detail="the lock has to change first")


def _has(parent: Installed, finding: Finding) -> bool:
    versions: dict[Kind, Mapping[str, str]] = {
        Kind.DEB: parent.debian,
        Kind.PYPI: parent.distributions,
        Kind.CPYTHON: {"CPython": parent.python},
    }
    return versions[finding.kind].get(finding.name) == finding.installed
