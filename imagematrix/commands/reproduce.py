"""`reproduce`: prove that images come out the same, or compare two that are there."""

import argparse
import contextlib
import json
from collections.abc import Sequence
from dataclasses import asdict

from imagematrix.console import counted, say
from imagematrix.host.setup import ensure_engine
from imagematrix.measure.compared import same_content
from imagematrix.measure.trees import MISSING, Difference
from imagematrix.plan.content import OWN_LABELS
from imagematrix.repository.project import Project


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.add_argument(
        "--compare",
        nargs=2,
        metavar="IMAGE",
        required=True,
        help="only compare two images of the engine: each path, and how they are run",
    )
    parser.add_argument("--times", action="store_true", help="with --compare: when files changed")
    parser.add_argument("--json", action="store_true", help="print the differences as JSON")


def run(project: Project, options: argparse.Namespace) -> int:
    """Runs the command; returns its exit status."""
    del project
    first, second = options.compare
    say(f"Reading {first} and {second} …")
    with contextlib.closing(ensure_engine().client()) as client:
        found = same_content(client, (first, second), OWN_LABELS, times=options.times)
    if options.json:
        print(json.dumps({"images": options.compare, "differences": list(map(asdict, found))}))
    else:
        print(_told(found))
    return 1 if found else 0


def _told(found: Sequence[Difference]) -> str:
    """A line for each path, and a count of what differs."""
    if not found:
        return "no difference"
    lines: dict[str, list[str]] = {}
    for one in found:
        place = f"layer {one.layer} {one.path}".strip() if one.layer else one.path
        # A line for each path, and for each value of the configuration.
        lines.setdefault(place or f"configuration {one.what}", []).append(_words(one))
    told = [f"{place}: {', '.join(words)}" for place, words in lines.items()]
    counts = counted(one.what for one in found if one.path)
    return "\n".join([*told, f"{len(found)} differences{f': {counts}' if counts else ''}"])


def _words(one: Difference) -> str:
    if MISSING in (one.first, one.second):
        which, there = ("first", one.first) if one.second == MISSING else ("second", one.second)
        return f"only in the {which} ({there})"
    # Of a hash the start is enough for a person.
    first, second = (
        text[:12] if one.what == "sha256" else text for text in (one.first, one.second)
    )
    return f"{one.what} {first} → {second}" if one.path else f"{first} → {second}"
