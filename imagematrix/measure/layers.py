"""The layers of an image: reading them, and how large they are, as archives and packed as they are
when they are pushed.

The sizes of a layer are those of its content, which its digest names: once measured, they are kept.
"""

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import zstandard

from imagematrix.errors import WorkError
from imagematrix.files import WORK_FOLDER, write_atomically
from imagematrix.host.engine import layers_of
from imagematrix.repository.sizes import Size

if TYPE_CHECKING:
    import docker

Result = TypeVar("Result")

# With this level, libzstd comes closest to what BuildKit's own zstd makes of the level that images
# are published with: within 0.3 % of `minimal` and of XGBoost.
_LEVEL = 9
MEASURED = WORK_FOLDER / f"layers-zstd{_LEVEL}.json"
_CHUNK = 1 << 20
# Where containerd keeps content, each in a file that is named by its digest: the containerd that
# dockerd starts, below its own folder, and the one of the host, which Docker's packages use.
_CONTAINERD = ("containerd/daemon", "/var/lib/containerd")
_BLOBS = "io.containerd.content.v1.content/blobs/sha256"


def image_sizes(
    root: Path, client: "docker.DockerClient", references: Iterable[str]
) -> dict[str, Size]:
    """The size of each of those images that the engine has: the sum of its layers.

    Layers that were never measured here are read and packed, which takes a while.
    """
    import docker.errors

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
    client: "docker.DockerClient", image: str, layers: Iterable[str], read: Callable[[Any], Result]
) -> dict[str, Result]:
    """What `read` makes of each of those layers of an image, by digest.

    `read` is given the archive of a layer, unpacked, as a file that has no more than `read(size)`.
    It may be given other files of the image too, for which its result is not used.
    Raises WorkError where the engine does not give a layer.
    """
    wanted = set(layers)
    found = _read_files(client, wanted, read)
    if found.keys() < wanted:
        # All that has the name of a layer that is not asked for need not be unpacked.
        known = found.keys() | (set(layers_of(client.api.inspect_image(image))) - wanted)
        found |= _read_archive(client, image, known, read)
    if lacking := wanted - found.keys():
        raise WorkError(f"the engine does not give {len(lacking)} layers of {image}")
    return {layer: found[layer] for layer in wanted}


def _read_files(
    client: "docker.DockerClient", layers: Iterable[str], read: Callable[[Any], Result]
) -> dict[str, Result]:
    """Reads those layers that lie as files on this machine, where this user may read them.

    The archive of an image has them too, but at 30 MB/s: for it dockerd asks containerd for 32 KiB
    at a time, also of layers that are known. A file is only taken for what its digest says, so that
    it makes no difference whose it is.
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
    client: "docker.DockerClient", image: str, known: Collection[str], read: Callable[[Any], Result]
) -> dict[str, Result]:
    """Reads the files in an image's archive that are not known, by the digest of their content.

    Where the archive of an image has its layers, what they are called and whether they are packed,
    differs between engines; their content does not. So all files are taken for one.
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
    """The digest of a layer's archive, and what `read` makes of it. `content` is a file with `peek`
    that holds the archive as it is, or packed by gzip or zstd."""
    hashed = _Hashed(_unpacked(content))
    result = read(hashed)
    while hashed.read(_CHUNK):
        pass
    return f"sha256:{hashed.digest.hexdigest()}", result


class _Hashed:
    """A file that is read once, and the hash of what was read of it."""

    def __init__(self, content: Any) -> None:
        self._content = content
        self.digest = hashlib.sha256()

    def read(self, size: int) -> bytes:
        """The next bytes, as many at most."""
        chunk: bytes = self._content.read(size)
        self.digest.update(chunk)
        return chunk


def layer_size(content: Any) -> tuple[str, Size]:
    """The digest and the size of a layer's archive. `content` is a file with `peek`, which holds
    the archive as it is, or packed by gzip or zstd."""
    return _read(content, _size)


def _unpacked(content: Any) -> Any:
    start = content.peek(4)
    if start.startswith(b"\x1f\x8b"):
        return gzip.GzipFile(fileobj=content)
    if start.startswith(b"\x28\xb5\x2f\xfd"):
        return zstandard.ZstdDecompressor().stream_reader(content)
    return content


def _compressor() -> zstandard.ZstdCompressor:
    # What it makes depends on there being threads, but not on how many.
    return zstandard.ZstdCompressor(level=_LEVEL, threads=-1)


def _size(content: Any) -> Size:
    packer = _compressor().compressobj()
    uncompressed = compressed = 0
    while chunk := content.read(_CHUNK):
        uncompressed += len(chunk)
        compressed += len(packer.compress(chunk))
    return Size(uncompressed, compressed + len(packer.flush()))


class _Stream(io.RawIOBase):
    """Chunks as a file that can be read."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = b""

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fills the buffer as far as the present chunk goes."""
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
