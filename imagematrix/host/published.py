"""Published images: in a registry, or in the plan that was saved when they were published."""

import json
import re
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from imagematrix.errors import UserError
from imagematrix.files import read_text
from imagematrix.host.registry import Registry
from imagematrix.plan.content import Present

_TAG = "latest"
_HINT = "write it with `nox -s plan -- --json`"
# host[:port]/namespace; a dot, a port or the name "localhost" distinguishes a host from a folder.
_REGISTRY = re.compile(r"((?:[^/\s]+[.:][^/\s]+)|localhost)/([a-z0-9._/-]*[a-z0-9])")
_REQUESTS = 8


def published_images(
    against: str, names: Iterable[str], ca_bundle: Path | None
) -> dict[str, Present]:
    """Those of the named images that are published, by their names.

    `against` is a file that `nox -s plan -- --json` wrote, or `host/namespace` of a registry.
    Raises UserError for anything else.
    """
    if Path(against).is_file():
        saved = _saved(Path(against))
        return {name: saved[name] for name in names if name in saved}
    registry, namespace = registry_of(against, ca_bundle)
    return images_in_registry(registry, namespace, list(names), _TAG)


def registry_of(text: str, ca_bundle: Path | None) -> tuple[Registry, str]:
    """The registry and the namespace of `host/namespace`. Raises UserError for other texts."""
    match = _REGISTRY.fullmatch(text)
    if match is None:
        raise UserError(f"{text} is neither a file nor host/namespace of a registry")
    return Registry(match[1], ca_bundle), match[2]


def _saved(path: Path) -> dict[str, Present]:
    try:
        rows = json.loads(read_text(path, path))
        if not isinstance(rows, list):
            raise TypeError(rows)
        # Images that were unavailable then were not published.
        built = [row for row in rows if row["action"] != "unavailable"]
        return {row["image"]: _present(row["labels"], row.get("layers")) for row in built}
    except (AttributeError, KeyError, TypeError, ValueError):
        raise UserError(f"{path} has no labels of images; {_HINT}") from None


def _present(labels: Any, layers: Any) -> Present:
    texts = [*labels.values(), *(layers or [])]
    if not all(isinstance(text, str) for text in texts):
        raise TypeError(texts)
    return Present(labels, None if layers is None else tuple(layers))


def images_in_registry(
    registry: Registry, namespace: str, names: Sequence[str], tag: str
) -> dict[str, Present]:
    """Those of the named images that the registry has under the tag."""
    with ThreadPoolExecutor(_REQUESTS) as pool:
        images = pool.map(lambda name: registry.image(f"{namespace}/{name}", tag), names)
        found = dict(zip(names, images, strict=True))
    return {name: image for name, image in found.items() if image is not None}
