"""`tags`: list the tags of published images, and remove those that are no longer supported."""

import argparse
import datetime
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from imagematrix.commands.options import add_selection, selection_of
from imagematrix.console import say, table
from imagematrix.errors import WorkError
from imagematrix.host.config import read_host_config
from imagematrix.host.published import registry_of
from imagematrix.host.registry import Registry
from imagematrix.matrix.selection import select
from imagematrix.matrix.variant import Variant
from imagematrix.publish.tags import prune, tagged_images
from imagematrix.release.tags import TagRow, removals, tag_rows
from imagematrix.repository.project import Project

_GHCR = "ghcr.io"
# https://docs.github.com/en/packages/learn-github-packages/deleting-and-restoring-a-package
_ON_GHCR = (
    "GHCR removes nothing over the registry's API: remove versions on the page of the package, or"
    " by `gh api --method DELETE /user/packages/container/NAME/versions/ID`"
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    add_selection(parser)
    parser.add_argument("--registry", required=True, metavar="HOST/NAMESPACE", help="list those")
    parser.add_argument("--json", action="store_true", help="print the tags as JSON")
    parser.add_argument(
        "--prune",
        action="store_true",
        help="remove the tags that the list marks, with their signatures and statements",
    )


def run(project: Project, options: argparse.Namespace) -> int:
    """Runs the command; returns its exit status."""
    host = read_host_config(os.environ, Path.home())
    registry, namespace = registry_of(options.registry, host.ca_bundle)
    chosen = select(project.variants, selection_of(options))
    today = datetime.datetime.now(datetime.UTC).date()
    found = {v.name: _rows(registry, f"{namespace}/{v.name}", v, today) for v in chosen}
    if options.json:
        print(json.dumps(_json(found), indent=2))
    else:
        print(_table(found))
    for name in (name for name, rows in found.items() if not rows):
        say(f"{name} is not published there")
    doomed = {name: digests for name, rows in found.items() if (digests := removals(rows))}
    count = sum(map(len, doomed.values()))
    if not options.prune:
        if count:
            say(f"{_images(count)} to remove: run it with --prune")
        return 0
    failures = list(_prune(registry, namespace, doomed, found))
    for failure in failures:
        say(failure)
    if failures and registry.host == _GHCR:
        say(_ON_GHCR)
    if count and not failures:
        say("the registry frees the space when it collects its garbage")
    return 1 if failures else 0


def _rows(
    registry: Registry, repository: str, variant: Variant, today: datetime.date
) -> tuple[TagRow, ...]:
    until = variant.supported_until
    return tag_rows(
        tagged_images(registry, repository),
        today,
        image_is_supported=until is not None and today <= until,
    )


def _prune(
    registry: Registry,
    namespace: str,
    doomed: Mapping[str, Sequence[str]],
    found: Mapping[str, Sequence[TagRow]],
) -> Iterator[str]:
    """Removes manifests; one error for each image of which not all could be."""
    for name, digests in doomed.items():
        tags = {digest: [r.tag for r in found[name] if r.digest == digest] for digest in digests}

        def removed(digest: str, name: str = name, tags: Mapping[str, list[str]] = tags) -> None:
            say(f"removed {name}:{', '.join(tags[digest])} ({digest})")

        try:
            prune(registry, f"{namespace}/{name}", digests, removed)
        except WorkError as error:
            yield str(error)


def _table(found: Mapping[str, Sequence[TagRow]]) -> str:
    rows: list[tuple[str, ...]] = [
        ("image", "tag", "date", "digest", "size", "age", "supported", "clean-up")
    ]
    for name, tags in found.items():
        for row in tags:
            size = f"{row.size / 1e6:,.1f} MB" if row.size is not None else "unknown"
            age = f"{row.age} d" if row.age is not None else ""
            supported = "yes" if row.supported else "no"
            what = "removes it" if row.removable else f"keeps it: {row.why}"
            rows.append((name, row.tag, _day(row), row.digest, size, age, supported, what))
    return table(rows, right=(4, 5))


def _json(found: Mapping[str, Sequence[TagRow]]) -> list[dict[str, Any]]:
    """The rows, with sizes in bytes and ages in days."""
    return [
        {
            "image": name,
            "tag": row.tag,
            "date": _day(row) or None,
            "digest": row.digest,
            "size": row.size,
            "age": row.age,
            "supported": row.supported,
            "removable": row.removable,
            "kept_because": row.why or None,
        }
        for name, tags in found.items()
        for row in tags
    ]


def _day(row: TagRow) -> str:
    return row.day.isoformat() if row.day else ""


def _images(count: int) -> str:
    return f"{count} image{'s' if count != 1 else ''}"
