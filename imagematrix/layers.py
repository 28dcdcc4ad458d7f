"""How large the layers of an image are: as archives, and packed as they are when they are pushed.

The sizes of a layer are those of its content, which its digest names: once measured, they are kept.
"""

import hashlib
import io
import json
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
import docker.errors
import zstandard

from imagematrix.bake import image_tag
from imagematrix.environment import WORK_FOLDER
from imagematrix.errors import WorkError
from imagematrix.files import write_atomically

_KNOWN = WORK_FOLDER / "layers.json"
# What BuildKit and containerd take for zstd where nothing is said.
_LEVEL = 3
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Size:
    """Bytes of archives, and of the same packed by zstd at its usual level."""

    uncompressed: int
    compressed: int

    def __add__(self, other: "Size") -> "Size":
        return Size(self.uncompressed + other.uncompressed, self.compressed + other.compressed)

    def __sub__(self, other: "Size") -> "Size":
        return Size(self.uncompressed - other.uncompressed, self.compressed - other.compressed)


def image_sizes(root: Path, client: docker.DockerClient, images: Iterable[str]) -> dict[str, Size]:
    """The size of each of the named images that the engine has: the sum of its layers.

    Layers that were never measured here are read from the engine and packed, which takes a while.
    """
    layers: dict[str, list[str]] = {}
    for image in images:
        try:
            layers[image] = client.api.inspect_image(image_tag(image))["RootFS"]["Layers"]
        except docker.errors.ImageNotFound:
            continue
    known = _known(root)
    # The image with most layers first: most of the others share them.
    for image in sorted(layers, key=lambda name: -len(layers[name])):
        missing = set(layers[image]) - known.keys()
        if missing:
            known |= _measure(client, image_tag(image), missing)
            _keep(root, known)
    empty = Size(0, 0)
    return {image: sum((known[layer] for layer in own), empty) for image, own in layers.items()}


def _measure(client: docker.DockerClient, reference: str, wanted: set[str]) -> dict[str, Size]:
    """The sizes of the wanted layers of an image, by the digest of their archive.

    Where the archive of an image has its layers, and what they are called, differs between engines;
    their content does not.
    """
    found: dict[str, Size] = {}
    stream: Any = io.BufferedReader(_Stream(client.api.get_image(reference)), _CHUNK)
    with tarfile.open(fileobj=stream, mode="r|") as archive:
        for member in archive:
            # What is called by a digest that is not wanted need not be packed.
            name = f"sha256:{member.name.removeprefix('blobs/sha256/')}"
            if not member.isfile() or (member.name.startswith("blobs/") and name not in wanted):
                continue
            content = archive.extractfile(member)
            if content is not None:
                digest, size = _packed(content)
                found[digest] = size
    lacking = wanted - found.keys()
    if lacking:
        raise WorkError(
            f"the engine keeps {len(lacking)} layers of {reference} packed, so that their size is"
            f" not known; build it anew with `nox -s build -- --force {reference.split(':')[0]}`"
        )
    return {digest: found[digest] for digest in wanted}


def _packed(content: Any) -> tuple[str, Size]:
    digest, packer = hashlib.sha256(), zstandard.ZstdCompressor(level=_LEVEL).compressobj()
    uncompressed = compressed = 0
    while chunk := content.read(_CHUNK):
        digest.update(chunk)
        uncompressed += len(chunk)
        compressed += len(packer.compress(chunk))
    compressed += len(packer.flush())
    return f"sha256:{digest.hexdigest()}", Size(uncompressed, compressed)


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
        data = json.loads((root / _KNOWN).read_text(encoding="utf-8"))
        return {digest: Size(*map(int, pair)) for digest, pair in data.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _keep(root: Path, known: Mapping[str, Size]) -> None:
    # Another process may have measured others meanwhile.
    merged = {**_known(root), **known}
    data = {digest: [size.uncompressed, size.compressed] for digest, size in merged.items()}
    write_atomically(root / _KNOWN, json.dumps(data, indent=1, sort_keys=True) + "\n")
