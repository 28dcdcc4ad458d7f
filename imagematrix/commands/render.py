"""`render`: write the files that the matrix and the slim rules give."""

import argparse
import sys

from imagematrix.files import write_atomically
from imagematrix.repository.project import Project
from imagematrix.repository.tree import orphans, remove_orphan


def add_options(parser: argparse.ArgumentParser) -> None:
    """It has none: `check` asks for all files, so all are written."""


def run(project: Project, options: argparse.Namespace) -> int:
    """Runs the command; returns its exit status."""
    files = project.rendered()
    changed = [path for path, text in files.items() if write_atomically(project.root / path, text)]
    for path in changed:
        print(f"wrote {path}")
    problems = []
    for path in orphans(project.root, project.variants):
        problem = remove_orphan(project.root, path)
        problems.append(problem)
        print(problem or f"removed {path}", file=sys.stderr if problem else sys.stdout)
    if not changed and not problems:
        print("every rendered file is as the matrix gives it")
    return 1 if any(problems) else 0
