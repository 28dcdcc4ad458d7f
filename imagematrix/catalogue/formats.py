"""Values as the pages show them."""

import re
from datetime import date, datetime

from markupsafe import Markup


def moment(text: str) -> datetime:
    """A date and time of RFC 3339."""
    return datetime.fromisoformat(text)


def date_of(text: str) -> date:
    """The day of a date and time of RFC 3339."""
    return moment(text).date()


def day(value: date | str) -> str:
    """A day as people write it: 26 Nov 2026."""
    found = date_of(value) if isinstance(value, str) else value
    return f"{found.day} {found:%b %Y}"


def megabytes(size: float) -> str:
    """Bytes in MB or GB (10^6 and 10^9), with three digits that count.

    >>> megabytes(30_686_621), megabytes(5_094_000_000)
    ('30.7 MB', '5.09 GB')
    """
    value, unit = (size / 1e9, "GB") if size >= 999.5e6 else (size / 1e6, "MB")
    digits = 0 if value >= 100 else 1 if value >= 10 else 2
    return f"{value:,.{digits}f} {unit}"


def age(hours: float | None) -> str:
    """A span of time in words: hours up to two days, then days.

    >>> age(7), age(100), age(None)
    ('7 hours', '4 days', 'unknown')
    """
    if hours is None:
        return "unknown"
    if hours < 48:
        return f"{hours:.0f} hour" + ("s" if round(hours) != 1 else "")
    return f"{hours / 24:.0f} days"


def unbroken(command: str) -> Markup:
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


def monogram(title: str) -> str:
    """The letters by which a framework is recognized: its capitals, else its first letters."""
    capitals = "".join(c for c in title if c.isupper())
    return (capitals if len(capitals) >= 2 else title)[:2]
