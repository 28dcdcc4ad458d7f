"""`save`: write images of the engine to files, with the records of their checks."""

import argparse
from pathlib import Path

from imagematrix.build.archives import save_image
from imagematrix.commands.options import add_selection, selection_of
from imagematrix.console import table
from imagematrix.host.setup import ensure_engine
from imagematrix.matrix.selection import select
from imagematrix.repository.project import Project


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    add_selection(parser)
    parser.add_argument(
        "--output", type=Path, required=True, metavar="FOLDER", help="write the files there"
    )


def run(project: Project, options: argparse.Namespace) -> int:
    """Runs the command; returns its exit status."""
    engine = ensure_engine()
    rows = []
    for variant in select(project.variants, selection_of(options)):
        checked = save_image(project.root, engine, variant.name, options.output)
        rows.append((variant.name, "saved" if checked else "saved, without a record of its checks"))
    print(table(rows))
    return 0
