"""Hash-locked requirements, in the form that pip and uv read.

Format: https://pip.pypa.io/en/stable/reference/requirements-file-format/ with --hash options
(https://pip.pypa.io/en/stable/topics/secure-installs/).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from imagematrix.errors import Diagnostic, InputError


@dataclass(frozen=True)
class LockedPackage:
    """One distribution: its exact version, and the sha256 of every file that may install it."""

    name: str
    version: Version
    sha256: frozenset[str]
    line: int


Lock = Mapping[str, LockedPackage]


def parse_lock(text: str, file: PurePath) -> Lock:
    """The packages of a lock under their canonical names.

    Raises InputError for a line that is no exact pin, a pin without a hash, and a package that
    stands twice.
    """
    packages: dict[str, LockedPackage] = {}
    errors: list[Diagnostic] = []
    for number, line in _logical_lines(text):
        requirement_text, *hashes = re.split(r"\s+--hash=", line)
        error = ""
        try:
            requirement = Requirement(requirement_text)
        except InvalidRequirement:
            errors.append(Diagnostic(file, number, 1, "", f"no requirement: {requirement_text!r}"))
            continue
        specifiers = list(requirement.specifier)
        name = canonicalize_name(requirement.name)
        digests = frozenset(h.removeprefix("sha256:").strip() for h in hashes)
        if len(specifiers) != 1 or specifiers[0].operator != "==":
            error = f"{name} is not pinned to one version"
        elif not digests or not all(re.fullmatch(r"[0-9a-f]{64}", digest) for digest in digests):
            error = f"{name} has no sha256 hash"
        elif name in packages:
            error = f"{name} stands here twice"
        if error:
            hint = "write the lock with `nox -s lock`"
            errors.append(Diagnostic(file, number, 1, "", error, hint))
            continue
        packages[name] = LockedPackage(name, Version(specifiers[0].version), digests, number)
    if errors:
        raise InputError(errors)
    return packages


def _logical_lines(text: str) -> list[tuple[int, str]]:
    lines: list[tuple[int, str]] = []
    start = 0
    parts: list[str] = []
    for number, raw in enumerate(text.splitlines(), start=1):
        line = re.sub(r"(^|\s)#.*", "", raw).rstrip()
        if not parts:
            start = number
        parts.append(line.removesuffix("\\").strip())
        if not line.endswith("\\"):
            joined = " ".join(filter(None, parts))
            if joined:
                lines.append((start, joined))
            parts = []
    joined = " ".join(filter(None, parts))
    if joined:
        lines.append((start, joined))
    return lines
