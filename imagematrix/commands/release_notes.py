"""`release_notes`: print the section of CHANGELOG.md for a version of the repository, and what the
published images are."""

import argparse
import os
import re
import tomllib
from pathlib import Path

from imagematrix.errors import UserError
from imagematrix.files import write_atomically
from imagematrix.host.config import read_host_config
from imagematrix.host.published import registry_of
from imagematrix.matrix.schema import Track
from imagematrix.matrix.selection import Selection, select
from imagematrix.publish.releases import said_of
from imagematrix.release.changelog import markdown
from imagematrix.release.tags import LATEST
from imagematrix.repository.project import Project

_FILE = "CHANGELOG.md"


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.add_argument("tag", metavar="TAG", help="the tag of the release: v0.2.0")
    parser.add_argument(
        "--registry",
        metavar="HOST/NAMESPACE",
        help="also list the current images there, with what changed in each",
    )
    parser.add_argument("--output", type=Path, metavar="FILE", help="write it there instead")


def run(project: Project, options: argparse.Namespace) -> int:
    """Runs the command; returns its exit status."""
    table = tomllib.loads((project.root / "pyproject.toml").read_text(encoding="utf-8"))
    version = table["project"]["version"]
    if options.tag != f"v{version}":
        raise UserError(
            f"the tag is {options.tag}, and pyproject.toml has version {version}, whose tag is"
            f" v{version}; change one of them"
        )
    text = section((project.root / _FILE).read_text(encoding="utf-8"), version)
    if options.registry:
        text += f"\n\n{_images(project, options.registry)}"
    if options.output:
        write_atomically(options.output, text + "\n")
    else:
        print(text)
    return 0


def _images(project: Project, where: str) -> str:
    """The images that `latest` is, as Markdown."""
    host = read_host_config(os.environ, Path.home())
    registry, namespace = registry_of(where, host.ca_bundle)
    parts = ["### Images"]
    for variant in select(project.variants, Selection((), True, Track.CURRENT, ())):
        said = said_of(registry, f"{namespace}/{variant.name}", LATEST)
        if said is not None:
            changed = markdown(said.changes, level=5).strip()
            what = changed if said.previous else "The first publication."
            parts.append(f"#### {said.name}:{said.tag}\n\n`{said.digest}`\n\n{what}")
    return "\n\n".join(parts if len(parts) > 1 else [*parts, "None is published yet."])


def section(text: str, version: str) -> str:
    """The section of a changelog for a version, without its heading.

    The format is https://keepachangelog.com/en/1.1.0/. Raises UserError where there is none, where
    it is empty, or where its heading has no date.
    """
    parts = re.split(r"^## ", text, flags=re.MULTILINE)[1:]
    for part in parts:
        heading, _, body = part.partition("\n")
        if not re.match(rf"\[?{re.escape(version)}\]?(\s|$)", heading):
            continue
        if not re.search(r" - \d{4}-\d\d-\d\d$", heading.rstrip()):
            wanted = f"## [{version}] - YYYY-MM-DD"
            raise UserError(f"{_FILE}: the heading `## {heading}` has no date; write `{wanted}`")
        if not body.strip():
            raise UserError(f"{_FILE}: the section of {version} is empty")
        return body.strip()
    raise UserError(
        f"{_FILE} has no section for {version}; rename `Unreleased` to `[{version}] - YYYY-MM-DD`"
    )
