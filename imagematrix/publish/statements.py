"""The statements about an image that are published with it."""

import datetime
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from imagematrix.matrix.lockfile import Lock
from imagematrix.matrix.platforms import PLATFORM
from imagematrix.plan.content import layers_id
from imagematrix.publish.candidates import Candidate
from imagematrix.release.components import components_of
from imagematrix.release.cyclonedx import cyclonedx_document
from imagematrix.release.intoto import Statement
from imagematrix.release.predicates import Predicate
from imagematrix.release.provenance import Materials, Run, chain_digests, provenance
from imagematrix.release.spdx import spdx_document
from imagematrix.release.statement import ReleaseStatement, to_json
from imagematrix.release.test_results import check_results


@dataclass(frozen=True)
class Origin:
    """Where images come from: the URL of the repository, the commit of the checks, and what builds
    them."""

    source: str
    commit: str
    run: Run


def release_of(
    candidate: Candidate, tag: str, published: datetime.datetime, origin: Origin
) -> ReleaseStatement:
    """The release statement of an image, without its digest and what depends on earlier ones."""
    variant = candidate.variant
    return ReleaseStatement(
        name=variant.name,
        tag=tag,
        digest="",
        previous="",
        published=published.strftime("%Y-%m-%dT%H:%M:%SZ"),
        platform=PLATFORM,
        source=origin.source,
        commit=candidate.commit,
        key=candidate.step.key,
        framework=variant.framework,
        track=variant.track,
        python=candidate.contents.python,
        cuda=variant.cuda.version if variant.cuda else "",
        supported_until=str(variant.supported_until or ""),
        base=_base(candidate),
        pins=variant.pins,
        packages=candidate.contents.python_versions,
        debian=candidate.contents.debian_versions,
        uncompressed=candidate.uncompressed,
        compressed=0,
        suite=candidate.contents.suite,
    )


def _base(candidate: Candidate) -> str:
    """The name of the base image and its identity, which is the same on every engine."""
    parent, debian = candidate.variant.parent, candidate.variant.debian_image
    if parent:
        return f"{parent}@{layers_id(candidate.base_layers)}"
    return f"{debian}@{candidate.base_ids.get(debian, '')}"


def statements_of(
    candidate: Candidate,
    release: ReleaseStatement,
    repository: str,
    lock: Lock,
    lock_text: str,
    origin: Origin,
) -> Sequence[Statement]:
    """All statements about an image, whose `repository` is named with its registry.

    Raises WorkError where an SBOM is not valid by its format.
    """
    name, digest = release.name, release.digest
    parts = components_of(candidate.contents, lock)
    materials = Materials(
        source=origin.source,
        commit=candidate.commit,
        key=candidate.step.key,
        lock_text=lock_text,
        lock=lock,
        bases=chain_digests(candidate.base_ids),
        contents=candidate.contents,
        debian_sha256=candidate.debian_sha256,
    )
    tests = check_results(
        candidate.results, origin.source, origin.commit or candidate.commit, origin.run.invocation
    )
    predicates: dict[Predicate, Mapping[str, Any]] = {
        Predicate.SPDX: json.loads(spdx_document(name, digest, parts)),
        Predicate.CYCLONEDX: json.loads(cyclonedx_document(name, digest, parts)),
        Predicate.PROVENANCE: provenance(candidate.variant, materials, origin.run),
        Predicate.TESTS: tests,
        # Last: with it, the image is complete.
        Predicate.RELEASE: to_json(release),
    }
    return [Statement(repository, digest, kind, said) for kind, said in predicates.items()]
