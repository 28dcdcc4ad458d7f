"""`reproduce`: build images twice and compare them, or compare two existing images."""

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import docker
import docker.errors

import imagematrix
from imagematrix.build.results import Outcome
from imagematrix.commands.options import add_bases, add_selection, selection_of
from imagematrix.console import counted, say, table
from imagematrix.errors import WorkError
from imagematrix.files import WORK_FOLDER
from imagematrix.host.setup import ensure_engine
from imagematrix.matrix.selection import select, with_parents
from imagematrix.matrix.variant import Variant
from imagematrix.measure.compared import inspect, same_bytes, same_content
from imagematrix.measure.trees import MISSING, Difference
from imagematrix.plan.bake import image_tag
from imagematrix.plan.content import OWN_LABELS
from imagematrix.repository.copies import CHECKOUTS, copy_repository
from imagematrix.repository.project import Project

TAGS = ("reproduce-1", "reproduce-2")
_COPIES = WORK_FOLDER / "reproduce"
# The lines that are printed of one image; --json has all.
_MOST_LINES = 200


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    add_selection(parser)
    add_bases(parser)
    parser.add_argument(
        "--keep", action="store_true", help=f"keep the images, as NAME:{TAGS[0]} and NAME:{TAGS[1]}"
    )
    parser.add_argument(
        "--compare",
        nargs=2,
        metavar="IMAGE",
        help="only compare two images of the engine: files and configuration",
    )
    parser.add_argument(
        "--times", action="store_true", help="with --compare: times of files as well"
    )
    parser.add_argument("--json", action="store_true", help="print the differences as JSON")


def run(project: Project, options: argparse.Namespace) -> int:
    """Runs the command; returns its exit status: 1 where anything differs."""
    return _compare(options) if options.compare else _reproduce(project, options)


def _compare(options: argparse.Namespace) -> int:
    first, second = options.compare
    say(f"Reading {first} and {second} …")
    with contextlib.closing(ensure_engine().client()) as client:
        found = same_content(client, (first, second), OWN_LABELS, times=options.times)
    if options.json:
        row = {"first": first, "second": second, "differences": list(map(asdict, found))}
        print(json.dumps(row, indent=2))
    else:
        print("\n".join(_report(found)) or "no difference")
    return 1 if found else 0


@dataclass(frozen=True)
class _Verdict:
    """The result of an image that was built twice: `outcome` in words, `digests` of both builds."""

    image: str
    same: bool
    outcome: str
    digests: tuple[str, ...] = ()
    differences: tuple[Difference, ...] = ()


def _reproduce(project: Project, options: argparse.Namespace) -> int:
    started = time.monotonic()
    chosen = with_parents(select(project.variants, selection_of(options)), project.variants)
    project.check_buildable()
    # Both copies before anything is built: an edit during the builds is in neither.
    copies = [project.root / _COPIES / tag for tag in TAGS]
    for copy, checkout in zip(copies, CHECKOUTS, strict=True):
        copy_repository(project.root, copy, checkout)
    with contextlib.closing(ensure_engine().client()) as client:
        try:
            outcomes = [_built(copies[n], n, chosen, options) for n in range(len(TAGS))]
            verdicts = _verdicts(client, chosen, outcomes)
            # The logs of builds that failed are in their copies.
            if all(verdict.digests for verdict in verdicts):
                shutil.rmtree(project.root / _COPIES)
        finally:
            if not options.keep:
                _remove(client, chosen)
    seconds = time.monotonic() - started
    if options.json:
        print(json.dumps([asdict(verdict) for verdict in verdicts], indent=2))
    else:
        for verdict in (one for one in verdicts if one.differences):
            print("\n".join([f"{verdict.image}:", *_report(verdict.differences), ""]))
        print(table([(verdict.image, verdict.outcome) for verdict in verdicts]))
        print(f"{counted('same' if one.same else 'not' for one in verdicts)} in {seconds:.0f} s")
    return 0 if all(verdict.same for verdict in verdicts) else 1


def _built(
    copy: Path, number: int, chosen: Sequence[Variant], options: argparse.Namespace
) -> dict[str, tuple[str, str]]:
    """Builds all images without cache from a copy of the repository; outcome and reason of each.

    It is a process of its own, for another hash seed. Raises WorkError where it builds nothing.
    """
    checkout = CHECKOUTS[number]
    say(f"Build {number + 1} of {len(TAGS)}, in {copy}: {checkout}.")
    command = [sys.executable, "-m", "imagematrix", "build", *(v.name for v in chosen)]
    command += ["--force", "--json", "--tag", TAGS[number]]
    command += ["--bases", options.bases] if options.bases else []
    # Once: else the mirror may have moved between the two.
    command += ["--pull"] if options.pull and number == 0 else []
    command += ["--builder", options.builder] if options.builder else []
    package = str(Path(imagematrix.__file__).parents[1])
    environ = {**os.environ, "PYTHONPATH": package, "PYTHONHASHSEED": str(number + 1)}
    result = subprocess.run(
        command, cwd=copy, env=environ, umask=checkout.umask, stdout=subprocess.PIPE, check=False
    )
    try:
        rows = json.loads(result.stdout)
    except ValueError:
        raise WorkError(
            f"build {number + 1} of {len(TAGS)} ended with {result.returncode}; see above"
        ) from None
    return {row["name"]: (row["outcome"], row["detail"]) for row in rows}


def _verdicts(
    client: docker.DockerClient,
    chosen: Sequence[Variant],
    outcomes: Sequence[Mapping[str, tuple[str, str]]],
) -> list[_Verdict]:
    verdicts: dict[str, _Verdict] = {}
    for variant in chosen:
        name = variant.name
        missing = [
            f"build {number}: {outcome}: {detail}"
            for number, (outcome, detail) in enumerate((build[name] for build in outcomes), 1)
            if outcome != Outcome.BUILT
        ]
        if missing:
            verdicts[name] = _Verdict(name, False, "; ".join(missing))
            continue
        say(f"Comparing {name} …")
        pair = (image_tag(name, TAGS[0]), image_tag(name, TAGS[1]))
        digests = tuple(inspect(client, reference).digest for reference in pair)
        if digests[0] == digests[1]:
            verdicts[name] = _Verdict(name, True, f"the same: {digests[0]}", digests)
            continue
        parent = verdicts.get(variant.parent or "")
        above = len(inspect(client, image_tag(parent.image, TAGS[0])).layers) if parent else 0
        found = same_bytes(client, pair, above)
        own = any(one.what != "digest" for one in found)
        outcome = f"{len(found)} differences" if own else f"differs as {variant.parent} does"
        verdicts[name] = _Verdict(name, False, outcome, digests, tuple(found) if own else ())
    return list(verdicts.values())


def _remove(client: docker.DockerClient, chosen: Sequence[Variant]) -> None:
    """Removes the built images, children before their parents."""
    for variant in reversed(chosen):
        for tag in TAGS:
            with contextlib.suppress(docker.errors.ImageNotFound):
                client.api.remove_image(image_tag(variant.name, tag))


def _report(found: Sequence[Difference]) -> list[str]:
    """A line for each path and for each value of the configuration, with the differing lines of
    texts below it, and a count of the differences."""
    places: dict[str, list[Difference]] = {}
    for one in found:
        place = f"layer {one.layer} {one.path}".strip() if one.layer else one.path
        places.setdefault(place or f"configuration {one.what}", []).append(one)
    if not found:
        return []
    lines = []
    for place, differences in places.items():
        lines.append(f"{place}: {', '.join(map(_words, differences))}")
        lines += [f"    {line}" for one in differences for line in one.lines]
    if len(lines) > _MOST_LINES:
        lines[_MOST_LINES:] = [f"… and {len(lines) - _MOST_LINES} more lines, see --json"]
    counts = counted(one.what for one in found if one.path)
    return [*lines, f"{len(found)} differences{f': {counts}' if counts else ''}"]


def _words(one: Difference) -> str:
    if MISSING in (one.first, one.second):
        which, there = ("first", one.first) if one.second == MISSING else ("second", one.second)
        return f"only in the {which} ({there})"
    # The start of a hash is enough for a person.
    most = 12 if one.what == "sha256" else None
    changed = f"{one.first[:most]} → {one.second[:most]}"
    return f"{one.what} {changed}" if one.path or one.layer else changed
