"""What is installed in published images, from the release statements that are attached to them.

Signatures are not checked here; `nox -s verify_published` does that.
"""

import base64
import json
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from imagematrix.audit.download import CONNECTIONS
from imagematrix.audit.installed import Installed
from imagematrix.errors import WorkError
from imagematrix.host.registry import Registry
from imagematrix.matrix.variant import Variant
from imagematrix.plan.bake import LATEST
from imagematrix.release.predicates import Predicate

# How cosign names the type of the statement in a bundle.
# https://github.com/sigstore/cosign/blob/main/specs/BUNDLE_SPEC.md
_TYPE = "dev.sigstore.bundle.predicateType"
_SUITE = re.compile(r"\bdebian:([a-z]+)-")


def installed_in_registry(
    registry: Registry, namespace: str, variants: Sequence[Variant], tag: str = LATEST
) -> dict[str, Installed | str]:
    """What is installed in those of the images that the registry has under the tag, or why that is
    not known, by their names.

    Raises WorkError where the registry cannot be read.
    """
    with ThreadPoolExecutor(CONNECTIONS) as threads:
        found = threads.map(lambda one: _published(registry, namespace, one, tag), variants)
        pairs = zip(variants, found, strict=True)
        return {variant.name: one for variant, one in pairs if one is not None}


def _published(
    registry: Registry, namespace: str, variant: Variant, tag: str
) -> Installed | str | None:
    repository = f"{namespace}/{variant.name}"
    manifest = registry.image_manifest(repository, tag)
    if manifest is None:
        return None
    try:
        statement = _release_statement(registry, repository, manifest.digest)
        return _installed(statement, variant) if statement else "it has no release statement"
    except (AttributeError, KeyError, TypeError, ValueError, IndexError):
        return "its release statement has another form"


def _release_statement(registry: Registry, repository: str, digest: str) -> dict[str, Any] | None:
    """The predicate of the release statement of an image, None if it has none."""
    for found in reversed(registry.referrers(repository, digest)):
        if found.annotations.get(_TYPE, Predicate.RELEASE) != Predicate.RELEASE:
            continue
        artifact = registry.manifest(repository, found.digest)
        if artifact is None:
            raise WorkError(f"the registry {registry.host} has lost {repository}@{found.digest}")
        bundle = json.loads(registry.blob(repository, artifact.document["layers"][0]["digest"]))
        statement = json.loads(base64.b64decode(bundle["dsseEnvelope"]["payload"]))
        if statement["predicateType"] == Predicate.RELEASE:
            named = [subject["digest"]["sha256"] for subject in statement["subject"]]
            if digest.removeprefix("sha256:") in named:
                predicate: dict[str, Any] = statement["predicate"]
                return predicate
    return None


def _installed(statement: dict[str, Any], variant: Variant) -> Installed:
    suite = _SUITE.search(statement["base"])
    tables = [statement["debian"], statement["packages"]]
    texts = [statement["python"], *(text for table in tables for text in table.values())]
    if not all(isinstance(text, str) for text in texts):
        raise TypeError(texts)
    return Installed(suite[1] if suite else str(variant.suite), statement["python"], *tables)
