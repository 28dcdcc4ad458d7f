"""The security fixes that published images lack, from their release statements.

Signatures are not checked here; `nox -s verify_published` does that.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from imagematrix.audit.findings import Audited
from imagematrix.audit.images import audit_images, sources_of
from imagematrix.audit.installed import Installed
from imagematrix.errors import WorkError
from imagematrix.host.config import HostConfig
from imagematrix.host.published import registry_of
from imagematrix.host.registry import Registry
from imagematrix.matrix.variant import Variant
from imagematrix.plan.bake import LATEST
from imagematrix.publish.attach import attachments
from imagematrix.release.predicates import Predicate
from imagematrix.release.statement import ReleaseStatement, from_json
from imagematrix.repository.project import Project

_REQUESTS = 4


def pending_in_registry(
    project: Project, variants: Sequence[Variant], where: str, host: HostConfig
) -> dict[str, Audited]:
    """The findings of the published images `host/namespace`/<name>:latest, by their names.

    `variants` has their parents too, so that a fix is a finding of the image that it belongs to.
    Raises UserError where `where` is no `host/namespace`, WorkError where that cannot be read.
    """
    registry, namespace = registry_of(where, host.ca_bundle)
    installed = installed_in_registry(registry, namespace, variants)
    if not installed:
        return {}
    return audit_images(variants, installed, project.locks, sources_of(project.root, host))


def installed_in_registry(
    registry: Registry, namespace: str, variants: Sequence[Variant]
) -> dict[str, Installed | str]:
    """What is installed in those of the images that the registry has under `latest`, or why that is
    not known, by their names."""

    def read(variant: Variant) -> Installed | str | None:
        return _published(registry, f"{namespace}/{variant.name}")

    with ThreadPoolExecutor(_REQUESTS) as threads:
        pairs = zip(variants, threads.map(read, variants), strict=True)
        return {variant.name: one for variant, one in pairs if one is not None}


def _published(registry: Registry, repository: str) -> Installed | str | None:
    manifest = registry.image_manifest(repository, LATEST)
    if manifest is None:
        return None
    problems = ["it has no release statement"]
    for one in attachments(registry, repository, manifest.digest):
        if one.predicate_type != Predicate.RELEASE:
            continue
        if one.statement is None:
            problems.append(one.problem)
            continue
        try:
            release = from_json(one.statement.predicate)
        except WorkError as error:
            problems.append(str(error))
            continue
        # Each tag of these bytes has one; all say the same of what is installed.
        if release.digest == manifest.digest:
            return _installed(release)
        problems.append("its release statement is about another image")
    return problems[-1]


def _installed(release: ReleaseStatement) -> Installed:
    return Installed(release.suite, release.python, release.debian, release.packages)
