"""The commands behind the nox sessions: `python -m imagematrix <command> …`."""

import argparse
import contextlib
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from imagematrix.availability import Supply, find_supplies
from imagematrix.bake import BuildEnvironment, bake_file, image_tag
from imagematrix.bases import Bases, BaseSource, bases_of, ensure_bases
from imagematrix.budget import Kind, Measured, Verdict, compare
from imagematrix.build import image_labels, present_images, run_build
from imagematrix.buildx import Builder, find_builder, require_buildx, require_cache
from imagematrix.debian import DebianMirrors, debian_mirrors
from imagematrix.dockerd import EngineFiles, ensure_engine, started_pid, stop_engine
from imagematrix.engine import Engine, find_engine, say
from imagematrix.environment import build_environment
from imagematrix.errors import UserError, WorkError, exit_status_of
from imagematrix.files import write_atomically
from imagematrix.hostconfig import HostConfig, read_host_config
from imagematrix.keys import Content, told_base_ids, told_versions
from imagematrix.layers import Size, image_layers, image_sizes
from imagematrix.locking import TOOLS_LOCK, write_lock, write_tools_lock
from imagematrix.matrix import Accelerator, Track
from imagematrix.plan import Action, Step, make_plan
from imagematrix.platforms import PLATFORM
from imagematrix.project import Project
from imagematrix.publish import next_tag, publication, refusals, run_publication, track_refusals
from imagematrix.results import (
    Outcome,
    Result,
    counted,
    exit_status,
    results_json,
    results_table,
    table,
)
from imagematrix.tree import orphans, remove_orphan
from imagematrix.unchanged import Note, host_digest, take_note, tree_digest
from imagematrix.variant import Selection, Variant, select, with_parents

# What is assumed of an image that was never measured, in MB; how much more than its layers an image
# takes while it is built: its content and its unpacked tree are both kept; and what any build takes
# beside that for base images, package lists, downloads and tools, in MB. At most, a minimal image
# alone took 0.9 GB of an empty engine, scikit-learn upon it another 1.5 GB.
_UNMEASURED = 1000.0
_DISK_FACTOR = 2.2
_DISK_OF_ANY = 1000.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns its exit status: 0 done, 1 work failed, 2 the request is wrong."""
    given = sys.argv[1:] if arguments is None else arguments
    options = _parser().parse_args(given)
    options.given = given[1:]
    return exit_status_of(lambda: options.run(Project(Path.cwd()), options))


def add_selection(parser: argparse.ArgumentParser) -> None:
    """The options that choose images, the same for every command."""
    parser.add_argument(
        "patterns", nargs="*", metavar="PATTERN", help="image name, * and ? allowed"
    )
    parser.add_argument("--all", action="store_true", help="every image of the matrix")
    parser.add_argument("--track", type=Track, choices=list(Track), help="only this track")
    parser.add_argument(
        "--accelerator",
        type=Accelerator,
        choices=list(Accelerator),
        action="append",
        default=[],
        help="only this accelerator; may be given several times",
    )


def selection_of(options: argparse.Namespace) -> Selection:
    """The selection that the options of `add_selection` make."""
    return Selection(
        tuple(options.patterns), options.all, options.track, tuple(options.accelerator)
    )


def build_options(arguments: Sequence[str]) -> argparse.Namespace:
    """The options of `build`, which its tests understand as well."""
    return _parser().parse_args(["build", *arguments])


class _Exact(argparse.ArgumentParser):
    """Takes no abbreviated options: what was given is compared with what was given before."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**given, allow_abbrev=False)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="imagematrix", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="command", parser_class=_Exact)

    build = commands.add_parser("build", help="build what is not fresh")
    add_selection(build)
    _add_bases(build)
    build.add_argument("--force", action="store_true", help="build all anew, fresh images too")
    build.add_argument(
        "--print", action="store_true", help="only print the bake file, of fresh images too"
    )
    _add_cache(build)
    build.add_argument("--strict", action="store_true", help="an unavailable image is a failure")
    build.add_argument("--json", action="store_true", help="print the results as JSON")
    build.set_defaults(run=_build)

    plan = commands.add_parser("plan", help="say what would be built, and why")
    add_selection(plan)
    _add_bases(plan)
    plan.add_argument("--force", action="store_true", help="as if nothing were fresh")
    plan.add_argument("--json", action="store_true", help="print the plan as JSON")
    plan.add_argument(
        "--against",
        metavar="FILE|HOST/NAMESPACE",
        help="compare with what is published: what `plan --json` wrote, or a registry",
    )
    plan.set_defaults(run=_plan)

    publish = commands.add_parser("publish", help="push images that are built and fresh")
    add_selection(publish)
    publish.add_argument("--registry", required=True, metavar="HOST/NAMESPACE", help="where to")
    publish.add_argument("--historical", action="store_true", help="historical images as well")
    publish.add_argument(
        "--stand-ins", action="store_true", help="images on base images of this host as well"
    )
    _add_builder(publish)
    publish.add_argument("--json", action="store_true", help="print what was pushed as JSON")
    publish.set_defaults(run=_publish, bases=None, pull=False, force=False)

    render = commands.add_parser("render", help="write the files that the matrix gives")
    add_selection(render)
    render.set_defaults(run=_render)

    lock = commands.add_parser("lock", help="resolve the requirements of images")
    lock.add_argument("--tools", action="store_true", help="the tools' own requirements instead")
    add_selection(lock)
    lock.add_argument("--upgrade", action="store_true", help="newest versions that the pins admit")
    lock.set_defaults(run=_lock)

    budget = commands.add_parser("budget", help="compare the sizes of images with their record")
    add_selection(budget)
    budget.add_argument("--update", action="store_true", help="record the sizes as they are")
    budget.add_argument("--json", action="store_true", help="print the comparison as JSON")
    budget.set_defaults(run=_budget)

    check = commands.add_parser("check", help="prove that the files are what the matrix gives")
    check.set_defaults(run=_check)

    names = commands.add_parser("names", help="print the names of images")
    add_selection(names)
    names.add_argument("--json", action="store_true", help="as a JSON list")
    names.add_argument(
        "--github-output", metavar="NAME", help="set it as output NAME of a step of GitHub Actions"
    )
    names.set_defaults(run=_names)

    engine = commands.add_parser("engine", help="show or stop the engine that was started here")
    engine.add_argument("action", nargs="?", choices=["status", "start", "stop"], default="status")
    engine.set_defaults(run=_engine)
    return parser


def _add_bases(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--bases",
        type=BaseSource,
        choices=list(BaseSource),
        help="where Debian and CPython come from (default: auto)",
    )
    parser.add_argument("--pull", action="store_true", help="get the base images anew")
    _add_builder(parser)


def _add_cache(parser: argparse.ArgumentParser) -> None:
    where: dict[str, Any] = {"default": "", "metavar": "HOST/NAMESPACE"}
    parser.add_argument("--cache-from", help="take steps that this registry has as cache", **where)
    parser.add_argument("--cache-to", help="put all steps into this registry as cache", **where)


def _add_builder(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--builder",
        default="",
        metavar="NAME",
        help="the builder of buildx (default: BUILDX_BUILDER, else the one that is current)",
    )


# --- build and plan -------------------------------------------------------------------------------


def _build(project: Project, options: argparse.Namespace) -> int:
    started = time.monotonic()
    # Before anything is read: what changes meanwhile is looked at the next time.
    tree = tree_digest(project.root)
    # Who uses the bake file directly has BuildKit's cache to tell what is fresh.
    options.force = options.force or options.print
    prepared = _prepare(project, options)
    engine, steps = prepared.engine, prepared.steps
    if options.print:
        # Without the secrets and wheels of this run, which nobody else could use.
        shown = BuildEnvironment(base_sources=prepared.environment.base_sources)
        print(json.dumps(bake_file(steps, shown), indent=2))
        return 0
    _require_disk(project, engine, steps)
    if options.cache_to:
        require_cache(engine, prepared.builder)
    environment = replace(
        prepared.environment, cache_from=options.cache_from, cache_to=options.cache_to
    )
    found = None if options.force or options.pull else _note_before(prepared, tree)
    free = _free_megabytes(engine)
    results = run_build(
        project.root,
        engine,
        prepared.builder,
        steps,
        environment,
        prepared.variables,
        prepared.present,
        anew=options.force,
    )
    if options.json:
        print(results_json(results))
    else:
        print(results_table(results, time.monotonic() - started))
        left = _free_megabytes(engine)
        if free is not None and left is not None:
            print(f"{max(free - left, 0) / 1e3:.1f} GB of disk taken, {left / 1e3:.1f} GB free")
    if found is not None:
        _note_after(project, options, engine, found, results)
    return exit_status(results, strict=options.strict)


def _note_before(prepared: "_Prepared", tree: str) -> Note | None:
    """What a build finds before it begins; None where it would not find that again: a base image
    that could not be pulled, which may come."""
    bases = prepared.bases
    if bases.missing:
        return None
    # A base image by its official name is taken before a stand-in.
    official = [reference for reference, image in bases.images.items() if image != reference]
    images = prepared.engine.ids(official)
    images |= {bases.images.get(reference, reference): id_ for reference, id_ in bases.ids.items()}
    for step in prepared.steps:
        told = prepared.present.get(step.variant.name)
        images[image_tag(step.variant.name)] = told["Id"] if told else None
    asked = (supply.asked for supply in prepared.supplies.values())
    answers = dict(answer for answer in asked if answer is not None)
    return Note(tree, images, answers, host_digest(prepared.host) if answers else "", ())


def _note_after(
    project: Project,
    options: argparse.Namespace,
    engine: Engine,
    found: Note,
    results: Sequence[Result],
) -> None:
    """Lets the next build of the same images see that nothing changed, unless something failed."""
    if any(result.outcome is Outcome.FAILED for result in results):
        return
    built = [image_tag(result.name) for result in results if result.outcome is Outcome.BUILT]
    images = {**found.images, **engine.ids(built)}
    try:
        take_note(project.root, options.given, replace(found, images=images, results=results))
    except OSError as error:
        say(f"The next build looks at everything again: {error}")


def _plan(project: Project, options: argparse.Namespace) -> int:
    steps = _against(project, options) if options.against else _prepare(project, options).steps
    if options.json:
        rows = [
            {
                "image": step.variant.name,
                "action": step.action,
                "reasons": step.reasons,
                "key": step.key,
                "labels": step.content.labels,
            }
            for step in steps
        ]
        print(json.dumps(rows, indent=2))
        return 0
    print(table([(step.variant.name, step.action, "; ".join(step.reasons)) for step in steps]))
    say(counted(step.action for step in steps))
    return 0


def _publish(project: Project, options: argparse.Namespace) -> int:
    from imagematrix.published import labels_in_registry, registry_of

    host = read_host_config(os.environ, Path.home())
    registry, namespace = registry_of(options.registry, host.ca_bundle)
    chosen = select(project.variants, selection_of(options))
    if not options.historical:
        _refuse(track_refusals(chosen))
    prepared = _prepare(project, options)
    # Fresh images are on these bases: they are part of their keys.
    bases = prepared.bases.images
    official = all(name == image for name, image in bases.items())
    _refuse(
        refusals(
            [step for step in prepared.steps if step.variant in chosen],
            official_bases=official or options.stand_ins,
        )
    )
    builder = find_builder(prepared.engine, options.builder)
    names = [variant.name for variant in chosen]
    today = datetime.now(UTC).date()
    tag = next_tag(today, lambda tag: bool(labels_in_registry(registry, namespace, names, tag)))
    definition = publication(names, options.registry, [tag, "latest"])
    run_publication(project.root, prepared.engine, builder, definition)
    pushed = [f"{options.registry}/{name}:{tag}" for name in names]
    print(json.dumps(pushed, indent=2) if options.json else "\n".join(pushed))
    return 0


def _refuse(reasons: Sequence[str]) -> None:
    if reasons:
        raise UserError("\n".join(["nothing was pushed:", *reasons]))


def _chosen(project: Project, options: argparse.Namespace) -> tuple[Variant, ...]:
    """The images that a command is about, with their parents, whose files are right."""
    chosen = select(project.variants, selection_of(options))
    needed = with_parents(chosen, project.variants)
    project.check_buildable()
    return needed


def _against(project: Project, options: argparse.Namespace) -> tuple[Step, ...]:
    """The plan for a machine that has what is published, for which no engine is needed."""
    from imagematrix.published import published_labels

    needed = _chosen(project, options)
    host = read_host_config(os.environ, Path.home())
    labels = published_labels(options.against, [v.name for v in needed], host.ca_bundle)
    if options.bases or options.pull:
        bases = _bases(ensure_engine(), needed, options)
        ids = {variant.name: bases.ids for variant in needed}
        no_base = bases.why_unavailable
    else:
        say("Bases: taken to be those of what is published; with --bases they are asked for.")
        ids = {v.name: told_base_ids(v, labels[v.name]) for v in needed if v.name in labels}
        no_base = _any_base
    contents = project.contents(needed, ids)
    return _planned(project, needed, contents, labels, host, options, no_base)[0]


def _any_base(variant: Variant) -> str:
    del variant
    return ""


@dataclass(frozen=True)
class _Prepared:
    """All that a build needs; `present` is what the engine told of the images that it has."""

    engine: Engine
    builder: Builder
    bases: Bases
    host: HostConfig
    supplies: Mapping[str, Supply]
    steps: tuple[Step, ...]
    environment: BuildEnvironment
    variables: Mapping[str, str]
    present: Mapping[str, Mapping[str, Any]]


def _prepare(project: Project, options: argparse.Namespace) -> _Prepared:
    needed = _chosen(project, options)
    engine = ensure_engine()
    if engine.platform != PLATFORM:
        # Before minutes are spent on bases for what cannot be built.
        find_builder(engine, options.builder)
    bases = _bases(engine, needed, options)
    host = read_host_config(os.environ, Path.home())
    ids = {variant.name: bases.ids for variant in needed}
    contents = project.contents(needed, ids)
    present = present_images(engine, [variant.name for variant in needed])
    labels = {name: image_labels(told) for name, told in present.items()}
    steps, supplies = _planned(
        project, needed, contents, labels, host, options, bases.why_unavailable
    )
    building = [step.variant for step in steps if step.action is Action.BUILD]
    builder = find_builder(engine, options.builder) if building else Builder()
    mirrors = debian_mirrors() if building else DebianMirrors()
    environment, variables = build_environment(
        project.root, engine, builder, bases, host, mirrors, building, supplies
    )
    if building:
        for sentence in host.ignored:
            say(f"Not passed to builds: {sentence}.")
    return _Prepared(engine, builder, bases, host, supplies, steps, environment, variables, present)


def _bases(engine: Engine, needed: Sequence[Variant], options: argparse.Namespace) -> Bases:
    return ensure_bases(engine, needed, options.bases or BaseSource.AUTO, refresh=options.pull)


def _planned(
    project: Project,
    needed: Sequence[Variant],
    contents: Mapping[str, Content],
    labels: Mapping[str, Mapping[str, str]],
    host: HostConfig,
    options: argparse.Namespace,
    no_base: Callable[[Variant], str],
) -> tuple[tuple[Step, ...], dict[str, Supply]]:
    """The plan, and the supplies of the images that are not fresh.

    `no_base` says why an image's base cannot be had, or nothing.
    """
    # An index is asked only for the images that would have to be built.
    draft = make_plan(needed, contents, labels, {}, force=options.force)
    stale = [step.variant for step in draft if step.action is Action.BUILD]
    supplies = find_supplies(project.locks, stale, host)
    missing = {
        variant.name: reason
        for variant in stale
        if (reason := no_base(variant) or supplies[variant.name].unavailable)
    }
    if not missing:
        return draft, supplies
    return make_plan(needed, contents, labels, missing, force=options.force), supplies


def _free_megabytes(engine: Engine) -> float | None:
    """The free space where the engine keeps its data, in MB; None where that is another machine."""
    if engine.data is None or not engine.data.exists():
        return None
    return shutil.disk_usage(engine.data).free / 1e6


def _require_disk(project: Project, engine: Engine, steps: Sequence[Step]) -> None:
    building = [step.variant for step in steps if step.action is Action.BUILD]
    free = _free_megabytes(engine)
    if free is None or not building:
        return
    needed = needed_megabytes(building, project.sizes)
    if needed > free:
        raise WorkError(
            f"building {len(building)} images takes about {needed / 1e3:.1f} GB, and"
            f" {engine.data} has {free / 1e3:.1f} GB free; remove images that are no longer"
            " needed (`docker system prune`) or choose fewer"
        )


def needed_megabytes(building: Sequence[Variant], sizes: dict[str, float]) -> float:
    """How much disk the engine needs to build these images in one run, in MB."""
    return _DISK_OF_ANY + _DISK_FACTOR * sum(added_megabytes(v, sizes) for v in building)


def added_megabytes(variant: Variant, sizes: dict[str, float]) -> float:
    """What an image adds to its parent, in MB, as far as it was ever measured."""
    size = sizes.get(variant.name, _UNMEASURED)
    return max(size - sizes.get(variant.parent or "", 0.0), 0.0)


# --- budgets --------------------------------------------------------------------------------------


def _budget(project: Project, options: argparse.Namespace) -> int:
    chosen = with_parents(select(project.variants, selection_of(options)), project.variants)
    engine = ensure_engine()
    tags = {variant.name: image_tag(variant.name) for variant in chosen}
    labels = {n: image_labels(told) for n, told in present_images(engine, tags).items()}
    with contextlib.closing(engine.client()) as client:
        by_tag = image_sizes(project.root, client, tags.values())
        sizes = {name: by_tag[tag] for name, tag in tags.items() if tag in by_tag}
        layers = {name: len(image_layers(client, tags[name])) for name in sizes}
        bases = {v.name: bases_of(client, v, labels[v.name]) for v in chosen if v.name in sizes}
    if options.update:
        measured = {
            name: Measured(size, layers[name], told_versions(labels[name]), bases[name])
            for name, size in sizes.items()
        }
        project.record(measured, [name for name in tags if name not in sizes])
        # Read anew: the table in the README has the sizes.
        for path, text in Project(project.root).rendered().items():
            if write_atomically(project.root / path, text):
                say(f"wrote {path}")
        project = Project(project.root)
    verdicts = {
        v.name: compare(v.name, v.parent, sizes, bases[v.name], project.budgets)
        if v.name in sizes
        else Verdict(Kind.UNKNOWN, f"not built here; run `nox -s build -- {v.name}`")
        for v in chosen
    }
    if options.json:
        rows = [
            {"image": name, **asdict(sizes.get(name, Size(0, 0))), **asdict(verdict)}
            for name, verdict in verdicts.items()
        ]
        print(json.dumps(rows, indent=2))
    else:
        print(_budget_table(verdicts, sizes))
    failed = {Kind.GREW, Kind.UNKNOWN}
    return 1 if any(verdicts[name].kind in failed for name in sizes) else 0


def _budget_table(verdicts: Mapping[str, Verdict], sizes: Mapping[str, Size]) -> str:
    titles = ("image", "uncompressed", "compressed", "compared with the record")
    rows: list[tuple[str, ...]] = [titles]
    for name, verdict in verdicts.items():
        size = sizes.get(name)
        told = () if size is None else (size.uncompressed, size.compressed)
        shown = [f"{value / 1e6:,.1f} MB" for value in told] or ["", ""]
        rows.append((name, *shown, verdict.text or str(verdict.kind)))
    return table(rows, right=(1, 2))


# --- files ----------------------------------------------------------------------------------------


def _render(project: Project, options: argparse.Namespace) -> int:
    chosen = {v.dockerfile for v in select(project.variants, selection_of(options))}
    everything = not (options.patterns or options.track or options.accelerator)
    changed = [
        path
        for path, text in project.rendered().items()
        if (everything or path in chosen) and write_atomically(project.root / path, text)
    ]
    for path in changed:
        print(f"wrote {path}")
    problems = []
    if everything:
        for path in orphans(project.root, project.variants):
            problem = remove_orphan(project.root, path)
            problems.append(problem)
            print(problem or f"removed {path}", file=sys.stderr if problem else sys.stdout)
    if not changed and not problems:
        print("every rendered file is as the matrix gives it")
    return 1 if any(problems) else 0


def _lock(project: Project, options: argparse.Namespace) -> int:
    host = read_host_config(os.environ, Path.home())
    if options.tools:
        changed = write_tools_lock(project.root, host, upgrade=options.upgrade)
        print(f"{'wrote' if changed else 'unchanged'} {TOOLS_LOCK}")
        return 0
    everything = options.all or not (options.patterns or options.track or options.accelerator)
    selection = Selection(everything=True) if everything else selection_of(options)
    failures = []
    for variant in select(project.variants, selection):
        say(f"Resolving {variant.name} …")
        try:
            changed = write_lock(project.root, variant, host, upgrade=options.upgrade)
        except WorkError as error:
            failures.append(str(error))
            continue
        print(f"{'wrote' if changed else 'unchanged'} {variant.lock}")
    if failures:
        raise WorkError("\n".join(failures))
    return 0


def _check(project: Project, options: argparse.Namespace) -> int:
    del options
    project.check()
    print(f"{len(project.variants)} images: every file is as the matrix gives it")
    return 0


def _names(project: Project, options: argparse.Namespace) -> int:
    names = [variant.name for variant in select(project.variants, selection_of(options))]
    if options.github_output:
        output = os.environ.get("GITHUB_OUTPUT")
        if output is None:
            raise UserError("--github-output is for GitHub Actions, which sets GITHUB_OUTPUT")
        with Path(output).open("a", encoding="utf-8") as file:
            file.write(f"{options.github_output}={json.dumps(names)}\n")
    print(json.dumps(names) if options.json else "\n".join(names))
    return 0


def _engine(project: Project, options: argparse.Namespace) -> int:
    del project
    files = EngineFiles()
    if options.action == "start":
        ensure_engine(files)
        require_buildx()
    if options.action == "stop":
        stopped = stop_engine(files)
        print("stopped" if stopped else "no engine of ours runs; nothing was stopped")
        return 0
    engine = find_engine()
    if engine is None:
        print("no Docker engine answers; `nox -s build` sets one up where it can")
        return 1
    pid = started_pid(files) if engine.endpoint.socket == files.socket else None
    whose = f"started here, process {pid}, log {files.log}" if pid else "not started here"
    print(f"Docker {engine.version} at {engine.endpoint} ({whose})")
    return 0
