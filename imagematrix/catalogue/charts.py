"""Charts as SVG in the page: https://www.w3.org/TR/SVG2/.

A chart has a title and a description for those who do not see it, and stands beside a table with
the same numbers. Colours are classes of the style sheet.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor, log10

from markupsafe import Markup, escape

# Of text in a chart, about: charts are drawn in the size in which they are shown.
_CHARACTER = 6.6
_TEXT = 12


@dataclass(frozen=True)
class Series:
    """One value of each column, drawn in the colour of `style`."""

    name: str
    style: str
    values: Sequence[float]


def bar(parts: Sequence[tuple[str, float]], whole: float, style: str = "") -> Markup:
    """A horizontal bar as wide as its place, of parts, each with its style and its share of
    `whole`. It is for the eye only: the number stands beside it."""
    x, rects = 0.0, []
    for part_style, value in parts:
        width = 100 * value / whole if whole else 0
        rects.append(_rect(part_style, x, 0, max(width, 0.6 if value else 0), 10))
        x += width
    return Markup(
        '<svg class="bar {}" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true"'
        ' focusable="false">{}</svg>'
    ).format(style, Markup("").join(rects))


def nested_bar(outer: float, inner: float, whole: float) -> Markup:
    """A bar inside of another one: compressed and uncompressed."""

    def width(value: float) -> float:
        return max(100 * value / whole, 0.6) if whole else 0

    return Markup(
        '<svg class="bar" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true"'
        ' focusable="false">{}{}</svg>'
    ).format(
        _rect("fill-light", 0, 0, width(outer), 10), _rect("fill-main", 0, 0, width(inner), 10)
    )


def columns(
    key: str,
    title: str,
    description: str,
    labels: Sequence[str],
    series: Sequence[Series],
    unit: str = "",
    stacked: bool = False,
    width: int = 720,
) -> Markup:
    """A chart of columns, one for each label: of several series, one in front of the other, or one
    on the other. `key` is its ID in the page, `width` its size in pixels. Values start at zero."""
    height, left, bottom, top = 240, 56, 44, 14
    totals = [
        (sum if stacked else max)(one.values[i] for one in series) for i in range(len(labels))
    ]
    step = _step(max(totals, default=0) or 1)
    highest = step * max(ceil(max(totals, default=0) / step), 1)
    scale = (height - top - bottom) / highest
    base = height - bottom
    parts: list[Markup] = []
    for i in range(round(highest / step) + 1):
        y = base - i * step * scale
        parts.append(
            Markup('<line class="grid" x1="{}" y1="{:.1f}" x2="{}" y2="{:.1f}"/>').format(
                left, y, width, y
            )
        )
        parts.append(_text(left - 8, y + 4, _number(i * step, unit), "end"))
    place = (width - left) / max(len(labels), 1)
    column = min(place * 0.62, 56)
    # As many labels as fit without touching.
    every = max(1, ceil((max(map(len, labels), default=1) * _CHARACTER + 8) / place))
    for i, label in enumerate(labels):
        middle = left + place * (i + 0.5)
        y = float(base)
        for one in series:
            tall = one.values[i] * scale
            y = (y if stacked else base) - tall
            drawn = _rect(one.style, middle - column / 2, y, column, tall)
            tip = f"{label}: {one.name} {_number(one.values[i], unit)}"
            parts.append(Markup("<g><title>{}</title>{}</g>").format(tip, drawn))
        if (len(labels) - 1 - i) % every == 0:
            parts.append(_text(middle, base + 20, label, "middle"))
    return Markup(
        '<svg class="chart" id="{key}" role="img" aria-labelledby="{key}-title {key}-desc"'
        ' viewBox="0 0 {width} {height}" width="{width}" height="{height}">'
        '<title id="{key}-title">{title}</title><desc id="{key}-desc">{description}</desc>{parts}'
        "</svg>"
    ).format(
        key=key,
        width=width,
        height=height - 12,
        title=title,
        description=description,
        parts=Markup("").join(parts),
    )


def _rect(style: str, x: float, y: float, width: float, height: float) -> Markup:
    return Markup('<rect class="{}" x="{:.2f}" y="{:.2f}" width="{:.2f}" height="{:.2f}"/>').format(
        style, x, y, width, height
    )


def _text(x: float, y: float, text: str, anchor: str) -> Markup:
    return Markup('<text x="{:.1f}" y="{:.1f}" font-size="{}" text-anchor="{}">{}</text>').format(
        x, y, _TEXT, anchor, escape(text)
    )


def _step(highest: float) -> float:
    """The distance of the lines of a grid: 1, 2 or 5 times a power of ten, for about four lines."""
    rough = highest / 4
    power = 10.0 ** floor(log10(rough))
    step: float = next(power * m for m in (1, 2, 5, 10) if power * m >= rough)
    return max(step, 1.0)


def _number(value: float, unit: str) -> str:
    return f"{value:,.0f} {unit}".strip()
