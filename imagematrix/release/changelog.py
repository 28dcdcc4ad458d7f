"""What changed between two publications of an image, and that in words."""

from collections.abc import Iterable, Mapping, Sequence

from packaging.version import InvalidVersion, Version

from imagematrix.release.statement import Change, ReleaseStatement

# In which order people read it, with the title of each part.
TITLES = {
    "cve": "Security fixes",
    "python": "Python",
    "pypi": "Python packages",
    "deb": "Debian packages",
    "base": "Base image",
    "size": "Size",
}
_TRACKER = "https://security-tracker.debian.org/tracker"


def changes(
    old: ReleaseStatement, new: ReleaseStatement, fixed: Mapping[str, Iterable[str]] | None = None
) -> tuple[Change, ...]:
    """What changed since `old`, in the order in which people read it.

    `fixed` are the CVEs that each updated Debian package closes, from its changelog. Those of a
    package that did not change are left out.
    """
    debian = _versions("deb", old.debian, new.debian)
    updated = {change.name: change.new for change in debian if change.new}
    return (
        *_closed(fixed or {}, updated),
        *_versions("python", {"CPython": old.python}, {"CPython": new.python}),
        *_versions("pypi", old.packages, new.packages),
        *debian,
        *_base(old.base, new.base),
        *_versions(
            "size",
            {"compressed": str(old.compressed), "uncompressed": str(old.uncompressed)},
            {"compressed": str(new.compressed), "uncompressed": str(new.uncompressed)},
        ),
    )


def _versions(kind: str, old: Mapping[str, str], new: Mapping[str, str]) -> tuple[Change, ...]:
    return tuple(
        Change(kind, name, old.get(name, ""), new.get(name, ""))
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name)
    )


def _base(old: str, new: str) -> tuple[Change, ...]:
    before, _, old_digest = old.partition("@")
    name, _, digest = new.partition("@")
    if before != name:
        return (Change("base", name, old, new),)
    return () if old_digest == digest else (Change("base", name, old_digest, digest),)


def _closed(fixed: Mapping[str, Iterable[str]], updated: Mapping[str, str]) -> tuple[Change, ...]:
    """A row for each CVE: packages of one source close the same ones."""
    packages: dict[str, list[str]] = {}
    for package in sorted(fixed.keys() & updated.keys()):
        for name in sorted(set(fixed[package])):
            packages.setdefault(name, []).append(f"{package} {updated[package]}")
    return tuple(Change("cve", name, "", ", ".join(packages[name])) for name in sorted(packages))


def phrase(change: Change) -> str:
    """A change in words, such as `numpy 2.5.4 → 2.5.5`."""
    name, old, new = change.name, change.old, change.new
    if change.kind == "cve":
        return f"{name} ({new})"
    if change.kind == "size":
        grown = int(new) - int(old)
        return f"{name} {_megabytes(old)} → {_megabytes(new)} ({grown / 1e6:+,.1f} MB)"
    if change.kind == "base":
        old, new = _short(old), _short(new)
    if not old:
        return f"{name} {new} is new"
    if not new:
        return f"{name} {old} is gone"
    back = (
        " (an older version)" if change.kind in ("pypi", "python") and _is_older(new, old) else ""
    )
    return f"{name} {old} → {new}{back}"


def markdown(changes: Sequence[Change], level: int = 3) -> str:
    """The changes as Markdown for the notes of a release, below headings of a level; one line that
    says so if there are none."""
    if not changes:
        return "The packages are those of the tag before.\n"
    parts = []
    for kind, title in TITLES.items():
        rows = [change for change in changes if change.kind == kind]
        if rows:
            items = "\n".join(f"- {_marked(change)}" for change in rows)
            parts.append(f"{'#' * level} {title}\n\n{items}\n")
    return "\n".join(parts)


def rows(changes: Sequence[Change]) -> tuple[tuple[str, str], ...]:
    """The changes for a table in a terminal: what they are of, and each in words."""
    return tuple(
        (title, phrase(change))
        for kind, title in TITLES.items()
        for change in changes
        if change.kind == kind
    )


def summary(changes: Sequence[Change]) -> str:
    """The changes in one line: `2 security fixes, 1 Python package, 3 Debian packages`."""
    counted = []
    for kind, title in (
        ("cve", "security fix"),
        ("pypi", "Python package"),
        ("deb", "Debian package"),
    ):
        if count := sum(change.kind == kind for change in changes):
            plural = ("es" if title.endswith("x") else "s") if count > 1 else ""
            counted.append(f"{count} {title}{plural}")
    counted += [phrase(change) for change in changes if change.kind == "python"]
    counted += ["another base image"] if any(change.kind == "base" for change in changes) else []
    return ", ".join(counted) or "no package changed"


def _marked(change: Change) -> str:
    """A change in Markdown, with versions as code: they hold characters that have a meaning."""
    if change.kind == "cve":
        link = f"[{change.name}]({_TRACKER}/{change.name})"
        return f"{link} in {', '.join(f'`{package}`' for package in change.new.split(', '))}"
    if change.kind == "size":
        return phrase(change)
    words = phrase(change).split(" ")
    versions = {change.name, change.old, change.new, _short(change.old), _short(change.new)} - {""}
    return " ".join(f"`{word}`" if word in versions else word for word in words)


def _megabytes(size: str) -> str:
    return f"{int(size) / 1e6:,.1f} MB"


def _short(text: str) -> str:
    """A digest as people tell it from others, in a text that may end with one."""
    before, mark, digest = text.rpartition("sha256:")
    return f"{before}{mark}{digest[:12]}"


def _is_older(new: str, old: str) -> bool:
    try:
        return Version(new) < Version(old)
    except InvalidVersion:
        return False
