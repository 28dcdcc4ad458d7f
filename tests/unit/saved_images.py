"""An engine that only has images as `docker save` gives them, in each of the forms of engines."""

import gzip
import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import docker.errors
import zstandard

LAYERS = [b"first" * 50_000, b"second" * 100]


def digest(data: bytes) -> str:
    """64 hex digits."""
    return hashlib.sha256(data).hexdigest()


def config_of(layers: list[bytes], architecture: str = "amd64") -> bytes:
    """A config, not written as this project would write it."""
    document = {
        "os": "linux",
        "architecture": architecture,
        "config": {"Labels": {"a": "b"}},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest(layer)}" for layer in layers]},
    }
    return json.dumps(document, indent=3).encode()


CONFIG = config_of(LAYERS)


def archive(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def client(
    images: dict[str, dict[str, bytes]],
    layers: list[bytes] = LAYERS,
    root: Path = Path("nowhere"),
    image_id: str = "sha256:0",
) -> Any:
    """An engine that has these images, as `docker save` gives them, and its data below `root`."""

    def inspect(name: str) -> dict[str, Any]:
        if name not in images:
            raise docker.errors.ImageNotFound(name)
        digests = [f"sha256:{digest(layer)}" for layer in layers]
        return {"Id": image_id, "RootFS": {"Layers": digests}}

    def save(name: str) -> Any:
        data = archive(images[name])
        return (data[start : start + 7000] for start in range(0, len(data), 7000))

    fake = Mock()
    fake.info.return_value = {"DockerRootDir": str(root)}
    fake.api.inspect_image.side_effect = inspect
    fake.api.get_image.side_effect = save
    return fake


def _named(config: str) -> dict[str, bytes]:
    return {config: CONFIG, "manifest.json": json.dumps([{"Config": config}]).encode()}


_OCI = _named(f"blobs/sha256/{digest(CONFIG)}")
FORMS = {
    "oci": {f"blobs/sha256/{digest(data)}": data for data in LAYERS} | _OCI,
    "oci, gzip": {f"blobs/sha256/{digest(packed)}": packed for packed in map(gzip.compress, LAYERS)}
    | _OCI,
    "oci, zstd": {
        f"blobs/sha256/{digest(packed)}": packed for packed in map(zstandard.compress, LAYERS)
    }
    | _OCI,
    "old": {"a1/layer.tar": LAYERS[0], "b2/layer.tar": LAYERS[1]}
    | _named(f"{digest(CONFIG)}.json"),
}
