"""Manifests and descriptors of the Open Container Initiative.

https://github.com/opencontainers/image-spec
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"


@dataclass(frozen=True)
class Descriptor:
    """What a manifest or an index says of a content.

    https://github.com/opencontainers/image-spec/blob/main/descriptor.md
    """

    media_type: str
    digest: str
    size: int
    artifact_type: str = ""
    annotations: Mapping[str, str] = field(default_factory=dict)

    @property
    def document(self) -> dict[str, Any]:
        """Its JSON form."""
        more = {"artifactType": self.artifact_type, "annotations": dict(self.annotations)}
        return {
            "mediaType": self.media_type,
            "digest": self.digest,
            "size": self.size,
            **{key: value for key, value in more.items() if value},
        }


@dataclass(frozen=True)
class Manifest:
    """A manifest or an index, as the registry has it; `digest` is that of its content."""

    digest: str
    media_type: str
    content: bytes

    @cached_property
    def document(self) -> dict[str, Any]:
        """The content, parsed."""
        parsed: dict[str, Any] = json.loads(self.content)
        return parsed

    @property
    def descriptor(self) -> Descriptor:
        """What refers to it."""
        kind = self.document.get("artifactType") or ""
        return Descriptor(self.media_type, self.digest, len(self.content), kind)


def digest_of(content: bytes) -> str:
    """The digest by which a content is named: `sha256:` and 64 hex digits."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def compact(document: Mapping[str, Any]) -> bytes:
    """The same bytes for the same JSON object."""
    return json.dumps(document, separators=(",", ":"), sort_keys=True).encode()
