"""`load`: read the files that `save` wrote into the engine."""

import argparse
from pathlib import Path

from imagematrix.build.archives import load_images
from imagematrix.host.setup import ensure_engine
from imagematrix.repository.project import Project


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="where the files are")
    parser.add_argument(
        "--remove", action="store_true", help="delete each archive when it was read, for the space"
    )


def run(project: Project, options: argparse.Namespace) -> int:
    """Runs the command; returns its exit status."""
    names = load_images(project.root, ensure_engine(), options.folder, remove=options.remove)
    print("\n".join(names))
    return 0
