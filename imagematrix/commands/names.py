"""`names`: print the names of images."""

import argparse
import json

from imagematrix.commands.github import set_output
from imagematrix.commands.options import add_selection, selection_of
from imagematrix.matrix.selection import select
from imagematrix.repository.project import Project


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    add_selection(parser)
    parser.add_argument("--json", action="store_true", help="as a JSON list")
    parser.add_argument(
        "--github-output", metavar="NAME", help="set it as output NAME of a step of GitHub Actions"
    )


def run(project: Project, options: argparse.Namespace) -> int:
    """Runs the command; returns its exit status."""
    names = [variant.name for variant in select(project.variants, selection_of(options))]
    if options.github_output:
        set_output(options.github_output, names)
    print(json.dumps(names) if options.json else "\n".join(names))
    return 0
