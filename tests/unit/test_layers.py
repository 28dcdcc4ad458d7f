"""Sizes of layers, however an engine keeps and names them."""

import json
from pathlib import Path

import pytest

from imagematrix.errors import WorkError
from imagematrix.measure.layers import MEASURED, image_sizes
from tests.unit.saved_images import FORMS, LAYERS, client, digest


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
