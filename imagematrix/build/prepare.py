"""From a request to a plan, and everything that its builds need."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from imagematrix.audit.findings import rebuild_reasons
from imagematrix.build.inputs import build_environment
from imagematrix.build.run import as_present, present_images
from imagematrix.console import say
from imagematrix.host.bases import Bases, BaseSource, ensure_bases, python_versions
from imagematrix.host.buildx import Builder, find_builder
from imagematrix.host.config import HostConfig, read_host_config
from imagematrix.host.debian import DebianMirrors, debian_mirrors
from imagematrix.host.engine import Engine
from imagematrix.host.revision import revision_of
from imagematrix.host.setup import ensure_engine
from imagematrix.host.supply import Supply, resolve_supplies
from imagematrix.matrix.platforms import PLATFORM
from imagematrix.matrix.selection import Selection, select, with_parents
from imagematrix.matrix.variant import Variant
from imagematrix.plan.bake import LATEST, BuildEnvironment
from imagematrix.plan.content import Content, Present
from imagematrix.plan.plan import Action, Step, make_plan
from imagematrix.repository.project import Project


@dataclass(frozen=True)
class Request:
    """Which images are to be built, and on which base images.

    `bases` is where the base images come from, by default wherever the engine has them from;
    `refresh` pulls or makes them again. `force` rebuilds images that are up to date, `pending`
    those that lack security fixes, which asks the network. `builder` is the name of a builder of
    buildx, by default the current one. `tag` is that of the images.
    """

    selection: Selection
    bases: BaseSource | None = None
    refresh: bool = False
    force: bool = False
    builder: str = ""
    tag: str = LATEST
    pending: bool = False


@dataclass(frozen=True)
class Prepared:
    """A plan, and everything that its builds need; `present` has the engine's description of each
    existing image."""

    engine: Engine
    builder: Builder
    bases: Bases
    steps: tuple[Step, ...]
    environment: BuildEnvironment
    variables: Mapping[str, str]
    present: Mapping[str, Mapping[str, Any]]


def prepare(project: Project, request: Request) -> Prepared:
    """The plan for the engine of this machine, which is set up if there is none.

    Raises UserError, or a subclass, for what a person has to fix first.
    """
    needed = needed_images(project, request)
    engine = ensure_engine()
    if engine.platform != PLATFORM:
        # Fail before minutes are spent on base images.
        find_builder(engine, request.builder)
    host = read_host_config(os.environ, Path.home())
    present = present_images(engine, [variant.name for variant in needed], request.tag)
    pending: Mapping[str, str] = {}
    if request.pending:
        # Imported here because other plans ask nothing but the engine.
        from imagematrix.build.pending import newer_base, pending_in_engine, say_not_audited

        audited = pending_in_engine(project, engine, needed, present, host)
        say_not_audited(audited)
        pending = rebuild_reasons(audited)
        request = replace(request, refresh=request.refresh or newer_base(audited))
    bases = chosen_bases(engine, needed, request)
    ids = {variant.name: bases.ids for variant in needed}
    contents = project.contents(needed, ids)
    known = {name: as_present(image) for name, image in present.items()}
    steps, supplies = planned(
        project, needed, contents, known, host, request, bases.why_unavailable, pending
    )
    building = [step.variant for step in steps if step.action is Action.BUILD]
    builder = find_builder(engine, request.builder) if building else Builder()
    mirrors = debian_mirrors() if building else DebianMirrors()
    environment, variables = build_environment(
        project.root, engine, builder, bases, host, mirrors, building, supplies
    )
    if building:
        for sentence in host.ignored:
            say(f"Not passed to builds: {sentence}.")
        revision = revision_of(project.root, os.environ)
        environment = replace(
            environment,
            python_versions=python_versions(engine, bases, building),
            source=revision.source,
            revision=revision.commit,
        )
    environment = replace(environment, tag=request.tag)
    return Prepared(engine, builder, bases, steps, environment, variables, present)


def needed_images(project: Project, request: Request) -> tuple[Variant, ...]:
    """The images of a request, with their parents.

    Raises InputError where their files do not agree with the matrix.
    """
    chosen = select(project.variants, request.selection)
    needed = with_parents(chosen, project.variants)
    project.check_buildable()
    return needed


def chosen_bases(engine: Engine, needed: Sequence[Variant], request: Request) -> Bases:
    """The base images of a request, pulled or made if the engine lacks them."""
    return ensure_bases(engine, needed, request.bases or BaseSource.AUTO, refresh=request.refresh)


def planned(
    project: Project,
    needed: Sequence[Variant],
    contents: Mapping[str, Content],
    present: Mapping[str, Present],
    host: HostConfig,
    request: Request,
    no_base: Callable[[Variant], str],
    pending: Mapping[str, str],
) -> tuple[tuple[Step, ...], dict[str, Supply]]:
    """The plan, and the supplies of the images that are not up to date.

    `no_base` returns why an image's base is unavailable, "" if it is not. `pending` has the
    security fixes that an image lacks, as a reason.
    """
    # An index is requested only for the images that would have to be built.
    plan = partial(make_plan, needed, contents, present, force=request.force, pending=pending)
    draft = plan({})
    stale = [step.variant for step in draft if step.action is Action.BUILD]
    supplies = resolve_supplies(project.locks, stale, host)
    missing = {
        variant.name: reason
        for variant in stale
        if (reason := no_base(variant) or supplies[variant.name].unavailable)
    }
    if not missing:
        return draft, supplies
    return plan(missing), supplies
