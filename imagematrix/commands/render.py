"""`render`: write the files that the matrix gives."""

import argparse
import sys

from imagematrix.commands.options import add_selection, selection_of
from imagematrix.files import write_atomically
from imagematrix.matrix.selection import select
from imagematrix.repository.project import Project
from imagematrix.repository.tree import orphans, remove_orphan


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    add_selection(parser)


def run(project: Project, options: argparse.Namespace) -> int:
    """Runs the command; returns its exit status."""
    chosen = {
        path
        for variant in select(project.variants, selection_of(options))
        for path in (variant.dockerfile, variant.slim_file)
    }
    everything = not (options.patterns or options.track or options.accelerator)
    changed = [
        path
        for path, text in project.rendered().items()
        if (everything or path in chosen) and write_atomically(project.root / path, text)
    ]
    for path in changed:
        print(f"wrote {path}")
    problems = []
    if everything:
        for path in orphans(project.root, project.variants):
            problem = remove_orphan(project.root, path)
            problems.append(problem)
            print(problem or f"removed {path}", file=sys.stderr if problem else sys.stdout)
    if not changed and not problems:
        print("every rendered file is as the matrix gives it")
    return 1 if any(problems) else 0
