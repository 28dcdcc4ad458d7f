"""The tags that a registry has of an image, and their removal."""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from imagematrix.host.registry import Registry
from imagematrix.release.tags import LATEST, TaggedImage, fallback_tags, is_fallback

_REQUESTS = 8


def tagged_images(registry: Registry, repository: str) -> tuple[TaggedImage, ...]:
    """The tags of a repository with their sizes, without those that only lead to signatures and
    statements; none if there is no such repository.

    Raises WorkError for what the registry refuses.
    """
    tags = [tag for tag in registry.tags(repository) if not is_fallback(tag)]
    with ThreadPoolExecutor(_REQUESTS) as pool:
        found = pool.map(lambda tag: _tagged_image(registry, repository, tag), tags)
        # A tag may have been removed since it was listed.
        return tuple(image for image in found if image is not None)


def _tagged_image(registry: Registry, repository: str, tag: str) -> TaggedImage | None:
    manifest = registry.manifest(repository, tag)
    if manifest is None:
        return None
    document = manifest.document
    parts = tuple(_fields(document.get("manifests"), "digest"))
    if not parts:
        return TaggedImage(tag, manifest.digest, _size(document))
    children = [registry.manifest(repository, digest) for digest in parts]
    sizes = [_size(child.document) if child else None for child in children]
    known = [size for size in sizes if size is not None]
    return TaggedImage(
        tag, manifest.digest, sum(known) if len(known) == len(sizes) else None, parts
    )


def _size(manifest: dict[str, Any]) -> int | None:
    """The sum of the compressed layers; None for what is no manifest of an image."""
    layers = manifest.get("layers")
    return sum(_fields(layers, "size")) if isinstance(layers, list) else None


def _fields(descriptors: Any, key: str) -> list[Any]:
    if not isinstance(descriptors, list):
        return []
    return [d[key] for d in descriptors if isinstance(d, dict) and key in d]


def prune(
    registry: Registry, repository: str, digests: Iterable[str], removed: Callable[[str], None]
) -> None:
    """Removes manifests with all their tags, and what refers to them; calls `removed` with each.

    What refers to an image goes first: after an interruption the image still has its tag, so that a
    repeat finds it. One that has become `latest` in the meantime stays. Raises WorkError at the
    first that the registry refuses to remove.
    """
    tags = registry.tags(repository)
    for digest in digests:
        latest = registry.manifest(repository, LATEST)
        if latest is None or latest.digest != digest:
            _remove(registry, repository, digest, tags)
            removed(digest)


def _remove(registry: Registry, repository: str, digest: str, tags: Sequence[str]) -> None:
    for referrer in registry.referrers(repository, digest):
        _remove(registry, repository, referrer.digest, tags)
    for tag in fallback_tags(digest, tags):
        index = registry.manifest(repository, tag)
        if index is not None:
            registry.delete_manifest(repository, index.digest)
    registry.delete_manifest(repository, digest)
