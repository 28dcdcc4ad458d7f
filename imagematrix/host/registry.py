"""Reads and writes what is in a registry: tags, manifests, layers, and what refers to an image.

Over its HTTP API, with the credentials of `docker login`. No engine is needed.
https://github.com/opencontainers/distribution-spec/blob/main/spec.md
"""

import io
import json
import random
import threading
import time
from collections.abc import Callable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any, BinaryIO

import requests

from imagematrix.errors import WorkError
from imagematrix.host.oci import OCI_INDEX, OCI_MANIFEST, Descriptor, Manifest, compact, digest_of
from imagematrix.host.registry_errors import DELETE, PUSH, is_page, page
from imagematrix.host.registry_http import Connection
from imagematrix.matrix.platforms import PLATFORM
from imagematrix.plan.content import Present

_INDEXES = (OCI_INDEX, "application/vnd.docker.distribution.manifest.list.v2+json")
_MANIFESTS = (OCI_MANIFEST, "application/vnd.docker.distribution.manifest.v2+json")
_ACCEPT = ", ".join((*_INDEXES, *_MANIFESTS))
_EMPTY = "application/vnd.oci.empty.v1+json"
_DIGEST = "Docker-Content-Digest"
# How often an index is written again that another publisher overwrote.
_WRITES = 10
_APART = 0.1


class Blob(StrEnum):
    """How a blob came into a repository."""

    PRESENT = "was there"
    MOUNTED = "mounted"
    UPLOADED = "uploaded"


class Registry:
    """The registry at `host` (`ghcr.io`, `docker.io`, `127.0.0.1:5000`).

    Its methods raise WorkError, with the registry's message, for requests that it refuses, for
    answers of another form, and for contents that do not have their digest. What may pass (too many
    requests, a dropped connection, a gateway's error) is tried several times.
    """

    def __init__(self, host: str, ca_bundle: Path | None) -> None:
        self._http = Connection(host, ca_bundle)
        self.host = self._http.host
        self._attaching = threading.Lock()
        # What was attached to an image, by its repository and digest.
        self._attached: dict[tuple[str, str], dict[str, Descriptor]] = {}

    def image(self, repository: str, tag: str) -> Present | None:
        """The linux/amd64 image of a tag; None if there is no such tag."""
        manifest = self.image_manifest(repository, tag)
        if manifest is None:
            return None
        config = self.config(repository, manifest)
        try:
            layers = (config.get("rootfs") or {}).get("diff_ids")
            labels = (config.get("config") or {}).get("Labels") or {}
            return Present(dict(labels), tuple(layers) if layers else None)
        except (AttributeError, TypeError, ValueError):
            why = "its config has another form"
            raise self._http.strange(f"{repository}:{tag}", why) from None

    def image_manifest(self, repository: str, reference: str) -> Manifest | None:
        """The manifest of the linux/amd64 image of a tag or digest; None if there is none."""
        manifest = self.manifest(repository, reference)
        if manifest is None or manifest.media_type not in _INDEXES:
            return manifest
        try:
            digest = _of_platform(manifest.document)
        except (AttributeError, KeyError, TypeError):
            why = "its index has another form"
            raise self._http.strange(f"{repository}:{reference}", why) from None
        if digest is None:
            why = f"it is not there for {PLATFORM}"
            raise self._http.strange(f"{repository}:{reference}", why)
        found = self.manifest(repository, digest)
        if found is None:
            raise self._http.strange(f"{repository}:{reference}", f"{digest} in it is missing")
        return found

    def config(self, repository: str, manifest: Manifest) -> dict[str, Any]:
        """The config of the image of a manifest."""
        what = f"{repository}@{manifest.digest}"
        try:
            digest = manifest.document["config"]["digest"]
        except (KeyError, TypeError):
            raise self._http.strange(what, "its manifest names no config") from None
        try:
            config = json.loads(self.blob(repository, digest))
        except ValueError:
            config = None
        if not isinstance(config, dict):
            raise self._http.strange(what, "its config is no JSON object")
        return config

    def tags(self, repository: str) -> tuple[str, ...]:
        """The tags of a repository, sorted; none if there is no such repository. Fallback tags (see
        `referrers`) are among them."""
        access = self._http.access(repository)
        path, found = "tags/list", set[str]()
        while path:
            answer = self._http.request("GET", path, access, expected=(200, 404))
            if answer.status_code == 404:
                self._no_page(answer, repository)
                break
            tags = self._http.document(answer, repository).get("tags") or []
            if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
                raise self._http.strange(repository, "its list of tags has another form")
            found.update(tags)
            path = answer.links.get("next", {}).get("url", "")
        return tuple(sorted(found))

    def manifest(self, repository: str, reference: str) -> Manifest | None:
        """The manifest or index of a tag or digest; None if there is none."""
        path = f"manifests/{reference}"
        answer = self._http.request(
            "GET", path, self._http.access(repository), {"Accept": _ACCEPT}, expected=(200, 404)
        )
        if answer.status_code == 404:
            self._no_page(answer, repository)
            return None
        document = self._http.document(answer, repository)
        named = reference if ":" in reference else answer.headers.get(_DIGEST, "")
        digest = self._verified(answer.content, named, f"{repository}:{reference}")
        # An OCI manifest may lack its media type; the header has it.
        kind = answer.headers.get("Content-Type", "").split(";")[0]
        return Manifest(digest, document.get("mediaType") or kind, answer.content)

    def blob(self, repository: str, digest: str) -> bytes:
        """The content of a config, a layer or an attachment."""
        path = f"blobs/{digest}"
        answer = self._http.request("GET", path, self._http.access(repository), expected=(200, 404))
        if answer.status_code == 404:
            self._no_page(answer, repository)
            raise WorkError(f"the registry {self.host} has no {digest} in {repository}")
        self._verified(answer.content, digest, f"{repository}@{digest}")
        return answer.content

    def has_blob(self, repository: str, digest: str) -> bool:
        """Whether a repository has a content; asks for no right to push."""
        access = self._http.access(repository)
        answer = self._http.request("HEAD", f"blobs/{digest}", access, expected=(200, 404))
        return answer.status_code == 200

    def find_blob(self, repository: str, digest: str, mount_from: str = "") -> Blob | None:
        """How a repository has a content without an upload: it was there, or it is taken from the
        repository `mount_from` of the same registry. None if neither has it."""
        access = self._http.access(repository, PUSH)
        answer = self._http.request("HEAD", f"blobs/{digest}", access, expected=(200, 404))
        if answer.status_code == 200:
            return Blob.PRESENT
        return Blob.MOUNTED if mount_from and self._mount(repository, digest, mount_from) else None

    def push_blob(
        self,
        repository: str,
        digest: str,
        size: int,
        open_content: Callable[[], BinaryIO],
        mount_from: str = "",
    ) -> Blob:
        """Makes sure that a repository has a content, and returns how it came there.

        It is taken from the repository `mount_from` of the same registry if that has it.
        `open_content` opens it for each upload, with `size` bytes; an upload that fails starts
        from the beginning.
        """
        if how := self.find_blob(repository, digest, mount_from):
            return how
        access = self._http.access(repository, PUSH)

        def upload() -> requests.Response:
            started = self._http.request("POST", "blobs/uploads/", access, expected=(202,))
            headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size)}
            where = started.headers.get("Location")
            if where is None:
                raise self._http.strange(repository, "it names no place for an upload")
            return self._http.send("PUT", where, access, headers, open_content, {"digest": digest})

        self._http.tried(upload, access, (201,))
        return Blob.UPLOADED

    def _mount(self, repository: str, digest: str, source: str) -> bool:
        """Whether the registry has taken a content over from another repository.

        One that refuses (no right to read there, no such repository) has not.
        """
        access = self._http.access(repository, PUSH, source)
        answer = self._http.request(
            "POST",
            "blobs/uploads/",
            access,
            expected=(201, 202, 400, 401, 403, 404, 405),
            params={"mount": digest, "from": access.mount_from},
        )
        if answer.status_code == 202 and (upload := answer.headers.get("Location")):
            # It offers an upload instead; one is started when it is needed.
            self._http.request("DELETE", upload, access, expected=range(200, 600))
        return answer.status_code == 201

    def push_manifest(
        self, repository: str, reference: str, content: bytes, media_type: str
    ) -> str:
        """Writes a manifest or index under a tag or its own digest, and returns the digest."""
        self._put(repository, reference, content, media_type)
        return digest_of(content)

    def claim_tag(self, repository: str, tag: str, manifest: Manifest) -> bool:
        """Writes a manifest under a tag that is free; returns whether the tag is now on it.

        A registry cannot compare and write in one step, and a write that it seems to have lost may
        have been carried out. So each try looks at the tag first, and the result is read again.
        """
        path, access = f"manifests/{tag}", self._http.access(repository, PUSH)

        def claim() -> requests.Response:
            there = self._http.send("HEAD", path, access, {"Accept": _ACCEPT})
            if there.status_code != 404:
                return there
            kind = {"Content-Type": manifest.media_type}
            return self._http.send("PUT", path, access, kind, manifest.content)

        self._http.tried(claim, access, (200, 201))
        found = self.manifest(repository, tag)
        return found is not None and found.digest == manifest.digest

    def _put(
        self, repository: str, reference: str, content: bytes, media_type: str
    ) -> requests.Response:
        answer = self._http.request(
            "PUT",
            f"manifests/{reference}",
            self._http.access(repository, PUSH),
            {"Content-Type": media_type},
            content,
            (201,),
        )
        self._verified(content, answer.headers.get(_DIGEST, ""), f"{repository}:{reference}")
        return answer

    def delete_manifest(self, repository: str, reference: str) -> None:
        """Removes a tag, or a manifest with all its tags; one that is not there is no error."""
        path = f"manifests/{reference}"
        access = self._http.access(repository, DELETE)
        self._http.request("DELETE", path, access, expected=(200, 202, 404))

    def referrers(self, repository: str, digest: str) -> tuple[Descriptor, ...]:
        """What refers to a manifest: signatures, statements.

        By the registry's API, else by the index under the fallback tag.
        https://github.com/opencontainers/distribution-spec/blob/main/spec.md#listing-referrers
        """
        access = self._http.access(repository)
        path, found = f"referrers/{digest}", list[Descriptor]()
        while path:
            answer = self._http.request(
                "GET", path, access, {"Accept": OCI_INDEX}, expected=(200, 400, 404, 405, 406)
            )
            if answer.status_code != 200 or OCI_INDEX not in answer.headers.get("Content-Type", ""):
                return self._fallback(repository, digest)
            found += self._descriptors(self._http.document(answer, repository), repository)
            path = answer.links.get("next", {}).get("url", "")
        return tuple(found)

    def _fallback(self, repository: str, digest: str) -> tuple[Descriptor, ...]:
        index = self.manifest(repository, _fallback_tag(digest))
        return () if index is None else self._descriptors(index.document, repository)

    def _descriptors(self, index: Mapping[str, Any], repository: str) -> tuple[Descriptor, ...]:
        try:
            return tuple(
                Descriptor(
                    entry["mediaType"],
                    entry["digest"],
                    entry["size"],
                    entry.get("artifactType") or "",
                    entry.get("annotations") or {},
                )
                for entry in index.get("manifests") or []
            )
        except (KeyError, TypeError, AttributeError):
            why = "the index of what refers to it has another form"
            raise self._http.strange(repository, why) from None

    def attach(
        self,
        repository: str,
        subject: Descriptor,
        artifact_type: str,
        content: bytes,
        media_type: str,
        annotations: Mapping[str, str],
    ) -> Descriptor:
        """Pushes an artifact that holds `content` and refers to the manifest `subject`.

        The same artifact twice is one. Where the registry has no API for referrers, the artifact is
        added to the index under the fallback tag, and what others add at the same time is kept.
        https://github.com/opencontainers/image-spec/blob/main/manifest.md#guidelines-for-artifact-usage
        """
        layer = self._push_bytes(repository, content, media_type)
        manifest = compact(
            {
                "schemaVersion": 2,
                "mediaType": OCI_MANIFEST,
                "artifactType": artifact_type,
                "config": self._push_bytes(repository, b"{}", _EMPTY).document,
                "layers": [layer.document],
                "subject": Descriptor(subject.media_type, subject.digest, subject.size).document,
                "annotations": dict(annotations),
            }
        )
        digest = digest_of(manifest)
        made = Descriptor(OCI_MANIFEST, digest, len(manifest), artifact_type, dict(annotations))
        answer = self._put(repository, digest, manifest, OCI_MANIFEST)
        # With this header, a registry says that it keeps the list.
        if answer.headers.get("OCI-Subject") != subject.digest:
            self._add_to_fallback(repository, subject.digest, made)
        return made

    def _push_bytes(self, repository: str, content: bytes, media_type: str) -> Descriptor:
        digest = digest_of(content)
        self.push_blob(repository, digest, len(content), lambda: io.BytesIO(content))
        return Descriptor(media_type, digest, len(content))

    def _add_to_fallback(self, repository: str, subject: str, made: Descriptor) -> None:
        """Adds to the index under the fallback tag.

        A registry cannot compare and write in one step. So the index is read again after it was
        written, until all that was in it and all that was attached here is there. Two publishers
        that overwrite each other wait for different times.
        """
        tag = _fallback_tag(subject)
        with self._attaching:
            wanted = self._attached.setdefault((repository, subject), {})
            wanted[made.digest] = made
            for number in range(_WRITES):
                present = {one.digest: one for one in self._fallback(repository, subject)}
                if wanted.keys() <= present.keys():
                    return
                if number:
                    time.sleep(random.uniform(0, number * _APART))
                    present = {one.digest: one for one in self._fallback(repository, subject)}
                entries = [one.document for one in {**present, **wanted}.values()]
                wanted |= present
                index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}
                self._put(repository, tag, compact(index), OCI_INDEX)
        raise WorkError(
            f"the registry {self.host} lost what refers to {repository}@{subject}: another"
            " publisher writes there; run this again when it has ended"
        )

    def _verified(self, content: bytes, digest: str, what: str) -> str:
        """The digest of a content. Raises WorkError if it is not `digest`; "" is any."""
        found = digest_of(content)
        if digest and found != digest:
            raise WorkError(
                f"the registry {self.host} answers with another content for {what}: its digest is"
                f" {found} and should be {digest}; do not use it"
            )
        return found

    def _no_page(self, answer: requests.Response, repository: str) -> None:
        if is_page(answer):
            raise page(self.host, repository, answer)


def _of_platform(index: Mapping[str, Any]) -> str | None:
    for entry in index.get("manifests") or []:
        platform = entry.get("platform") or {}
        if f"{platform.get('os')}/{platform.get('architecture')}" == PLATFORM:
            digest: str = entry["digest"]
            return digest
    return None


def _fallback_tag(digest: str) -> str:
    return digest.replace(":", "-", 1)
