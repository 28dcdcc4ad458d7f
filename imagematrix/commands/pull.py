"""`pull`: get published images into the engine, under their local names."""

import argparse
import contextlib

from imagematrix.commands.options import add_selection, selection_of
from imagematrix.console import say, table
from imagematrix.errors import WorkError
from imagematrix.host.setup import ensure_engine
from imagematrix.matrix.platforms import PLATFORM
from imagematrix.matrix.selection import select, with_parents
from imagematrix.plan.bake import LATEST, image_tag
from imagematrix.repository.project import Project


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    add_selection(parser)
    parser.add_argument("--registry", required=True, metavar="HOST/NAMESPACE", help="pull there")
    parser.add_argument(
        "--parents",
        action="store_true",
        help="only what the selected images are based on, where the engine has none",
    )


def run(project: Project, options: argparse.Namespace) -> int:
    """Runs the command; returns its exit status: 1 where an image could not be pulled."""
    import docker.errors

    chosen = select(project.variants, selection_of(options))
    engine = ensure_engine()
    wanted = [variant.name for variant in chosen]
    if options.parents:
        names = [v.name for v in with_parents(chosen, project.variants) if v not in chosen]
        present = engine.inspect(map(image_tag, names))
        wanted = [name for name in names if image_tag(name) not in present]
    # A registry takes lower case only, and the names of owners on GitHub have upper case.
    where, rows = options.registry.lower(), []
    with contextlib.closing(engine.client()) as client:
        for name in wanted:
            say(f"Pulling {where}/{name}:{LATEST} …")
            try:
                image = client.images.pull(f"{where}/{name}", tag=LATEST, platform=PLATFORM)
            except docker.errors.APIError as error:
                raise WorkError(
                    f"{where}/{name}:{LATEST} cannot be pulled: {error.explanation or error}"
                ) from None
            image.tag(name, LATEST)
            client.images.remove(f"{where}/{name}:{LATEST}", noprune=True)
            rows.append((name, str(image.id)))
    if rows:
        print(table(rows))
    return 0
