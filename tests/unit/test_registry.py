"""Labels and layers from a registry, with each way in that registries have."""

import base64
import io
import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs

import pytest

from imagematrix.errors import WorkError
from imagematrix.host.oci import OCI_INDEX, OCI_MANIFEST, Descriptor
from imagematrix.host.registry import Blob, Registry
from imagematrix.host.registry_errors import Access
from imagematrix.host.registry_http import Connection
from tests.unit.fake_registry import (
    BASIC,
    DOCKER,
    DROPPED,
    OCI,
    PAGE,
    REPOSITORY,
    TOKEN,
    Answer,
    FakeRegistry,
    error,
    fake_registry,
    sha256,
)

LABELS = {"inference.matrix-key": "abc"}
TOKENS = 'Bearer realm="http://HOST/token",service="here"'
CONTENT = b"content of a layer" * 1000


@pytest.fixture
def fake() -> Iterator[FakeRegistry]:
    with fake_registry() as fake:
        yield fake


@pytest.fixture(autouse=True)
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What would have been waited, in seconds, before each further try."""
    found: list[float] = []
    clock = SimpleNamespace(sleep=found.append, time=lambda: 0.0)
    monkeypatch.setattr("urllib3.util.retry.time", clock)
    return found


@pytest.fixture(autouse=True)
def docker_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of `docker login`, which is not there."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    return tmp_path / "config.json"


def log_in(docker_config: Path, host: str) -> None:
    auth = base64.b64encode(b"me:secret").decode()
    docker_config.write_text(json.dumps({"auths": {host: {"auth": auth}}}))


def labels(fake: FakeRegistry) -> Any:
    found = Registry(fake.host, None).image(REPOSITORY, "latest")
    return None if found is None else found.labels


@pytest.mark.parametrize("kind", [f"{OCI}.manifest.v1+json", f"{DOCKER}.v2+json"])
def test_the_labels_of_an_image_are_read(kind: str, fake: FakeRegistry) -> None:
    fake.put("latest", kind, fake.put_config({"config": {"Labels": LABELS}}))

    assert labels(fake) == LABELS


@pytest.mark.parametrize("kind", [f"{OCI}.index.v1+json", f"{DOCKER}.list.v2+json"])
def test_of_an_index_the_image_of_our_platform_is_taken(kind: str, fake: FakeRegistry) -> None:
    manifest = fake.put_config({"config": {"Labels": LABELS}})
    ours = fake.put("ours", f"{OCI}.manifest.v1+json", manifest)
    platforms = [("unknown", "unknown", ""), ("linux", "arm64", ""), ("linux", "amd64", ours)]
    manifests = [
        {"digest": digest, "platform": {"os": system, "architecture": architecture}}
        for system, architecture, digest in platforms
    ]
    fake.put("latest", kind, {"manifests": manifests})

    assert labels(fake) == LABELS
    manifests.pop()
    fake.put("latest", kind, {"manifests": manifests})
    with pytest.raises(WorkError, match="team/image:latest: it is not there for linux/amd64"):
        labels(fake)


@pytest.mark.parametrize("config", [{}, {"config": None}, {"config": {"Labels": None}}])
def test_an_image_without_labels_has_none(config: Any, fake: FakeRegistry) -> None:
    fake.put("latest", f"{OCI}.manifest.v1+json", fake.put_config(config))

    assert labels(fake) == {}


@pytest.mark.parametrize(
    ("rootfs", "layers"), [({"diff_ids": ["sha256:a", "sha256:b"]}, ("sha256:a", "sha256:b")),
                           ({}, None), (None, None)]
)  # fmt: skip
def test_the_layers_of_an_image_are_read(rootfs: Any, layers: Any, fake: FakeRegistry) -> None:
    fake.put("latest", f"{OCI}.manifest.v1+json", fake.put_config({"rootfs": rootfs}))

    found = Registry(fake.host, None).image(REPOSITORY, "latest")

    assert found is not None
    assert found.layers == layers


def test_an_image_that_is_not_there_has_no_labels_at_all(fake: FakeRegistry) -> None:
    assert labels(fake) is None


def test_a_token_is_fetched_once_without_credentials(
    fake: FakeRegistry, docker_config: Path
) -> None:
    fake.put("latest", f"{OCI}.manifest.v1+json", fake.put_config({"config": {"Labels": LABELS}}))
    fake.wanted = TOKEN
    # What a registry proposes may be more than is needed.
    fake.challenge = (
        'Bearer realm="http://HOST/token",service="here",scope="repository:team/image:pull,push"'
    )

    assert labels(fake) == LABELS
    (asked,) = fake.token_requests
    query = {"service": ["here"], "scope": ["repository:team/image:pull"]}
    assert (asked[0], parse_qs(asked[1:])) == ("?", query)


def test_a_token_is_fetched_with_the_credentials_of_docker_login(
    fake: FakeRegistry, docker_config: Path
) -> None:
    fake.wanted, fake.challenge = TOKEN, 'Bearer realm="http://HOST/token"'
    log_in(docker_config, fake.host)

    assert labels(fake) is None
    assert fake.token_requests == [f"{BASIC}?scope=repository%3Ateam%2Fimage%3Apull"]


def test_a_token_is_fetched_with_an_identity_token(fake: FakeRegistry, docker_config: Path) -> None:
    fake.wanted = TOKEN
    fake.challenge = 'Bearer realm="http://HOST/token",service="here"'
    auth = {"auth": base64.b64encode(b"0000:").decode(), "identitytoken": "refresh"}
    docker_config.write_text(json.dumps({"auths": {fake.host: auth}}))

    assert labels(fake) is None
    (form,) = fake.token_requests
    assert parse_qs(form) == {
        "grant_type": ["refresh_token"],
        "refresh_token": ["refresh"],
        "service": ["here"],
        "scope": ["repository:team/image:pull"],
        "client_id": ["imagematrix"],
    }


def test_password_is_sent_where_it_is_requested(fake: FakeRegistry, docker_config: Path) -> None:
    fake.wanted, fake.challenge = BASIC, 'Basic realm="registry"'
    log_in(docker_config, fake.host)

    assert labels(fake) is None


@pytest.mark.parametrize(
    ("manifest", "why"),
    [
        ({"schemaVersion": 1}, "its manifest names no config"),
        ({"config": {"digest": "sha256:gone"}}, "has no sha256:gone in team/image"),
        (b"<html>", "it answers with something that is no JSON object"),
        ([], "it answers with something that is no JSON object"),
    ],
)
def test_an_answer_of_another_form_is_an_error(manifest: Any, why: str, fake: FakeRegistry) -> None:
    fake.put("latest", f"{OCI}.manifest.v1+json", manifest)

    with pytest.raises(WorkError, match=why):
        labels(fake)


def test_a_registry_that_does_not_answer_is_an_error() -> None:
    with pytest.raises(WorkError, match=r"^the registry 127.0.0.1:1 cannot be reached: "):
        Registry("127.0.0.1:1", None).image(REPOSITORY, "latest")
