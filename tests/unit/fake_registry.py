"""A registry in this process that reads and writes, and can be made to refuse, fail and lie."""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

OCI = "application/vnd.oci.image"
DOCKER = "application/vnd.docker.distribution.manifest"
REPOSITORY = "team/image"
BASIC = "Basic " + base64.b64encode(b"me:secret").decode()
TOKEN = "Bearer the-token"


def sha256(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def encoded(document: Any) -> bytes:
    return document if isinstance(document, bytes) else json.dumps(document).encode()


@dataclass(frozen=True)
class Answer:
    """An answer in the place of the right one; status 0 drops the connection."""

    status: int
    body: Any = b""
    headers: dict[str, str] = field(default_factory=dict)


def error(status: int, code: str, message: str, detail: Any = None, **headers: str) -> Answer:
    """An answer with the error body of OCI."""
    body = {"errors": [{"code": code, "message": message, "detail": detail}]}
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status, body, {"Content-Type": "application/json", **named})


DROPPED = Answer(0)
PAGE = Answer(200, b"<html>Welcome</html>", {"Content-Type": "text/html; charset=utf-8"})


@dataclass
class FakeRegistry:
    """Its contents by repository and name; `wanted` is the Authorization that it asks for.

    `overwritten` has what another publisher writes, once, right after a manifest is written.
    `answers` has, by method and a part of the path, answers that are given once each before the
    right ones; `seen` what was asked, `token_requests` how for tokens.
    """

    host: str = ""
    blobs: dict[tuple[str, str], bytes] = field(default_factory=dict)
    manifests: dict[tuple[str, str], tuple[str, bytes]] = field(default_factory=dict)
    wanted: str = ""
    challenge: str = ""
    token: str = "the-token"
    answers: dict[tuple[str, str], list[Answer]] = field(default_factory=dict)
    overwritten: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    page_size: int = 0
    referrers_api: bool = False
    seen: list[str] = field(default_factory=list)
    token_requests: list[str] = field(default_factory=list)

    def put(self, reference: str, kind: str, manifest: Any) -> str:
        """Makes a manifest readable under a tag and its digest, which is returned."""
        data = encoded(manifest)
        self.manifests[REPOSITORY, reference] = (kind, data)
        self.manifests[REPOSITORY, sha256(data)] = (kind, data)
        return sha256(data)

    def put_blob(self, content: Any) -> str:
        """Makes a blob readable; returns its digest."""
        data = encoded(content)
        self.blobs[REPOSITORY, sha256(data)] = data
        return sha256(data)

    def put_config(self, config: Any) -> dict[str, Any]:
        """Makes a config readable; returns a manifest that names it."""
        return {"schemaVersion": 2, "config": {"digest": self.put_blob(config)}}

    def count(self, start: str) -> int:
        """How many requests started so."""
        return sum(one.startswith(start) for one in self.seen)


class _Handler(BaseHTTPRequestHandler):
    fake: FakeRegistry
    protocol_version = "HTTP/1.1"
    # Without this, each answer is two packets, and the second waits for the receipt of the first.
    wbufsize = -1

    def log_message(self, *_: object) -> None:
        """Nothing."""

    def answer(self, status: int, body: Any = b"", **headers: str) -> None:
        data = encoded(body)
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def handle_any(self) -> None:
        fake, url = self.fake, urlsplit(self.path)
        if self.path == "/v2/":
            return self.answer(200)
        if url.path == "/token":
            return self.give_token(url.query)
        fake.seen.append(f"{self.command} {self.path}")
        scripted = self.scripted(url.path)
        if scripted is DROPPED:
            # Some of the body is read, as when a connection breaks in its middle.
            self.rfile.read(min(10, int(self.headers.get("Content-Length", 0))))
            self.close_connection = True
            return None
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if scripted is not None:
            return self.answer(scripted.status, scripted.body, **scripted.headers)
        if self.headers.get("Authorization", "") != fake.wanted:
            challenge = fake.challenge.replace("HOST", fake.host)
            words = {"errors": [{"code": "UNAUTHORIZED", "message": "authentication required"}]}
            return self.answer(401, words, WWW_Authenticate=challenge)
        repository, kind, name = self.parsed(url.path)
        query = {key: values[0] for key, values in parse_qs(url.query).items()}
        serve = getattr(self, f"{self.command.lower()}_{kind}")
        serve(repository, name, query, body)
        return None

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = handle_any  # noqa: N815  # http.server's names.

    def scripted(self, path: str) -> Answer | None:
        for (method, part), answers in self.fake.answers.items():
            if method == self.command and part in path and answers:
                return answers.pop(0)
        return None

    def parsed(self, path: str) -> tuple[str, str, str]:
        path = path.removeprefix("/v2/")
        for kind in ("blobs/uploads", "blobs", "manifests", "tags", "referrers"):
            repository, found, name = path.partition(f"/{kind}/")
            if found:
                return repository, kind.replace("/", "_"), name
        raise AssertionError(path)

    def give_token(self, query: str) -> None:
        length = int(self.headers.get("Content-Length", 0))
        form = self.rfile.read(length).decode()
        given = self.headers.get("Authorization", "")
        self.fake.token_requests.append(form or f"{given}?{query}")
        scripted = self.scripted("/token")
        if scripted is not None:
            return self.answer(scripted.status, scripted.body, **scripted.headers)
        return self.answer(200, {"access_token" if form else "token": self.fake.token})

    def missing(self, code: str) -> None:
        self.answer(404, {"errors": [{"code": code, "message": code.lower()}]})

    def get_blobs(self, repository: str, digest: str, *_: Any) -> None:
        found = self.fake.blobs.get((repository, digest))
        if found is None:
            self.missing("BLOB_UNKNOWN")
        else:
            self.answer(200, found)

    head_blobs = get_blobs

    def post_blobs_uploads(
        self, repository: str, name: str, query: dict[str, str], body: bytes
    ) -> None:
        source = self.fake.blobs.get((query.get("from", ""), query.get("mount", "")))
        if source is not None:
            self.fake.blobs[repository, query["mount"]] = source
            self.answer(201)
        else:
            self.answer(202, Location=f"/v2/{repository}/blobs/uploads/1?state=a")

    def delete_blobs_uploads(self, *_: Any) -> None:
        self.answer(204)

    def put_blobs_uploads(
        self, repository: str, name: str, query: dict[str, str], body: bytes
    ) -> None:
        assert (name, query["state"]) == ("1", "a")
        if sha256(body) != query["digest"]:
            self.answer(400, {"errors": [{"code": "DIGEST_INVALID", "message": "not that"}]})
        else:
            self.fake.blobs[repository, query["digest"]] = body
            self.answer(201)

    def get_manifests(self, repository: str, reference: str, *_: Any) -> None:
        found = self.fake.manifests.get((repository, reference))
        if found is None:
            self.missing("MANIFEST_UNKNOWN")
        else:
            self.answer(
                200, found[1], Content_Type=found[0], Docker_Content_Digest=sha256(found[1])
            )

    head_manifests = get_manifests

    def put_manifests(
        self, repository: str, reference: str, query: dict[str, str], body: bytes
    ) -> None:
        written = (self.headers["Content-Type"], body)
        self.fake.manifests[repository, reference] = written
        self.fake.manifests[repository, sha256(body)] = written
        if other := self.fake.overwritten.pop(reference, None):
            self.fake.manifests[repository, reference] = other
        headers = {"Docker-Content-Digest": sha256(body)}
        if self.fake.referrers_api and "subject" in json.loads(body):
            headers["OCI-Subject"] = json.loads(body)["subject"]["digest"]
        self.answer(201, **headers)

    def delete_manifests(self, repository: str, reference: str, *_: Any) -> None:
        if self.fake.manifests.pop((repository, reference), None) is None:
            self.missing("MANIFEST_UNKNOWN")
        else:
            self.answer(202)

    def get_tags(self, repository: str, name: str, query: dict[str, str], body: bytes) -> None:
        of = sorted(tag for owner, tag in self.fake.manifests if owner == repository)
        tags = [tag for tag in of if ":" not in tag and tag > query.get("last", "")]
        if not of:
            return self.missing("NAME_UNKNOWN")
        headers, shown = {}, tags[: self.fake.page_size or None]
        if len(shown) < len(tags):
            headers["Link"] = f'</v2/{repository}/tags/list?last={shown[-1]}>; rel="next"'
        return self.answer(200, {"name": repository, "tags": shown}, **headers)

    def get_referrers(self, repository: str, digest: str, *_: Any) -> None:
        if not self.fake.referrers_api:
            return self.answer(404, b"404 page not found", Content_Type="text/plain")
        entries = []
        for reference, (kind, data) in self.fake.manifests.items():
            document = json.loads(data)
            if reference[0] == repository and document.get("subject", {}).get("digest") == digest:
                entry = {"mediaType": kind, "digest": sha256(data), "size": len(data)}
                entry["artifactType"] = document["artifactType"]
                entry["annotations"] = document["annotations"]
                if entry not in entries:
                    entries.append(entry)
        return self.answer(200, {"manifests": entries}, Content_Type=f"{OCI}.index.v1+json")


@contextmanager
def fake_registry() -> Iterator[FakeRegistry]:
    """One on loopback."""
    fake = FakeRegistry()
    handler = type("Handler", (_Handler,), {"fake": fake})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    fake.host = f"127.0.0.1:{server.server_port}"
    try:
        yield fake
    finally:
        server.shutdown()
        server.server_close()
