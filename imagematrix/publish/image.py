"""Pushes an image of the engine: as an OCI manifest, and the same one from every engine.

The layers are compressed here and not by the engine. Engines differ in how they keep and compress
layers, and what they push is then in the engine too. Here, nothing is written to it.
"""

import contextlib
import hashlib
import io
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import docker

from imagematrix.console import say
from imagematrix.errors import WorkError
from imagematrix.files import WORK_FOLDER
from imagematrix.host.engine import layers_of
from imagematrix.host.oci import OCI_CONFIG, OCI_MANIFEST, Descriptor, Manifest, compact, digest_of
from imagematrix.host.registry import Blob, Registry
from imagematrix.matrix.platforms import PLATFORM
from imagematrix.measure.compression import Compression, compress
from imagematrix.measure.layers import read_image


def known_layers(manifest: Manifest, config: Mapping[str, Any]) -> dict[str, Descriptor]:
    """The compressed layer for each uncompressed one of a published image, by its digest.

    Whether they belong together cannot be seen without decompressing them. So give only images
    whose signature was verified.
    """
    try:
        layers = manifest.document["layers"]
        return {
            digest: Descriptor(layer["mediaType"], layer["digest"], layer["size"])
            for digest, layer in zip(config["rootfs"]["diff_ids"], layers, strict=True)
        }
    except (LookupError, TypeError, ValueError):
        return {}


def push_image(
    root: Path,
    client: docker.DockerClient,
    image: str,
    registry: Registry,
    repository: str,
    compression: Compression = Compression.ZSTD,
    known: Mapping[str, Descriptor] | None = None,
    parent: str = "",
) -> Manifest:
    """Uploads the layers and the config of an image of the engine, and returns its manifest, which
    is still to be written under a tag.

    `known` has compressed layers by their uncompressed digests (see `known_layers`): those that the
    repository has, or that of the `parent` in the same registry, are not compressed again. What is
    compressed is in nameless files below `root`, which are gone in whatever way this ends. Until
    the manifest is written, the registry shows nothing of it; a repeat uploads what is missing.
    Raises WorkError where the engine or the registry fails.
    """
    layers = layers_of(client.api.inspect_image(image))
    progress = _Progress(repository.rpartition("/")[2], layers)
    found: dict[str, Descriptor] = {}
    for layer in dict.fromkeys(layers):
        candidate = (known or {}).get(layer)
        if candidate is None or candidate.media_type != compression.media_type:
            continue
        if how := registry.find_blob(repository, candidate.digest, parent):
            found[layer] = candidate
            progress.say(layer, candidate, how)
    lacking = [layer for layer in dict.fromkeys(layers) if layer not in found]
    with contextlib.ExitStack() as files:

        def pack(content: Any) -> _Packed:
            packed = _pack(root / WORK_FOLDER, content, compression)
            files.callback(packed.file.close)
            return packed

        config, packed = read_image(client, image, lacking, pack)
        _check_platform(config, image)
        for layer in lacking:
            described = packed[layer].descriptor
            digest, size = described.digest, described.size
            how = registry.push_blob(repository, digest, size, packed[layer].open, parent)
            found[layer] = described
            progress.say(layer, described, how)
    registry.push_blob(repository, digest_of(config), len(config), lambda: io.BytesIO(config))
    return manifest_of(config, [found[layer] for layer in layers])


def manifest_of(config: bytes, layers: Sequence[Descriptor]) -> Manifest:
    """The OCI manifest of an image.

    https://github.com/opencontainers/image-spec/blob/main/manifest.md
    """
    content = compact(
        {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": Descriptor(OCI_CONFIG, digest_of(config), len(config)).document,
            "layers": [layer.document for layer in layers],
        }
    )
    return Manifest(digest_of(content), OCI_MANIFEST, content)


def config_digest(client: docker.DockerClient, image: str) -> str:
    """The digest of the config of an image of the engine. In a registry, the manifest of the same
    image names it, however its layers are compressed."""
    return digest_of(read_image(client, image, (), lambda _: None)[0])


@dataclass(frozen=True)
class _Packed:
    """A compressed layer in a nameless file."""

    descriptor: Descriptor
    file: BinaryIO

    def open(self) -> BinaryIO:
        """The file from its start; only one may be open at a time."""
        self.file.seek(0)
        return os.fdopen(os.dup(self.file.fileno()), "rb")


def _pack(folder: Path, content: Any, compression: Compression) -> _Packed:
    folder.mkdir(parents=True, exist_ok=True)
    file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  # Who asked for it closes it.
    digest, size = hashlib.sha256(), 0

    def write(data: bytes) -> None:
        nonlocal size
        size += len(data)
        digest.update(data)
        file.write(data)

    try:
        compress(content, compression, write)
        file.flush()
    except BaseException:
        file.close()
        raise
    described = Descriptor(compression.media_type, f"sha256:{digest.hexdigest()}", size)
    return _Packed(described, file)


def _check_platform(config: bytes, image: str) -> None:
    document = json.loads(config)
    found = f"{document.get('os')}/{document.get('architecture')}"
    if found != PLATFORM:
        raise WorkError(f"the image {image} is for {found}, and published are those for {PLATFORM}")


@dataclass(frozen=True)
class _Progress:
    """A line for each layer of an image."""

    image: str
    layers: Sequence[str]

    def say(self, layer: str, described: Descriptor, how: Blob) -> None:
        """How a layer came into the registry."""
        number = f"layer {self.layers.index(layer) + 1} of {len(self.layers)}"
        say(f"{self.image}: {number}, {described.size / 1e6:,.1f} MB, {how}.")
