"""The command `tags` against a real registry: what it lists, and what it removes."""

import datetime
import io
import json
import subprocess
import sys
from collections.abc import Iterator
from functools import partial

import pytest

from imagematrix.host.oci import OCI_CONFIG, OCI_INDEX, OCI_MANIFEST, Descriptor, compact, digest_of
from imagematrix.host.registry import Registry
from imagematrix.release.tags import DatedTag
from tests.engine.conftest import ROOT, require
from tests.engine.registries import serve_registry
from tests.example_images import example, on_another_python

IMAGE, OTHER = example().name, on_another_python().name
TODAY = datetime.datetime.now(datetime.UTC).date()
STATEMENT = "application/vnd.dev.sigstore.bundle.v0.3+json"


def ago(days: int, number: int = 1) -> str:
    return str(DatedTag(TODAY - datetime.timedelta(days), number))


class Published:
    """Made-up images in a namespace of a registry."""

    def __init__(self, host: str, namespace: str) -> None:
        self.registry = Registry(host, None)
        self.namespace = f"{host}/{namespace}"
        self.repository = f"{namespace}/{IMAGE}"

    def push(self, content: str, *tags: str) -> Descriptor:
        """An image whose layer is the content."""
        layer = content.encode()
        config = b"{}"
        for blob in (layer, config):
            self.registry.push_blob(
                self.repository, digest_of(blob), len(blob), partial(io.BytesIO, blob)
            )
        manifest = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": Descriptor(OCI_CONFIG, digest_of(config), len(config)).document,
            "layers": [Descriptor("application/x", digest_of(layer), len(layer)).document],
        }
        return self.tag(compact(manifest), OCI_MANIFEST, *tags)

    def tag(self, content: bytes, media_type: str, *tags: str) -> Descriptor:
        for tag in tags:
            self.registry.push_manifest(self.repository, tag, content, media_type)
        return Descriptor(media_type, digest_of(content), len(content))

    def attach(self, image: Descriptor) -> Descriptor:
        return self.registry.attach(
            self.repository, image, STATEMENT, image.digest.encode(), STATEMENT, {}
        )

    def digests(self) -> dict[str, str]:
        """What each tag is."""
        found = {}
        for tag in self.registry.tags(self.repository):
            manifest = self.registry.manifest(self.repository, tag)
            assert manifest is not None
            found[tag] = manifest.digest
        return found


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "imagematrix", "tags", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def removing_registry() -> Iterator[str]:
    """A registry that removes what it is asked to."""
    with serve_registry(require("docker-registry", "docker-registry"), deletes=True) as host:
        yield host


def test_tags_are_listed_with_what_a_clean_up_would_remove(registry: str) -> None:
    published = Published(registry, "listed/images")
    now = published.push("now" * 1000, ago(1), "latest")
    held = published.push("held", ago(0))
    old = published.push("old", ago(400))
    index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [now.document, held.document]}
    both = published.tag(compact(index), OCI_INDEX, "both")
    published.attach(now)
    before = published.digests()
    assert f"sha256-{now.digest.removeprefix('sha256:')}" in before

    result = run("--registry", published.namespace, "--json", IMAGE, OTHER)

    assert result.returncode == 0, result.stderr
    columns = ("image", "tag", "digest", "size", "age", "supported", "removable")
    assert [tuple(row[key] for key in columns) for row in json.loads(result.stdout)] == [
        (IMAGE, "latest", now.digest, 3000, None, True, False),
        (IMAGE, ago(0), held.digest, 4, 0, True, False),
        (IMAGE, ago(1), now.digest, 3000, 1, True, False),
        (IMAGE, ago(400), old.digest, 3, 400, False, True),
        (IMAGE, "both", both.digest, 3004, None, False, False),
    ]
    assert result.stderr == (
        f"{OTHER} is not published there\n1 image to remove: run it with --prune\n"
    )
    assert published.digests() == before

    lines = run("--registry", published.namespace, IMAGE).stdout.splitlines()
    assert len(lines) == 6
    assert lines[4].split() == [
        *(IMAGE, ago(400), str(TODAY - datetime.timedelta(400)), old.digest),
        *("0.0", "MB", "400", "d", "no", "removes", "it"),
    ]


def test_registry_that_removes_nothing_is_an_error_with_the_remedy(registry: str) -> None:
    published = Published(registry, "refusing/images")
    published.push("now", ago(1), "latest")
    published.attach(published.push("old", ago(400)))
    before = published.digests()

    result = run("--registry", published.namespace, "--prune", IMAGE)

    assert result.returncode == 1
    (error,) = result.stderr.splitlines()
    assert f"the registry {registry} does not delete from refusing/images/{IMAGE}" in error
    assert "REGISTRY_STORAGE_DELETE_ENABLED=true" in error
    assert published.digests() == before


def test_prune_removes_what_is_marked_with_its_statements_and_nothing_else(
    removing_registry: str,
) -> None:
    published = Published(removing_registry, "pruned/images")
    kept = [
        published.push("now", ago(1), ago(500), "latest"),
        published.push("young", ago(100)),
        published.push("still supported", ago(150, 2), ago(450)),
        published.push("named", ago(420), "stable"),
    ]
    gone = [published.push("old", ago(400), ago(401, 3)), published.push("older", ago(410, 12))]
    kept += [published.attach(image) for image in kept]
    gone += [published.attach(image) for image in gone]
    before = published.digests()

    result = run("--registry", published.namespace, "--prune", IMAGE)

    assert result.returncode == 0, result.stderr
    first, second, space = result.stderr.splitlines()
    assert first.startswith(f"removed {IMAGE}:{ago(410, 12)} (sha256:")
    assert second.startswith(f"removed {IMAGE}:{ago(400)}, {ago(401, 3)} (sha256:")
    assert space == "the registry frees the space when it collects its garbage"
    lost = {ago(400), ago(401, 3), ago(410, 12)}
    lost |= {f"sha256-{image.digest.removeprefix('sha256:')}" for image in gone[:2]}
    assert published.digests() == {tag: d for tag, d in before.items() if tag not in lost}
    for image in kept:
        assert published.registry.manifest(published.repository, image.digest) is not None
    for image in gone:
        assert published.registry.manifest(published.repository, image.digest) is None
    for image in kept[:4]:
        assert len(published.registry.referrers(published.repository, image.digest)) == 1

    again = run("--registry", published.namespace, "--prune", IMAGE)

    assert (again.returncode, again.stderr) == (0, "")


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["--registry", "nowhere"], "nowhere is not host/namespace"),
        (["--registry", "127.0.0.1:1/x"], "127.0.0.1:1"),
        (["--registry", "127.0.0.1:1/x", "nonsense"], "no image matches 'nonsense'"),
        ([], "--registry"),
    ],
)
def test_wrong_request_is_one_clear_line(arguments: list[str], error: str) -> None:
    result = run(*arguments)

    assert result.returncode in (1, 2)
    assert result.stdout == ""
    assert error in result.stderr.splitlines()[-1]
    assert "Traceback" not in result.stderr
