"""Images as files, so that one machine publishes what another one has built and checked.

A folder has two files for each image: its archive as `docker save` writes it, compressed, and the
record of its checks. On an engine with the same kind of image store, its ID stays.
"""

import contextlib
import json
import shutil
from pathlib import Path
from typing import cast

import zstandard

from imagematrix.errors import UserError, WorkError
from imagematrix.host.engine import Engine
from imagematrix.plan.bake import image_tag
from imagematrix.repository.passed import results_file

_ARCHIVE = ".tar.zst"
_RECORD = ".json"
# Fast: whoever publishes packs the layers again.
_LEVEL = 3


def save_image(root: Path, engine: Engine, name: str, folder: Path) -> bool:
    """Writes an image to files in a folder; returns whether it has a record of its checks.

    Raises WorkError where the engine has no such image.
    """
    image_id = engine.ids([image_tag(name)])[image_tag(name)]
    if image_id is None:
        raise WorkError(f"{name} is not built; run `nox -s test_images -- {name}`")
    folder.mkdir(parents=True, exist_ok=True)
    archive, record = folder / f"{name}{_ARCHIVE}", folder / f"{name}{_RECORD}"
    making = archive.with_name(f"{archive.name}.part")
    compressor = zstandard.ZstdCompressor(level=_LEVEL, threads=-1)
    try:
        with (
            contextlib.closing(engine.client()) as client,
            making.open("wb") as file,
            compressor.stream_writer(file, closefd=False) as packed,
        ):
            for chunk in client.api.get_image(image_tag(name)):
                packed.write(chunk)
    except BaseException:
        making.unlink(missing_ok=True)
        raise
    record.unlink(missing_ok=True)
    checked = results_file(root, image_id)
    if checked.is_file():
        shutil.copyfile(checked, record)
    making.rename(archive)
    return checked.is_file()


def load_images(root: Path, engine: Engine, folder: Path, *, remove: bool = False) -> list[str]:
    """Reads all images of a folder into the engine, and their records into `root`; returns the
    names of the images. With `remove`, each archive is deleted when it was read.

    Raises UserError where the folder has no image, WorkError where an archive is damaged or holds
    another image than its record says.
    """
    archives = sorted(folder.glob(f"*{_ARCHIVE}"))
    if not archives:
        raise UserError(f"{folder} has no images; `nox -s save` writes them")
    names = [archive.name.removesuffix(_ARCHIVE) for archive in archives]
    for name, archive in zip(names, archives, strict=True):
        _load(engine, name, archive)
        record = folder / f"{name}{_RECORD}"
        if record.is_file():
            _put_record(root, engine, name, record)
        if remove:
            archive.unlink()
    return names


def _load(engine: Engine, name: str, archive: Path) -> None:
    import docker.errors

    decompressor = zstandard.ZstdDecompressor()
    try:
        with contextlib.closing(engine.client()) as client, archive.open("rb") as file:
            # What is read from it goes to the engine as it is.
            client.images.load(cast("bytes", decompressor.stream_reader(file)))
    except (zstandard.ZstdError, docker.errors.DockerException) as error:
        raise WorkError(f"{archive} is damaged ({error}); save {name} again") from None


def _put_record(root: Path, engine: Engine, name: str, record: Path) -> None:
    try:
        saved = json.loads(record.read_bytes())
        image_id = str(saved["id"])
    except (ValueError, LookupError, TypeError):
        raise WorkError(f"{record} is no record of checks; save {name} again") from None
    found = engine.ids([image_tag(name)])[image_tag(name)]
    if found != image_id:
        raise WorkError(
            f"the archive of {name} holds {found}, and its record is of {image_id}: save it again,"
            " on an engine with the same image store as this one"
        )
    path = results_file(root, image_id)
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(record, path)
