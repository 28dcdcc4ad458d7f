"""Labels and layers from a registry, with each way in that registries have."""

import base64
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from imagematrix.errors import WorkError
from imagematrix.host.registry import Registry

OCI = "application/vnd.oci.image"
DOCKER = "application/vnd.docker.distribution.manifest"
LABELS = {"inference.matrix-key": "abc"}
REPOSITORY = "team/image"
BASIC = "Basic " + base64.b64encode(b"me:secret").decode()


@dataclass
class Fake:
    """A registry of fixed answers. `objects` has (content type, body) by path below /v2/team/image;
    `wanted` is the Authorization that it asks for."""

    objects: dict[str, tuple[str, Any]] = field(default_factory=dict)
    challenge: str = ""
    wanted: str = ""
    token_requests: list[str] = field(default_factory=list)
    host: str = ""

    def put(self, reference: str, kind: str, manifest: Any) -> None:
        """Makes a manifest readable under a tag or digest."""
        self.objects[f"manifests/{reference}"] = (kind, manifest)

    def put_config(self, config: Any) -> dict[str, Any]:
        """Makes a config readable; returns a manifest that names it."""
        self.objects["blobs/sha256:config"] = ("application/octet-stream", config)
        return {"schemaVersion": 2, "config": {"digest": "sha256:config"}}


@pytest.fixture
def fake() -> Iterator[Fake]:
    fake = Fake()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Nothing."""

        def answer(self, status: int, kind: str, body: Any, **headers: str) -> None:
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            for name, value in {**headers, "Content-Type": kind}.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def do_POST(self) -> None:
            length = int(self.headers["Content-Length"])
            fake.token_requests.append(self.rfile.read(length).decode())
            self.answer(200, "application/json", {"access_token": "the-token"})

        def do_GET(self) -> None:
            url = urlsplit(self.path)
            given = self.headers.get("Authorization", "")
            if url.path == "/token":
                fake.token_requests.append(f"{given}?{url.query}")
                self.answer(200, "application/json", {"token": "the-token"})
            elif given != fake.wanted:
                challenge = fake.challenge.replace("HOST", fake.host)
                self.answer(401, "application/json", {}, WWW_Authenticate=challenge)
            elif (found := fake.objects.get(url.path.removeprefix(f"/v2/{REPOSITORY}/"))) is None:
                self.answer(404, "application/json", {"errors": []})
            else:
                self.answer(200, *found)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    fake.host = f"127.0.0.1:{server.server_port}"
    yield fake
    server.shutdown()
    server.server_close()


def labels(fake: Fake) -> Any:
    found = Registry(fake.host, None).image(REPOSITORY, "latest")
    return None if found is None else found.labels


@pytest.fixture
def docker_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    return tmp_path / "config.json"


@pytest.mark.parametrize("kind", [f"{OCI}.manifest.v1+json", f"{DOCKER}.v2+json"])
def test_the_labels_of_an_image_are_read(kind: str, fake: Fake) -> None:
    fake.put("latest", kind, fake.put_config({"config": {"Labels": LABELS}}))

    assert labels(fake) == LABELS


@pytest.mark.parametrize("kind", [f"{OCI}.index.v1+json", f"{DOCKER}.list.v2+json"])
def test_of_an_index_the_image_of_our_platform_is_taken(kind: str, fake: Fake) -> None:
    platforms = [("unknown", "unknown"), ("linux", "arm64"), ("linux", "amd64")]
    manifests = [
        {"digest": f"sha256:{number}", "platform": {"os": system, "architecture": architecture}}
        for number, (system, architecture) in enumerate(platforms)
    ]
    fake.put("latest", kind, {"manifests": manifests})
    manifest = fake.put_config({"config": {"Labels": LABELS}})
    fake.put("sha256:2", f"{OCI}.manifest.v1+json", manifest)

    assert labels(fake) == LABELS
    manifests.pop()
    with pytest.raises(WorkError, match="team/image:latest: it is not there for linux/amd64"):
        labels(fake)


@pytest.mark.parametrize("config", [{}, {"config": None}, {"config": {"Labels": None}}])
def test_an_image_without_labels_has_none(config: Any, fake: Fake) -> None:
    fake.put("latest", f"{OCI}.manifest.v1+json", fake.put_config(config))

    assert labels(fake) == {}


@pytest.mark.parametrize(
    ("rootfs", "layers"), [({"diff_ids": ["sha256:a", "sha256:b"]}, ("sha256:a", "sha256:b")),
                           ({}, None), (None, None)]
)  # fmt: skip
def test_the_layers_of_an_image_are_read(rootfs: Any, layers: Any, fake: Fake) -> None:
    fake.put("latest", f"{OCI}.manifest.v1+json", fake.put_config({"rootfs": rootfs}))

    found = Registry(fake.host, None).image(REPOSITORY, "latest")

    assert found is not None
    assert found.layers == layers


def test_an_image_that_is_not_there_has_no_labels_at_all(fake: Fake) -> None:
    assert labels(fake) is None


def test_a_token_is_fetched_once_without_credentials(fake: Fake, docker_config: Path) -> None:
    fake.put("latest", f"{OCI}.manifest.v1+json", fake.put_config({"config": {"Labels": LABELS}}))
    fake.wanted = "Bearer the-token"
    fake.challenge = (
        'Bearer realm="http://HOST/token",service="here",scope="repository:team/image:pull"'
    )

    assert labels(fake) == LABELS
    (asked,) = fake.token_requests
    query = {"service": ["here"], "scope": ["repository:team/image:pull"]}
    assert (asked[0], parse_qs(asked[1:])) == ("?", query)
    assert not docker_config.exists()


def test_a_token_is_fetched_with_the_credentials_of_docker_login(
    fake: Fake, docker_config: Path
) -> None:
    fake.wanted, fake.challenge = "Bearer the-token", 'Bearer realm="http://HOST/token"'
    auth = base64.b64encode(b"me:secret").decode()
    docker_config.write_text(json.dumps({"auths": {fake.host: {"auth": auth}}}))

    assert labels(fake) is None
    assert fake.token_requests == [f"{BASIC}?scope=repository%3Ateam%2Fimage%3Apull"]


def test_a_token_is_fetched_with_an_identity_token(fake: Fake, docker_config: Path) -> None:
    fake.wanted = "Bearer the-token"
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


def test_password_is_sent_where_it_is_requested(fake: Fake, docker_config: Path) -> None:
    fake.wanted, fake.challenge = BASIC, 'Basic realm="registry"'
    auth = base64.b64encode(b"me:secret").decode()
    docker_config.write_text(json.dumps({"auths": {fake.host: {"auth": auth}}}))

    assert labels(fake) is None


def test_refusal_is_reported_with_what_to_do(fake: Fake, docker_config: Path) -> None:
    fake.wanted, fake.challenge = BASIC, 'Basic realm="registry"'

    with pytest.raises(WorkError, match=r"answers 401 Unauthorized for team/image; run `docker"):
        labels(fake)
    assert not docker_config.exists()


@pytest.mark.parametrize(
    ("manifest", "why"),
    [
        ({"schemaVersion": 1}, "its manifest names no config"),
        ({"config": {"digest": "sha256:gone"}}, "its config is missing"),
        (b"<html>", "it answers with something that is no JSON object"),
        ([], "it answers with something that is no JSON object"),
    ],
)
def test_an_answer_of_another_form_is_an_error(manifest: Any, why: str, fake: Fake) -> None:
    fake.put("latest", f"{OCI}.manifest.v1+json", manifest)

    with pytest.raises(WorkError, match=why):
        labels(fake)


def test_a_registry_that_does_not_answer_is_an_error() -> None:
    with pytest.raises(WorkError, match=r"^the registry 127.0.0.1:1 cannot be reached: "):
        Registry("127.0.0.1:1", None).image(REPOSITORY, "latest")
