"""`catalogue`: write the catalogue of the images as a static site."""

import argparse
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from imagematrix.catalogue.published import Prefix, Publications, WebAddress, read_published
from imagematrix.catalogue.site import INDEX, Site, render_site
from imagematrix.console import say
from imagematrix.errors import UserError
from imagematrix.files import WORK_FOLDER, read_text, replace_folder
from imagematrix.repository.project import Project


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.add_argument(
        "--output",
        type=Path,
        default=WORK_FOLDER / "catalogue",
        metavar="DIR",
        help="where the site is written (default: build/catalogue)",
    )
    parser.add_argument(
        "--published",
        type=Path,
        metavar="FILE",
        help="what is published, as JSON (docs/catalogue.md); without it, nothing is",
    )
    parser.add_argument(
        "--image-prefix",
        default="",
        metavar="HOST/NAMESPACE",
        help="where images are pulled: ghcr.io/owner (default: what the file says)",
    )
    parser.add_argument("--source", default="", metavar="URL", help="the address of the repository")
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
    source = _checked("--source", options.source, WebAddress)
    url = _checked("--url", options.url, WebAddress)
    prefix = _checked("--image-prefix", options.image_prefix.lower(), Prefix)
    publications = Publications()
    if options.published:
        publications = read_published(
            read_text(options.published, options.published), options.published
        )
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


def _checked(option: str, value: str, kind: Any) -> str:
    """The value of an option, which is empty or of a form. Raises UserError for another one."""
    try:
        return str(TypeAdapter(kind).validate_python(value)) if value else ""
    except ValidationError as error:
        message = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise UserError(f"{option}: {message}") from None
