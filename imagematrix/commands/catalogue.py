"""`catalogue`: write the catalogue of the images as a static site."""

import argparse
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from imagematrix.audit.download import Downloads
from imagematrix.audit.upstream import framework_packages, newest_releases
from imagematrix.catalogue.collected import published_of
from imagematrix.catalogue.published import (
    Audit,
    Prefix,
    Publications,
    WebAddress,
    read_published,
)
from imagematrix.catalogue.site import INDEX, Site, render_site
from imagematrix.console import say
from imagematrix.errors import UserError
from imagematrix.files import WORK_FOLDER, read_text, replace_folder
from imagematrix.host.config import read_host_config
from imagematrix.host.published import registry_of
from imagematrix.host.revision import revision_of
from imagematrix.publish.pending import pending_in_registry
from imagematrix.publish.releases import releases
from imagematrix.repository.project import Project

_REQUESTS = 8


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.add_argument(
        "--output",
        type=Path,
        default=WORK_FOLDER / "catalogue",
        metavar="DIR",
        help="where the site is written (default: build/catalogue)",
    )
    published = parser.add_mutually_exclusive_group()
    published.add_argument(
        "--registry", metavar="HOST/NAMESPACE", help="read there what is published"
    )
    published.add_argument(
        "--published",
        type=Path,
        metavar="FILE",
        help="what is published, as JSON (docs/catalogue.md); without both, nothing is",
    )
    parser.add_argument(
        "--no-audit",
        action="store_true",
        help="with --registry: ask neither for pending fixes nor for newer releases of frameworks;"
        " images are shown as not audited",
    )
    parser.add_argument(
        "--image-prefix",
        default="",
        metavar="HOST/NAMESPACE",
        help="where images are pulled: ghcr.io/owner (default: the registry)",
    )
    parser.add_argument(
        "--source",
        default=None,
        metavar="URL",
        help="the address of the repository (default: as in the labels of the images)",
    )
    parser.add_argument("--url", default="", metavar="URL", help="the address of the site")
    parser.add_argument(
        "--date",
        type=date.fromisoformat,
        default=datetime.now(UTC).date(),
        metavar="YYYY-MM-DD",
        help="the day from which ages are counted (default: today, UTC)",
    )


def run(project: Project, options: argparse.Namespace) -> int:
    """Runs the command; returns its exit status."""
    found = revision_of(project.root, os.environ).source
    source = _checked("--source", found if options.source is None else options.source, WebAddress)
    url = _checked("--url", options.url, WebAddress)
    prefix = _checked("--image-prefix", options.image_prefix.lower(), Prefix)
    publications = Publications()
    if options.published:
        publications = read_published(
            read_text(options.published, options.published), options.published
        )
    elif options.registry:
        publications = _in_registry(project, options.registry, options.date, not options.no_audit)
    paths = [variant.dockerfile for variant in project.variants]
    files = render_site(
        Site(
            project.variants,
            {path: read_text(project.root / path, path) for path in paths},
            project.locks,
            project.budgets,
            replace(publications, prefix=prefix) if prefix else publications,
            options.date,
            source,
            url if url.endswith("/") or not url else f"{url}/",
        )
    )
    replace_folder(options.output, files, INDEX)
    pages = sum(path.suffix == ".html" for path in files)
    say(f"{pages} pages; {len(publications.images)} images are published")
    print(options.output / "index.html")
    return 0


def _in_registry(project: Project, where: str, today: date, audit: bool) -> Publications:
    """What a registry has of the images of the matrix. Raises WorkError where it cannot be read."""
    host = read_host_config(os.environ, Path.home())
    registry, namespace = registry_of(where, host.ca_bundle)
    variants = project.variants
    with ThreadPoolExecutor(_REQUESTS) as pool:
        found = list(pool.map(lambda one: releases(registry, f"{namespace}/{one.name}"), variants))
    audited = pending_in_registry(project, variants, where, host) if audit else {}
    now = datetime.now(UTC).isoformat(timespec="seconds")
    images = []
    for variant, of_image in zip(variants, found, strict=True):
        findings = audited.get(variant.name)
        known = Audit(now, findings.all) if findings else None
        image, problems = published_of(variant.name, of_image, known, today)
        for problem in problems:
            say(problem)
        images += [image] if image else []
    upstream = {}
    if audit:
        packages = framework_packages(variants)
        upstream = newest_releases(packages, host.index_url, Downloads(project.root, host))
    # The name of Docker Hub in commands is another one than that of its registry.
    prefix = f"{where.partition('/')[0].lower()}/{namespace}"
    return Publications(prefix, tuple(images), upstream=upstream)


def _checked(option: str, value: str, kind: Any) -> str:
    """The value of an option, which is empty or of a form. Raises UserError for another one."""
    try:
        return str(TypeAdapter(kind).validate_python(value)) if value else ""
    except ValidationError as error:
        message = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise UserError(f"{option}: {message}") from None
