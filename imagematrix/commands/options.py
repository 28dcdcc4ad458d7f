"""Options that several commands share."""

import argparse

from imagematrix.build.prepare import Request
from imagematrix.host.bases import BaseSource
from imagematrix.matrix.schema import Accelerator, Track
from imagematrix.matrix.selection import Selection
from imagematrix.plan.bake import LATEST


def add_selection(parser: argparse.ArgumentParser) -> None:
    """Adds the options that select images, the same for every command."""
    parser.add_argument(
        "patterns", nargs="*", metavar="PATTERN", help="image name, * and ? allowed"
    )
    parser.add_argument("--all", action="store_true", help="every image of the matrix")
    parser.add_argument("--track", type=Track, choices=list(Track), help="only this track")
    parser.add_argument(
        "--accelerator",
        type=Accelerator,
        choices=list(Accelerator),
        action="append",
        default=[],
        help="only this accelerator; may be given several times",
    )


def selection_of(options: argparse.Namespace) -> Selection:
    """The selection in the options of `add_selection`."""
    return Selection(
        tuple(options.patterns), options.all, options.track, tuple(options.accelerator)
    )


def add_bases(parser: argparse.ArgumentParser) -> None:
    """Adds the options for the source of base images and for the builder."""
    parser.add_argument(
        "--bases",
        type=BaseSource,
        choices=list(BaseSource),
        help="where Debian and CPython come from (default: auto)",
    )
    parser.add_argument("--pull", action="store_true", help="pull or make the base images again")
    add_builder(parser)


def add_pending(parser: argparse.ArgumentParser) -> None:
    """Adds the option that asks for security fixes."""
    parser.add_argument(
        "--pending",
        action="store_true",
        help="also rebuild images that lack security fixes (asks Debian's mirror and the index)",
    )


def add_builder(parser: argparse.ArgumentParser) -> None:
    """Adds the option that names a builder."""
    parser.add_argument(
        "--builder",
        default="",
        metavar="NAME",
        help="the builder of buildx (default: BUILDX_BUILDER, else the current one)",
    )


def request_of(options: argparse.Namespace) -> Request:
    """The request in the options of `add_selection`, `add_bases`, `--force` and, where a command
    has them, `--tag` and `--pending`."""
    return Request(
        selection_of(options),
        options.bases,
        options.pull,
        options.force,
        options.builder,
        getattr(options, "tag", LATEST),
        getattr(options, "pending", False),
    )
