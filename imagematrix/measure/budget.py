"""Budgets of image sizes: the recorded size and a tolerance.

The size that an image adds to its parent is compared, so that an image that grows is reported once,
not again for every image that is based on it. `sizes.json` holds the record.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import PurePosixPath

from imagematrix.plan.content import Packages
from imagematrix.plan.reasons import package_differences
from imagematrix.repository.sizes import UPDATE, Budgets, Size


class Kind(StrEnum):
    """How the size of an image compares with its record."""

    WITHIN = "within"
    GREW = "grew"
    SHRANK = "shrank"
    UNKNOWN = "unknown"
    OTHER_BASES = "other bases"


@dataclass(frozen=True)
class Verdict:
    """The comparison, and a phrase with its figures; empty for a size within the tolerance."""

    kind: Kind
    text: str = ""


def compare(
    name: str, parent: str | None, sizes: Mapping[str, Size], bases: str, budgets: Budgets
) -> Verdict:
    """Compares the size of an image with its record. `sizes` has the image and its parent; `bases`
    (`registry`, `bootstrap`) is the source of its bases, on which the size of an image without a
    parent depends."""
    recorded = budgets.measured.get(name)
    if recorded is None:
        if name in budgets.unmeasured:
            return Verdict(Kind.OTHER_BASES, f"no size is recorded: {budgets.unmeasured[name]}")
        return Verdict(Kind.UNKNOWN, f"no size is recorded; run `{UPDATE} {name}`")
    if parent is None and bases != recorded.bases:
        text = f"its size was recorded on {recorded.bases} bases, and it is based on {bases} ones"
        return Verdict(Kind.OTHER_BASES, text)
    now, then = sizes[name], recorded.size
    if parent is not None and parent in sizes:
        now, then = now - sizes[parent], recorded.added
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
    """A report on an image that grew: which packages changed, and its largest directories.

    `recorded` and `packages` are versions then and now; `files` folder and size of each file. The
    record has the versions because CI's clones have no history from which to read the old lock.
    """
    changed = package_differences(_as_packages(recorded), _as_packages(packages))
    folders = "\n".join(f"  {size / 1e6:8,.1f} MB  {path}" for path, size in largest(files))
    return (
        f"{verdict.text}\n"
        f"what changed since: {', '.join(changed) or 'no package'}\n"
        f"its largest directories:\n{folders}\n"
        f"if the growth is intended, record it with `{UPDATE} {name}`"
    )


def _as_packages(versions: Mapping[str, str]) -> Packages:
    return {name: (version, "") for name, version in versions.items()}


def largest(files: Iterable[tuple[str, int]], count: int = 20) -> list[tuple[str, int]]:
    """The largest directories, each with everything below it.

    A directory that holds little more than a single other one is left out in favour of that.
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
