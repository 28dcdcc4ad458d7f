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
    "build": "build what is not fresh",
    "plan": "say what would be built, and why",
    "publish": "push images that are built and fresh",
    "render": "write the files that the matrix gives",
    "lock": "resolve the requirements of images",
    "reproduce": "prove that images come out the same, or compare two that are there",
    "budget": "compare the sizes of images with their record",
    "examples": "make the examples in their images, and compare them with what is committed",
    "check": "prove that the files are what the matrix gives",
    "names": "print the names of images",
    "engine": "show, start or stop the engine that was set up here",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns its exit status: 0 done, 1 work failed, 2 the request is wrong.

    `arguments` are those of the command line without the program, by default this process's.
    """
    options = parse(arguments)
    return exit_status_of(lambda: options.run(Project(Path.cwd()), options))


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The options of a command line; ends the process for one that is wrong, as argparse does."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(prog="imagematrix", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="command")
    for name, purpose in _COMMANDS.items():
        command = commands.add_parser(name, help=purpose)
        # What one command imports, the others need not wait for.
        if name in given[:1]:
            module = importlib.import_module(f"imagematrix.commands.{name}")
            module.add_options(command)
            command.set_defaults(run=module.run)
    return parser.parse_args(given)
