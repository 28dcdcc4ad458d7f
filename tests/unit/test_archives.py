"""Images as files, from one engine to another."""

import json
from pathlib import Path
from typing import cast
from unittest.mock import Mock

import docker.errors
import pytest
import zstandard

from imagematrix.build.archives import load_images, save_image
from imagematrix.errors import UserError, WorkError
from imagematrix.host.engine import Engine
from imagematrix.repository.passed import CheckResult, Outcome, has_passed, record_results
from tests.unit.helpers import MINIMAL

ID = "sha256:" + "a" * 64


class FakeEngine:
    """An engine with one image, whose archive is its ID."""

    def __init__(self, image_id: str | None = None) -> None:
        self.id = image_id
        self.breaks = False

    def ids(self, images: list[str]) -> dict[str, str | None]:
        return dict.fromkeys(images, self.id)

    def client(self) -> Mock:
        client = Mock()
        client.api.get_image.side_effect = lambda _: self.chunks()
        client.images.load.side_effect = self.load
        return client

    def chunks(self) -> list[bytes]:
        if self.breaks:
            raise docker.errors.APIError("gone")
        assert self.id
        return [self.id.encode()[:9], self.id.encode()[9:]]

    def load(self, stream: zstandard.ZstdDecompressionReader) -> None:
        self.id = stream.read().decode()


def engine_with(image_id: str | None) -> tuple[FakeEngine, Engine]:
    fake = FakeEngine(image_id)
    return fake, cast("Engine", fake)


def test_an_image_and_its_record_get_to_another_machine(tmp_path: Path) -> None:
    here, there, files = tmp_path / "here", tmp_path / "there", tmp_path / "files"
    record_results(here, ID, MINIMAL, "checks", {"it_starts": CheckResult(Outcome.PASSED)})

    assert save_image(here, engine_with(ID)[1], MINIMAL, files)
    fake, engine = engine_with(None)
    assert load_images(there, engine, files) == [MINIMAL]

    assert fake.id == ID
    assert has_passed(there, ID, "checks")
    assert len(list(files.iterdir())) == 2
    load_images(there, engine, files, remove=True)
    assert [path.suffix for path in files.iterdir()] == [".json"]


def test_an_image_without_a_record_has_none_elsewhere(tmp_path: Path) -> None:
    files = tmp_path / "files"
    files.mkdir()
    (files / f"{MINIMAL}.json").write_text("of an older image")

    assert not save_image(tmp_path, engine_with(ID)[1], MINIMAL, files)

    load_images(tmp_path / "there", engine_with(None)[1], files)
    assert not has_passed(tmp_path / "there", ID, "checks")


def test_an_image_that_is_not_built_is_an_error_and_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(WorkError, match=f"{MINIMAL} is not built"):
        save_image(tmp_path, engine_with(None)[1], MINIMAL, tmp_path / "files")
    fake, engine = engine_with(ID)
    fake.breaks = True
    with pytest.raises(docker.errors.APIError):
        save_image(tmp_path, engine, MINIMAL, tmp_path / "files")
    assert not list((tmp_path / "files").iterdir())


def test_a_damaged_archive_is_an_error(tmp_path: Path) -> None:
    (tmp_path / f"{MINIMAL}.tar.zst").write_text("<html>")
    with pytest.raises(WorkError, match=r"tar\.zst is damaged"):
        load_images(tmp_path, engine_with(None)[1], tmp_path)


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"id": "sha256:" + "b" * 64, "checks": "checks"}, "holds sha256:a.*its record is of"),
        ({"id": "../../x"}, "its record is of"),
        ({}, "is no record of checks"),
        ([], "is no record of checks"),
    ],
)
def test_a_record_of_another_image_is_not_taken(
    record: object, message: str, tmp_path: Path
) -> None:
    files = tmp_path / "files"
    save_image(tmp_path, engine_with(ID)[1], MINIMAL, files)
    (files / f"{MINIMAL}.json").write_text(json.dumps(record))

    with pytest.raises(WorkError, match=message):
        load_images(tmp_path / "there", engine_with(None)[1], files)

    assert not (tmp_path / "there").exists()


def test_a_folder_without_images_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has no images"):
        load_images(tmp_path, engine_with(None)[1], tmp_path / "nothing")
