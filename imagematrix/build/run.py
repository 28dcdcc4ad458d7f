"""Builds the images of a plan with BuildKit; one result for each."""

import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import replace
from pathlib import Path
from typing import Any, TextIO

from imagematrix.build.buildkit import running_bake
from imagematrix.build.progress import BuildLog, FailedStep
from imagematrix.build.results import Outcome, Result
from imagematrix.console import say
from imagematrix.errors import WorkError
from imagematrix.files import WORK_FOLDER
from imagematrix.host.buildx import Builder
from imagematrix.host.engine import Engine, layers_of
from imagematrix.plan.bake import (
    LATEST,
    BuildEnvironment,
    bake_file,
    image_tag,
    target_name,
    targets_of,
)
from imagematrix.plan.content import Present
from imagematrix.plan.plan import Action, Step

LOG = WORK_FOLDER / "build.log"
# The gRPC status of a connection that broke (https://grpc.io/docs/guides/status-codes/).
_BROKEN = "code = Unavailable"
_ASTRAY = "it is not based on the layers of its parent, though it was built on them"


def run_build(
    root: Path,
    engine: Engine,
    builder: Builder,
    plan: Sequence[Step],
    environment: BuildEnvironment,
    variables: Mapping[str, str],
    present: Mapping[str, Mapping[str, Any]],
    *,
    no_cache: bool = False,
) -> tuple[Result, ...]:
    """Builds the images of a plan, in one BuildKit run unless an image fails; returns the results.

    `present` has the engine's description of each existing image. `no_cache` takes no step from
    BuildKit's cache, not even after a failure. Raises WorkError where the connection to BuildKit
    breaks, and where it fails without a step that failed.

    BuildKit ends a run at the first failure, and reports a step that several images share as one of
    any of them. So after a failure the images without a parent in the run are built first, then the
    others, each time without those that failed; except with `no_cache`, finished layers are kept.

    BuildKit identifies a copied file by its content alone. So where a parent was rebuilt with the
    same content and other times, a step of its child is still found in the cache, based on the
    older layers of the parent, and a run that builds both uses it. Such a child is built again,
    based on the image of its parent, which BuildKit identifies by its layers.
    """
    log_file = root / LOG
    log_file.parent.mkdir(exist_ok=True)
    pending = {step.variant.name for step in plan if step.action is Action.BUILD}
    failed: dict[str, str] = {}
    seconds: dict[str, float] = defaultdict(float)
    one_run = True
    astray: set[str] = set()
    with log_file.open("w", encoding="utf-8") as log:
        while pending:
            targets = pending if one_run else without_pending_parent(plan, pending)
            steps = [_restricted(step, targets, pending, failed) for step in plan]
            definition = bake_file(steps, environment)
            needed_by = targets_of(steps)
            progress = BuildLog(needed_by)
            # In every run: the cache may hold steps that a failed run did not reach.
            options = ["--no-cache"] if no_cache else []
            status = bake(root, engine, builder, definition, options, variables, progress, log)
            for name in targets:
                seconds[name] += progress.seconds[target_name(name)]
            if status == 0:
                off = not_on_their_parents(engine, plan, targets, environment.tag)
                for name in sorted(off - astray):
                    say(f"{name} is based on old layers of its parent, from the cache; rebuilding.")
                failed |= dict.fromkeys(off & astray, _ASTRAY)
                pending = (pending - targets) | (off - astray)
                astray |= off
                continue
            failed_steps = progress.failures()
            if not failed_steps and _BROKEN in progress.last_error:
                raise WorkError(
                    f"the connection to {builder.title} broke ({progress.last_error}):"
                    " the same command continues the build when it is back"
                )
            if one_run and len(targets) > 1:
                one_run = False
                continue
            failures = {
                image: explain(failure)
                for failure in failed_steps
                for image in needed_by[failure.target]
            }
            if not failures:
                why = f" ({progress.last_error})" if progress.last_error else ""
                raise WorkError(
                    f"the build on {builder.title} ended without a step that failed{why}; see {LOG}"
                )
            failed |= failures
            failed |= _children_of(failed, plan)
            pending -= failed.keys()
    built = [step.variant.name for step in plan if step.action is Action.BUILD]
    existing = {**present, **present_images(engine, built, environment.tag)}
    # In MB (10^6 bytes): the sum of the layers' archives, which these builds leave uncompressed.
    sizes = {name: image["Size"] / 1e6 for name, image in existing.items()}
    return tuple(_result(step, failed, seconds, sizes) for step in plan)


def as_present(description: Mapping[str, Any]) -> Present:
    """An existing image as a plan needs it, from the engine's description."""
    return Present(description["Config"].get("Labels") or {}, layers_of(description))


def not_on_their_parents(
    engine: Engine, plan: Sequence[Step], names: Set[str], tag: str
) -> set[str]:
    """The named images that are not based on the present layers of their parent."""
    parents = {step.variant.name: step.variant.parent for step in plan if step.variant.parent}
    children = {name: parents[name] for name in names if name in parents}
    descriptions = present_images(engine, {*children, *children.values()}, tag)
    present = {name: as_present(image) for name, image in descriptions.items()}
    return {
        name
        for name, parent in children.items()
        if name in present and parent in present and not present[name].is_on(present[parent])
    }


def without_pending_parent(plan: Sequence[Step], pending: Set[str]) -> set[str]:
    """The pending images whose parent is not pending."""
    return {
        step.variant.name
        for step in plan
        if step.variant.name in pending and step.variant.parent not in pending
    }


def _restricted(
    step: Step, targets: Set[str], pending: Set[str], failed: Mapping[str, str]
) -> Step:
    """The step in the plan of a run that builds only the targets."""
    name = step.variant.name
    if step.action is not Action.BUILD or name in targets:
        return step
    built = name not in pending and name not in failed
    return replace(step, action=Action.UP_TO_DATE if built else Action.UNAVAILABLE)


def bake(
    root: Path,
    engine: Engine,
    builder: Builder,
    definition: Mapping[str, Any],
    options: Sequence[str],
    variables: Mapping[str, str],
    progress: BuildLog,
    log: TextIO,
) -> int:
    """Runs bake, shows and logs its output; returns its exit status."""
    with running_bake(
        root, engine, builder, definition, options=options, variables=variables
    ) as process:
        for line in process.stdout or ():
            progress.feed(line.rstrip("\n"))
            log.write(line)
            sys.stderr.write(line)
    return process.returncode


def explain(failure: FailedStep) -> str:
    """A step that failed, with the end of its output."""
    output = "\n    ".join(line for line in failure.output if line.strip())
    text = f"{failure.step.split(' ')[0]} failed: {failure.error}; the whole log: {LOG}"
    return f"{text}\n    {output}" if output else text


def _children_of(failed: Mapping[str, str], plan: Sequence[Step]) -> dict[str, str]:
    return {
        step.variant.name: f"its parent {step.variant.parent} failed"
        for step in plan
        if step.variant.parent in failed
        and step.variant.name not in failed
        and step.action is Action.BUILD
    }


def _result(
    step: Step,
    failed: Mapping[str, str],
    seconds: Mapping[str, float],
    sizes: Mapping[str, float],
) -> Result:
    name = step.variant.name
    if name in failed:
        return Result(name, Outcome.FAILED, None, seconds.get(name, 0), failed[name])
    outcome = {
        Action.BUILD: Outcome.BUILT,
        Action.UP_TO_DATE: Outcome.UP_TO_DATE,
        Action.UNAVAILABLE: Outcome.UNAVAILABLE,
    }[step.action]
    size = sizes.get(name) if outcome is not Outcome.UNAVAILABLE else None
    return Result(name, outcome, size, seconds.get(name, 0), "; ".join(step.reasons))


def present_images(
    engine: Engine, names: Iterable[str], tag: str = LATEST
) -> dict[str, Mapping[str, Any]]:
    """The engine's descriptions of those of the named images that it has, by their names."""
    tags = {image_tag(name, tag): name for name in names}
    return {tags[tag]: description for tag, description in engine.inspect(tags).items()}
