"""`verify`: whether an image from anywhere is fit to serve by the contract."""

import argparse
import contextlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from imagematrix.checks.fitness import Finding, Group, findings_of
from imagematrix.checks.running import START_SECONDS
from imagematrix.console import counted, say, table
from imagematrix.errors import UserError
from imagematrix.host.engine import Engine
from imagematrix.host.pull import is_refusal, pull
from imagematrix.host.setup import ensure_engine
from imagematrix.matrix.platforms import PLATFORM
from imagematrix.repository.passed import Outcome
from imagematrix.repository.project import Project

# https://pkg.go.dev/github.com/distribution/reference, roughly: the engine knows it exactly.
_REFERENCE = re.compile(r"[a-z0-9][A-Za-z0-9._/:@-]*")


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.add_argument(
        "image",
        metavar="IMAGE",
        help="an image of the engine; one that it does not have is pulled, and removed at the end",
    )
    parser.add_argument(
        "--wait",
        type=_seconds,
        default=START_SECONDS,
        metavar="SECONDS",
        help="how long a container may take to get healthy (default: %(default)s)",
    )
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0
    if not 0 < seconds <= 3600:
        raise argparse.ArgumentTypeError(f"{text} is no number of seconds up to 3600")
    return seconds


def run(project: Project, options: argparse.Namespace) -> int:
    """Runs the command: 0 if the image is fit to serve, 1 if not. Raises UserError where there is
    no such image."""
    if not _REFERENCE.fullmatch(options.image):
        raise UserError(f"{options.image!r} is no name of an image, as python:3.12-slim")
    engine = ensure_engine()
    with available(engine, options.image) as description:
        say(f"Checking {options.image} …")
        found = findings_of(engine, options.image, project.root, options.wait)
    if options.json:
        print(json.dumps(document(options.image, description["Id"], found), indent=2))
    else:
        print(report(options.image, found))
    return 0 if is_fit(found) else 1


def is_fit(findings: Sequence[Finding]) -> bool:
    """Whether everything that was checked holds."""
    return all(one.outcome is Outcome.PASSED for one in findings)


def document(image: str, image_id: str, findings: Sequence[Finding]) -> dict[str, Any]:
    """The findings for programs. `base` says whether the image is fit as a base alone."""
    base = [one for one in findings if one.group is Group.BASE]
    return {
        "image": image,
        "id": image_id,
        "fit": is_fit(findings),
        "base": is_fit(base),
        "findings": [asdict(one) for one in findings],
    }


def report(image: str, findings: Sequence[Finding]) -> str:
    """The findings for people: a table, how to mend what failed, and the verdict."""
    rows = [
        # A row is one line, whatever the last lines of a log are.
        (one.group, one.what, one.outcome, " ".join((one.found or one.holds).split()))
        for one in findings
    ]
    parts = [table([("group", "check", "result", "found"), *rows])]
    if failed := [one for one in findings if one.outcome is Outcome.FAILED]:
        parts.append("To mend:\n" + table([(f"  {one.what}", one.mend) for one in failed]))
    of_base = [one for one in findings if one.group is Group.BASE]
    verdict = "fit to serve" if is_fit(findings) else "not fit to serve"
    if not is_fit(findings) and is_fit(of_base):
        verdict += ", but fit as a base"
    parts.append(f"{image}: {verdict} ({counted(one.outcome for one in findings)})")
    return "\n\n".join(parts)


@contextlib.contextmanager
def available(engine: Engine, image: str) -> Iterator[dict[str, Any]]:
    """The engine's description of an image, which is pulled where the engine has none, with the
    credentials of `docker login`. One that was pulled is removed at the end.

    Raises UserError where there is no such image, where it needs a log-in, and where it is for
    another platform.
    """
    with contextlib.closing(engine.client()) as client:
        found = engine.inspect([image]).get(image)
        pulled = found is None
        if pulled:
            _pull(engine, image)
            found = client.api.inspect_image(image)
        try:
            assert found is not None
            platform = f"{found['Os']}/{found['Architecture']}"
            if platform != PLATFORM:
                raise UserError(f"{image} is for {platform}; these checks are for {PLATFORM}")
            yield dict(found)
        finally:
            if pulled:
                client.images.remove(image, noprune=False)


def _pull(engine: Engine, image: str) -> None:
    say(f"The engine has no {image}. Pulling …")
    if why := pull(engine, image):
        host, _, rest = image.partition("/")
        named = f" {host}" if rest and re.search("[.:]", host) else ""
        hint = f"; log in first: docker login{named}" if is_refusal(why) else ""
        message = f"{image} is not in the engine, and cannot be pulled: {why}{hint}"
        raise UserError(message)
