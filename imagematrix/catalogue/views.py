"""What each page is given: the values of its template."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from markupsafe import Markup

from imagematrix.catalogue.charts import Series, bar, columns
from imagematrix.catalogue.entries import (
    Entry,
    by_age,
    changes_by_kind,
    is_newer,
    shared_layers,
)
from imagematrix.catalogue.formats import day, moment
from imagematrix.catalogue.published import PublishedTag as Tag
from imagematrix.matrix.ends import NOTICE
from imagematrix.matrix.schema import MINIMAL, Accelerator, Track
from imagematrix.matrix.slim import Verb
from imagematrix.release.changelog import TITLES

# As many tags as a chart can show side by side, on a wide screen and on a telephone.
_WIDE, _NARROW = (720, 14), (340, 5)


# The script with which the first page begins: docs/scoring-server.md.
_SCRIPT = """\
import json

def init():
    global model
    model = sum  # load your model here

def run(data):
    rows = json.loads(data)["data"]
    return [model(r) for r in rows]"""


@dataclass(frozen=True)
class TagChart:
    """A chart over the tags of an image: its ID in the page, the unit of its values, the style and
    name of each series, and a drawing for each width of the screen."""

    key: str
    heading: str
    unit: str
    legend: tuple[tuple[str, str], ...]
    drawings: tuple[tuple[str, Markup], ...]


@dataclass(frozen=True)
class Part:
    """A part of an image's size: the style in which it is drawn, and its uncompressed bytes."""

    style: str
    name: str
    size: int


def index_values(entries: Sequence[Entry]) -> dict[str, Any]:
    """Of the page with all images."""
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
        "script": _SCRIPT,
        "example": current[0] if current else None,
        "newest": max(
            (e.tag.statement.published for e in current if e.tag), key=moment, default=""
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
    accelerators = {
        Accelerator.CPU: "CPU",
        Accelerator.CUDA: "CUDA",
        Accelerator.TENSORRT: "TensorRT",
    }
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


def image_values(entry: Entry, entries: Sequence[Entry]) -> dict[str, Any]:
    """Of the page of an image."""
    tags = entry.published.tags if entry.published else ()
    parent = next((other for other in entries if other.name == entry.parent), None)
    parts = _parts(entry, parent)
    return {
        "entry": entry,
        "tags": [(tag, changes_by_kind(tag.statement.changes)) for tag in tags],
        "charts": _tag_charts(tags),
        "parts": parts,
        "part_bar": bar(
            [(part.style, part.size) for part in parts], sum(part.size for part in parts), "tall"
        ),
        "shared": shared_layers(entry, entries),
        "left_out": _left_out(entry),
    }


def _tag_charts(tags: Sequence[Tag]) -> tuple[TagChart, ...]:
    """The charts over the tags of an image; none for a single tag, nor of changes without any."""
    if len(tags) < 2:
        return ()
    charts = [_tag_chart("sizes", "Size over tags", tags, _size_series, "MB")]
    if any(any(one.values) for one in _change_series(tags)):
        title = "Packages changed, security fixes"
        charts.append(_tag_chart("changes", title, tags, _change_series))
    return tuple(charts)


def _tag_chart(
    key: str,
    heading: str,
    tags: Sequence[Tag],
    series_of: Callable[[Sequence[Tag]], Sequence[Series]],
    unit: str = "",
) -> TagChart:
    drawings = []
    for form, (width, count) in (("wide", _WIDE), ("narrow", _NARROW)):
        # Time goes from left to right, as it is read.
        shown = list(reversed(tags[:count]))
        series = series_of(shown)
        described = [
            f"{tag.tag}: " + ", ".join(f"{one.name} {one.values[i]:,.0f}" for one in series)
            for i, tag in enumerate(shown)
        ]
        drawn = columns(
            f"chart-{key}-{form}",
            heading,
            "; ".join(described),
            [_short_tag(tag.tag) for tag in shown],
            series,
            unit=unit,
            stacked=not unit,
            width=width,
        )
        drawings.append((form, drawn))
    legend = tuple((one.style, one.name) for one in series_of(tags))
    return TagChart(key, heading, unit, legend, tuple(drawings))


def _size_series(tags: Sequence[Tag]) -> Sequence[Series]:
    """Sizes in MB, the larger one behind the other."""
    return (
        Series("on disk", "fill-light", [tag.statement.uncompressed / 1e6 for tag in tags]),
        Series("to pull", "fill-main", [tag.statement.compressed / 1e6 for tag in tags]),
    )


def _change_series(tags: Sequence[Tag]) -> Sequence[Series]:
    return [
        Series(
            TITLES[kind],
            style,
            [sum(change.kind == kind for change in tag.statement.changes) for tag in tags],
        )
        for kind, style in (("pypi", "fill-main"), ("deb", "fill-light"), ("cve", "fill-good"))
    ]


def _short_tag(tag: str) -> str:
    """A dated tag as a chart names it: 26 Nov for 20261126.v1, with the count past the first."""
    written, _, count = tag.partition(".v")
    try:
        found = datetime.strptime(written, "%Y%m%d")
    except ValueError:
        return tag
    return f"{found.day} {found:%b}" + (f" v{count}" if count not in ("", "1") else "")


def _parts(entry: Entry, parent: Entry | None) -> tuple[Part, ...]:
    """What the size is made of, as it was recorded."""
    if entry.measured is None:
        return ()
    whole, added = entry.measured.size.uncompressed, entry.measured.added.uncompressed
    if parent is None:
        return (Part("fill-main", "Debian, Python and the scoring server", whole),)
    return (
        Part("fill-light", f"from {parent.name}", whole - added),
        Part("fill-main", f"{entry.title}, its dependencies and libraries", added),
    )


def _left_out(entry: Entry) -> dict[str, list[str]]:
    """What was removed from the image to make it smaller, by what is done with it."""
    rules = entry.variant.slim if entry.variant else ()
    return {
        str(verb): list(dict.fromkeys(rule.reason for rule in rules if rule.verb == verb))
        for verb in Verb
    }


def maintainer_values(
    entries: Sequence[Entry], upstream: Mapping[str, str], tolerance: float, today: date
) -> dict[str, Any]:
    """Of the page for maintainers. `upstream` are the newest releases of frameworks, `tolerance` is
    in percent of a recorded size."""
    fixes = [(fix, entry) for entry in entries if not entry.is_retired for fix in entry.fixes]
    supported = [entry for entry in entries if entry.supported_until]
    over = [(e, e.over_budget) for e in entries if e.over_budget is not None]
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
        "late_count": sum(fix.overdue for fix, _ in fixes),
        "ending": sum(e.supported_until - today <= NOTICE for e in supported if e.supported_until),
        "soon": NOTICE.days,
        "fixes": sorted(fixes, key=lambda pair: (*by_age(pair[0]), pair[1].name)),
        "supported": sorted(supported, key=lambda e: (e.supported_until, e.name)),
        "held": [e for e in entries if e.published and e.published.held],
        "not_audited": [e for e in entries if e.not_audited and not e.is_retired],
        "budgets": sorted(over, key=lambda pair: (-abs(pair[1] or 0), pair[0].name)),
        "tolerance": tolerance,
        "unpublished": [e for e in entries if e.published is None and not e.is_retired],
        "unmeasured": [e for e in entries if e.unmeasured],
        "not_taken": not_taken,
        "upstream": upstream,
        "overridden": [e for e in entries if e.tag and e.tag.statement.allowed],
    }


def support_of(entry: Entry, today: date) -> tuple[str, str]:
    """How long an image is supported: the style of a badge, and the words in it."""
    if entry.is_retired:
        return "bad", "unsupported"
    until = entry.supported_until
    if until is None:
        return "plain", entry.track.support
    days = (until - today).days
    if days < 0:
        return "bad", f"support ended {day(until)}"
    return ("warn" if days <= NOTICE.days else "plain"), f"until {day(until)}"


def audit_of(entry: Entry) -> tuple[str, str]:
    """What is known of pending fixes: the style of a badge, and the words in it."""
    if entry.published is None:
        return "plain", "not published"
    if entry.is_retired:
        return "bad", "no more"
    if entry.not_audited:
        return "bad", "not audited"
    if not entry.fixes:
        return "good", "none pending"
    late = any(fix.overdue for fix in entry.fixes)
    return ("bad" if late else "warn"), f"{len(entry.fixes)} pending"
