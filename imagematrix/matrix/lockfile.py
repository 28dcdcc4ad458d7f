"""Hash-locked requirements, in the form that pip and uv read.

Format: https://pip.pypa.io/en/stable/reference/requirements-file-format/ with --hash options
(https://pip.pypa.io/en/stable/topics/secure-installs/).
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import PurePath
from typing import NamedTuple

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import VERSION_PATTERN, Version

from imagematrix.errors import Diagnostic, InputError


class LockedPackage(NamedTuple):
    """One distribution: its exact version, and the sha256 of every file that may install it."""

    name: str
    version: Version
    sha256: frozenset[str]
    line: int


# A version as PEP 440 has it: what is left of "==" with neither a wildcard nor a marker.
_PIN = re.compile(rf"([A-Za-z0-9][A-Za-z0-9._-]*)\s*==\s*({VERSION_PATTERN})", re.VERBOSE | re.I)
_DIGEST = re.compile(r"[0-9a-f]{64}")
_HASH_OPTION = re.compile(r"\s+--hash=")

Lock = Mapping[str, LockedPackage]


def parse_lock(text: str, file: PurePath) -> Lock:
    """The packages of a lock under their canonical names.

    Raises InputError for a line that is no exact pin, a pin without a hash, and a package that
    stands twice.
    """
    packages: dict[str, LockedPackage] = {}
    errors: list[Diagnostic] = []
    first = 1
    for block in _blocks(text):
        for offset, name, version, digests, fault in _entries(block):
            error = fault or (f"{name} stands here twice" if name in packages else "")
            if version is None or error:
                hint = "write the lock with `nox -s lock`"
                errors.append(Diagnostic(file, first + offset, 1, "", error, hint))
                continue
            packages[name] = LockedPackage(name, version, digests, first + offset)
        first += block.count("\n") + 1
    if errors:
        raise InputError(errors)
    return packages


_BLOCK_END = re.compile(r"\n(?=[A-Za-z0-9])")


def _blocks(text: str) -> list[str]:
    """A lock, cut where the next line surely starts another requirement."""
    blocks: list[str] = []
    for part in _BLOCK_END.split(text):
        if blocks and blocks[-1].endswith(("\\", " ", "\t", "\r")):
            blocks[-1] += f"\n{part}"
        else:
            blocks.append(part)
    return blocks


# Locks share most of what they hold, with its hashes.
@lru_cache(maxsize=65536)
def _entries(block: str) -> tuple[tuple[int, str, Version | None, frozenset[str], str], ...]:
    """The requirements of a part of a lock: line, name, version, hashes, and what is wrong."""
    found = []
    for number, line in logical_lines(block):
        requirement, *hashes = _HASH_OPTION.split(line)
        pin = _PIN.fullmatch(requirement)
        name = canonicalize_name(pin[1] if pin else requirement)
        digests = frozenset(h.removeprefix("sha256:").strip() for h in hashes)
        error = ""
        if pin is None:
            error = _why_no_pin(requirement)
        elif not digests or not all(map(_DIGEST.fullmatch, digests)):
            error = f"{name} has no sha256 hash"
        version = _version(pin[2]) if pin is not None else None
        found.append((number - 1, name, version, digests, error))
    return tuple(found)


def _why_no_pin(text: str) -> str:
    try:
        name = canonicalize_name(Requirement(text).name)
    except InvalidRequirement:
        return f"no requirement: {text!r}"
    return f"{name} is not pinned to one version"


# Many locks hold the same few versions.
_version = lru_cache(maxsize=4096)(Version)


def logical_lines(text: str) -> list[tuple[int, str]]:
    """The lines of requirements without comments and what is empty, each with its number: that of
    its first part where it goes on after a backslash."""
    lines: list[tuple[int, str]] = []
    start = 0
    parts: list[str] = []
    for number, raw in enumerate(text.splitlines(), start=1):
        line = (re.sub(r"(^|\s)#.*", "", raw) if "#" in raw else raw).rstrip()
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
