"""`build`: build the images that are not fresh."""

import argparse
import json
import time
from dataclasses import replace
from typing import Any

from imagematrix.build.disk import free_megabytes, require_disk
from imagematrix.build.prepare import prepare
from imagematrix.build.results import exit_status, results_json, results_table
from imagematrix.build.run import run_build
from imagematrix.commands.options import add_bases, add_selection, request_of
from imagematrix.host.buildx import require_cache
from imagematrix.plan.bake import LATEST, BuildEnvironment, bake_file
from imagematrix.repository.project import Project


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    add_selection(parser)
    add_bases(parser)
    parser.add_argument("--force", action="store_true", help="rebuild all, fresh images too")
    parser.add_argument(
        "--print", action="store_true", help="only print the bake file, of fresh images too"
    )
    parser.add_argument("--tag", default=LATEST, help="of the images, beside those of other tags")
    where: dict[str, Any] = {"default": "", "metavar": "HOST/NAMESPACE"}
    parser.add_argument("--cache-from", help="take steps that this registry has as cache", **where)
    parser.add_argument("--cache-to", help="put all steps into this registry as cache", **where)
    parser.add_argument("--strict", action="store_true", help="an unavailable image is a failure")
    parser.add_argument("--json", action="store_true", help="print the results as JSON")


def run(project: Project, options: argparse.Namespace) -> int:
    """Runs the command; returns its exit status."""
    started = time.monotonic()
    # Who uses the bake file directly has BuildKit's cache to tell what is fresh.
    options.force = options.force or options.print
    prepared = prepare(project, request_of(options))
    engine, steps = prepared.engine, prepared.steps
    if options.print:
        # Without the secrets and wheels of this run, which are of no use elsewhere.
        shown = BuildEnvironment(base_sources=prepared.environment.base_sources)
        print(json.dumps(bake_file(steps, shown), indent=2))
        return 0
    require_disk(project.sizes, engine, steps)
    if options.cache_to:
        require_cache(engine, prepared.builder)
    environment = replace(
        prepared.environment, cache_from=options.cache_from, cache_to=options.cache_to
    )
    free = free_megabytes(engine)
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
        left = free_megabytes(engine)
        if free is not None and left is not None:
            print(f"{max(free - left, 0) / 1e3:.1f} GB of disk taken, {left / 1e3:.1f} GB free")
    return exit_status(results, strict=options.strict)
