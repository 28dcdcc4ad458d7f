"""`publish`: push images that are built, up to date and checked, with signed statements."""

import argparse
import contextlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from functools import cache, partial
from pathlib import Path

import docker

from imagematrix.audit.facts import ArchiveFacts
from imagematrix.audit.images import sources_of
from imagematrix.build.pending import pending_in_engine
from imagematrix.build.prepare import Prepared, prepare
from imagematrix.commands.github import set_output
from imagematrix.commands.options import add_selection, request_of, selection_of
from imagematrix.console import counted, say, table
from imagematrix.errors import UserError, WorkError
from imagematrix.files import WORK_FOLDER, read_text, write_atomically
from imagematrix.host.config import HostConfig, read_host_config
from imagematrix.host.published import registry_of
from imagematrix.host.revision import revision_of
from imagematrix.matrix.selection import select, with_parents
from imagematrix.measure.compression import Compression
from imagematrix.plan.plan import Step
from imagematrix.publish.candidates import Candidate, Policy, early_refusals, refusals
from imagematrix.publish.collect import collect
from imagematrix.publish.cosign import Signer, find_cosign
from imagematrix.publish.preview import preview
from imagematrix.publish.publication import Publisher, Row, Verdict
from imagematrix.publish.statements import Origin
from imagematrix.release.changelog import rows as change_rows
from imagematrix.release.components import components_of
from imagematrix.release.guard import accepted
from imagematrix.release.provenance import Run
from imagematrix.release.spdx import spdx_document
from imagematrix.repository.project import Project

_FAILURES = {Verdict.REFUSED, Verdict.FAILED}


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    add_selection(parser)
    parser.add_argument("--registry", required=True, metavar="HOST/NAMESPACE", help="push there")
    parser.add_argument(
        "--dry-run", action="store_true", help="say what would be published; nothing is written"
    )
    parser.add_argument(
        "--key",
        type=Path,
        metavar="FILE",
        help="sign with this key of cosign, whose password is in COSIGN_PASSWORD (default: the"
        " identity of the workflow, in GitHub Actions)",
    )
    parser.add_argument("--historical", action="store_true", help="also push historical images")
    parser.add_argument(
        "--bootstrap-bases",
        action="store_true",
        help="also push images based on bootstrap bases, which were made on this host",
    )
    parser.add_argument(
        "--allow-pending",
        default="",
        metavar="REASON",
        help="also push images that lack security fixes; the reason is published",
    )
    parser.add_argument(
        "--accept-jump",
        action="append",
        default=[],
        metavar="NAME=REASON",
        help="let `latest` jump to another major version of a package; the reason is published",
    )
    parser.add_argument(
        "--compression",
        type=Compression,
        choices=list(Compression),
        default=Compression.ZSTD,
        help="of the layers: zstd needs Docker 23 or newer where the image is pulled"
        " (default: %(default)s)",
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument(
        "--github-output",
        action="store_true",
        help="set three outputs of a step of GitHub Actions, for one image that was pushed: its"
        " `name` with registry, its `digest`, and the file `sbom`",
    )
    parser.set_defaults(bases=None, pull=False, force=False, builder="")


def run(project: Project, options: argparse.Namespace) -> int:
    """Runs the command; returns its exit status: 1 if an image was refused or failed."""
    host = read_host_config(os.environ, Path.home())
    registry, namespace = registry_of(options.registry, host.ca_bundle)
    policy = Policy(
        options.historical,
        options.bootstrap_bases,
        options.allow_pending,
        accepted(options.accept_jump),
    )
    origin = _origin(project.root, os.environ)
    chosen = select(project.variants, selection_of(options))
    # A key that cannot be used is an error of the request, before minutes are spent on images.
    signer = None if options.dry_run else _signer(project.root, host, options.key)
    verifier = signer.verifier() if signer else None
    prepared = prepare(project, request_of(options))
    steps = [step for step in prepared.steps if step.variant in chosen]
    rows = _early_rows(prepared, steps, policy)
    steps = [step for step in steps if step.variant.name not in rows]
    with contextlib.closing(prepared.engine.client()) as client:
        facts = cache(partial(ArchiveFacts, sources_of(project.root, host)))
        candidates = _candidates(project, prepared, client, steps, host, facts)

        def published(candidate: Candidate) -> Row:
            if signer is None or verifier is None:
                where = f"{namespace}/{candidate.variant.name}"
                now = datetime.now(UTC)
                return preview(client, registry, where, candidate, policy, origin, now)
            publisher = Publisher(
                project.root,
                client,
                registry,
                namespace,
                signer,
                verifier,
                origin,
                policy,
                facts,
                lambda: datetime.now(UTC),
                options.compression,
            )
            lock = candidate.variant.lock
            return publisher.publish(
                candidate,
                project.locks[candidate.variant.name],
                read_text(project.root / lock, lock),
            )

        for name, candidate in candidates.items():
            rows[name] = _row(candidate, policy, published)
    ordered = [rows[variant.name] for variant in chosen]
    _show(ordered, as_json=options.json, dry_run=options.dry_run)
    if options.github_output:
        _set_outputs(project, f"{registry.host}/{namespace}", ordered, candidates)
    return 1 if any(row.verdict in _FAILURES for row in ordered) else 0


def _origin(root: Path, environ: Mapping[str, str]) -> Origin:
    """Where the images come from. Raises UserError where the URL of the repository is not known."""
    revision = revision_of(root, environ)
    if not revision.source:
        raise UserError(
            "the URL of the repository is not known, which is published with each image: set"
            " `Source` in [project.urls] of pyproject.toml"
        )
    builder, invocation = f"{revision.source}#local", ""
    # https://docs.github.com/actions/reference/workflows-and-actions/variables
    if workflow := environ.get("GITHUB_WORKFLOW_REF"):
        server = environ.get("GITHUB_SERVER_URL", "https://github.com")
        builder = f"{server}/{workflow}"
        run = f"actions/runs/{environ.get('GITHUB_RUN_ID', '')}"
        attempt = environ.get("GITHUB_RUN_ATTEMPT", "1")
        invocation = f"{server}/{environ.get('GITHUB_REPOSITORY', '')}/{run}/attempts/{attempt}"
    return Origin(revision.source, revision.commit, Run(builder, invocation))


def _signer(root: Path, host: HostConfig, key: Path | None) -> Signer:
    return Signer(find_cosign(root, host.ca_bundle), key)


def _early_rows(prepared: Prepared, steps: Sequence[Step], policy: Policy) -> dict[str, Row]:
    """The rows of images that the plan refuses, by name."""
    # Images that are up to date are based on these: bases are part of the key.
    official = all(name == image for name, image in prepared.bases.images.items())
    today = datetime.now(UTC).date()
    rows = {}
    for step in steps:
        if why := early_refusals(step, policy, today, official_bases=official):
            rows[step.variant.name] = Row(step.variant.name, Verdict.REFUSED, detail="; ".join(why))
    return rows


def _candidates(
    project: Project,
    prepared: Prepared,
    client: docker.DockerClient,
    steps: Sequence[Step],
    host: HostConfig,
    facts: Callable[[str], ArchiveFacts],
) -> dict[str, Candidate]:
    """The candidates of images that the plan does not refuse, with what they lack, by name."""
    if not steps:
        return {}
    needed = with_parents([step.variant for step in steps], project.variants)
    present = {variant.name: prepared.present[variant.name] for variant in needed}
    audited = pending_in_engine(project, prepared.engine, needed, present, host)
    return collect(project, client, steps, present, audited, facts)


def _row(candidate: Candidate, policy: Policy, publish: Callable[[Candidate], Row]) -> Row:
    """What becomes of an image: a failure of one does not stop the others."""
    name = candidate.variant.name
    if why := refusals(candidate, policy):
        return Row(name, Verdict.REFUSED, detail="; ".join(why))
    try:
        return publish(candidate)
    except WorkError as error:
        return Row(name, Verdict.FAILED, detail=str(error))


def _show(rows: Sequence[Row], *, as_json: bool, dry_run: bool) -> None:
    if as_json:
        print(json.dumps([asdict(row) for row in rows], indent=2))
        return
    lines = [(row.image, row.verdict, row.tag, row.digest, row.detail) for row in rows]
    print(table([("image", "result", "tag", "digest", "details"), *lines]))
    for row in rows:
        if row.changes:
            print(f"\n{row.image}:{row.tag}")
            print(table(change_rows(row.changes)))
    say(counted(row.verdict for row in rows) + ("; nothing was written" if dry_run else ""))


def _set_outputs(
    project: Project, where: str, rows: Sequence[Row], candidates: Mapping[str, Candidate]
) -> None:
    """The outputs of a step, for an image that is new in the registry."""
    pushed = [row for row in rows if row.verdict in (Verdict.PUSHED, Verdict.HELD)]
    if len(pushed) != 1:
        return
    row = pushed[0]
    parts = components_of(candidates[row.image].contents, project.locks[row.image])
    sbom = project.root / WORK_FOLDER / f"{row.image}.spdx.json"
    write_atomically(sbom, spdx_document(row.image, row.digest, parts).decode())
    set_output("name", f"{where}/{row.image}")
    set_output("digest", row.digest)
    set_output("sbom", str(sbom))
