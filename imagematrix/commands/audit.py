"""`audit`: list the security fixes that images lack, and for how long."""

import argparse
import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from imagematrix.audit.findings import Audited, Finding, Status, age, pending, totals
from imagematrix.build.pending import pending_in_engine
from imagematrix.build.run import present_images
from imagematrix.commands.options import add_selection, selection_of
from imagematrix.console import say, table
from imagematrix.errors import UserError
from imagematrix.host.config import read_host_config
from imagematrix.host.setup import ensure_engine
from imagematrix.matrix.selection import select, with_parents
from imagematrix.publish.pending import pending_in_registry
from imagematrix.repository.project import Project


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    add_selection(parser)
    parser.add_argument(
        "--registry",
        metavar="HOST/NAMESPACE",
        help="audit the published images (their tag `latest`) instead of those of the engine",
    )
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")


def run(project: Project, options: argparse.Namespace) -> int:
    """Runs the command.

    Returns the exit status: 1 where a fix is pending beyond its limit, or something was not
    audited. Raises UserError where there is none of the images.
    """
    chosen = with_parents(select(project.variants, selection_of(options)), project.variants)
    host = read_host_config(os.environ, Path.home())
    if options.registry:
        audited = pending_in_registry(project, chosen, options.registry, host)
        where, hint = options.registry, "`nox -s publish` pushes them"
    else:
        engine = ensure_engine()
        present = present_images(engine, [variant.name for variant in chosen])
        audited = pending_in_engine(project, engine, chosen, present, host)
        where, hint = "the engine", "`nox -s build` builds them"
    if not audited:
        raise UserError(f"nothing to audit: {where} has none of the images; {hint}")
    missing = [variant.name for variant in chosen if variant.name not in audited]
    if missing:
        say(f"Not in {where}: {', '.join(missing)}.")
    if options.json:
        print(json.dumps({name: _json(one) for name, one in audited.items()}, indent=2))
    else:
        parents = {variant.name: variant.parent or "" for variant in chosen}
        print(f"{_findings_table(audited, parents)}\n{totals(audited)}")
    return 1 if any(finding.failed for one in audited.values() for finding in one.all) else 0


def _json(audited: Audited) -> list[dict[str, object]]:
    pairs = [(finding, True) for finding in audited.own]
    pairs += [(finding, False) for finding in audited.inherited]
    return [{**asdict(one), "own": own, "failed": one.failed} for one, own in pairs]


def _findings_table(audited: Mapping[str, Audited], parents: Mapping[str, str]) -> str:
    """One row for each finding of an image of its own, and for what was not audited for the same
    reason."""
    rows: list[tuple[str, ...]] = [
        ("image", "package", "installed", "fixed", "CVEs", "age", "verdict")
    ]
    for name, found in audited.items():
        rows += ((name, *cells) for cells in _rows(found.own))
        if found.inherited:
            failed = sum(finding.failed for finding in found.inherited)
            count = f"{len(found.inherited)} of {parents[name]}"
            verdict = f"{failed} of them failed" if failed else "none of them failed"
            rows.append((name, count, "", "", "", "", verdict))
        elif not found.own:
            rows.append((name, "", "", "", "", "", "no finding"))
    return table(rows, right=(5,))


def _rows(findings: tuple[Finding, ...]) -> list[tuple[str, ...]]:
    """Pending fixes first, the oldest at the top."""
    fixes = sorted(pending(findings), key=lambda one: -(one.hours or float("inf")))
    unknown: dict[str, list[Finding]] = {}
    for finding in findings:
        if finding.status is Status.NOT_AUDITED:
            unknown.setdefault(finding.verdict, []).append(finding)
    notes = [finding for finding in findings if finding.status is Status.NOTE]
    rows = [_row(one, age(one)) for one in fixes]
    for verdict, alike in unknown.items():
        names = ", ".join(f"{finding.name} {finding.installed}" for finding in alike)
        rows.append((names, "", "", "", "", verdict))
    return [*rows, *(_row(one, "") for one in notes)]


def _row(one: Finding, shown: str) -> tuple[str, ...]:
    return (one.name, one.installed, one.fixed, ", ".join(one.ids), shown, one.verdict)
