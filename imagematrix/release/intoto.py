"""In-toto statements about an image, and the Sigstore bundles that hold them signed.

https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md,
https://docs.sigstore.dev/about/bundle/
"""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# The media type of a bundle, and the type of the artifact that holds it in a registry.
BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
# The statement that cosign 3 makes of a plain signature of an image, and `cosign verify` looks for.
SIGNATURE = "https://sigstore.dev/cosign/sign/v1"
# `cosign attest` still writes v0.1, which differs in nothing that is read here.
_STATEMENT, _OLD_STATEMENT = "https://in-toto.io/Statement/v1", "https://in-toto.io/Statement/v0.1"
_PAYLOAD = "application/vnd.in-toto+json"
_BUNDLE_KEYS = {"mediaType", "verificationMaterial", "dsseEnvelope"}
_ENVELOPE_KEYS = {"payload", "payloadType", "signatures"}


@dataclass(frozen=True)
class Statement:
    """A statement about one image: its name with registry and namespace, its digest, the type of
    the statement, and what it says (JSON)."""

    name: str
    digest: str
    predicate_type: str
    predicate: Mapping[str, Any]

    @property
    def content(self) -> bytes:
        """The statement as it is signed: the same bytes for the same statement."""
        algorithm, _, value = self.digest.partition(":")
        document = {
            "_type": _STATEMENT,
            "subject": [{"name": self.name, "digest": {algorithm: value}}],
            "predicateType": self.predicate_type,
            "predicate": self.predicate,
        }
        return json.dumps(document, separators=(",", ":"), sort_keys=True).encode()


def statement_in(bundle: bytes) -> Statement:
    """The statement in a bundle, whose signature is not checked.

    Raises ValueError, with the reason, for anything else than one statement about one image. It is
    stricter than cosign (no key twice, no further keys), so that both read the same.
    """
    document = _read(bundle, "the bundle")
    if document.keys() != _BUNDLE_KEYS or document["mediaType"] != BUNDLE:
        raise ValueError("it is no Sigstore bundle v0.3 of a statement")
    envelope = document["dsseEnvelope"]
    if not isinstance(envelope, dict) or envelope.keys() != _ENVELOPE_KEYS:
        raise ValueError("its envelope has another form")
    if envelope["payloadType"] != _PAYLOAD:
        raise ValueError("it holds something else than a statement")
    try:
        payload = base64.b64decode(envelope["payload"], validate=True)
    except (TypeError, ValueError):
        raise ValueError("its statement is not in base64") from None
    statement = _read(payload, "the statement")
    try:
        (subject,) = statement["subject"]
        ((algorithm, value),) = subject["digest"].items()
        found = Statement(
            subject.get("name", ""),
            f"{algorithm}:{value}",
            statement["predicateType"],
            statement["predicate"],
        )
    except (AttributeError, KeyError, TypeError, ValueError):
        raise ValueError("its statement is not about one image") from None
    texts = (found.name, found.predicate_type)
    if statement.get("_type") not in (_STATEMENT, _OLD_STATEMENT) or not all(
        isinstance(text, str) for text in texts
    ):
        raise ValueError("it is no in-toto statement")
    if not isinstance(found.predicate, dict):
        raise ValueError("its statement says nothing")
    return found


def _read(data: bytes, what: str) -> dict[str, Any]:
    try:
        document = json.loads(data, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{what} cannot be read: {error}") from None
    if not isinstance(document, dict):
        raise ValueError(f"{what} is no JSON object")
    return document


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) != len(pairs):
        raise ValueError("a key is there twice")
    return document
