"""`budget`: compare the sizes of images with their record."""

import argparse
import contextlib
import json
from collections.abc import Mapping
from dataclasses import asdict

from imagematrix.build.run import as_present, present_images
from imagematrix.commands.options import add_selection, selection_of
from imagematrix.console import say, table
from imagematrix.files import write_atomically
from imagematrix.host.bases import bases_of
from imagematrix.host.setup import ensure_engine
from imagematrix.matrix.selection import select, with_parents
from imagematrix.measure.budget import Kind, Verdict, compare
from imagematrix.measure.layers import image_sizes
from imagematrix.plan.bake import image_tag
from imagematrix.plan.content import versions_from_labels
from imagematrix.repository.project import Project
from imagematrix.repository.sizes import Measured, Size


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    add_selection(parser)
    parser.add_argument("--update", action="store_true", help="record the present sizes")
    parser.add_argument("--json", action="store_true", help="print the comparison as JSON")


def run(project: Project, options: argparse.Namespace) -> int:
    """Runs the command; returns its exit status."""
    selected = select(project.variants, selection_of(options))
    chosen = with_parents(selected, project.variants)
    engine = ensure_engine()
    tags = {variant.name: image_tag(variant.name) for variant in chosen}
    present = {name: as_present(image) for name, image in present_images(engine, tags).items()}
    with contextlib.closing(engine.client()) as client:
        by_tag = image_sizes(project.root, client, tags.values())
        sizes = {name: by_tag[tag] for name, tag in tags.items() if tag in by_tag}
        bases = {
            v.name: bases_of(client, v, present[v.name].labels) for v in chosen if v.name in sizes
        }
    if options.update:
        parents = {v.name: v.parent for v in chosen}
        # A parent that has a record keeps it, unless it is selected itself.
        names = {v.name for v in chosen if v in selected or v.name not in project.budgets.measured}
        measured = {
            name: Measured(
                size,
                size - sizes.get(parents[name] or "", Size(0, 0)),
                len(image.layers or ()),
                versions_from_labels(image.labels),
                bases[name],
            )
            for name, size in sizes.items()
            if name in names and (image := present[name])
        }
        project.record(measured, [name for name in names if name not in sizes])
        # Rendered again with the new record: the README's table has the sizes.
        for path, text in Project(project.root).rendered().items():
            if write_atomically(project.root / path, text):
                say(f"wrote {path}")
        project = Project(project.root)
    verdicts = {
        v.name: compare(v.name, v.parent, sizes, bases[v.name], project.budgets)
        if v.name in sizes
        else Verdict(Kind.UNKNOWN, f"not built here; run `nox -s build -- {v.name}`")
        for v in chosen
    }
    if options.json:
        rows = [
            {"image": name, **asdict(sizes.get(name, Size(0, 0))), **asdict(verdict)}
            for name, verdict in verdicts.items()
        ]
        print(json.dumps(rows, indent=2))
    else:
        print(_budget_table(verdicts, sizes))
    failed = {Kind.GREW, Kind.UNKNOWN}
    return 1 if any(verdicts[name].kind in failed for name in sizes) else 0


def _budget_table(verdicts: Mapping[str, Verdict], sizes: Mapping[str, Size]) -> str:
    titles = ("image", "uncompressed", "compressed", "compared with the record")
    rows: list[tuple[str, ...]] = [titles]
    for name, verdict in verdicts.items():
        size = sizes.get(name)
        values = () if size is None else (size.uncompressed, size.compressed)
        shown = [f"{value / 1e6:,.1f} MB" for value in values] or ["", ""]
        rows.append((name, *shown, verdict.text or str(verdict.kind)))
    return table(rows, right=(1, 2))
