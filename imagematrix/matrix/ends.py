"""Until when images may be supported: what they are made of has ends of its own.

`ends-of-life.yaml` is a dated table of those. Nothing here reads a clock: the day is given.
"""

import csv
import datetime
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Annotated

from pydantic import Field, ValidationError

from imagematrix.errors import Diagnostic, InputError
from imagematrix.matrix.document import Document, KeyPath, read_document
from imagematrix.matrix.messages import schema_diagnostics
from imagematrix.matrix.names import Cell, name_of, parent_of
from imagematrix.matrix.rules import Matrix
from imagematrix.matrix.schema import (
    Day,
    FrameworkName,
    PythonVersion,
    ReleaseVersion,
    Section,
    Suite,
    Track,
)

ENDS = PurePath("ends-of-life.yaml")
DISTRO_INFO = Path("/usr/share/distro-info/debian.csv")
NOTICE = datetime.timedelta(days=90)


class DebianEnds(Section):
    """The ends of a Debian release."""

    full: Day = Field(description="The end of the security team's support.")
    lts: Day = Field(description="The end of long-term support, which the same archive brings.")


class EndsSpec(Section):
    """The ends of life of what images are made of."""

    as_of: Day = Field(description="The day on which the table was compared with its sources.")
    python: dict[PythonVersion, Day] = Field(description="The end of each CPython.")
    debian: dict[Annotated[Suite, Field(strict=False)], DebianEnds] = Field(
        description="The ends of each Debian release."
    )
    frameworks: dict[FrameworkName, dict[ReleaseVersion, Day]] = Field(
        {}, description="The end of a framework's release, where its makers publish one."
    )


@dataclass(frozen=True)
class Ends:
    """A valid table, with the document that it was read from."""

    spec: EndsSpec
    document: Document


@dataclass(frozen=True)
class End:
    """What an image is made of, and the last day on which that gets fixes."""

    what: str
    day: datetime.date


def read_ends(root: Path) -> Ends:
    """Reads the table of a repository. Raises InputError with all that is wrong with it."""
    document = read_document(root / ENDS, ENDS)
    try:
        spec = EndsSpec.model_validate(document.data)
    except ValidationError as error:
        found = schema_diagnostics(document, EndsSpec, error)
        raise InputError([*document.errors, *found]) from None
    if document.errors:
        raise InputError(list(document.errors))
    return Ends(spec, document)


def support_errors(matrix: Matrix, ends: Ends, today: datetime.date) -> Iterator[Diagnostic]:
    """Why dates of support cannot be kept: the day has passed, what an image is made of or based on
    ends before, or its end is not in the table. Each is at the date in the matrix."""
    for path, cells in _by_place(matrix).items():
        until = cells[0].supported_until
        assert until is not None
        if until < today:
            images = _images(cells)
            message = f"the support of {images} ended on {until}"
            hint = "retire or extend: remove the release, or set a later date"
            yield matrix.document.diagnostic(path, message, hint)
        by_end: dict[End, list[Cell]] = {}
        for cell in cells:
            for end in _ends_of(cell, matrix, ends.spec):
                if until > end.day:
                    by_end.setdefault(end, []).append(cell)
        for end, affected in by_end.items():
            message = f"{until} is after {end.what} ends ({end.day})"
            hint = f"support {_images(affected)} until {end.day} at most"
            yield matrix.document.diagnostic(path, message, hint)
    yield from _unknown(matrix, ends)


def support_warnings(matrix: Matrix, today: datetime.date) -> Iterator[Diagnostic]:
    """The dates of support that pass within 90 days."""
    for path, cells in _by_place(matrix).items():
        until = cells[0].supported_until
        assert until is not None
        if today <= until <= today + NOTICE:
            days = (until - today).days
            left = f"in {days} day{'s' if days != 1 else ''}" if days else "today"
            message = f"the support of {_images(cells)} ends {left}"
            hint = "retire or extend: remove the release, or set a later date"
            yield matrix.document.diagnostic(path, message, hint)


def debian_differences(ends: Ends, distro_info: str) -> Iterator[Diagnostic]:
    """The Debian releases whose ends are others in a text of debian.csv.

    https://salsa.debian.org/debian/distro-info-data
    """
    rows = {row["series"]: row for row in csv.DictReader(distro_info.splitlines())}
    for suite, known in ends.spec.debian.items():
        row = rows.get(str(suite), {})
        for key, column, day in (("full", "eol", known.full), ("lts", "eol-lts", known.lts)):
            if (other := row.get(column)) and other != day.isoformat():
                message = f"is {day}, but {other} in distro-info-data"
                hint = "take over the date of the newer one"
                yield ends.document.diagnostic(("debian", str(suite), key), message, hint)


def _by_place(matrix: Matrix) -> Mapping[KeyPath, Sequence[Cell]]:
    """The images by the place of the date of their support, without those that have none."""
    places: dict[KeyPath, list[Cell]] = {}
    for cell in matrix.cells:
        if cell.supported_until is not None:
            places.setdefault(cell.support_path, []).append(cell)
    return places


def _ends_of(cell: Cell, matrix: Matrix, ends: EndsSpec) -> Iterator[End]:
    """The known ends of what an image is made of."""
    if day := ends.python.get(cell.python):
        yield End(f"Python {cell.python}", day)
    suite = matrix.suites[cell.python]
    if debian := ends.debian.get(suite):
        yield End(f"Debian {suite}", debian.lts)
    version = cell.release.version or ""
    if day := ends.frameworks.get(cell.framework, {}).get(version):
        yield End(f"{matrix.spec.frameworks[cell.framework].title} {version}", day)
    if (parent := parent_of(cell)) and (day := matrix.by_folder[parent].supported_until):
        yield End(f"the support of {parent}", day)


def _unknown(matrix: Matrix, ends: Ends) -> Iterator[Diagnostic]:
    """What current images are made of and the table does not have."""
    current = [cell for cell in matrix.cells if cell.release.track is Track.CURRENT]
    for python in sorted({cell.python for cell in current} - ends.spec.python.keys()):
        message = f"has no end of Python {python}"
        hint = "add it from https://devguide.python.org/versions/"
        yield ends.document.diagnostic(("python",), message, hint, at_key=True)
    suites = {matrix.suites[cell.python] for cell in current}
    for suite in sorted(suites - ends.spec.debian.keys()):
        message = f"has no end of Debian {suite}"
        hint = "add it from debian.csv in distro-info-data"
        yield ends.document.diagnostic(("debian",), message, hint, at_key=True)


def _images(cells: Iterable[Cell]) -> str:
    """The images in words: all by name where they are few."""
    names = [name_of(cell) for cell in cells]
    shown = ", ".join(names[:_SHOWN])
    return shown if len(names) <= _SHOWN else f"{shown} and {len(names) - _SHOWN} more"


_SHOWN = 3
