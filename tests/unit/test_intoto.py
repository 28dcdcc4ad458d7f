"""In-toto statements, and the bundles that hold them."""

import base64
import json
from typing import Any

import pytest

from imagematrix.release.intoto import BUNDLE, Statement, statement_in

DIGEST = f"sha256:{'ab' * 32}"
STATEMENT = Statement("ghcr.io/me/image", DIGEST, "https://spdx.dev/Document", {"b": 1, "a": "ä"})


def bundle(payload: bytes, **changed: Any) -> dict[str, Any]:
    return {
        "mediaType": BUNDLE,
        "verificationMaterial": {"publicKey": {"hint": "x"}},
        "dsseEnvelope": {
            "payload": base64.b64encode(payload).decode(),
            "payloadType": "application/vnd.in-toto+json",
            "signatures": [{"sig": "AA=="}],
        },
        **changed,
    }


def encoded(document: Any) -> bytes:
    return json.dumps(document).encode()


def test_statement_is_read_from_a_bundle() -> None:
    assert statement_in(encoded(bundle(STATEMENT.content))) == STATEMENT


def test_statement_is_the_same_bytes_whatever_the_order() -> None:
    other = Statement("ghcr.io/me/image", DIGEST, STATEMENT.predicate_type, {"a": "ä", "b": 1})
    assert other.content == STATEMENT.content
    document = json.loads(STATEMENT.content)
    assert document["_type"] == "https://in-toto.io/Statement/v1"
    assert document["subject"] == [{"name": "ghcr.io/me/image", "digest": {"sha256": "ab" * 32}}]


def test_old_type_of_statements_is_read_too() -> None:
    old = STATEMENT.content.replace(b"Statement/v1", b"Statement/v0.1")
    assert statement_in(encoded(bundle(old))) == STATEMENT


def changed(**fields: Any) -> bytes:
    return encoded({**json.loads(STATEMENT.content), **fields})


TWICE = b'{"_type":"x",' + STATEMENT.content[1:]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"<html>", "the bundle cannot be read"),
        (b"\xff", "the bundle cannot be read"),
        (b"[" * 100_000, "the bundle cannot be read"),
        (b"[]", "the bundle is no JSON object"),
        (b"{}", "no Sigstore bundle"),
        (encoded(bundle(STATEMENT.content, mediaType="x")), "no Sigstore bundle"),
        # Another name of the same field, to those who read protobuf's JSON.
        (encoded(bundle(STATEMENT.content, dsse_envelope={})), "no Sigstore bundle"),
        (encoded(bundle(STATEMENT.content, dsseEnvelope=[])), "its envelope has another form"),
        (
            encoded(bundle(STATEMENT.content)).replace(b"in-toto+json", b"other"),
            "something else than a statement",
        ),
        (
            encoded(bundle(STATEMENT.content)).replace(b'"payload": "', b'"payload": "?'),
            "not in base64",
        ),
        (
            encoded(bundle(b"")).replace(b'"payload": ""', b'"payload": "", "payload": ""'),
            "a key is there twice",
        ),
        (encoded(bundle(TWICE)), "a key is there twice"),
        (encoded(bundle(b"[]")), "the statement is no JSON object"),
        (encoded(bundle(changed(_type="x"))), "no in-toto statement"),
        (encoded(bundle(changed(subject=[]))), "not about one image"),
        (encoded(bundle(changed(subject=[{"digest": {}}]))), "not about one image"),
        (encoded(bundle(changed(subject=[1]))), "not about one image"),
        (encoded(bundle(changed(predicateType=1))), "no in-toto statement"),
        (encoded(bundle(changed(predicate=None))), "says nothing"),
        (
            encoded(bundle(changed(subject=2 * json.loads(STATEMENT.content)["subject"]))),
            "not about one image",
        ),
    ],
)
def test_everything_else_has_a_reason(data: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        statement_in(data)
