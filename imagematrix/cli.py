"""The commands behind the nox sessions: `python -m imagematrix <command> …`."""

import argparse
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

from imagematrix.errors import exit_status_of
from imagematrix.repository.project import Project

# A command is a module of `commands`.
_COMMANDS = {
    "build": "build the images that are not up to date",
    "plan": "show what would be built, and why",
    "publish": "push images that are built and up to date",
    "verify": "check whether an image from anywhere is fit to serve",
    "verify_published": "verify published images as a consumer does",
    "tags": "list the tags of published images, and remove old ones",
    "environment": "build the image of a requirements.txt or an env.yml, or show how one was made",
    "render": "write the files that are derived from the matrix",
    "lock": "resolve the requirements of images",
    "reproduce": "prove that images are reproducible, or compare two existing images",
    "audit": "list the security fixes that images lack, and for how long",
    "budget": "compare the sizes of images with their record",
    "examples": "make the examples in their images, and compare them with the committed ones",
    "check": "prove that the files agree with the matrix",
    "catalogue": "write the catalogue of the images as a static site",
    "names": "print the names of images",
    "save": "write images of the engine and the records of their checks to files",
    "load": "read the files that `save` wrote into the engine",
    "pull": "get published images into the engine, under their local names",
    "release_notes": "print the section of CHANGELOG.md for a version",
    "engine": "show, start or stop the engine that was set up here",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns its exit status: 0 success, 1 work failed, 2 invalid request.

    `arguments` are the command line without the program, by default this process's.
    """
    options = parse(arguments)
    return exit_status_of(lambda: _run(options))


def _run(options: argparse.Namespace) -> int:
    project = Project(Path.cwd())
    if not options.summary:
        return int(options.run(project, options))
    from imagematrix.commands.github import summarized

    with summarized(options.summary):
        return int(options.run(project, options))


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parses a command line; exits the process for an invalid one, as argparse does."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(prog="imagematrix", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="command")
    for name, purpose in _COMMANDS.items():
        command = commands.add_parser(name, help=purpose)
        # Each command imports only its own module, which saves the others that time.
        if name in given[:1]:
            module = importlib.import_module(f"imagematrix.commands.{name}")
            module.add_options(command)
            command.add_argument(
                "--summary",
                metavar="TITLE",
                help="add what it prints to the summary of a run of GitHub Actions",
            )
            command.set_defaults(run=module.run)
    return parser.parse_args(given)
