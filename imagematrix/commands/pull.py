"""`pull`: get published images into the engine, under their local names."""

import argparse
import contextlib
import os
from datetime import UTC, datetime
from pathlib import Path

from imagematrix.commands.options import add_selection, selection_of
from imagematrix.commands.verifying import add_verifier, verifier_of
from imagematrix.console import say, table
from imagematrix.errors import WorkError
from imagematrix.host.config import read_host_config
from imagematrix.host.published import registry_of
from imagematrix.host.pull import pull
from imagematrix.host.registry import Registry
from imagematrix.host.setup import ensure_engine
from imagematrix.matrix.selection import select, with_parents
from imagematrix.plan.bake import LATEST, image_tag
from imagematrix.publish.cosign import Verifier
from imagematrix.publish.verify import Verdict, is_verified, verify
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
    add_verifier(parser, required=False)


def run(project: Project, options: argparse.Namespace) -> int:
    """Runs the command; returns its exit status: 1 where an image could not be pulled."""
    chosen = select(project.variants, selection_of(options))
    engine = ensure_engine()
    wanted = [variant.name for variant in chosen]
    if options.parents:
        names = [v.name for v in with_parents(chosen, project.variants) if v not in chosen]
        present = engine.inspect(map(image_tag, names))
        wanted = [name for name in names if image_tag(name) not in present]
    ca_bundle = read_host_config(os.environ, Path.home()).ca_bundle
    registry, namespace = registry_of(options.registry, ca_bundle)
    verifier = None
    if options.key is not None or options.certificate_identity_regexp:
        verifier = verifier_of(project.root, ca_bundle, options)
    rows = []
    with contextlib.closing(engine.client()) as client:
        for name in wanted:
            repository = f"{namespace}/{name}"
            reference = f"{registry.host}/{repository}"
            say(f"Pulling {reference}:{LATEST} …")
            found = registry.image_manifest(repository, LATEST)
            if found is None:
                raise WorkError(f"there is no image {reference}:{LATEST}")
            if verifier is not None:
                _require_verified(registry, repository, found.digest, verifier)
            pulled = f"{reference}@{found.digest}"
            if error := pull(engine, pulled):
                raise WorkError(f"{pulled} cannot be pulled: {error}")
            client.api.tag(pulled, name, LATEST, force=True)
            client.images.remove(pulled, noprune=True)
            rows.append((name, found.digest, "verified" if verifier else "not verified"))
    if rows:
        print(table(rows))
    return 0


def _require_verified(registry: Registry, repository: str, digest: str, verifier: Verifier) -> None:
    """Raises WorkError where a consumer would refuse an image: others are built on it."""
    findings = verify(registry, repository, digest, verifier, datetime.now(UTC))
    if not is_verified(findings):
        refused = [one for one in findings if one.verdict is Verdict.REFUSED]
        why = "; ".join(f"{one.what}: {one.detail}" for one in refused)
        raise WorkError(f"{registry.host}/{repository}@{digest} is refused: {why}")
