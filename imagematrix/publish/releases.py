"""What a registry has of an image: its dated tags, and what is attached to each."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass

from imagematrix.errors import WorkError
from imagematrix.host.oci import Manifest
from imagematrix.host.registry import Registry
from imagematrix.publish.attach import Attachment, attachments
from imagematrix.release.predicates import Predicate
from imagematrix.release.statement import ReleaseStatement, from_json
from imagematrix.release.tags import LATEST, DatedTag

_REQUESTS = 8


@dataclass(frozen=True)
class Release:
    """A dated tag with the manifest of its image; nothing of what is attached is verified."""

    tag: DatedTag
    manifest: Manifest
    attachments: tuple[Attachment, ...]


@dataclass(frozen=True)
class Releases:
    """The dated tags of an image, the newest first, and the digest that `latest` has, empty without
    that tag."""

    dated: tuple[Release, ...]
    latest: str


def releases(registry: Registry, repository: str) -> Releases:
    """The releases of a repository; none if there is no such repository.

    Raises WorkError for what the registry refuses.
    """
    tags = registry.tags(repository)
    dated = sorted(filter(None, map(DatedTag.parse, tags)), reverse=True)
    with ThreadPoolExecutor(_REQUESTS) as pool:
        found = pool.map(lambda tag: _release(registry, repository, tag), dated)
        # A tag may have been removed since it was listed.
        kept = tuple(release for release in found if release is not None)
    latest = registry.image_manifest(repository, LATEST) if LATEST in tags else None
    return Releases(kept, latest.digest if latest else "")


def _release(registry: Registry, repository: str, tag: DatedTag) -> Release | None:
    manifest = registry.image_manifest(repository, str(tag))
    if manifest is None:
        return None
    return Release(tag, manifest, attachments(registry, repository, manifest.digest))


def said_of(registry: Registry, repository: str, reference: str) -> ReleaseStatement | None:
    """The newest release statement that is attached to an image, whoever signed it."""
    manifest = registry.image_manifest(repository, reference)
    if manifest is None:
        return None
    found = []
    for one in attachments(registry, repository, manifest.digest):
        if one.statement is not None and one.predicate_type == Predicate.RELEASE:
            with suppress(WorkError):
                found.append(from_json(one.statement.predicate))
    return max(found, key=lambda release: release.dated, default=None)
