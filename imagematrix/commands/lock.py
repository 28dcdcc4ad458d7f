"""`lock`: resolve the requirements of images."""

import argparse
import os
from pathlib import Path

from imagematrix.commands.options import add_selection, selection_of
from imagematrix.console import say
from imagematrix.errors import WorkError
from imagematrix.host.config import read_host_config
from imagematrix.matrix.selection import Selection, select
from imagematrix.repository.locking import TOOLS_LOCK, write_lock, write_tools_lock
from imagematrix.repository.project import Project


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.add_argument("--tools", action="store_true", help="the tools' own requirements instead")
    add_selection(parser)
    parser.add_argument(
        "--upgrade", action="store_true", help="newest versions that the pins admit"
    )


def run(project: Project, options: argparse.Namespace) -> int:
    """Runs the command; returns its exit status."""
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
