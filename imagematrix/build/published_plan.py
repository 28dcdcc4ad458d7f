"""The plan against published images, instead of those of the engine."""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from imagematrix.audit.findings import Audited, rebuild_reasons
from imagematrix.build.pending import say_not_audited
from imagematrix.build.prepare import Request, chosen_bases, needed_images, planned
from imagematrix.console import say
from imagematrix.errors import UserError
from imagematrix.host.config import HostConfig, read_host_config
from imagematrix.host.published import published_images
from imagematrix.host.setup import ensure_engine
from imagematrix.matrix.variant import Variant
from imagematrix.plan.content import base_ids_from_labels
from imagematrix.plan.plan import Step
from imagematrix.repository.project import Project

# Audits the published images of a registry, given as `host/namespace`.
Auditor = Callable[[Project, Sequence[Variant], str, HostConfig], Mapping[str, Audited]]


def plan_against(
    project: Project, request: Request, against: str, audit: Auditor
) -> tuple[Step, ...]:
    """The plan for a machine that has the published images. No engine is needed.

    `against` is a file that `plan --json` wrote, or `host/namespace` of a registry. `audit` is
    asked where the request is for security fixes too.
    """
    needed = needed_images(project, request)
    host = read_host_config(os.environ, Path.home())
    present = published_images(against, [v.name for v in needed], host.ca_bundle)
    pending: Mapping[str, str] = {}
    if request.pending:
        if Path(against).is_file():
            raise UserError(f"--pending needs a registry: {against} does not say what is installed")
        audited = audit(project, needed, against, host)
        say_not_audited(audited)
        pending = rebuild_reasons(audited)
    if request.bases or request.refresh:
        bases = chosen_bases(ensure_engine(), needed, request)
        ids = {variant.name: bases.ids for variant in needed}
        no_base = bases.why_unavailable
    else:
        say("Bases: assumed to be those of the published images; --bases compares them.")
        known = [(v, present[v.name].labels) for v in needed if v.name in present]
        ids = {variant.name: base_ids_from_labels(variant, labels) for variant, labels in known}
        no_base = _any_base
    contents = project.contents(needed, ids)
    return planned(project, needed, contents, present, host, request, no_base, pending)[0]


def _any_base(variant: Variant) -> str:
    del variant
    return ""
