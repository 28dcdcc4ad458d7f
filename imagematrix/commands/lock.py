"""`lock`: resolve the requirements of images."""

import argparse
import os
from pathlib import Path

from imagematrix.commands.options import add_selection, selection_of
from imagematrix.console import say
from imagematrix.errors import WorkError
from imagematrix.host.config import read_host_config
from imagematrix.matrix.schema import Track
from imagematrix.matrix.selection import Selection, select
from imagematrix.matrix.variant import Variant
from imagematrix.repository.locking import (
    GROUP_LOCKS,
    TOOLS_LOCK,
    write_group_lock,
    write_lock,
    write_tools_lock,
)
from imagematrix.repository.project import Project


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.add_argument("--tools", action="store_true", help="the tools' own requirements instead")
    add_selection(parser)
    parser.add_argument(
        "--upgrade",
        action="store_true",
        help="newest versions that the pins admit; a historical image keeps its versions unless it"
        " is named in full, or its track is",
    )


def run(project: Project, options: argparse.Namespace) -> int:
    """Runs the command; returns its exit status."""
    host = read_host_config(os.environ, Path.home())
    if options.tools:
        changed = write_tools_lock(project.root, host, upgrade=options.upgrade)
        print(f"{'wrote' if changed else 'unchanged'} {TOOLS_LOCK}")
        for group, lock in GROUP_LOCKS.items():
            changed = write_group_lock(project.root, group, lock, host, upgrade=options.upgrade)
            print(f"{'wrote' if changed else 'unchanged'} {lock}")
        return 0
    selection = selection_of(options)
    chosen = select(project.variants, selection)
    frozen = [v for v in chosen if options.upgrade and not _may_change(v, selection)]
    for variant in frozen:
        say(f"{variant.name} is historical and keeps its versions: name it in full to upgrade it")
    failures = []
    for variant in (variant for variant in chosen if variant not in frozen):
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


def _may_change(variant: Variant, selection: Selection) -> bool:
    """Whether an image gets newer versions; those of a historical one reproduce a deployment."""
    named = variant.name in selection.patterns or selection.track is Track.HISTORICAL
    return variant.track is not Track.HISTORICAL or named
