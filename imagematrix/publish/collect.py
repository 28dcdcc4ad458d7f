"""Collects what has to be known of images of the engine before they are published."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import docker

from imagematrix.audit.facts import ArchiveFacts
from imagematrix.audit.findings import Audited
from imagematrix.host.engine import layers_of
from imagematrix.matrix.selection import with_parents
from imagematrix.measure.contents import LayerFiles, contents_of, read_image
from imagematrix.measure.layers import uncompressed_sizes
from imagematrix.plan.content import base_ids_from_labels
from imagematrix.plan.plan import Step
from imagematrix.publish.candidates import Candidate
from imagematrix.repository.passed import checks_digest, read_results
from imagematrix.repository.project import Project


def collect(
    project: Project,
    client: docker.DockerClient,
    steps: Sequence[Step],
    present: Mapping[str, Mapping[str, Any]],
    audited: Mapping[str, Audited],
    facts: Callable[[str], ArchiveFacts],
) -> dict[str, Candidate]:
    """The candidates of these steps, whose images are up to date, by name.

    `present` has the engine's descriptions of them and of their parents, by name. `facts` are those
    of a Debian release.
    Raises WorkError where the engine does not return a layer.
    """
    files: dict[str, LayerFiles] = {}
    found = {}
    for step in steps:
        variant = step.variant
        own = present[variant.name]
        parent = present.get(variant.parent or "", {})
        image, layers = own["Id"], layers_of(own)
        base_ids: dict[str, str] = {}
        for one in with_parents([variant], project.variants):
            base_ids |= base_ids_from_labels(one, _labels(present[one.name]))
        contents = contents_of(read_image(client, image, files), variant.name)
        sizes = uncompressed_sizes(client, image, layers)
        digest = checks_digest(project.root, variant, parent.get("Id", ""))
        found[variant.name] = Candidate(
            step=step,
            reference=image,
            labels=_labels(own),
            layers=layers,
            base_layers=layers_of(parent) if parent else (),
            contents=contents,
            results=read_results(project.root, image, digest),
            audited=audited.get(variant.name, Audited()),
            base_ids=base_ids,
            debian_sha256=facts(contents.suite).hashes(contents.debian_versions),
            uncompressed=sum(sizes[layer] for layer in layers),
        )
    return found


def _labels(description: Mapping[str, Any]) -> Mapping[str, str]:
    return description["Config"].get("Labels") or {}
