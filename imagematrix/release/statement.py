"""The release statement of an image: what was published under a tag, and what changed.

It is the predicate of a signed in-toto statement: a signature names a digest, so name and tag are
inside of what is signed. https://github.com/in-toto/attestation/blob/main/spec/predicates/release.md
"""

import datetime
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from packageurl import PackageURL
from packaging.requirements import InvalidRequirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version
from pydantic import TypeAdapter, ValidationError

from imagematrix.errors import WorkError
from imagematrix.matrix.schema import parsed_requirement
from imagematrix.release.tags import DatedTag


@dataclass(frozen=True)
class Change:
    """A change since the tag before. `kind` is `python` (CPython itself), `pypi`, `deb`, `base`,
    `size` or `cve`; `old` is empty for what is new, `new` for what is gone. A CVE that a Debian
    package fixes has its ID as the name and the package with its fixed version in `new`."""

    kind: str
    name: str
    old: str
    new: str


@dataclass(frozen=True)
class ReleaseStatement:
    """What was published under a dated tag.

    `name` is the image's name, `digest` that of its manifest, `previous` the dated tag before,
    empty for the first one. `published` is a date and time in UTC (RFC 3339), `commit` that of
    `source`, the URL of the repository. `python` is CPython's full version, `cuda` is empty without
    CUDA. `pins` are the promised requirements, `packages` and `debian` all versions.
    `supported_until` is a date (YYYY-MM-DD), empty for an unsupported image. `base` is the name and
    digest of the base image, with an @ between them, `suite` the Debian release of both.
    `uncompressed` and `compressed` are bytes. `allowed` has the reason for each refusal that was
    overridden, by its name: `pending` for security fixes, `jump NAME` for a jump of a package.
    `held` says why `latest` was not moved to this tag, empty if it was free to move.
    """

    name: str
    tag: str
    digest: str
    previous: str
    published: str
    platform: str
    source: str
    commit: str
    key: str
    framework: str
    track: str
    python: str
    cuda: str
    supported_until: str
    base: str
    suite: str
    pins: tuple[str, ...]
    packages: Mapping[str, str]
    debian: Mapping[str, str]
    uncompressed: int
    compressed: int
    changes: tuple[Change, ...] = ()
    allowed: Mapping[str, str] = field(default_factory=dict)
    held: str = ""

    @property
    def purl(self) -> str:
        """The package URL of the image under its tag, whatever registry has it.

        https://github.com/package-url/purl-spec/blob/main/types-doc/oci-definition.md
        """
        more = {"arch": self.platform.rpartition("/")[2], "tag": self.tag}
        return PackageURL("oci", None, self.name, self.digest, more).to_string()

    @property
    def dated(self) -> DatedTag:
        """Its tag."""
        return DatedTag.of(self.tag)


_FORM = TypeAdapter(ReleaseStatement)


def to_json(statement: ReleaseStatement) -> dict[str, Any]:
    """The predicate: the fields of in-toto's release predicate, then those of the statement.

    `releaseId` identifies the image through all of its releases.
    https://github.com/in-toto/attestation/blob/main/spec/predicates/release.md
    """
    form: dict[str, Any] = _FORM.dump_python(statement, mode="json")
    return {"purl": statement.purl, "releaseId": statement.name, **form}


def from_json(predicate: Any) -> ReleaseStatement:
    """The statement in a predicate. Fields that it does not know are ignored, as in-toto asks for.

    Raises WorkError, with the place, for one of another form, and for one that contradicts itself.
    """
    try:
        statement = _FORM.validate_json(json.dumps(predicate), strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        where = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in first["loc"])
        raise _malformed(where.removeprefix("."), first["msg"]) from None
    except (TypeError, ValueError):
        raise _malformed("", "is no JSON object") from None
    for name, check in _CHECKS.items():
        if why := check(getattr(statement, name)):
            raise _malformed(name, f"{getattr(statement, name)!r} {why}")
    for package in promised(statement):
        if (version := statement.packages.get(package)) and not _is_version(version):
            raise _malformed(f"packages.{package}", f"{version!r} is no version of a package")
    for key, own in (("purl", statement.purl), ("releaseId", statement.name)):
        if predicate.get(key) != own:
            raise _malformed(key, f"is not {own}, as the other fields say")
    return statement


def promised(statement: ReleaseStatement) -> tuple[str, ...]:
    """The normalized names of the packages that the pins promise, in their order."""
    names = (parsed_requirement(pin).name for pin in statement.pins)
    return tuple(dict.fromkeys(canonicalize_name(name) for name in names))


def _malformed(where: str, why: str) -> WorkError:
    return WorkError(
        ": ".join(part for part in ("malformed release statement", where, why) if part)
    )


def _of_form(pattern: str, example: str) -> Callable[[str], str]:
    def check(value: str) -> str:
        return "" if re.fullmatch(pattern, value) else f"is not of the form of {example}"

    return check


def _no_tag(value: str) -> str:
    return "" if DatedTag.parse(value) else "is no dated tag, such as 20261128.v1"


def _no_date(value: str) -> str:
    try:
        datetime.date.fromisoformat(value)
    except ValueError:
        return "is no date, such as 2027-10-31"
    return ""


def _no_python(value: str) -> str:
    full = _is_version(value) and len(Version(value).release) == _PARTS_OF_PYTHON
    return "" if full else "is no full version of CPython, such as 3.12.14"


def _no_time(value: str) -> str:
    try:
        zone = datetime.datetime.fromisoformat(value).tzinfo
    except ValueError:
        zone = None
    return "" if zone else "is no date and time with its zone, such as 2026-11-28T03:00:00Z"


def _no_pins(value: tuple[str, ...]) -> str:
    try:
        for pin in value:
            parsed_requirement(pin)
    except InvalidRequirement:
        return "is no list of requirements"
    return ""


def _no_changes(value: tuple[Change, ...]) -> str:
    sizes = [size for c in value if c.kind == "size" for size in (c.old, c.new)]
    return (
        "" if all(size.isdecimal() for size in sizes) else "has a size that is no number of bytes"
    )


def _is_version(value: str) -> bool:
    try:
        Version(value)
    except InvalidVersion:
        return False
    return True


_PARTS_OF_PYTHON = 3
# Of the fields that this program compares or looks up; the rest is shown as it is.
_CHECKS: Mapping[str, Callable[[Any], str]] = {
    "digest": _of_form(r"sha256:[0-9a-f]{64}", "sha256: and 64 hexadecimal digits"),
    "tag": _no_tag,
    "previous": lambda value: value and _no_tag(value),
    "published": _no_time,
    "python": _no_python,
    "supported_until": lambda value: value and _no_date(value),
    "pins": _no_pins,
    "changes": _no_changes,
}
