"""Reads the layers of an image and its config, and measures the sizes of layers: uncompressed, and
compressed as they are when they are pushed.

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
from imagematrix.measure.compression import ZSTD_LEVEL, Compression, compress
from imagematrix.repository.sizes import Size

Result = TypeVar("Result")

MEASURED = WORK_FOLDER / f"layers-zstd{ZSTD_LEVEL}.json"
_CHUNK = 1 << 20
# The content stores of containerd, where each file is named by its digest: of the containerd that
# dockerd starts, below dockerd's folder, and of the host's, which Docker's packages use.
_CONTAINERD = ("containerd/daemon", "/var/lib/containerd")
_BLOBS = "io.containerd.content.v1.content/blobs/sha256"
# Where dockerd keeps the configs of images without containerd's store, below `image`.
_CONFIGS = "*/imagedb/content/sha256"
# The config of an image is below that; a layer seldom is.
_SHORT = 1 << 20


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


def uncompressed_sizes(
    client: docker.DockerClient, image: str, layers: Iterable[str]
) -> dict[str, int]:
    """The number of bytes of each of those layers of an image, by digest."""
    return read_layers(client, image, layers, _length)


def _length(content: Any) -> int:
    return sum(map(len, iter(lambda: content.read(_CHUNK), b"")))


def read_layers(
    client: docker.DockerClient, image: str, layers: Iterable[str], read: Callable[[Any], Result]
) -> dict[str, Result]:
    """The result of `read` for each of those layers of an image, by digest.

    `read` gets the uncompressed archive of a layer, as a file that only has `read(size)`. It may
    get other files of the image too; their results are not used.
    Raises WorkError where the engine does not return a layer.
    """
    return _read_image(client, image, layers, read, with_config=False)[1]


def read_image(
    client: docker.DockerClient, image: str, layers: Iterable[str], read: Callable[[Any], Result]
) -> tuple[bytes, dict[str, Result]]:
    """The config of an image, byte for byte as it was made, and what `read_layers` returns.

    Raises WorkError where the engine does not return them.
    """
    return _read_image(client, image, layers, read, with_config=True)


def _read_image(
    client: docker.DockerClient,
    image: str,
    layers: Iterable[str],
    read: Callable[[Any], Result],
    *,
    with_config: bool,
) -> tuple[bytes, dict[str, Result]]:
    wanted = set(layers)
    root = Path(client.info()["DockerRootDir"])
    found = _read_files(root, wanted, read)
    description = client.api.inspect_image(image)
    own = layers_of(description)
    config = _config_file(root, description) if with_config else b""
    if found.keys() < wanted or (with_config and not config):
        # The image's other layers need not be decompressed.
        known = found.keys() | (set(own) - wanted)
        texts: dict[str, bytes] = {}
        lacks = found.keys() < wanted
        found |= _read_archive(client, image, known, read if lacks else None, texts)
        config = config or _config_of(texts, own)
    if lacking := wanted - found.keys():
        raise WorkError(f"the engine did not return {len(lacking)} layers of {image}")
    if with_config and not config:
        raise WorkError(f"the engine did not return the config of {image}")
    return config, {layer: found[layer] for layer in wanted}


def _config_file(root: Path, description: Mapping[str, Any]) -> bytes:
    """The config of an image if it is a file on this machine and readable for this user, else b"".

    An image's ID is the digest of its config, or with containerd's store of a manifest or index.
    """
    own, image = layers_of(description), description["Id"].removeprefix("sha256:")
    folders = [root / folder / _BLOBS for folder in _CONTAINERD]
    with suppress(OSError):
        folders += (root / "image").glob(_CONFIGS)

    def config_at(digest: str, depth: int) -> bytes:
        name = digest.removeprefix("sha256:")
        for folder in folders:
            with suppress(OSError, ValueError, LookupError, TypeError, AttributeError):
                content = (folder / name).read_bytes()
                document = json.loads(content)
                if hashlib.sha256(content).hexdigest() != name:
                    continue
                if "rootfs" in document:
                    return content if tuple(document["rootfs"]["diff_ids"]) == own else b""
                named = document.get("manifests") or [document["config"]]
                configs = (config_at(entry["digest"], depth - 1) for entry in named if depth)
                return next(filter(None, configs), b"")
        return b""

    return config_at(image, 2)


def _config_of(texts: Mapping[str, bytes], own: tuple[str, ...]) -> bytes:
    """The config among the short files of an image's archive, else b"".

    https://github.com/moby/docker-image-spec/blob/main/spec.md#combined-image-json--filesystem-changeset-format
    """
    with suppress(ValueError, LookupError, TypeError):
        (entry,) = json.loads(texts["manifest.json"])
        config = texts[entry["Config"]]
        if tuple(json.loads(config)["rootfs"]["diff_ids"]) == own:
            return config
    return b""


def _read_files(
    root: Path, layers: Iterable[str], read: Callable[[Any], Result]
) -> dict[str, Result]:
    """Reads the layers that are files on this machine and readable for this user.

    The archive of an image has them too, but at 30 MB/s: dockerd reads it from containerd 32 KiB at
    a time, with all layers. A file is only used if its content has the digest of the layer, so it
    does not matter which containerd it belongs to.
    """
    found: dict[str, Result] = {}
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
    client: docker.DockerClient,
    image: str,
    known: Collection[str],
    read: Callable[[Any], Result] | None,
    texts: dict[str, bytes],
) -> dict[str, Result]:
    """Reads the files in an image's archive that are not known, by the digest of their content, and
    adds the short ones to `texts`, by their paths; without `read`, only that.

    The paths of layers in the archive, and whether they are compressed, differ between engines;
    their content does not. So every file is read as if it were a layer.
    """
    found: dict[str, Result] = {}
    stream: Any = io.BufferedReader(_Stream(client.api.get_image(image)), _CHUNK)
    with tarfile.open(fileobj=stream, mode="r|") as archive:
        for member in archive:
            digest = f"sha256:{member.name.removeprefix('blobs/sha256/')}"
            content: Any = archive.extractfile(member) if digest not in known else None
            if content is not None and member.size < _SHORT:
                texts[member.name] = content.read()
                content = io.BufferedReader(io.BytesIO(texts[member.name]))
            if content is not None and read is not None:
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


def _size(content: Any) -> Size:
    lengths: list[int] = []
    uncompressed = compress(content, Compression.ZSTD, lambda data: lengths.append(len(data)))
    return Size(uncompressed, sum(lengths))


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
