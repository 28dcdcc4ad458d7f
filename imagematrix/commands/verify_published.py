"""`verify_published`: verify published images as a consumer does."""

import argparse
import json
import os
import re
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from imagematrix.commands.verifying import add_verifier, verifier_of
from imagematrix.console import table
from imagematrix.errors import UserError, WorkError
from imagematrix.host.config import read_host_config
from imagematrix.host.published import registry_of
from imagematrix.host.registry import Registry
from imagematrix.publish.verify import is_verified, verify
from imagematrix.release.tags import LATEST
from imagematrix.repository.project import Project

# https://github.com/opencontainers/distribution-spec/blob/main/spec.md#pulling-manifests
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.add_argument(
        "images",
        nargs="+",
        metavar="IMAGE",
        help="HOST/NAMESPACE/NAME, with :TAG or @DIGEST; latest without",
    )
    add_verifier(parser, required=True)
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")


def run(project: Project, options: argparse.Namespace) -> int:
    """Runs the command: 0 if every image is verified, 1 if one is refused. What cannot be checked
    raises UserError."""
    ca_bundle = read_host_config(os.environ, Path.home()).ca_bundle
    images = [(text, *image_of(text, ca_bundle)) for text in options.images]
    try:
        verifier, now = verifier_of(project.root, ca_bundle, options), datetime.now(UTC)
        findings = {
            text: verify(registry, repository, reference, verifier, now)
            for text, registry, repository, reference in images
        }
    except WorkError as error:
        # Exit status 1 would say that an image is refused.
        raise UserError(str(error)) from None
    if options.json:
        rows = [
            {"image": text, "verified": is_verified(found), "findings": list(map(asdict, found))}
            for text, found in findings.items()
        ]
        print(json.dumps(rows, indent=2))
    else:
        for text, found in findings.items():
            lines = [(one.what, one.verdict, one.detail) for one in found]
            print(f"{text}: {'verified' if is_verified(found) else 'REFUSED'}")
            print(table([("what", "verdict", "detail"), *lines]))
    return 0 if all(map(is_verified, findings.values())) else 1


def image_of(text: str, ca_bundle: Path | None) -> tuple[Registry, str, str]:
    """The registry, the repository, and the tag or digest of `host/namespace/name[:tag|@digest]`.

    Raises UserError for other texts.
    """
    name, _, digest = text.partition("@")
    head, colon, tag = name.rpartition(":")
    if not colon or "/" in tag:
        head, tag = name, ""
    if tag and digest:
        raise UserError(f"{text} has a tag and a digest; give one of them")
    if "@" in text and not _DIGEST.fullmatch(digest):
        raise UserError(f"{text} has no digest after the @, as sha256: and 64 hex digits")
    if colon and head != name and not _TAG.fullmatch(tag):
        raise UserError(f"{text} has no tag after the colon")
    if head.count("/") < 2:
        raise UserError(f"{text} is not HOST/NAMESPACE/NAME, as ghcr.io/me/minimal-py312-inference")
    registry, repository = registry_of(head, ca_bundle)
    return registry, repository, digest or tag or LATEST
