"""The catalogue as files: pages from templates, a style sheet, a script, a feed of releases.

The same input gives the same bytes. All links are relative, so the site works in any folder of a
web server, and from the disk.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path, PurePosixPath
from typing import Any

import jinja2
from markupsafe import Markup

from imagematrix.catalogue.charts import Series, bar, columns, nested_bar
from imagematrix.catalogue.entries import (
    KINDS,
    Entry,
    changes_by_kind,
    entries_of,
    is_newer,
    shared_layers,
)
from imagematrix.catalogue.feed import FeedEntry, atom_feed
from imagematrix.catalogue.published import Publications
from imagematrix.catalogue.published import PublishedTag as Tag
from imagematrix.matrix.lockfile import Lock
from imagematrix.matrix.schema import MINIMAL, Accelerator, Track
from imagematrix.matrix.slim import Verb
from imagematrix.matrix.variant import Variant
from imagematrix.release.predicates import Predicate
from imagematrix.release.statement import Change
from imagematrix.repository.sizes import Budgets

_HERE = Path(__file__).parent
TITLE = "Inference images"
# By which a folder is recognized as a catalogue, and programs read what is published.
INDEX = PurePosixPath("images.json")
# Days before its end at which support is said to end soon.
SOON = 90
# As many tags as a chart can show side by side, on a wide screen and on a telephone.
_WIDE, _NARROW = (720, 14), (340, 5)
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
    files["index.html"] = page("index.html.j2", "index.html", **_index(entries))
    for entry in entries:
        files[entry.page] = page("image.html.j2", entry.page, **_image(entry, entries))
    files["maintainers.html"] = page(
        "maintainers.html.j2", "maintainers.html", **_maintainers(entries, site)
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
        "day": _day,
        "megabytes": megabytes,
        "age": age,
        "words": _words,
        "unbroken": _unbroken,
        "monogram": _monogram,
    }
    environment.globals |= {
        "site_title": TITLE,
        "source": site.source.rstrip("/"),
        "home": site.url or "index.html",
        "prefix": site.publications.prefix or "",
        "today": site.today,
        "by_name": {entry.name: entry for entry in entries},
        "is_published": any(entry.published for entry in entries),
        "statements": STATEMENTS,
        "kinds": KINDS,
        "hues": {name: i % 8 for i, name in enumerate(dict.fromkeys(e.framework for e in entries))},
        "bar": bar,
        "nested_bar": nested_bar,
        "support_of": lambda entry: _support(entry, site.today),
        "audit_of": _audit,
        "days_since": lambda text: (site.today - _date(text)).days,
    }
    return environment


def _index(entries: Sequence[Entry]) -> dict[str, Any]:
    current = [entry for entry in entries if not entry.is_retired]
    retired = [entry for entry in entries if entry.is_retired]
    # People look for a framework; what has none is what the others are derived from.
    current.sort(key=lambda entry: entry.framework == MINIMAL)
    frameworks = dict.fromkeys(entry.framework for entry in current)
    charts = []
    for caption, accelerators in (
        ("CPU", {Accelerator.CPU}),
        ("CUDA and TensorRT", {Accelerator.CUDA, Accelerator.TENSORRT}),
    ):
        of_kind = [e for e in current if e.accelerator in accelerators and e.size]
        of_kind.sort(key=lambda entry: entry.size.uncompressed if entry.size else 0)
        if of_kind:
            charts.append((caption, of_kind))
    return {
        "current": current,
        "retired": retired,
        "filters": _filters(entries),
        "charts": charts,
        "largest": _largest(entries),
        "published_count": sum(entry.published is not None for entry in current),
        "frameworks": len(frameworks.keys() - {MINIMAL}),
        "example": current[0] if current else None,
        "newest": max(
            (e.tag.statement.published for e in current if e.tag), key=_date, default=""
        ),
    }


def _largest(entries: Iterable[Entry]) -> dict[Accelerator, int]:
    """The size to which the bars of images are drawn, for each accelerator."""
    found: dict[Accelerator, int] = {}
    for entry in entries:
        if entry.size:
            size = entry.size.uncompressed
            found[entry.accelerator] = max(found.get(entry.accelerator, 0), size)
    return found


def _filters(entries: Sequence[Entry]) -> list[tuple[str, str, list[tuple[str, str]]]]:
    """The filters: key, label, and the values with what is shown for them."""

    def version(python: str) -> tuple[int, ...]:
        return tuple(int(part) for part in python.split(".") if part.isdigit())

    pythons = sorted({entry.python for entry in entries}, key=version, reverse=True)
    accelerators = {Accelerator.CPU: "CPU", Accelerator.CUDA: "CUDA", Accelerator.TENSORRT: "TensorRT"}
    found = {e.accelerator for e in entries}
    return [
        (
            "framework",
            "Framework",
            list({entry.framework: entry.title for entry in entries}.items()),
        ),
        ("python", "Python", [(python, python) for python in pythons]),
        (
            "accelerator",
            "Accelerator",
            [(key, text) for key, text in accelerators.items() if key in found],
        ),
        ("platform", "Platform", [(p, p) for p in sorted({e.platform for e in entries})]),
        (
            "track",
            "Track",
            [(track, track.capitalize()) for track in Track if track in {e.track for e in entries}],
        ),
    ]


def _image(entry: Entry, entries: Sequence[Entry]) -> dict[str, Any]:
    tags = entry.published.tags if entry.published else ()
    parent = next((other for other in entries if other.name == entry.parent), None)
    parts = _parts(entry, parent)
    return {
        "entry": entry,
        "tags": [(tag, changes_by_kind(tag.statement.changes)) for tag in tags],
        "charts": _tag_charts(tags),
        "parts": parts,
        "part_bar": bar(
            [(style, size) for style, _, size, _ in parts],
            sum(size for _, _, size, _ in parts),
            "tall",
        ),
        "shared": shared_layers(entry, entries),
        "children": [other for other in entries if other.parent == entry.name],
        "left_out": _left_out(entry),
    }


def _tag_charts(tags: Sequence[Tag]) -> list[tuple[str, str, str, list[tuple[str, str]], Any]]:
    """Charts over the tags: ID, heading, caption, the legend, and one drawing for each width."""
    if len(tags) < 2:
        return []
    found = []

    def sizes(shown: Sequence[Tag]) -> list[Series]:
        return [
            Series(
                "on disk",
                "fill-light",
                [tag.statement.uncompressed / 1e6 for tag in shown],
            ),
            Series("to pull", "fill-main", [tag.statement.compressed / 1e6 for tag in shown]),
        ]

    def changes(shown: Sequence[Tag]) -> list[Series]:
        kinds = (("pypi", "fill-main"), ("deb", "fill-light"), ("cve", "fill-good"))
        return [
            Series(
                KINDS[kind],
                style,
                [sum(c.kind == kind for c in tag.statement.changes) for tag in shown],
            )
            for kind, style in kinds
        ]

    for key, heading, series_of, unit, stacked in (
        ("sizes", "Size over tags", sizes, "MB", False),
        ("changes", "Packages changed, vulnerabilities closed", changes, "", True),
    ):
        drawings = []
        for form, (width, count) in (("wide", _WIDE), ("narrow", _NARROW)):
            shown = list(reversed(tags[:count]))
            series = series_of(shown)
            description = "; ".join(
                f"{tag.tag}: "
                + ", ".join(f"{one.values[i]:,.0f} {unit} {one.name}".replace("  ", " ") for one in series)
                for i, tag in enumerate(shown)
            )
            labels = [_short_tag(tag.tag) for tag in shown]
            drawn = columns(
                f"chart-{key}-{form}", heading, description, labels, series, unit, stacked, width
            )
            drawings.append((form, drawn))
        legend = [(one.style, one.name) for one in series_of(tags)]
        found.append((key, heading, unit, legend, drawings))
    return found


def _short_tag(tag: str) -> str:
    """A dated tag as a chart names it: 26 Nov for 20261126.v1, with the count past the first."""
    day, _, count = tag.partition(".v")
    try:
        moment = datetime.strptime(day, "%Y%m%d")
    except ValueError:
        return tag
    return f"{moment.day} {moment:%b}" + (f" v{count}" if count not in ("", "1") else "")


def _parts(entry: Entry, parent: Entry | None) -> list[tuple[str, str, int, int]]:
    """What the size is made of: style, name, uncompressed and compressed bytes."""
    if entry.measured is None:
        return []
    measured = entry.measured
    if parent is None:
        size = measured.size
        return [("fill-main", "Debian, Python and the scoring server", size.uncompressed, size.compressed)]
    rest = measured.size - measured.added
    return [
        ("fill-light", f"from {parent.name}", rest.uncompressed, rest.compressed),
        (
            "fill-main",
            f"{entry.title}, its dependencies and libraries",
            measured.added.uncompressed,
            measured.added.compressed,
        ),
    ]


def _left_out(entry: Entry) -> dict[str, list[str]]:
    """What was removed from the image to make it smaller, by what is done with it."""
    rules = entry.variant.slim if entry.variant else ()
    return {
        str(verb): list(dict.fromkeys(rule.reason for rule in rules if rule.verb == verb))
        for verb in Verb
    }


def _maintainers(entries: Sequence[Entry], site: Site) -> dict[str, Any]:
    fixes = [(fix, entry) for entry in entries if not entry.is_retired for fix in entry.fixes]
    supported = [e for e in entries if e.supported_until and not e.is_retired]
    over = [(e, e.over_budget) for e in entries if e.over_budget is not None]
    upstream = site.publications.upstream
    newest: dict[str, list[Entry]] = {}
    for entry in entries:
        if entry.variant is not None and not entry.is_retired and entry.version:
            newest.setdefault(entry.framework, []).append(entry)
    not_taken = [
        (of_framework[0], upstream[framework], of_framework)
        for framework, of_framework in newest.items()
        if framework in upstream
        and all(is_newer(upstream[framework], entry.version) for entry in of_framework)
    ]
    return {
        "late_count": sum(fix.is_late for fix, _ in fixes),
        "ending": sum((e.supported_until - site.today).days <= SOON for e in supported),
        "soon": SOON,
        "fixes": sorted(fixes, key=lambda pair: (-pair[0].hours, pair[1].name, pair[0].package)),
        "supported": sorted(supported, key=lambda e: (e.supported_until, e.name)),
        "held": [e for e in entries if e.published and e.published.held],
        "not_audited": [e for e in entries if e.not_audited and not e.is_retired],
        "budgets": sorted(over, key=lambda pair: (-abs(pair[1] or 0), pair[0].name)),
        "tolerance": site.budgets.tolerance,
        "unpublished": [e for e in entries if e.published is None and not e.is_retired],
        "unmeasured": [e for e in entries if e.unmeasured],
        "not_taken": not_taken,
        "upstream": upstream,
        "overridden": [e for e in entries if e.tag and e.tag.statement.allowed],
    }


def _support(entry: Entry, today: date) -> tuple[str, str]:
    """How long an image is supported: the style of a badge, and the words in it."""
    if entry.is_retired:
        return "bad", "unsupported"
    until = entry.supported_until
    if until is None:
        return "plain", entry.track.support
    days = (until - today).days
    if days < 0:
        return "bad", f"support ended {_day(until)}"
    return ("warn" if days <= SOON else "plain"), f"until {_day(until)}"


def _audit(entry: Entry) -> tuple[str, str]:
    """What is known of pending fixes: the style of a badge, and the words in it."""
    if entry.published is None:
        return "plain", "not published"
    if entry.is_retired:
        return "bad", "no more"
    if entry.not_audited:
        return "bad", "not audited"
    if not entry.fixes:
        return "good", "none pending"
    late = any(fix.is_late for fix in entry.fixes)
    return ("bad" if late else "warn"), f"{len(entry.fixes)} pending"


def _feed(entries: Sequence[Entry], site: Site) -> str:
    releases = [
        (entry, tag) for entry in entries if entry.published for tag in entry.published.tags
    ]
    releases.sort(key=lambda pair: (pair[0].name, pair[1].tag))
    releases.sort(key=lambda pair: _moment(pair[1].statement.published), reverse=True)
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
        f"{KINDS.get(kind, kind)}: "
        + ", ".join(f"{c.name} {c.old or '(new)'} → {c.new or '(gone)'}" for c in of_kind)
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


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _date(text: str) -> date:
    return _moment(text).date()


def _day(value: date | str) -> str:
    """A day as people write it: 26 Nov 2026."""
    day = _date(value) if isinstance(value, str) else value
    return f"{day.day} {day:%b %Y}"


def megabytes(size: float) -> str:
    """Bytes in MB or GB (10^6 and 10^9), with three digits that count.

    >>> megabytes(30_686_621), megabytes(5_094_000_000)
    ('30.7 MB', '5.09 GB')
    """
    value, unit = (size / 1e9, "GB") if size >= 999.5e6 else (size / 1e6, "MB")
    digits = 0 if value >= 100 else 1 if value >= 10 else 2
    return f"{value:,.{digits}f} {unit}"


def age(hours: float) -> str:
    """A span of time in words: hours up to two days, then days.

    >>> age(7), age(100)
    ('7 hours', '4 days')
    """
    if hours < 48:
        return f"{hours:.0f} hour" + ("s" if round(hours) != 1 else "")
    return f"{hours / 24:.0f} days"


def _words(values: Iterable[str]) -> str:
    """Words in a sentence: a, b and c."""
    *first, last = values
    return f"{', '.join(first)} and {last}" if first else last


def _unbroken(command: str) -> Markup:
    """A command whose lines break between its words, not at the hyphens in them."""
    pieces = re.findall(r"^ +\S+(?: \\$)?|\S+(?: \\$)?|\n| +", command, re.MULTILINE)
    return Markup("").join(
        # A line that is indented by spaces would break after them.
        Markup('<span class="indented">{}</span>').format(piece.strip())
        if piece[0] == " " and piece.strip()
        else Markup("<span>{}</span>").format(piece)
        if piece.strip()
        else piece
        for piece in pieces
    )


def _monogram(title: str) -> str:
    """The letters by which a framework is recognized: its capitals, else its first letters."""
    capitals = "".join(c for c in title if c.isupper())
    return (capitals if len(capitals) >= 2 else title)[:2]
