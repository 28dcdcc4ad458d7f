"""Images of the engine, packed and pushed: the same manifest, however an engine keeps them."""

import gzip
import io
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zstandard

from imagematrix.errors import WorkError
from imagematrix.host.oci import Descriptor, Manifest
from imagematrix.host.registry import Registry
from imagematrix.measure.compression import Compression
from imagematrix.measure.layers import image_sizes
from imagematrix.publish.image import config_digest, known_layers, manifest_of, push_image
from tests.unit.fake_registry import (
    REPOSITORY,
    Answer,
    FakeRegistry,
    error,
    fake_registry,
    sha256,
)
from tests.unit.helpers import REPOSITORY as ROOT
from tests.unit.saved_images import CONFIG, FORMS, LAYERS, client, config_of, digest

BLOBS = "containerd/daemon/io.containerd.content.v1.content/blobs/sha256"


@pytest.fixture
def fake() -> Iterator[FakeRegistry]:
    with fake_registry() as fake:
        yield fake


def push(fake: FakeRegistry, root: Path, engine: Any = None, **given: Any) -> Manifest:
    engine = engine or client({"image": FORMS["oci"]})
    return push_image(root, engine, "image", Registry(fake.host, None), REPOSITORY, **given)


def unpacked(fake: FakeRegistry, manifest: Manifest) -> list[bytes]:
    found = [fake.blobs[REPOSITORY, layer["digest"]] for layer in manifest.document["layers"]]
    return [
        gzip.decompress(data)
        if data.startswith(b"\x1f\x8b")
        else zstandard.ZstdDecompressor().stream_reader(io.BytesIO(data)).read()
        for data in found
    ]


@pytest.mark.parametrize("compression", Compression)
def test_image_arrives_as_it_is(
    compression: Compression, fake: FakeRegistry, tmp_path: Path
) -> None:
    manifest = push(fake, tmp_path, compression=compression)

    document = manifest.document
    assert manifest.digest == sha256(manifest.content)
    assert document["mediaType"] == "application/vnd.oci.image.manifest.v1+json"
    assert document["config"]["mediaType"] == "application/vnd.oci.image.config.v1+json"
    assert {layer["mediaType"] for layer in document["layers"]} == {
        f"application/vnd.oci.image.layer.v1.tar+{compression}"
    }
    assert unpacked(fake, manifest) == LAYERS
    assert fake.blobs[REPOSITORY, document["config"]["digest"]] == CONFIG
    for described in (document["config"], *document["layers"]):
        assert described["size"] == len(fake.blobs[REPOSITORY, described["digest"]])
    assert not fake.manifests, "a manifest was written"
    assert not list((tmp_path / "build").iterdir())


@pytest.mark.parametrize("compression", Compression)
def test_every_form_of_an_engine_gives_the_same_manifest(
    compression: Compression, fake: FakeRegistry, tmp_path: Path
) -> None:
    found = {
        push(fake, tmp_path, client({"image": files}), compression=compression).digest
        for files in FORMS.values()
    }

    assert len(found) == 1
    # Else a repeat would upload all layers again.
    assert fake.count("PUT") == len(LAYERS) + 1


def test_gzip_layer_names_no_time_and_no_file(fake: FakeRegistry, tmp_path: Path) -> None:
    manifest = push(fake, tmp_path, compression=Compression.GZIP)

    data = fake.blobs[REPOSITORY, manifest.document["layers"][0]["digest"]]
    # https://www.rfc-editor.org/rfc/rfc1952#page-5: magic, method, flags, time.
    assert data[:8] == b"\x1f\x8b\x08\x00\x00\x00\x00\x00"


def test_published_size_is_the_recorded_one(fake: FakeRegistry, tmp_path: Path) -> None:
    engine = client({"image": FORMS["oci"]})

    manifest = push(fake, tmp_path, engine)

    recorded = image_sizes(tmp_path, engine, ["image"])["image"]
    assert sum(layer["size"] for layer in manifest.document["layers"]) == recorded.compressed


def put_files(root: Path, kind: str) -> str:
    """An image as files of an engine below `root`; returns its ID."""
    blobs, configs = root / BLOBS, root / "image/overlay2/imagedb/content/sha256"
    for folder in (blobs, configs):
        folder.mkdir(parents=True)
    for layer in LAYERS:
        (blobs / digest(layer)).write_bytes(layer)
    if kind == "overlay2":
        (configs / digest(CONFIG)).write_bytes(CONFIG)
        return f"sha256:{digest(CONFIG)}"

    def put(document: Any) -> str:
        data = json.dumps(document).encode()
        (blobs / digest(data)).write_bytes(data)
        return f"sha256:{digest(data)}"

    (blobs / digest(CONFIG)).write_bytes(CONFIG)
    manifest = put({"config": {"digest": f"sha256:{digest(CONFIG)}"}, "layers": []})
    if kind == "containerd, manifest":
        return manifest
    other = config_of(LAYERS[:1])
    (blobs / digest(other)).write_bytes(other)
    attestation = put({"config": {"digest": f"sha256:{digest(other)}"}, "layers": []})
    absent = f"sha256:{digest(b'')}"
    return put({"manifests": [{"digest": name} for name in (absent, attestation, manifest)]})


@pytest.mark.parametrize("kind", ["overlay2", "containerd, manifest", "containerd, index"])
def test_files_of_an_engine_on_this_machine_are_read(
    kind: str, fake: FakeRegistry, tmp_path: Path
) -> None:
    image_id = put_files(tmp_path / "engine", kind)
    engine = client({"image": FORMS["old"]}, root=tmp_path / "engine", image_id=image_id)

    manifest = push(fake, tmp_path, engine)

    engine.api.get_image.assert_not_called()
    assert manifest == push(fake, tmp_path, client({"image": FORMS["old"]}))
    assert config_digest(engine, "image") == sha256(CONFIG)


def test_damaged_config_of_an_engine_is_not_used(fake: FakeRegistry, tmp_path: Path) -> None:
    image_id = put_files(tmp_path / "engine", "overlay2")
    (path,) = (tmp_path / "engine/image").rglob(digest(CONFIG))
    path.write_bytes(CONFIG + b" ")
    engine = client({"image": FORMS["oci"]}, root=tmp_path / "engine", image_id=image_id)

    assert push(fake, tmp_path, engine).document["config"]["digest"] == sha256(CONFIG)
    engine.api.get_image.assert_called_once()


def test_layers_of_a_published_image_are_not_compressed_again(
    fake: FakeRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = push(fake, tmp_path)
    known = known_layers(first, json.loads(CONFIG))
    assert known.keys() == {f"sha256:{digest(layer)}" for layer in LAYERS}
    monkeypatch.setattr("imagematrix.publish.image.compress", lambda *_: pytest.fail("compressed"))
    uploads = fake.count("PUT")

    assert push(fake, tmp_path, known=known) == first
    assert fake.count("PUT") == uploads


def test_known_layers_that_do_not_fit_are_compressed(fake: FakeRegistry, tmp_path: Path) -> None:
    """They are compressed in another way, or the registry has removed them."""
    gzipped = push(fake, tmp_path, compression=Compression.GZIP)
    packed = push(fake, tmp_path)
    fake.blobs.pop((REPOSITORY, packed.document["layers"][0]["digest"]))

    config = json.loads(CONFIG)
    assert push(fake, tmp_path, known=known_layers(gzipped, config)) == packed
    fake.blobs.pop((REPOSITORY, packed.document["layers"][0]["digest"]))
    assert push(fake, tmp_path, known=known_layers(packed, config)) == packed
    assert unpacked(fake, packed) == LAYERS


@pytest.mark.parametrize("config", [{}, {"rootfs": None}, {"rootfs": {"diff_ids": ["sha256:1"]}}])
def test_published_image_of_another_form_makes_nothing_known(config: Any) -> None:
    layer = Descriptor("application/x", "sha256:2", 3)
    manifest = manifest_of(b"{}", [layer, layer])

    assert known_layers(manifest, config) == {}


def test_layers_of_the_parent_are_taken_from_its_repository(
    fake: FakeRegistry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = push(fake, tmp_path).document["layers"][0]["digest"]
    fake.blobs = {("team/parent", other): fake.blobs[REPOSITORY, other]}
    capsys.readouterr()

    manifest = push(fake, tmp_path, parent="team/parent")

    assert unpacked(fake, manifest) == LAYERS
    said = capsys.readouterr().err.splitlines()
    assert [line.rpartition(", ")[2] for line in said] == ["mounted.", "uploaded."]
    assert said[0].startswith("image: layer 1 of 2, ")


@pytest.mark.parametrize("step", ["HEAD", "POST", "PUT"])
def test_refused_push_leaves_nothing_and_a_repeat_goes_on(
    step: str, fake: FakeRegistry, tmp_path: Path
) -> None:
    part = "blobs/" if step == "HEAD" else "uploads"
    fake.answers[step, part] = [error(403, "DENIED", "denied")]

    with pytest.raises(WorkError, match="does not allow to push to team/image"):
        push(fake, tmp_path)
    assert not list((tmp_path / "build").iterdir())
    assert unpacked(fake, push(fake, tmp_path)) == LAYERS


def test_image_with_the_same_layer_twice_has_it_twice(fake: FakeRegistry, tmp_path: Path) -> None:
    layers = [LAYERS[0], LAYERS[1], LAYERS[0]]
    config = config_of(layers)
    files = {
        **{f"blobs/sha256/{digest(data)}": data for data in LAYERS},
        f"blobs/sha256/{digest(config)}": config,
        "manifest.json": json.dumps([{"Config": f"blobs/sha256/{digest(config)}"}]).encode(),
    }

    assert unpacked(fake, push(fake, tmp_path, client({"image": files}, layers))) == layers


def test_image_of_another_platform_is_refused(fake: FakeRegistry, tmp_path: Path) -> None:
    config = config_of(LAYERS, "arm64")
    files = {**FORMS["oci"], "c.json": config, "manifest.json": b'[{"Config": "c.json"}]'}

    with pytest.raises(WorkError, match="image is for linux/arm64, and published are those for"):
        push(fake, tmp_path, client({"image": files}))
    assert not fake.blobs


@pytest.mark.parametrize("manifest", [b"", b"[]", b"{}", b'[{"Config": "gone"}]'])
def test_engine_that_returns_no_config_is_an_error(
    manifest: bytes, fake: FakeRegistry, tmp_path: Path
) -> None:
    files = {**FORMS["oci"], "manifest.json": manifest}

    with pytest.raises(WorkError, match="the engine did not return the config of image"):
        push(fake, tmp_path, client({"image": files}))
    assert not fake.blobs


def test_upload_is_sent_whole_after_a_broken_one(fake: FakeRegistry, tmp_path: Path) -> None:
    fake.answers["PUT", "uploads"] = [Answer(0), Answer(0)]

    assert unpacked(fake, push(fake, tmp_path)) == LAYERS


_PUSH = """
import sys
from pathlib import Path
from imagematrix.host.registry import Registry
from imagematrix.publish.image import push_image
from tests.unit.helpers import REPOSITORY as ROOT
from tests.unit.saved_images import FORMS, client

host, repository, root = sys.argv[1:]
engine = client({"image": FORMS["oci"]})
push_image(Path(root), engine, "image", Registry(host, None), repository)
"""


def test_killed_push_leaves_nothing_here_and_no_manifest_there(
    fake: FakeRegistry, tmp_path: Path
) -> None:
    command = [sys.executable, "-c", _PUSH, fake.host, REPOSITORY, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert process.stderr.readline().endswith(", uploaded.\n")
        process.kill()

    assert fake.blobs
    assert not fake.manifests
    assert not list((tmp_path / "build").iterdir())
    assert unpacked(fake, push(fake, tmp_path)) == LAYERS
