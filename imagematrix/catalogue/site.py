"""The catalogue as files: pages from templates, a style sheet, a script, a feed of releases.

The same input gives the same bytes. All links are relative, so the site works in any folder of a
web server, and from the disk.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path, PurePosixPath
from typing import Any

import jinja2
from markupsafe import Markup

from imagematrix.catalogue.charts import bar, nested_bar
from imagematrix.catalogue.entries import Entry, changes_by_kind, entries_of
from imagematrix.catalogue.feed import FeedEntry, atom_feed
from imagematrix.catalogue.formats import age, day, megabytes, moment, monogram, unbroken
from imagematrix.catalogue.published import Publications
from imagematrix.catalogue.views import (
    audit_of,
    image_values,
    index_values,
    maintainer_values,
    support_of,
)
from imagematrix.matrix.lockfile import Lock
from imagematrix.matrix.variant import Variant
from imagematrix.release.changelog import TITLES, phrase
from imagematrix.release.predicates import Predicate
from imagematrix.release.statement import Change
from imagematrix.repository.sizes import Budgets

_HERE = Path(__file__).parent
TITLE = "Inference images"
# By which a folder is recognized as a catalogue, and programs read what is published.
INDEX = PurePosixPath("images.json")
_IN_FEED = 100
# What attached statements are called, and the file into which one is fetched.
STATEMENTS = {
    Predicate.RELEASE: ("Release statement", "release.json"),
    Predicate.SPDX: ("SBOM, SPDX 2.3", "sbom.spdx.json"),
    Predicate.CYCLONEDX: ("SBOM, CycloneDX 1.6", "sbom.cdx.json"),
    Predicate.PROVENANCE: ("Provenance, SLSA v1", "provenance.json"),
    Predicate.TESTS: ("Test results", "tests.json"),
}


@dataclass(frozen=True)
class Site:
    """All that a catalogue is made from.

    `dockerfiles` has the text of each Dockerfile by its path, relative to the repository. `source`
    is the address of the repository, `url` the one of the site; both may be empty. `today` is the
    day from which ages are counted.
    """

    variants: Sequence[Variant]
    dockerfiles: Mapping[PurePosixPath, str]
    locks: Mapping[str, Lock]
    budgets: Budgets
    publications: Publications
    today: date
    source: str = ""
    url: str = ""


def render_site(site: Site) -> dict[PurePosixPath, str]:
    """The text of every file of the catalogue, by its path in it."""
    entries = entries_of(
        site.variants, site.dockerfiles, site.locks, site.budgets, site.publications
    )
    environment = _environment(site, entries)

    def page(template: str, path: str, **values: Any) -> str:
        up = "../" * path.count("/")
        return environment.get_template(template).render(up=up, path=path, **values)

    files = {name: _static(name) for name in ("style.css", "script.js")}
    files["index.html"] = page("index.html.j2", "index.html", **index_values(entries))
    for entry in entries:
        files[entry.page] = page("image.html.j2", entry.page, **image_values(entry, entries))
    files["maintainers.html"] = page(
        "maintainers.html.j2",
        "maintainers.html",
        **maintainer_values(
            entries, site.publications.upstream, site.budgets.tolerance, site.today
        ),
    )
    files["404.html"] = page("404.html.j2", "404.html", css=Markup(_static("style.css")))
    files["feed.xml"] = _feed(entries, site)
    files["robots.txt"] = "User-agent: *\nAllow: /\n"
    files[str(INDEX)] = _data(entries)
    return {PurePosixPath(path): text for path, text in files.items()}


def _static(name: str) -> str:
    return (_HERE / "static" / name).read_text(encoding="utf-8")


def _environment(site: Site, entries: Sequence[Entry]) -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE / "templates"),
        undefined=jinja2.StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "day": day,
        "megabytes": megabytes,
        "age": age,
        "unbroken": unbroken,
        "monogram": monogram,
    }
    environment.globals |= {
        "site_title": TITLE,
        "source": site.source.rstrip("/"),
        "home": site.url or "index.html",
        "today": site.today,
        "by_name": {entry.name: entry for entry in entries},
        "is_published": any(entry.published for entry in entries),
        "statements": STATEMENTS,
        "release_type": Predicate.RELEASE,
        "kinds": TITLES,
        "phrase": phrase,
        "hues": {name: i % 8 for i, name in enumerate(dict.fromkeys(e.framework for e in entries))},
        "bar": bar,
        "nested_bar": nested_bar,
        "support_of": lambda entry: support_of(entry, site.today),
        "audit_of": audit_of,
    }
    return environment


def _feed(entries: Sequence[Entry], site: Site) -> str:
    releases = [
        (entry, tag) for entry in entries if entry.published for tag in entry.published.tags
    ]
    releases.sort(key=lambda pair: (pair[0].name, pair[1].tag))
    releases.sort(key=lambda pair: moment(pair[1].statement.published), reverse=True)
    return atom_feed(
        f"{TITLE}: releases",
        site.url,
        f"{site.today}T00:00:00Z",
        [
            FeedEntry(
                f"{tag.digest} {entry.name}:{tag.tag}",
                f"{entry.name}:{tag.tag}",
                tag.statement.published,
                f"{entry.page}#tag-{tag.tag}",
                _summary(tag.statement.changes, tag.statement.previous),
            )
            for entry, tag in releases[:_IN_FEED]
        ],
    )


def _summary(changes: Iterable[Change], previous: str) -> str:
    """Changes in a line for each kind."""
    lines = [
        f"{TITLES.get(kind, kind)}: {', '.join(map(phrase, of_kind))}"
        for kind, of_kind in changes_by_kind(changes).items()
    ]
    if not lines:
        return "The first release." if not previous else f"No changes since {previous}."
    return "\n".join(lines)


def _data(entries: Sequence[Entry]) -> str:
    """What is published, for programs."""
    rows = [
        {
            "name": entry.name,
            "framework": entry.framework,
            "version": entry.version,
            "python": entry.python,
            "accelerator": entry.accelerator,
            "platform": entry.platform,
            "track": entry.track,
            "pins": entry.pins,
            "reference": entry.reference if entry.published else None,
            "tag": entry.tag.tag if entry.tag else None,
            "digest": entry.tag.digest if entry.tag else None,
            "successor": entry.successor or None,
        }
        for entry in entries
    ]
    return json.dumps(rows, indent=2) + "\n"
