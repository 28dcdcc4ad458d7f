"""The record of how large each image was: `sizes.json`."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from imagematrix.errors import Diagnostic, InputError
from imagematrix.files import read_text

SIZES = PurePosixPath("sizes.json")
UPDATE = "nox -s budget -- --update"
# Of a difference that is no news: an update of a Debian package, a file more or less.
_TOLERANCE = 2.0
_NOT_BUILT = "it was not built where the others were measured"


@dataclass(frozen=True)
class Size:
    """Bytes of archives, and of the same compressed by zstd as they are when they are published."""

    uncompressed: int
    compressed: int

    def __add__(self, other: "Size") -> "Size":
        return Size(self.uncompressed + other.uncompressed, self.compressed + other.compressed)

    def __sub__(self, other: "Size") -> "Size":
        return Size(self.uncompressed - other.uncompressed, self.compressed - other.compressed)


@dataclass(frozen=True)
class Measured:
    """The size of an image when it was recorded, what it added to its parent of that time (all of
    it without a parent), its number of layers, its packages, and whose bases it is on."""

    size: Size
    added: Size
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
    added = Size(int(row["added_uncompressed"]), int(row["added_compressed"]))
    return Measured(size, added, int(row["layers"]), packages, str(row["bases"]))


def budgets_text(budgets: Budgets) -> str:
    """The text of the record, with each image's packages in one line."""
    images: dict[str, dict[str, Any]] = {
        name: {
            "uncompressed": measured.size.uncompressed,
            "compressed": measured.size.compressed,
            "added_uncompressed": measured.added.uncompressed,
            "added_compressed": measured.added.compressed,
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
