"""The release statement of an image: what was published under a tag, and what changed.

It is the predicate of a signed in-toto statement: a signature names a digest, so name and tag are
inside of what is signed. https://github.com/in-toto/attestation/blob/main/spec/predicates/release.md
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import TypeAdapter, ValidationError


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
    `supported_until` is a date (YYYY-MM-DD), `base` the name and digest of the base image.
    `uncompressed` and `compressed` are bytes. `allowed` has the reason for each refusal that was
    overridden, by its name: `pending` for security fixes, `jump NAME` for a jump of a package.
    `held` has the reasons why `latest` stayed where it was when this was published.
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
    pins: tuple[str, ...]
    packages: Mapping[str, str]
    debian: Mapping[str, str]
    uncompressed: int
    compressed: int
    changes: tuple[Change, ...] = ()
    allowed: Mapping[str, str] = field(default_factory=dict)
    held: tuple[str, ...] = ()

    @property
    def predicate(self) -> dict[str, Any]:
        """What the in-toto statement says (JSON): the fields by their names."""
        predicate: dict[str, Any] = _STATEMENT.dump_python(self, mode="json")
        return predicate


_STATEMENT = TypeAdapter(ReleaseStatement)


def release_statement(predicate: Mapping[str, Any]) -> ReleaseStatement:
    """The release statement that a predicate is. Fields that are not known are passed over, as
    in-toto asks. Raises ValueError, with the first reason, for anything else."""
    try:
        return _STATEMENT.validate_python(predicate)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ValueError(f"{where}: {first['msg']}") from None
