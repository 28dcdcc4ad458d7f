"""The security fixes that images of an engine lack, for a plan or a publication."""

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

from imagematrix.audit.findings import Audited, Kind, Status
from imagematrix.audit.images import audit_images, sources_of
from imagematrix.audit.installed import installed_in
from imagematrix.console import say
from imagematrix.host.config import HostConfig
from imagematrix.host.engine import Engine
from imagematrix.matrix.variant import Variant
from imagematrix.repository.project import Project


def pending_in_engine(
    project: Project,
    engine: Engine,
    variants: Sequence[Variant],
    present: Mapping[str, Mapping[str, Any]],
    host: HostConfig,
) -> dict[str, Audited]:
    """The findings of the images of an engine, by their names; `present` has its descriptions.

    `variants` has their parents too, so that a fix is a finding of the image that it belongs to.
    """
    with contextlib.closing(engine.client()) as client:
        installed = installed_in(project.root, client, present)
    if not installed:
        return {}
    return audit_images(variants, installed, project.locks, sources_of(project.root, host))


def newer_base(audited: Mapping[str, Audited]) -> bool:
    """Whether an image lacks a CPython that its base image has."""
    found = (finding for one in audited.values() for finding in one.own)
    return any(finding.kind is Kind.CPYTHON and finding.rebuilt for finding in found)


def say_not_audited(audited: Mapping[str, Audited]) -> None:
    """Says how many packages were not audited: a plan is no proof that nothing is pending there."""
    found = (finding for one in audited.values() for finding in one.own)
    count = sum(finding.status is Status.NOT_AUDITED for finding in found)
    if count:
        say(f'{count} findings are "not audited": `nox -s audit` says why.')
