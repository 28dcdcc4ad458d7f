"""`build`: build the images that are not up to date."""

import argparse
import json
import time
from dataclasses import replace
from typing import Any

from imagematrix.build.disk import free_megabytes, require_disk
from imagematrix.build.prepare import prepare
from imagematrix.build.results import exit_status, results_json, results_table
from imagematrix.build.run import run_build
from imagematrix.commands.options import add_bases, add_pending, add_selection, request_of
from imagematrix.host.buildx import require_cache
from imagematrix.plan.bake import LATEST, BuildEnvironment, bake_file
from imagematrix.repository.project import Project


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    add_selection(parser)
    add_bases(parser)
    add_pending(parser)
    parser.add_argument(
        "--force", action="store_true", help="rebuild all images, also those that are up to date"
    )
    parser.add_argument(
        "--print", action="store_true", help="only print the bake file, for all images"
    )
    parser.add_argument("--tag", default=LATEST, help="the tag of the images (default: latest)")
    where: dict[str, Any] = {"default": "", "metavar": "HOST/NAMESPACE"}
    parser.add_argument("--cache-from", help="import the build cache from this registry", **where)
    parser.add_argument("--cache-to", help="export the build cache to this registry", **where)
    parser.add_argument("--strict", action="store_true", help="fail if an image is unavailable")
    parser.add_argument("--json", action="store_true", help="print the results as JSON")


def run(project: Project, options: argparse.Namespace) -> int:
    """Runs the command; returns its exit status."""
    started = time.monotonic()
    # All images: a direct user of the bake file has BuildKit's cache to skip what is done.
    options.force = options.force or options.print
    prepared = prepare(project, request_of(options))
    engine, steps = prepared.engine, prepared.steps
    if options.print:
        # Without the secrets and wheels of this run, which exist nowhere else.
        given = prepared.environment
        shown = BuildEnvironment(
            base_sources=given.base_sources,
            python_versions=given.python_versions,
            source=given.source,
            revision=given.revision,
        )
        print(json.dumps(bake_file(steps, shown), indent=2))
        return 0
    require_disk(project.budgets.measured, engine, steps)
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
        no_cache=options.force,
    )
    if options.json:
        print(results_json(results))
    else:
        print(results_table(results, time.monotonic() - started))
        left = free_megabytes(engine)
        if free is not None and left is not None:
            print(f"disk: {max(free - left, 0) / 1e3:.1f} GB more used, {left / 1e3:.1f} GB free")
    return exit_status(results, strict=options.strict)
