"""Labels and layers from a registry, with each way in that registries have."""

import base64
import io
import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs

import pytest
import requests

from imagematrix.errors import WorkError
from imagematrix.host.oci import OCI_INDEX, OCI_MANIFEST, Descriptor, Manifest
from imagematrix.host.registry import Blob, Registry
from imagematrix.host.registry_errors import PUSH, Access, refused
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
    fake.manifests.pop((REPOSITORY, ours))
    with pytest.raises(WorkError, match=f"team/image:latest: {ours} in it is missing"):
        labels(fake)
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


def push(registry: Registry, content: bytes = CONTENT, mount_from: str = "") -> Blob:
    """Pushes a blob, as from a file."""
    return registry.push_blob(
        REPOSITORY, sha256(content), len(content), lambda: io.BytesIO(content), mount_from
    )


@pytest.mark.parametrize(
    ("given", "host"),
    [("docker.io", "docker.io"), ("index.docker.io", "docker.io"),
     ("registry-1.docker.io", "docker.io"), ("ghcr.io", "ghcr.io")],
)  # fmt: skip
def test_docker_hub_is_asked_at_its_registry(given: str, host: str) -> None:
    connection = Connection(given, None)

    server = "registry-1.docker.io" if host == "docker.io" else host
    assert (connection.host, connection.url) == (host, f"https://{server}/v2/")
    name = "library/minimal" if host == "docker.io" else "minimal"
    assert connection.access("minimal").repository == name
    assert connection.access("me/minimal").repository == "me/minimal"


def test_credentials_of_docker_hub_are_those_of_its_old_address(
    fake: FakeRegistry, docker_config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.wanted, fake.challenge = TOKEN, TOKENS
    monkeypatch.setattr(Connection, "url", f"http://{fake.host}/v2/")
    log_in(docker_config, "https://index.docker.io/v1/")

    assert Registry("docker.io", None).manifest("minimal", "latest") is None
    assert fake.seen[-1] == "GET /v2/library/minimal/manifests/latest"
    (asked,) = fake.token_requests
    assert asked.startswith(f"{BASIC}?")
    assert "library%2Fminimal%3Apull" in asked


def test_tags_are_read_page_by_page(fake: FakeRegistry) -> None:
    registry = Registry(fake.host, None)
    assert registry.tags(REPOSITORY) == ()
    for tag in ("latest", "20260102.v1", "20260101.v1"):
        fake.put(tag, OCI_MANIFEST, {"of": tag})
    fake.page_size = 2

    assert registry.tags(REPOSITORY) == ("20260101.v1", "20260102.v1", "latest")
    assert fake.count("GET /v2/team/image/tags/list?last=") == 1


def test_blob_is_pushed_once(fake: FakeRegistry) -> None:
    registry = Registry(fake.host, None)

    assert not registry.has_blob(REPOSITORY, sha256(CONTENT))
    assert [push(registry), push(registry)] == [Blob.UPLOADED, Blob.PRESENT]
    assert registry.has_blob(REPOSITORY, sha256(CONTENT))
    assert registry.blob(REPOSITORY, sha256(CONTENT)) == CONTENT
    assert fake.count("POST") == fake.count("PUT") == 1


def test_blob_of_another_repository_is_mounted(fake: FakeRegistry) -> None:
    fake.blobs["team/parent", sha256(CONTENT)] = CONTENT

    assert push(Registry(fake.host, None), mount_from="team/parent") is Blob.MOUNTED
    assert fake.blobs[REPOSITORY, sha256(CONTENT)] == CONTENT
    assert fake.count("PUT") == 0


@pytest.mark.parametrize("refusal", [None, error(401, "UNAUTHORIZED", "no"),
    error(403, "DENIED", "no"), error(404, "NAME_UNKNOWN", "no")])  # fmt: skip
def test_blob_that_cannot_be_mounted_is_uploaded(
    refusal: Answer | None, fake: FakeRegistry, docker_config: Path
) -> None:
    fake.wanted, fake.challenge = BASIC, 'Basic realm="registry"'
    log_in(docker_config, fake.host)
    registry = Registry(fake.host, None)
    registry.tags(REPOSITORY)
    if refusal is not None:
        headers = {**refusal.headers, "WWW-Authenticate": fake.challenge}
        again = Answer(refusal.status, refusal.body, headers)
        # The first 401 may only mean that a token has expired.
        fake.answers["POST", "uploads"] = [again] * (2 if refusal.status == 401 else 1)

    assert push(registry, mount_from="team/other") is Blob.UPLOADED
    assert fake.blobs[REPOSITORY, sha256(CONTENT)] == CONTENT


def test_manifest_is_written_under_a_tag_and_read_as_it_was(fake: FakeRegistry) -> None:
    registry = Registry(fake.host, None)
    content = b'{ "mediaType": "' + OCI_MANIFEST.encode() + b'", "layers": [] }'

    digest = registry.push_manifest(REPOSITORY, "20260101.v1", content, OCI_MANIFEST)

    assert digest == sha256(content)
    for reference in ("20260101.v1", digest):
        found = registry.manifest(REPOSITORY, reference)
        assert found is not None
        assert (found.digest, found.media_type, found.content) == (digest, OCI_MANIFEST, content)
        assert found.document["layers"] == []
        assert found.descriptor == Descriptor(OCI_MANIFEST, digest, len(content))


def test_manifest_is_deleted_and_a_missing_one_is_no_error(
    fake: FakeRegistry, docker_config: Path
) -> None:
    fake.put("old", OCI_MANIFEST, {})
    fake.wanted, fake.challenge = TOKEN, TOKENS
    log_in(docker_config, fake.host)
    registry = Registry(fake.host, None)

    registry.delete_manifest(REPOSITORY, "old")
    registry.delete_manifest(REPOSITORY, "old")

    assert (REPOSITORY, "old") not in fake.manifests
    assert "%3Adelete" in fake.token_requests[0]


@pytest.mark.parametrize("api", [True, False])
def test_artifacts_refer_to_an_image(api: bool, fake: FakeRegistry) -> None:
    fake.referrers_api = api
    registry = Registry(fake.host, None)
    subject = fake.put("latest", OCI_MANIFEST, {"layers": []})
    image = registry.manifest(REPOSITORY, subject)
    assert image is not None
    assert registry.referrers(REPOSITORY, subject) == ()

    made = [
        registry.attach(REPOSITORY, image.descriptor, "application/a", content, "text/plain", why)
        for content, why in [(b"one", {"for": "1"}), (b"two", {"for": "2"}), (b"one", {"for": "1"})]
    ]

    assert made[0] == made[2]
    assert {one.digest for one in registry.referrers(REPOSITORY, subject)} == {
        made[0].digest,
        made[1].digest,
    }
    assert registry.referrers(REPOSITORY, subject)[0] == made[0]
    assert made[0].annotations == {"for": "1"}
    artifact = registry.manifest(REPOSITORY, made[1].digest)
    assert artifact is not None
    assert artifact.document["subject"]["digest"] == subject
    assert registry.blob(REPOSITORY, artifact.document["layers"][0]["digest"]) == b"two"
    fallback = (REPOSITORY, subject.replace(":", "-")) in fake.manifests
    assert fallback is not api


def test_what_another_publisher_lost_is_there_again_after_the_next_attachment(
    fake: FakeRegistry,
) -> None:
    """It read the index before our first attachment, and writes it after we looked."""
    registry = Registry(fake.host, None)
    subject = fake.put("latest", OCI_MANIFEST, {"layers": []})
    image = registry.manifest(REPOSITORY, subject)
    assert image is not None
    attach = partial(registry.attach, REPOSITORY, image.descriptor, "application/a")
    first = attach(b"1", "text/plain", {})
    fake.put(subject.replace(":", "-"), OCI_INDEX, {"mediaType": OCI_INDEX, "manifests": []})

    second = attach(b"2", "text/plain", {})

    assert {one.digest for one in registry.referrers(REPOSITORY, subject)} == {
        first.digest,
        second.digest,
    }


def test_full_disk_is_said_at_once(fake: FakeRegistry, waits: list[float]) -> None:
    fake.answers["PUT", "uploads"] = [error(500, "UNKNOWN", "no space left on device")]

    with pytest.raises(WorkError, match="has no room for team/image"):
        push(Registry(fake.host, None))
    assert waits == []
    assert fake.count("PUT") == 1


def test_what_another_publisher_attaches_at_the_same_time_is_kept(fake: FakeRegistry) -> None:
    """It writes the index between our read and our write, from what it read before."""
    registry = Registry(fake.host, None)
    subject = fake.put("latest", OCI_MANIFEST, {"layers": []})
    tag = subject.replace(":", "-")
    image = registry.manifest(REPOSITORY, subject)
    assert image is not None
    other = Descriptor(OCI_MANIFEST, sha256(b"other"), 5, "application/other")
    index = {"mediaType": OCI_INDEX, "manifests": [other.document]}
    fake.overwritten[tag] = (OCI_INDEX, json.dumps(index).encode())

    made = registry.attach(REPOSITORY, image.descriptor, "application/a", b"1", "text/plain", {})

    assert not fake.overwritten
    assert registry.referrers(REPOSITORY, subject) == (other, made)


# A tag is taken once.

OTHERS = b'{"by": "another publisher"}'


def test_free_tag_is_taken_and_one_that_is_taken_is_not(fake: FakeRegistry) -> None:
    ours, others = (Manifest(sha256(text), OCI_MANIFEST, text) for text in (b"{}", OTHERS))
    fake.put("other", OCI_MANIFEST, OTHERS)
    registry = Registry(fake.host, None)

    assert registry.claim_tag(REPOSITORY, "free", ours)
    assert not registry.claim_tag(REPOSITORY, "other", ours)
    assert fake.manifests[REPOSITORY, "other"][1] == others.content
    # Who repeats has it already.
    assert registry.claim_tag(REPOSITORY, "free", ours)


def test_tag_that_another_publisher_overwrites_is_not_ours(fake: FakeRegistry) -> None:
    fake.overwritten["free"] = (OCI_MANIFEST, OTHERS)

    claimed = Registry(fake.host, None).claim_tag(
        REPOSITORY, "free", Manifest(sha256(b"{}"), OCI_MANIFEST, b"{}")
    )

    assert not claimed


def test_tag_that_was_taken_while_the_registry_failed_is_not_written_again(
    fake: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another publisher takes it between two tries."""

    def take(_: float) -> None:
        fake.put("free", OCI_MANIFEST, OTHERS)

    clock = SimpleNamespace(sleep=take, time=lambda: 0.0)
    monkeypatch.setattr("urllib3.util.retry.time", clock)
    # There is no wait before the second try.
    fake.answers["PUT", "manifests"] = [Answer(503), Answer(503)]
    ours = Manifest(sha256(b"{}"), OCI_MANIFEST, b"{}")

    assert not Registry(fake.host, None).claim_tag(REPOSITORY, "free", ours)
    assert fake.manifests[REPOSITORY, "free"][1] == OTHERS
    assert fake.count("PUT") == 2


# What may pass is tried again.


@pytest.mark.parametrize(
    "failure",
    [DROPPED, Answer(429), Answer(500), Answer(502), Answer(503), Answer(504)],
)
@pytest.mark.parametrize("step", [("HEAD", "blobs"), ("POST", "uploads"), ("PUT", "uploads"),
    ("PUT", "manifests"), ("GET", "manifests")])  # fmt: skip
def test_what_may_pass_is_tried_again(
    step: tuple[str, str], failure: Answer, fake: FakeRegistry, waits: list[float]
) -> None:
    fake.answers[step] = [failure, failure]
    registry = Registry(fake.host, None)

    push(registry)
    registry.push_manifest(REPOSITORY, "latest", b"{}", OCI_MANIFEST)
    found = registry.manifest(REPOSITORY, "latest")

    assert found is not None
    assert found.content == b"{}"
    assert fake.blobs[REPOSITORY, sha256(CONTENT)] == CONTENT
    assert not fake.answers[step]
    assert waits == [1.0]


def test_upload_that_breaks_starts_from_the_beginning(fake: FakeRegistry) -> None:
    fake.answers["PUT", "uploads"] = [DROPPED]
    opened: list[io.BytesIO] = []

    def open_content() -> io.BytesIO:
        opened.append(io.BytesIO(CONTENT))
        return opened[-1]

    size = len(CONTENT)
    Registry(fake.host, None).push_blob(REPOSITORY, sha256(CONTENT), size, open_content)

    assert (fake.count("POST"), fake.count("PUT")) == (2, 2)
    assert len(opened) == 2
    assert all(file.closed for file in opened)


def test_the_time_that_a_registry_names_is_waited(
    fake: FakeRegistry, waits: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    fake.answers["GET", "tags"] = [
        Answer(429, headers={"Retry-After": "7"}),
        Answer(503, headers={"Retry-After": "100000"}),
        Answer(503, headers={"Retry-After": "soon"}),
    ]

    Registry(fake.host, None).tags(REPOSITORY)

    assert waits == [7, 120, 2.0]
    said = capsys.readouterr().err.splitlines()
    assert said[0] == f"The registry {fake.host} answers 429; trying again."


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (error(429, "TOOMANYREQUESTS", "slow down"), ["limits the number of requests",
            "TOOMANYREQUESTS: slow down", "asked 7 times", "run this again later"]),
        (Answer(503, b"upstream is away"), ["fails for team/image (503 ", "asked 7 times"]),
        (DROPPED, ["cannot be reached", "run this again"]),
    ],
)  # fmt: skip
def test_after_some_tries_it_ends(answer: Answer, words: list[str], fake: FakeRegistry) -> None:
    fake.answers["GET", "tags"] = [answer] * 100

    with pytest.raises(WorkError) as raised:
        Registry(fake.host, None).tags(REPOSITORY)

    for word in words:
        assert word in str(raised.value)
    assert fake.count("GET") == 7
    assert "\n" not in str(raised.value)


def test_expired_token_is_fetched_again_in_the_middle_of_a_push(
    fake: FakeRegistry, docker_config: Path
) -> None:
    fake.wanted, fake.challenge = TOKEN, TOKENS
    log_in(docker_config, fake.host)
    registry = Registry(fake.host, None)
    push(registry, b"first")
    fake.token, fake.wanted = "second", "Bearer second"

    assert push(registry) is Blob.UPLOADED
    assert len(fake.token_requests) == 2
    scopes = [parse_qs(asked.partition("?")[2])["scope"] for asked in fake.token_requests]
    assert scopes == [["repository:team/image:pull,push"]] * 2


def test_token_that_expires_before_the_content_is_sent_costs_no_new_upload(
    fake: FakeRegistry, docker_config: Path
) -> None:
    fake.wanted, fake.challenge = TOKEN, TOKENS
    log_in(docker_config, fake.host)
    challenge = {"WWW-Authenticate": TOKENS.replace("HOST", fake.host)}
    fake.answers["PUT", "uploads"] = [Answer(401, b"", challenge)]

    assert push(Registry(fake.host, None)) is Blob.UPLOADED
    assert (fake.count("POST"), fake.count("PUT"), len(fake.token_requests)) == (1, 2, 2)


def test_token_for_a_mount_may_also_read_the_source(
    fake: FakeRegistry, docker_config: Path
) -> None:
    fake.wanted, fake.challenge = TOKEN, TOKENS
    log_in(docker_config, fake.host)
    fake.blobs["team/parent", sha256(CONTENT)] = CONTENT

    assert push(Registry(fake.host, None), mount_from="team/parent") is Blob.MOUNTED
    scopes = parse_qs(fake.token_requests[-1].partition("?")[2])["scope"]
    assert scopes == ["repository:team/image:pull,push", "repository:team/parent:pull"]


# What a registry refuses has a line of its own: its words, and what to do.


@pytest.mark.parametrize(
    ("refusal", "logged_in", "words"),
    [
        (error(401, "UNAUTHORIZED", "authentication required", WWW_Authenticate="Basic"), False,
         ["wants credentials to push to team/image", "UNAUTHORIZED: authentication required",
          ": run `docker login HOST`"]),
        (error(401, "UNAUTHORIZED", "bad password", WWW_Authenticate="Basic"), True,
         ["does not accept the credentials", "bad password", "run `docker login HOST` again"]),
        (error(401, "DENIED", "requested access to the resource is denied",
               WWW_Authenticate="Basic"), True,
         ["does not allow to push to team/image", "access to the resource is denied", "the right"]),
        (error(403, "DENIED", "permission_denied: write_package"), True,
         ["does not allow to push to team/image", "permission_denied: write_package", "grant it"]),
        (error(403, "DENIED", "denied"), False,
         ["does not allow to push to team/image", "run `docker login HOST`"]),
        (error(404, "NAME_UNKNOWN", "The repository does not exist"), True,
         ["has no repository team/image", "The repository does not exist", "create it there"]),
        (error(507, "UNKNOWN", "full"), True, ["has no room for team/image", "raise its quota"]),
        (error(500, "UNKNOWN", "write /data/x: no space left on device"), True,
         ["has no room for team/image", "no space left on device"]),
        (error(500, "UNKNOWN", "unknown error",
               {"DriverName": "filesystem", "Enclosed": {"Op": "write", "Err": 28}}), True,
         ["has no room for team/image"]),
        (error(403, "DENIED", "storage quota of 10 GB exceeded"), True, ["quota of 10 GB"]),
        (error(500, "UNKNOWN", "unknown error"), True,
         ["fails for team/image (500 Internal Server Error, UNKNOWN: unknown error, asked 7"]),
        (error(400, "TAG_INVALID", "manifest tag did not match URI"), True,
         ["answers 400 Bad Request, TAG_INVALID: manifest tag did not match URI for team/image"]),
        (Answer(400, b"\x00nonsense"), True, ["answers 400 Bad Request for team/image"]),
        (Answer(400, {"errors": "nonsense"}), True, ["answers 400 Bad Request for team/image"]),
        (Answer(403, b"<html>", {"Content-Type": "text/html"}), True,
         ["a web page answers at http://HOST/v2/team/image/", "no registry"]),
    ],
)  # fmt: skip
def test_refused_push_says_why_and_what_to_do(
    refusal: Answer,
    logged_in: bool,
    words: list[str],
    fake: FakeRegistry,
    docker_config: Path,
) -> None:
    if logged_in:
        log_in(docker_config, fake.host)
    fake.answers["POST", "uploads"] = [refusal] * 20

    with pytest.raises(WorkError) as raised:
        push(Registry(fake.host, None))

    for word in words:
        assert word.replace("HOST", fake.host) in str(raised.value)
    assert "\n" not in str(raised.value)
    assert not fake.blobs


def test_token_without_the_right_is_a_denied_push(fake: FakeRegistry, docker_config: Path) -> None:
    log_in(docker_config, fake.host)
    challenge = TOKENS.replace("HOST", fake.host) + ',error="insufficient_scope"'
    fake.answers["POST", "uploads"] = [
        error(401, "UNAUTHORIZED", "authentication required", WWW_Authenticate=challenge)
    ] * 2

    with pytest.raises(WorkError, match="does not allow to push to team/image"):
        push(Registry(fake.host, None))


def test_server_of_tokens_that_refuses_is_quoted(fake: FakeRegistry, docker_config: Path) -> None:
    fake.wanted, fake.challenge = TOKEN, TOKENS
    log_in(docker_config, fake.host)
    fake.answers["GET", "/token"] = [Answer(401, {"details": "incorrect username or password"})]

    with pytest.raises(WorkError, match=r"does not accept .*incorrect username or password"):
        push(Registry(fake.host, None))


def test_missing_repository_of_ecr_is_created_by_a_command() -> None:
    answer = requests_answer(error(404, "NAME_UNKNOWN", "The repository does not exist"))
    host = "1.dkr.ecr.eu-west-1.amazonaws.com"

    found = refused(answer, host, Access("a/b", PUSH), logged_in=True, tries=1)

    assert "run `aws ecr create-repository --repository-name a/b`" in str(found)


def requests_answer(answer: Answer) -> Any:
    """As requests has it."""
    made = requests.Response()
    made.status_code = answer.status
    made._content = json.dumps(answer.body).encode()
    return made


def test_registry_that_does_not_delete_says_how_to_allow_it(fake: FakeRegistry) -> None:
    fake.answers["DELETE", "manifests"] = [
        error(405, "UNSUPPORTED", "The operation is unsupported")
    ]

    with pytest.raises(WorkError, match=r"does not delete from team/image .*DELETE_ENABLED"):
        Registry(fake.host, None).delete_manifest(REPOSITORY, "old")


@pytest.mark.parametrize("status", [200, 404])
@pytest.mark.parametrize("read", ["tags", "manifests", "blobs"])
def test_web_page_is_no_registry(read: str, status: int, fake: FakeRegistry) -> None:
    fake.answers["GET", read] = [Answer(status, PAGE.body, PAGE.headers)]
    registry = Registry(fake.host, None)
    ask: dict[str, Callable[[], object]] = {
        "tags": lambda: registry.tags(REPOSITORY),
        "manifests": lambda: registry.manifest(REPOSITORY, "latest"),
        "blobs": lambda: registry.blob(REPOSITORY, sha256(b"")),
    }

    page = (read, status) != ("blobs", 200)
    with pytest.raises(WorkError, match="web page answers at" if page else "another content"):
        ask[read]()


@pytest.mark.parametrize("challenge", ["", "Negotiate", 'Bearer service="x"'])
def test_unknown_way_to_log_in_is_an_error(challenge: str, fake: FakeRegistry) -> None:
    fake.wanted, fake.challenge = TOKEN, challenge

    with pytest.raises(WorkError, match="which is no known way to log in"):
        Registry(fake.host, None).tags(REPOSITORY)


def test_contents_with_another_digest_are_refused(fake: FakeRegistry) -> None:
    good = fake.put("latest", OCI_MANIFEST, {"layers": []})
    blob = fake.put_blob(b"right")
    fake.manifests[REPOSITORY, good] = (OCI_MANIFEST, b'{"layers": [1]}')
    fake.blobs[REPOSITORY, blob] = b"wrong"
    fake.answers["GET", "manifests/latest"] = [
        Answer(200, {"layers": []}, {"Docker-Content-Digest": sha256(b"another")})
    ]
    registry = Registry(fake.host, None)

    reads: list[Callable[[], object]] = [
        lambda: registry.manifest(REPOSITORY, good),
        lambda: registry.manifest(REPOSITORY, "latest"),
        lambda: registry.blob(REPOSITORY, blob),
    ]
    for read in reads:
        with pytest.raises(WorkError, match=r"another content for team/image.*; do not use it"):
            read()


def test_written_manifest_must_arrive_as_it_is(fake: FakeRegistry) -> None:
    fake.answers["PUT", "manifests"] = [
        Answer(201, headers={"Docker-Content-Digest": sha256(b"another")})
    ]

    with pytest.raises(WorkError, match="another content for team/image:latest"):
        Registry(fake.host, None).push_manifest(REPOSITORY, "latest", b"{}", OCI_MANIFEST)


def test_password_is_not_sent_to_another_server(fake: FakeRegistry, docker_config: Path) -> None:
    """A registry may have an upload sent to the storage behind it."""
    fake.wanted, fake.challenge = BASIC, "Basic"
    log_in(docker_config, fake.host)
    with fake_registry() as storage:
        location = f"http://{storage.host}/v2/{REPOSITORY}/blobs/uploads/1?state=a"
        registry = Registry(fake.host, None)
        assert registry.find_blob(REPOSITORY, sha256(b"")) is None
        fake.answers["POST", "uploads"] = [Answer(202, headers={"Location": location})]

        # The storage accepts what has no password.
        assert push(registry) is Blob.UPLOADED
        assert storage.blobs[REPOSITORY, sha256(CONTENT)] == CONTENT


# Credentials from a helper, as those of ECR, ACR and of Docker Desktop.


@pytest.fixture
def helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A credential helper named `test`, without an answer yet."""
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    return tmp_path / "docker-credential-test"


def answer_of(helper: Path, host: str, username: str, secret: str) -> None:
    answer = json.dumps({"ServerURL": host, "Username": username, "Secret": secret})
    helper.write_text(f"#!/bin/sh\necho '{answer}'\n")
    helper.chmod(0o755)


@pytest.mark.parametrize("kind", ["credHelpers", "credsStore"])
def test_password_is_asked_of_a_credential_helper(
    kind: str, fake: FakeRegistry, docker_config: Path, helper: Path
) -> None:
    fake.wanted, fake.challenge = BASIC, "Basic"
    answer_of(helper, fake.host, "me", "secret")
    config = {"credHelpers": {fake.host: "test"}, "credsStore": "test"}
    docker_config.write_text(json.dumps({kind: config[kind]}))

    assert push(Registry(fake.host, None)) is Blob.UPLOADED


def test_identity_token_is_asked_of_a_credential_helper(
    fake: FakeRegistry, docker_config: Path, helper: Path
) -> None:
    fake.wanted, fake.challenge = TOKEN, TOKENS
    answer_of(helper, fake.host, "<token>", "refresh")
    docker_config.write_text(json.dumps({"credHelpers": {fake.host: "test"}}))

    assert push(Registry(fake.host, None)) is Blob.UPLOADED
    form = parse_qs(fake.token_requests[0])
    assert form["refresh_token"] == ["refresh"]
    assert form["scope"] == ["repository:team/image:pull,push"]


@pytest.mark.filterwarnings("ignore:docker-credential-absent not installed")
@pytest.mark.parametrize("text", ['{"credHelpers": {"HOST": "absent"}}', '{"auths": 1}'])
def test_credentials_that_cannot_be_read_are_an_error(
    text: str, fake: FakeRegistry, docker_config: Path
) -> None:
    fake.wanted, fake.challenge = BASIC, "Basic"
    docker_config.write_text(text.replace("HOST", fake.host))

    with pytest.raises(
        WorkError, match=r"^the credentials of `docker login` for .* cannot be read: "
    ):
        Registry(fake.host, None).tags(REPOSITORY)


# Without TLS, and without a listener.


def test_registry_without_tls_is_used_on_loopback_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imagematrix.host.registry_http.is_loopback", lambda _: False)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def refuse() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1 << 16)
                connection.sendall(b"HTTP/1.0 400 Bad Request\r\n\r\n")

        threading.Thread(target=refuse, daemon=True).start()
        host = f"127.0.0.1:{server.getsockname()[1]}"

        with pytest.raises(WorkError, match="does not answer by HTTPS") as raised:
            Registry(host, None).tags(REPOSITORY)
    assert "without TLS, registries are used on loopback only" in str(raised.value)


def test_proxy_of_the_host_is_not_used_for_loopback(
    fake: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.delenv("NO_PROXY", raising=False)

    assert Registry(fake.host, None).tags(REPOSITORY) == ()


def test_proxy_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)

    with pytest.raises(WorkError, match=r"^the registry r.example cannot be reached through the"):
        Registry("r.example", None).tags(REPOSITORY)


def test_registry_that_names_no_place_for_an_upload_is_an_error(fake: FakeRegistry) -> None:
    fake.answers["POST", "uploads"] = [Answer(202)]

    with pytest.raises(WorkError, match="it names no place for an upload"):
        push(Registry(fake.host, None))


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"", "Remote end closed connection without response"),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc",
            "Connection broken: IncompleteRead(",
        ),
        (b"220 mail.example\r\n", "it does not answer by HTTP"),
    ],
)
def test_what_is_no_answer_is_said_in_plain_words(answer: bytes, words: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    with connection:
                        probed = connection.recv(1 << 16).startswith(b"GET /v2/ ")
                        connection.sendall(b"HTTP/1.0 200 OK\r\n\r\n" if probed else answer)

        threading.Thread(target=serve, daemon=True).start()
        host = f"127.0.0.1:{server.getsockname()[1]}"

        with pytest.raises(WorkError) as raised:
            Registry(host, None).tags(REPOSITORY)
    assert str(raised.value).startswith(f"the registry {host} cannot be reached: {words}")


@pytest.mark.parametrize(
    "document",
    [{"manifests": [1]}, {"manifests": 5}, {"manifests": [{"platform": 1}]},
     {"manifests": [{"platform": {"os": "linux", "architecture": "amd64"}}]}],
)  # fmt: skip
def test_index_of_another_form_is_an_error(document: Any, fake: FakeRegistry) -> None:
    fake.put("latest", OCI_INDEX, document)

    with pytest.raises(WorkError, match="has no usable image team/image:latest: "):
        labels(fake)


@pytest.mark.parametrize(
    "config", [[], b"{", {"rootfs": [1]}, {"rootfs": {"diff_ids": 1}}, {"config": "x"},
               {"config": {"Labels": [1]}}]
)  # fmt: skip
def test_config_of_another_form_is_an_error(config: Any, fake: FakeRegistry) -> None:
    fake.put("latest", OCI_MANIFEST, fake.put_config(config))

    with pytest.raises(WorkError, match=f"the registry {fake.host} has no usable image team/image"):
        labels(fake)


@pytest.mark.parametrize("tags", [5, [1], {"a": 1}])
def test_list_of_tags_of_another_form_is_an_error(tags: Any, fake: FakeRegistry) -> None:
    fake.answers["GET", "tags"] = [Answer(200, {"tags": tags})]

    with pytest.raises(WorkError, match="has no usable image team/image: its list of tags"):
        Registry(fake.host, None).tags(REPOSITORY)


@pytest.mark.parametrize("entry", [1, {}, {"mediaType": "a", "digest": "b"}, 5])
def test_index_of_referrers_of_another_form_is_an_error(entry: Any, fake: FakeRegistry) -> None:
    index = {"manifests": entry if entry == 5 else [entry]}
    fake.put(sha256(b"").replace(":", "-"), OCI_INDEX, index)

    with pytest.raises(WorkError, match="index of what refers to it has another form"):
        Registry(fake.host, None).referrers(REPOSITORY, sha256(b""))
