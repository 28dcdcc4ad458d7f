"""The provenance of an image: what it was made of, by whom. https://slsa.dev/spec/v1.0/provenance

Nothing in it depends on the machine or the clock: dates are given.
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from imagematrix.matrix.lockfile import Lock
from imagematrix.matrix.platforms import EPOCH, PLATFORM
from imagematrix.matrix.variant import Variant
from imagematrix.release.components import debian_purl, python_purl
from imagematrix.release.contents import ImageContents

# The file that declares all images.
MATRIX = "matrix.yaml"
# The name of a digest that identifies the uncompressed layers of an image.
# https://github.com/opencontainers/image-spec/blob/main/config.md#layer-chainid
CHAIN_ID = "ociChainId"

# Digests by the name of their algorithm.
# https://github.com/in-toto/attestation/blob/main/spec/v1/digest_set.md
Digests = Mapping[str, str]


@dataclass(frozen=True)
class Run:
    """What built the image: `builder` is a URI, `invocation` identifies the run of it. `started`
    and `finished` are dates and times in UTC (RFC 3339). All but the builder may be empty."""

    builder: str
    invocation: str = ""
    started: str = ""
    finished: str = ""


@dataclass(frozen=True)
class Materials:
    """What an image was made of.

    `source` is the URL of the repository, `commit` the full hash. `key` is the image's content key.
    `lock_text` is the text of its lock, which `lock` has parsed. `bases` has the digests of each
    image of other makers by its name (`debian:trixie-slim`), those of its parent's included.
    `debian_sha256` has the hashes of Debian packages, by name, as far as they are known.
    """

    source: str
    commit: str
    key: str
    lock_text: str
    lock: Lock
    bases: Mapping[str, Digests]
    contents: ImageContents
    debian_sha256: Mapping[str, str] = field(default_factory=dict)


def provenance(variant: Variant, materials: Materials, run: Run) -> dict[str, Any]:
    """The provenance of an image, as the predicate of a statement."""
    source = f"git+{materials.source}"
    dates = {"startedOn": run.started, "finishedOn": run.finished}
    metadata = {"invocationId": run.invocation, **dates}
    return {
        "buildDefinition": {
            # What the parameters mean, and how a build goes.
            "buildType": f"{materials.source}/blob/main/docs/architecture.md#how-an-image-is-made",
            "externalParameters": {
                "image": variant.name,
                "matrix": {"uri": source, "path": MATRIX},
                "platform": PLATFORM,
            },
            "internalParameters": {
                "contentKey": materials.key,
                "dockerfile": str(variant.dockerfile),
                "sourceDateEpoch": EPOCH,
            },
            "resolvedDependencies": list(_dependencies(variant, materials, source)),
        },
        "runDetails": {
            "builder": {"id": run.builder},
            "metadata": {name: value for name, value in metadata.items() if value},
        },
    }


def chain_digests(base_ids: Mapping[str, str]) -> dict[str, Digests]:
    """The digests of base images by their ChainIDs, of those that are known."""
    return {
        name: {CHAIN_ID: chain.removeprefix("sha256:")} for name, chain in base_ids.items() if chain
    }


def _dependencies(variant: Variant, materials: Materials, source: str) -> Iterator[dict[str, Any]]:
    """https://github.com/in-toto/attestation/blob/main/spec/v1/resource_descriptor.md"""
    at_commit = f"{source}@{materials.commit}"
    yield {"uri": at_commit, "digest": {"gitCommit": materials.commit}, "name": "source"}
    for name, digests in sorted(materials.bases.items()):
        yield {"uri": _image_uri(name), "digest": dict(digests), "name": name}
    lock_hash = hashlib.sha256(materials.lock_text.encode()).hexdigest()
    lock_uri = f"{at_commit}#{PurePosixPath(variant.lock)}"
    yield {"uri": lock_uri, "digest": {"sha256": lock_hash}, "name": "lock"}
    for name, package in sorted(materials.lock.items()):
        entry: dict[str, Any] = {"uri": python_purl(name, str(package.version)), "name": name}
        hashes = sorted(package.sha256)
        if len(hashes) == 1:
            yield {**entry, "digest": {"sha256": hashes[0]}}
        else:
            # A descriptor is of one file; the installed one is among these.
            yield {**entry, "annotations": {"sha256OneOf": hashes}}
    for debian in materials.contents.debian:
        uri = debian_purl(debian, materials.contents.suite)
        known = materials.debian_sha256.get(debian.name)
        more = {"digest": {"sha256": known}} if known else {}
        yield {"uri": uri, "name": debian.name, **more}


def _image_uri(reference: str) -> str:
    """`python:3.12-slim-trixie` as a package URL."""
    name, _, tag = reference.rpartition(":")
    return f"pkg:docker/{name}@{tag}"
