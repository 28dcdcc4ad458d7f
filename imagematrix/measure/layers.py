"""Reads the layers of an image, and measures their sizes: uncompressed, and compressed as they are
when they are pushed.

The digest of a layer identifies its content, so its sizes are measured once and kept.
"""

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import docker
import docker.errors
import zstandard

from imagematrix.errors import WorkError
from imagematrix.files import WORK_FOLDER, write_atomically
from imagematrix.host.engine import layers_of
from imagematrix.repository.sizes import Size

Result = TypeVar("Result")

# The level at which libzstd comes closest to BuildKit's own zstd at the level of publishing: within
# 0.3 % for `minimal` and XGBoost.
_LEVEL = 9
MEASURED = WORK_FOLDER / f"layers-zstd{_LEVEL}.json"
_CHUNK = 1 << 20
# The content stores of containerd, where each file is named by its digest: of the containerd that
# dockerd starts, below dockerd's folder, and of the host's, which Docker's packages use.
_CONTAINERD = ("containerd/daemon", "/var/lib/containerd")
_BLOBS = "io.containerd.content.v1.content/blobs/sha256"


def image_sizes(
    root: Path, client: docker.DockerClient, references: Iterable[str]
) -> dict[str, Size]:
    """The size of each of those images that the engine has: the sum of its layers.

    Layers that were never measured here are read and compressed, which takes a while.
    """
    layers: dict[str, tuple[str, ...]] = {}
    for image in references:
        try:
            layers[image] = layers_of(client.api.inspect_image(image))
        except docker.errors.ImageNotFound:
            continue
    known = _known(root)
    # The image with most layers first: most of the others share them.
    for image in sorted(layers, key=lambda name: -len(layers[name])):
        if lacking := set(layers[image]) - known.keys():
            known |= read_layers(client, image, lacking, _size)
            _keep(root, known)
    empty = Size(0, 0)
    return {image: sum((known[layer] for layer in own), empty) for image, own in layers.items()}


def read_layers(
    client: docker.DockerClient, image: str, layers: Iterable[str], read: Callable[[Any], Result]
) -> dict[str, Result]:
    """The result of `read` for each of those layers of an image, by digest.

    `read` gets the uncompressed archive of a layer, as a file that only has `read(size)`. It may
    get other files of the image too; their results are not used.
    Raises WorkError where the engine does not return a layer.
    """
    wanted = set(layers)
    found = _read_files(client, wanted, read)
    if found.keys() < wanted:
        # The image's other layers need not be decompressed.
        known = found.keys() | (set(layers_of(client.api.inspect_image(image))) - wanted)
        found |= _read_archive(client, image, known, read)
    if lacking := wanted - found.keys():
        raise WorkError(f"the engine did not return {len(lacking)} layers of {image}")
    return {layer: found[layer] for layer in wanted}


def _read_files(
    client: docker.DockerClient, layers: Iterable[str], read: Callable[[Any], Result]
) -> dict[str, Result]:
    """Reads the layers that are files on this machine and readable for this user.

    The archive of an image has them too, but at 30 MB/s: dockerd reads it from containerd 32 KiB at
    a time, with all layers. A file is only used if its content has the digest of the layer, so it
    does not matter which containerd it belongs to.
    """
    found: dict[str, Result] = {}
    root = Path(client.info()["DockerRootDir"])
    for layer in layers:
        for folder in _CONTAINERD:
            path = root / folder / _BLOBS / layer.removeprefix("sha256:")
            with suppress(OSError), path.open("rb") as file:
                digest, result = _read(file, read)
                if digest == layer:
                    found[layer] = result
                    break
    return found


def _read_archive(
    client: docker.DockerClient, image: str, known: Collection[str], read: Callable[[Any], Result]
) -> dict[str, Result]:
    """Reads the files in an image's archive that are not known, by the digest of their content.

    The paths of layers in the archive, and whether they are compressed, differ between engines;
    their content does not. So every file is read as if it were a layer.
    """
    found: dict[str, Result] = {}
    stream: Any = io.BufferedReader(_Stream(client.api.get_image(image)), _CHUNK)
    with tarfile.open(fileobj=stream, mode="r|") as archive:
        for member in archive:
            digest = f"sha256:{member.name.removeprefix('blobs/sha256/')}"
            content = archive.extractfile(member) if digest not in known else None
            if content is not None:
                digest, result = _read(content, read)
                found[digest] = result
    return found


def _read(content: Any, read: Callable[[Any], Result]) -> tuple[str, Result]:
    """The digest of a layer's archive, and the result of `read` for it. `content` is a file with
    `peek` that holds the archive uncompressed, or compressed with gzip or zstd."""
    hashed = _Hashed(_decompressed(content))
    result = read(hashed)
    while hashed.read(_CHUNK):
        pass
    return f"sha256:{hashed.digest.hexdigest()}", result


class _Hashed:
    """A file that is read once, and the hash of the bytes read so far."""

    def __init__(self, content: Any) -> None:
        self._content = content
        self.digest = hashlib.sha256()

    def read(self, size: int) -> bytes:
        """The next bytes, at most `size`."""
        chunk: bytes = self._content.read(size)
        self.digest.update(chunk)
        return chunk


def layer_size(content: Any) -> tuple[str, Size]:
    """The digest and the size of a layer's archive. `content` is a file with `peek` that holds the
    archive uncompressed, or compressed with gzip or zstd."""
    return _read(content, _size)


def _decompressed(content: Any) -> Any:
    start = content.peek(4)
    if start.startswith(b"\x1f\x8b"):
        return gzip.GzipFile(fileobj=content)
    if start.startswith(b"\x28\xb5\x2f\xfd"):
        return zstandard.ZstdDecompressor().stream_reader(content)
    return content


def _compressor() -> zstandard.ZstdCompressor:
    # The output depends on whether there are threads, not on their number.
    return zstandard.ZstdCompressor(level=_LEVEL, threads=-1)


def _size(content: Any) -> Size:
    compressor = _compressor().compressobj()
    uncompressed = compressed = 0
    while chunk := content.read(_CHUNK):
        uncompressed += len(chunk)
        compressed += len(compressor.compress(chunk))
    return Size(uncompressed, compressed + len(compressor.flush()))


class _Stream(io.RawIOBase):
    """Chunks as a readable file."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = b""

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fills the buffer from the present chunk."""
        while not self._rest:
            try:
                self._rest = next(self._chunks)
            except StopIteration:
                return 0
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count


def _known(root: Path) -> dict[str, Size]:
    try:
        data = json.loads((root / MEASURED).read_text(encoding="utf-8"))
        return {digest: Size(*map(int, pair)) for digest, pair in data.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _keep(root: Path, known: Mapping[str, Size]) -> None:
    # Another process may have measured others meanwhile.
    merged = {**_known(root), **known}
    data = {digest: [size.uncompressed, size.compressed] for digest, size in merged.items()}
    write_atomically(root / MEASURED, json.dumps(data, indent=1, sort_keys=True) + "\n")
