"""What is published, as the catalogue takes it: images, their tags, and what is due.

The JSON form has the same names. It can be written with `published_text`, for example from what a
registry says, and is read by `read_published`.
"""

import re
from collections.abc import Mapping
from dataclasses import field
from datetime import datetime
from pathlib import PurePath
from typing import Annotated

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as checked

from imagematrix.audit.findings import Finding
from imagematrix.errors import Diagnostic, InputError, WorkError
from imagematrix.matrix.schema import Form
from imagematrix.release.predicates import Predicate
from imagematrix.release.statement import ReleaseStatement, from_json, to_json

# https://github.com/opencontainers/distribution-spec/blob/main/spec.md#pulling-manifests
Tag = Annotated[str, Form(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}", "20261128.v1")]
Digest = Annotated[str, Form(r"sha256:[0-9a-f]{64}", "sha256: and 64 hexadecimal digits")]
Name = Annotated[str, Form(r"[a-z0-9]+([._-]+[a-z0-9]+)*", "xgboost3.4-py312-inference")]
Prefix = Annotated[
    str,
    Form(
        r"[A-Za-z0-9.-]+(:[0-9]+)?(/[a-z0-9]+([._-]+[a-z0-9]+)*)*",
        "ghcr.io/owner, in lower case",
    ),
]
# It becomes the target of links, and a part of commands.
WebAddress = Annotated[str, Form(r"https?://[A-Za-z0-9._~:/@%+-]+", "https://host/path")]
_config = ConfigDict(extra="forbid")


@checked(frozen=True, config=_config)
class Attachment:
    """A signed statement about an image. `digest` is that of its manifest in the registry,
    `content` that of the Sigstore bundle, a blob of `size` bytes."""

    predicate: Predicate
    digest: Digest
    content: Digest
    size: int


@checked(frozen=True, config=_config)
class Check:
    """A check that a tag has passed, or that was skipped for the reason `skipped`."""

    name: str
    skipped: str = ""


@checked(frozen=True, config=_config)
class Layer:
    """A layer of an image; `size` is compressed, in bytes."""

    digest: Digest
    size: int


@checked(frozen=True, config=_config)
class PublishedTag:
    """A dated tag of an image.

    `digest` is that of the manifest. `licences` are those of packages: by `deb` or `pypi`, then by
    package. `supported` says that the tag is young enough to be supported.
    """

    tag: Tag
    digest: Digest
    statement: ReleaseStatement
    layers: tuple[Layer, ...] = ()
    attachments: tuple[Attachment, ...] = ()
    checks: tuple[Check, ...] = ()
    licences: Mapping[str, Mapping[str, tuple[str, ...]]] = field(default_factory=dict)
    supported: bool = True

    def __post_init__(self) -> None:
        statement = self.statement
        if (statement.tag, statement.digest) != (self.tag, self.digest):
            raise ValueError(f"the statement of {self.tag} is about another image")
        # It becomes a part of commands and links.
        if not re.fullmatch(r"[0-9a-f]{40,64}", statement.commit):
            raise ValueError(f"{statement.commit!r} is no full hash of a commit")
        try:
            from_json(to_json(statement))
        except WorkError as error:
            raise ValueError(str(error)) from None


@checked(frozen=True, config=_config)
class Audit:
    """What an audit found out about the newest tag at `audited`, a date and time (RFC 3339)."""

    audited: str
    findings: tuple[Finding, ...] = ()

    def __post_init__(self) -> None:
        datetime.fromisoformat(self.audited)


@checked(frozen=True, config=_config)
class Published:
    """What is published of an image.

    `tags` are the dated ones, the newest first. `latest` is the dated tag whose image has the tag
    `latest`, empty without one. `audit` is None if none was made: then it is not known whether
    fixes are pending.
    """

    name: Name
    tags: tuple[PublishedTag, ...]
    latest: str = ""
    audit: Audit | None = None

    @property
    def newest(self) -> PublishedTag:
        """The newest dated tag."""
        return self.tags[0]

    @property
    def held(self) -> str:
        """Why `latest` is not the newest tag; empty if it is, or no statement says it."""
        return self.newest.statement.held if self.latest != self.newest.tag else ""

    @property
    def current(self) -> PublishedTag:
        """What the catalogue describes: what `latest` is, or the newest where there is none."""
        return next((tag for tag in self.tags if tag.tag == self.latest), self.newest)

    def __post_init__(self) -> None:
        if not self.tags:
            raise ValueError(f"{self.name} has no tag")
        if self.latest and self.latest not in {tag.tag for tag in self.tags}:
            raise ValueError(f"latest of {self.name} is none of its tags: {self.latest}")
        for tag in self.tags:
            if tag.statement.name != self.name:
                raise ValueError(f"the statement of {self.name}:{tag.tag} is about another image")


@checked(frozen=True, config=_config)
class Publications:
    """What is published of all images, in the registry and namespace `prefix`.

    `refused` has the reason why an image was not published, by its name. `upstream` is the newest
    release of a framework that is known, by the framework's name in the matrix.
    """

    prefix: Prefix | None = None
    images: tuple[Published, ...] = ()
    refused: Mapping[str, str] = field(default_factory=dict)
    upstream: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        names = [image.name for image in self.images]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"twice among the images: {', '.join(twice)}")
        if self.images and self.prefix is None:
            raise ValueError("images are published, but `prefix` does not say where")


_ADAPTER = TypeAdapter(Publications)


def read_published(text: str, file: PurePath) -> Publications:
    """What a text in JSON says is published. Raises InputError for all that is wrong with it."""
    try:
        return _ADAPTER.validate_json(text)
    except ValidationError as error:
        faults = [(".".join(map(str, e["loc"])), e["msg"]) for e in error.errors()]
    raise InputError([Diagnostic(file, 0, 0, where, message) for where, message in faults])


def published_text(publications: Publications) -> str:
    """The same as a text in JSON, which `read_published` reads."""
    return _ADAPTER.dump_json(publications, indent=2).decode() + "\n"
