"""`check`: prove that the files agree with the matrix."""

import argparse
import datetime

from imagematrix.console import say
from imagematrix.matrix.ends import DISTRO_INFO
from imagematrix.repository.project import Project


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    del parser


def run(project: Project, options: argparse.Namespace) -> int:
    """Runs the command; returns its exit status."""
    del options
    today = datetime.datetime.now(datetime.UTC).date()
    for warning in project.check(today, DISTRO_INFO):
        say(f"warning: {warning}")
    print(f"{len(project.variants)} images: every file is as the matrix gives it")
    return 0
