"""`publish`: push images that are built and up to date."""

import argparse
import json
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from imagematrix.build.prepare import prepare
from imagematrix.build.publish import (
    next_tag,
    publication,
    refusals,
    run_publication,
    track_refusals,
)
from imagematrix.commands.options import add_builder, add_selection, request_of, selection_of
from imagematrix.errors import UserError
from imagematrix.host.buildx import find_builder
from imagematrix.host.config import read_host_config
from imagematrix.host.published import images_in_registry, registry_of
from imagematrix.matrix.selection import select
from imagematrix.repository.project import Project


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    add_selection(parser)
    parser.add_argument("--registry", required=True, metavar="HOST/NAMESPACE", help="push there")
    parser.add_argument("--historical", action="store_true", help="also push historical images")
    parser.add_argument(
        "--bootstrap-bases",
        action="store_true",
        help="also push images based on bootstrap bases, which were made on this host",
    )
    add_builder(parser)
    parser.add_argument("--json", action="store_true", help="print the pushed tags as JSON")
    parser.set_defaults(bases=None, pull=False, force=False)


def run(project: Project, options: argparse.Namespace) -> int:
    """Runs the command; returns its exit status."""
    host = read_host_config(os.environ, Path.home())
    registry, namespace = registry_of(options.registry, host.ca_bundle)
    chosen = select(project.variants, selection_of(options))
    if not options.historical:
        _refuse(track_refusals(chosen))
    prepared = prepare(project, request_of(options))
    # Images that are up to date are based on these: bases are part of the key.
    bases = prepared.bases.images
    official = all(name == image for name, image in bases.items())
    _refuse(
        refusals(
            [step for step in prepared.steps if step.variant in chosen],
            official_bases=official or options.bootstrap_bases,
        )
    )
    builder = find_builder(prepared.engine, options.builder)
    names = [variant.name for variant in chosen]
    today = datetime.now(UTC).date()
    tag = next_tag(today, lambda tag: bool(images_in_registry(registry, namespace, names, tag)))
    definition = publication(names, options.registry, [tag, "latest"])
    run_publication(project.root, prepared.engine, builder, definition)
    pushed = [f"{options.registry}/{name}:{tag}" for name in names]
    print(json.dumps(pushed, indent=2) if options.json else "\n".join(pushed))
    return 0


def _refuse(reasons: Sequence[str]) -> None:
    if reasons:
        raise UserError("\n".join(["nothing was pushed:", *reasons]))
