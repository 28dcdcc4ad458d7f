"""Published images: in a registry, or in the plan that was saved when they were published."""

import json
import re
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from imagematrix.console import say
from imagematrix.errors import UserError
from imagematrix.files import read_text
from imagematrix.host.registry import Registry
from imagematrix.plan.content import Present

_TAG = "latest"
_HINT = "write it with `nox -s plan -- --json`"
# A dot, a port or the name "localhost" distinguishes a host from a folder.
_HOST = re.compile(
    r"[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+(:\d+)?|[A-Za-z0-9-]+:\d+|\[[0-9a-f:]+\](:\d+)?|localhost"
)
# https://github.com/opencontainers/distribution-spec/blob/main/spec.md#pulling-manifests
_NAMESPACE = re.compile(r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*")
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
    if not _HOST.fullmatch(against.partition("/")[0]) or "/" not in against:
        raise UserError(f"{against} is neither a file nor host/namespace of a registry")
    registry, namespace = registry_of(against, ca_bundle)
    return images_in_registry(registry, namespace, list(names), _TAG)


def registry_of(text: str, ca_bundle: Path | None) -> tuple[Registry, str]:
    """The registry and the namespace of `host/namespace`, the namespace in lower case.

    Raises UserError for other texts, with what is wrong in them.
    """
    host, _, namespace = text.removesuffix("/").partition("/")
    lowered = namespace.lower()
    if "://" in text:
        why = "leave out what is before the host, as https://"
    elif not _HOST.fullmatch(host):
        why = f"{host or 'it'} is no host of a registry; Docker Hub's is docker.io"
    elif not namespace:
        why = "it has no namespace, as the name of a user or an organization"
    elif not _NAMESPACE.fullmatch(lowered):
        why = (
            f"{namespace} is no namespace: letters and digits, parts by / and single characters"
            " of . _ - between; no tag and no digest"
        )
    else:
        if lowered != namespace:
            say(f"Registries have lower-case names only: {host}/{lowered} is used.")
        return Registry(host.lower(), ca_bundle), lowered
    raise UserError(f"{text} is not host/namespace of a registry, as ghcr.io/me: {why}")


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
