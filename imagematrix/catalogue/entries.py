"""What the catalogue says of each image: the matrix, the record of sizes and what is published,
brought together."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property
from math import inf
from pathlib import PurePosixPath

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from imagematrix.audit.findings import Finding, Status, pending
from imagematrix.catalogue.published import Attachment, Audit, Publications, Published
from imagematrix.catalogue.published import PublishedTag as Tag
from imagematrix.catalogue.settings import Settings, settings_of
from imagematrix.matrix.lockfile import Lock
from imagematrix.matrix.platforms import PLATFORM
from imagematrix.matrix.schema import Accelerator, Track
from imagematrix.matrix.selection import newest, successor
from imagematrix.matrix.variant import Variant
from imagematrix.publish.cosign import GITHUB_ISSUER
from imagematrix.release.changelog import TITLES
from imagematrix.release.statement import Change
from imagematrix.release.tags import LATEST
from imagematrix.repository.sizes import Budgets, Measured, Size

_GITHUB = re.compile(r"https://github\.com/[A-Za-z0-9._-]+/[A-Za-z0-9._-]+")


@dataclass(frozen=True)
class Package:
    """A package of an image; `promised` is the pin that names it."""

    kind: str
    name: str
    version: str
    licences: tuple[str, ...] = ()
    promised: str = ""


@dataclass(frozen=True)
class Shared:
    """Layers that an image has with others: how many, of how many compressed bytes (None where that
    is not known), and the names of the others."""

    layers: int
    size: int | None
    others: tuple[str, ...]


@dataclass(frozen=True)
class Entry:
    """One image. `variant` is None for an image that was published and is no longer in the matrix.

    `successor` is the name of the image that replaces it, if it is retired and there is one.
    `refused` says why it was not published.
    """

    name: str
    framework: str
    title: str
    version: str
    track: Track
    python: str
    accelerator: Accelerator
    on: str
    pins: tuple[str, ...]
    variant: Variant | None = None
    parent: str | None = None
    settings: Settings = field(default_factory=Settings)
    locked: Mapping[str, str] = field(default_factory=dict)
    measured: Measured | None = None
    unmeasured: str = ""
    published: Published | None = None
    repository: str = ""
    refused: str = ""
    successor: str = ""

    @property
    def page(self) -> str:
        """Its page, relative to the index."""
        return f"images/{self.name}.html"

    @property
    def heading(self) -> str:
        """The framework and its version, as people write them."""
        return f"{self.title} {self.version}".strip()

    @property
    def about(self) -> str:
        """What is in it, where the framework is none that has a version."""
        return self.variant.title if self.variant and not self.version else ""

    @property
    def is_retired(self) -> bool:
        """Whether it gets no more fixes."""
        return self.track is not Track.CURRENT or self.variant is None

    @property
    def platform(self) -> str:
        """The operating system and the architecture."""
        return self.tag.statement.platform if self.tag else PLATFORM

    @property
    def tag(self) -> Tag | None:
        """The dated tag that the page describes, None for an image that is not published."""
        return self.published.current if self.published else None

    @property
    def signer(self) -> str:
        """The options by which cosign and `verify_published` know who signed the statements: the
        workflows of the repository on GitHub, else a key that consumers have."""
        source = self.tag.statement.source if self.tag else ""
        if not _GITHUB.fullmatch(source):
            return "--key cosign.pub"
        return (
            f"--certificate-identity-regexp '^{source}/'"
            f" \\\n  --certificate-oidc-issuer {GITHUB_ISSUER}"
        )

    @property
    def pull_tag(self) -> str:
        """The tag that consumers pull: `latest`, or the dated one where there is no `latest`."""
        if self.published is None:
            return ""
        return LATEST if self.published.latest else self.published.newest.tag

    @property
    def reference(self) -> str:
        """What consumers pull; the name of the local image where nothing is published."""
        return f"{self.repository}:{self.pull_tag}" if self.published else self.name

    @property
    def pinned_reference(self) -> str:
        """What consumers pull who want these bytes and no others, empty if it is not published."""
        return f"{self.repository}@{self.tag.digest}" if self.tag else ""

    @property
    def size(self) -> Size | None:
        """Its size: of the tag, else as it was recorded, None where it was not measured."""
        if self.tag:
            return Size(self.tag.statement.uncompressed, self.tag.statement.compressed)
        return self.measured.size if self.measured else None

    @property
    def shown_pins(self) -> tuple[str, ...]:
        """What it promises, without CUDA's libraries, whose version stands beside it."""
        return tuple(pin for pin in self.pins if not pin.startswith("nvidia-"))

    @property
    def supported_until(self) -> date | None:
        """The last day of its support, as its tag says, else the matrix; None if unsupported."""
        if self.is_retired:
            return None
        if self.tag and self.tag.statement.supported_until:
            return date.fromisoformat(self.tag.statement.supported_until)
        return self.variant.supported_until if self.variant else None

    @property
    def audit(self) -> Audit | None:
        """What the last audit found out, None if there was none."""
        return self.published.audit if self.published else None

    @property
    def fixes(self) -> tuple[Finding, ...]:
        """The pending fixes, the longest pending first."""
        found = pending(self.audit.findings) if self.audit else ()
        return tuple(sorted(found, key=by_age))

    @property
    def not_audited(self) -> str:
        """Why it is not known of all packages whether fixes are pending; empty where it is, or
        where nothing is published."""
        if self.published is None:
            return ""
        if self.audit is None:
            return "no audit was made"
        unknown = [f for f in self.audit.findings if f.status is Status.NOT_AUDITED]
        return "; ".join(dict.fromkeys(f.detail or f.name for f in unknown))

    @cached_property
    def packages(self) -> tuple[Package, ...]:
        """Its packages: those of the tag, else those of the lock. Pinned ones come first."""
        promised = {canonicalize_name(_name_of(pin)): pin for pin in self.pins}
        licences = self.tag.licences if self.tag else {}
        if self.tag:
            versions = {"pypi": self.tag.statement.packages, "deb": self.tag.statement.debian}
        else:
            versions = {"pypi": self.locked}
        found = [
            Package(
                kind,
                name,
                version,
                tuple(licences.get(kind, {}).get(name, ())),
                promised.get(canonicalize_name(name), "") if kind == "pypi" else "",
            )
            for kind, of_kind in versions.items()
            for name, version in of_kind.items()
        ]
        return tuple(sorted(found, key=lambda p: (p.kind != "pypi", not p.promised, p.name)))

    @property
    def passed(self) -> int:
        """How many checks the tag has passed."""
        return sum(not check.skipped for check in self.tag.checks) if self.tag else 0

    @property
    def skipped(self) -> int:
        """How many checks of the tag were skipped."""
        return len(self.tag.checks) - self.passed if self.tag else 0

    @property
    def attachments(self) -> tuple[Attachment, ...]:
        """The signed statements of the tag."""
        return self.tag.attachments if self.tag else ()

    @property
    def over_budget(self) -> float | None:
        """By how many percent the tag is larger than the recorded size, uncompressed."""
        if not (self.tag and self.measured and self.measured.size.uncompressed):
            return None
        recorded = self.measured.size.uncompressed
        return (self.tag.statement.uncompressed - recorded) / recorded * 100

    @property
    def search_text(self) -> str:
        """What the search looks into, in lower case."""
        words = [self.name, self.heading, f"python {self.python}", self.on, self.accelerator]
        words += [*self.pins, *(package.name for package in self.packages)]
        return " ".join(words).lower()


def entries_of(
    variants: Sequence[Variant],
    dockerfiles: Mapping[PurePosixPath, str],
    locks: Mapping[str, Lock],
    budgets: Budgets,
    publications: Publications,
) -> tuple[Entry, ...]:
    """All images in the order of the matrix, then those that are published and no longer in it.

    `dockerfiles` has the text of each Dockerfile by its path, relative to the repository.
    """
    by_name = {variant.name: variant for variant in variants}
    published = {image.name: image for image in publications.images}
    found = []
    for variant in variants:
        chain = [variant]
        while chain[0].parent is not None:
            chain.insert(0, by_name[chain[0].parent])
        texts = [dockerfiles[v.dockerfile] for v in chain if v.dockerfile in dockerfiles]
        lock = locks.get(variant.name, {})
        found.append(
            Entry(
                name=variant.name,
                framework=variant.framework,
                title=_title(variant),
                version=variant.version or "",
                track=variant.track,
                python=variant.python,
                accelerator=variant.accelerator,
                on=variant.platform,
                pins=variant.pins,
                variant=variant,
                parent=variant.parent,
                settings=settings_of(texts),
                locked={name: str(package.version) for name, package in lock.items()},
                measured=budgets.measured.get(variant.name),
                unmeasured=budgets.unmeasured.get(variant.name, ""),
                published=published.get(variant.name),
                repository=f"{publications.prefix}/{variant.name}" if publications.prefix else "",
                refused=publications.refused.get(variant.name, ""),
                successor=_name(successor(variant, variants)),
            )
        )
    found += [
        _removed(image, variants, publications.prefix or "")
        for name, image in published.items()
        if name not in by_name
    ]
    return tuple(found)


def _removed(image: Published, variants: Sequence[Variant], prefix: str) -> Entry:
    """An image that was published and is no longer in the matrix."""
    statement = image.current.statement
    of_framework = [v for v in variants if v.framework == statement.framework]
    accelerator = Accelerator.CPU
    if statement.cuda:
        with_tensorrt = any(name.startswith("tensorrt") for name in statement.packages)
        accelerator = Accelerator.TENSORRT if with_tensorrt else Accelerator.CUDA
    return Entry(
        name=image.name,
        framework=statement.framework,
        title=_title(of_framework[0]) if of_framework else statement.framework,
        version="",
        track=Track(statement.track) if statement.track in set(Track) else Track.CURRENT,
        # CPython's full version, of which images are named by the first two parts.
        python=".".join(statement.python.split(".")[:2]),
        accelerator=accelerator,
        on=f"CUDA {statement.cuda}" if statement.cuda else "CPU",
        pins=statement.pins,
        published=image,
        repository=f"{prefix}/{image.name}",
        successor=_name(newest(variants, statement.framework, accelerator)),
    )


def _title(variant: Variant) -> str:
    """The framework as people write it; what is no framework is called by its name."""
    return variant.title if variant.version else variant.framework.capitalize()


def _name(variant: Variant | None) -> str:
    return variant.name if variant else ""


def by_age(fix: Finding) -> tuple[float, str]:
    """The order of fixes: those of unknown age first, then the oldest."""
    return (-inf if fix.hours is None else -fix.hours, fix.name)


def shared_layers(entry: Entry, entries: Iterable[Entry]) -> tuple[Shared, ...]:
    """The layers that an image has with others, a host stores them once; by the sets of images that
    share them, the most layers first.

    For images that are published, layers are compared by their digests; for others they are those
    of the parent, as recorded.
    """
    others = [other for other in entries if other.name != entry.name]
    if entry.tag and entry.tag.layers:
        groups: dict[tuple[str, ...], list[int]] = {}
        for layer in entry.tag.layers:
            names = tuple(
                other.name
                for other in others
                if other.tag and layer.digest in {same.digest for same in other.tag.layers}
            )
            if names:
                groups.setdefault(names, []).append(layer.size)
        found = [Shared(len(sizes), sum(sizes), names) for names, sizes in groups.items()]
        return tuple(sorted(found, key=lambda shared: (-shared.layers, shared.others)))
    by_name = {other.name: other for other in others}
    root = by_name.get(entry.parent or "", entry)
    family = tuple(other.name for other in others if root.name in (other.name, other.parent))
    if root.measured is None or not family:
        return ()
    return (Shared(root.measured.layers, root.measured.size.compressed, family),)


def changes_by_kind(changes: Iterable[Change]) -> dict[str, list[Change]]:
    """Changes by their kind, in the order of `TITLES`; others come last."""
    found: dict[str, list[Change]] = {kind: [] for kind in TITLES}
    for change in changes:
        found.setdefault(change.kind, []).append(change)
    return {kind: of_kind for kind, of_kind in found.items() if of_kind}


def is_newer(version: str, than: str) -> bool:
    """Whether a release is newer than a version as images are named, `3.4`: a longer version that
    begins with it is not."""
    try:
        wanted, known = Version(version).release, Version(than).release
    except InvalidVersion:
        return False
    return wanted[: len(known)] > known


def _name_of(pin: str) -> str:
    for index, character in enumerate(pin):
        if character in "=<>!~ [;":
            return pin[:index]
    return pin
