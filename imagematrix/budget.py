"""How large each image may be: what it was when its size was recorded, and a tolerance.

An image is held to what it adds to its parent, so that one that grows is told once, not with all
that are layered on it. `sizes.json` holds the record.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path, PurePosixPath
from typing import Any

from imagematrix.errors import Diagnostic, InputError
from imagematrix.files import read_text
from imagematrix.keys import Packages
from imagematrix.layers import Size
from imagematrix.reasons import package_differences

SIZES = PurePosixPath("sizes.json")
UPDATE = "nox -s budget -- --update"
# Of a difference that is no news: an update of a Debian package, a file more or less.
_TOLERANCE = 2.0
_NOT_BUILT = "it was not built where the others were measured"


@dataclass(frozen=True)
class Measured:
    """The size of an image when it was recorded, its number of layers, its packages, and whose
    bases it is on."""

    size: Size
    layers: int
    packages: Mapping[str, str]
    bases: str


@dataclass(frozen=True)
class Budgets:
    """The record: the tolerance in percent, the images that were measured, and why others were
    not."""

    tolerance: float = _TOLERANCE
    measured: Mapping[str, Measured] = field(default_factory=dict)
    unmeasured: Mapping[str, str] = field(default_factory=dict)

    @property
    def megabytes(self) -> dict[str, float]:
        """The uncompressed size of each image that was measured, in MB (10^6 bytes)."""
        return {name: m.size.uncompressed / 1e6 for name, m in self.measured.items()}


class Kind(StrEnum):
    """How the size of an image compares with its record."""

    WITHIN = "within"
    GREW = "grew"
    SHRANK = "shrank"
    UNKNOWN = "unknown"
    OTHER_BASES = "other bases"


@dataclass(frozen=True)
class Verdict:
    """The comparison, and a sentence with its figures, empty for a size that is as recorded."""

    kind: Kind
    text: str = ""


def read_budgets(root: Path) -> Budgets:
    """The record, empty where there is none. Raises InputError for one that cannot be read."""
    if not (root / SIZES).is_file():
        return Budgets()
    try:
        data = json.loads(read_text(root / SIZES, SIZES))
        rows: dict[str, dict[str, Any]] = dict(data["images"])
        return Budgets(
            float(data["tolerance_percent"]),
            {name: _measured(row) for name, row in rows.items() if "unmeasured" not in row},
            {n: str(row["unmeasured"]) for n, row in rows.items() if "unmeasured" in row},
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        message = f"is no record of sizes ({error!r})"
        hint = f"remove it, and run `{UPDATE}`"
        raise InputError([Diagnostic(SIZES, 0, 0, "", message, hint)]) from None


def _measured(row: Mapping[str, Any]) -> Measured:
    packages = dict(item.split(" ") for item in row["packages"].split(", ") if item)
    size = Size(int(row["uncompressed"]), int(row["compressed"]))
    return Measured(size, int(row["layers"]), packages, str(row["bases"]))


def budgets_text(budgets: Budgets) -> str:
    """The text of the record, with each image's packages in one line."""
    images: dict[str, dict[str, Any]] = {
        name: {
            "uncompressed": measured.size.uncompressed,
            "compressed": measured.size.compressed,
            "layers": measured.layers,
            "bases": measured.bases,
            "packages": ", ".join(f"{n} {v}" for n, v in sorted(measured.packages.items())),
        }
        for name, measured in budgets.measured.items()
    }
    images |= {name: {"unmeasured": reason} for name, reason in budgets.unmeasured.items()}
    data = {"tolerance_percent": budgets.tolerance, "images": dict(sorted(images.items()))}
    return json.dumps(data, indent=2) + "\n"


def updated(
    budgets: Budgets, measured: Mapping[str, Measured], absent: Iterable[str], known: Iterable[str]
) -> Budgets:
    """The record with what was measured now.

    `absent` are images that should have been and are not there; of those in neither, what was
    recorded is kept. `known` are all images of the matrix.
    """
    names = set(known)
    all_measured = {**budgets.measured, **measured}
    reasons = {**budgets.unmeasured, **dict.fromkeys(absent, _NOT_BUILT)}
    return Budgets(
        budgets.tolerance,
        {name: found for name, found in all_measured.items() if name in names},
        {n: why for n, why in reasons.items() if n in names and n not in all_measured},
    )


def compare(
    name: str, parent: str | None, sizes: Mapping[str, Size], bases: str, budgets: Budgets
) -> Verdict:
    """What became of the size of an image. `sizes` has it and its parent; `bases` is whose bases
    (`registry`, `bootstrap`) it is on, which makes a difference for an image without a parent."""
    recorded = budgets.measured.get(name)
    if recorded is None:
        if name in budgets.unmeasured:
            return Verdict(Kind.OTHER_BASES, f"no size is recorded: {budgets.unmeasured[name]}")
        return Verdict(Kind.UNKNOWN, f"no size is recorded; run `{UPDATE} {name}`")
    if parent is None and bases != recorded.bases:
        text = f"its size was recorded on {recorded.bases} bases, and this is on {bases} ones"
        return Verdict(Kind.OTHER_BASES, text)
    now, then = sizes[name], recorded.size
    if parent is not None and parent in sizes and parent in budgets.measured:
        now, then = now - sizes[parent], then - budgets.measured[parent].size
    pairs = {
        "uncompressed": (now.uncompressed, then.uncompressed),
        "compressed": (now.compressed, then.compressed),
    }
    changes = {what: 100 * (new / old - 1) for what, (new, old) in pairs.items() if old > 0}
    grown = {what: by for what, by in changes.items() if by > budgets.tolerance}
    shrunk = {what: by for what, by in changes.items() if by < -budgets.tolerance}
    if not grown and not shrunk:
        return Verdict(Kind.WITHIN)
    figures = "; ".join(
        f"{what} {pairs[what][1] / 1e6:,.1f} → {pairs[what][0] / 1e6:,.1f} MB ({by:+.1f} %)"
        for what, by in (grown or shrunk).items()
    )
    beyond = f", without its parent {parent}" if parent is not None else ""
    verb = "grew" if grown else "shrank"
    return Verdict(
        Kind.GREW if grown else Kind.SHRANK,
        f"{verb} by more than {budgets.tolerance:g} %{beyond}: {figures}",
    )


def growth_report(
    name: str,
    verdict: Verdict,
    recorded: Mapping[str, str],
    packages: Mapping[str, str],
    files: Iterable[tuple[str, int]],
) -> str:
    """What to look at when an image grew: what changed since, and where its bytes are.

    `recorded` and `packages` are versions then and now; `files` folder and size of each file.
    """
    changed = package_differences(_as_packages(recorded), _as_packages(packages))
    folders = "\n".join(f"  {size / 1e6:8,.1f} MB  {path}" for path, size in largest(files))
    return (
        f"{verdict.text}\n"
        f"what changed since: {', '.join(changed) or 'no package'}\n"
        f"its largest directories:\n{folders}\n"
        f"if that is meant, record it with `{UPDATE} {name}`"
    )


def _as_packages(versions: Mapping[str, str]) -> Packages:
    return {name: (version, "") for name, version in versions.items()}


def largest(files: Iterable[tuple[str, int]], count: int = 20) -> list[tuple[str, int]]:
    """The largest directories, each with all that is below it.

    One that holds little more than a single directory is left out in favour of that.
    """
    totals: dict[str, int] = {}
    for folder, size in files:
        path = PurePosixPath(folder)
        for ancestor in (path, *path.parents):
            totals[str(ancestor)] = totals.get(str(ancestor), 0) + size
    biggest_child: dict[str, int] = {}
    for path_text, size in totals.items():
        parent = str(PurePosixPath(path_text).parent)
        if parent != path_text:
            biggest_child[parent] = max(size, biggest_child.get(parent, 0))
    telling = [
        (path, size) for path, size in totals.items() if biggest_child.get(path, 0) < 0.9 * size
    ]
    return sorted(telling, key=lambda item: (-item[1], item[0]))[:count]
