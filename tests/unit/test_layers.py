"""Sizes of layers, however an engine keeps and names them."""

import gzip
import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import docker.errors
import pytest
import zstandard

from imagematrix.errors import WorkError
from imagematrix.measure.layers import MEASURED, image_sizes
from imagematrix.repository.sizes import Size

LAYERS = [b"first" * 50_000, b"second" * 100]


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def size(data: bytes) -> Size:
    return Size(
        len(data), len(zstandard.ZstdCompressor(level=9, threads=2).compressobj().compress(data))
    )


def archive(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def client(
    images: dict[str, dict[str, bytes]], layers: list[bytes] = LAYERS, root: Path = Path("nowhere")
) -> Any:
    """An engine that has these images, as `docker save` gives them, and its data below `root`."""

    def inspect(name: str) -> dict[str, Any]:
        if name not in images:
            raise docker.errors.ImageNotFound(name)
        return {"RootFS": {"Layers": [f"sha256:{digest(layer)}" for layer in layers]}}

    def save(name: str) -> Any:
        data = archive(images[name])
        return (data[start : start + 7000] for start in range(0, len(data), 7000))

    fake = Mock()
    fake.info.return_value = {"DockerRootDir": str(root)}
    fake.api.inspect_image.side_effect = inspect
    fake.api.get_image.side_effect = save
    return fake


FORMS = {
    "oci": {f"blobs/sha256/{digest(data)}": data for data in LAYERS},
    "oci, gzip": {
        f"blobs/sha256/{digest(packed)}": packed for packed in map(gzip.compress, LAYERS)
    },
    "oci, zstd": {
        f"blobs/sha256/{digest(packed)}": packed for packed in map(zstandard.compress, LAYERS)
    },
    "old": {"a1/layer.tar": LAYERS[0], "b2/layer.tar": LAYERS[1]},
}


@pytest.mark.parametrize("form", FORMS)
def test_size_of_an_image_is_that_of_its_layers(form: str, tmp_path: Path) -> None:
    files = {"index.json": b"{}", **FORMS[form], "manifest.json": b"[]"}

    sizes = image_sizes(tmp_path, client({"image": files}), ["image", "absent"])

    assert sizes.keys() == {"image"}
    assert sizes["image"].uncompressed == sum(map(len, LAYERS))
    assert 0 < sizes["image"].compressed < sum(map(len, LAYERS)) / 50


def test_layer_is_measured_once(tmp_path: Path) -> None:
    first = client({"image": FORMS["oci"]})
    before = image_sizes(tmp_path, first, ["image"])

    again = client({"image": FORMS["oci"]})

    assert image_sizes(tmp_path, again, ["image"]) == before
    again.api.get_image.assert_not_called()
    known = json.loads((tmp_path / MEASURED).read_text())
    assert known.keys() == {f"sha256:{digest(layer)}" for layer in LAYERS}


@pytest.mark.parametrize(("damaged", "saved"), [([], 0), ([1], 1)])
def test_layers_are_read_from_the_files_of_containerd_if_they_are_what_they_are_called(
    damaged: list[int], saved: int, tmp_path: Path
) -> None:
    folder = tmp_path / "containerd/daemon/io.containerd.content.v1.content/blobs/sha256"
    folder.mkdir(parents=True)
    for number, layer in enumerate(LAYERS):
        (folder / digest(layer)).write_bytes(b"other" if number in damaged else layer)
    engine = client({"image": FORMS["oci"]}, root=tmp_path)

    sizes = image_sizes(tmp_path, engine, ["image"])

    assert sizes == image_sizes(tmp_path / "other", client({"image": FORMS["oci"]}), ["image"])
    assert engine.api.get_image.call_count == saved


@pytest.mark.parametrize("text", ["", "[]", "{", '{"a": 1}', '{"a": [1]}'])
def test_broken_record_of_layers_is_ignored(text: str, tmp_path: Path) -> None:
    (tmp_path / "build").mkdir()
    (tmp_path / MEASURED).write_text(text)

    assert image_sizes(tmp_path, client({"image": FORMS["oci"]}), ["image"])["image"].compressed


def test_layer_that_the_engine_does_not_return_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(WorkError, match="the engine did not return 1 layers of image"):
        image_sizes(tmp_path, client({"image": {"a/layer.tar": LAYERS[0]}}), ["image"])
