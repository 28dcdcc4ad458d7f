"""What goes into an image, and the key that is the hash of it all.

Two images of one key hold the same: the rendered Dockerfile and list of slim rules, the lock, the
files that are copied, the parent's key, and the layers of the base images. A key is the same on
every machine and engine. The state of Debian's mirror at the time is left out, so a key does not
tell whether security updates are waiting; `--force` rebuilds, and takes nothing from BuildKit's
cache.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property, partial, reduce
from pathlib import Path
from typing import Any

from imagematrix.files import Reader, file_hash, read_bytes, text_hash
from imagematrix.matrix.lockfile import Lock
from imagematrix.matrix.variant import Variant
from imagematrix.plan.origins import rendered_sources

KEY_LABEL = "inference.matrix-key"
INPUTS_LABEL = "inference.matrix-inputs"
LOCK_LABEL = "inference.matrix-lock"
SOURCES_LABEL = "inference.matrix-sources"
# What an image tells of how it was made.
OWN_LABELS = (KEY_LABEL, INPUTS_LABEL, LOCK_LABEL, SOURCES_LABEL)

# What an input is called in a reason, next to the paths of files.
PARENT = "parent"

Inputs = Mapping[str, str]
# Version, and the start of a hash of the hashes, by name of the package.
Packages = Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class Present:
    """An image that is there: its labels, and the digests of its layers, unpacked, from the lowest
    on; None where they are not known."""

    labels: Mapping[str, str]
    layers: tuple[str, ...] | None = None

    def is_on(self, parent: "Present") -> bool:
        """Whether its lowest layers are those of the parent, as far as both are known."""
        if self.layers is None or parent.layers is None:
            return True
        return self.layers[: len(parent.layers)] == parent.layers


@dataclass(frozen=True)
class Content:
    """What an image is made of.

    `inputs` has a hash for the name of each input, and makes the key. The others are no part of it,
    and let a reason say more than the name of a file: the lock, and what the rendered files
    stem from, which `read_sources` finds out for an image that is not fresh.
    """

    inputs: Inputs
    lock: Lock = field(default_factory=dict)
    read_sources: Callable[[], Inputs] = field(default=dict, compare=False)

    @cached_property
    def key(self) -> str:
        """The key of an image that is made of this."""
        return image_key(self.inputs)

    @cached_property
    def packages(self) -> Packages:
        """What a label tells of the lock."""
        return {
            name: (str(package.version), text_hash(" ".join(sorted(package.sha256)))[:8])
            for name, package in self.lock.items()
        }

    @cached_property
    def sources(self) -> Inputs:
        """What the rendered files stem from."""
        return self.read_sources()

    @property
    def labels(self) -> dict[str, str]:
        """The labels by which an image tells what it is made of."""
        return {
            KEY_LABEL: self.key,
            INPUTS_LABEL: encode(self.inputs),
            LOCK_LABEL: encode(self.packages),
            SOURCES_LABEL: encode(self.sources),
        }


def image_contents(
    root: Path,
    variants: Sequence[Variant],
    base_ids: Mapping[str, Mapping[str, str]],
    locks: Mapping[str, Lock],
    read: Reader = read_bytes,
) -> dict[str, Content]:
    """The content of each image, under the image's name.

    `variants` has parents before their children. `base_ids` has what identifies the content of an
    image's base images (`debian:trixie-slim`); those that cannot be had are left out.
    """
    result: dict[str, Content] = {}
    copied: dict[str, str] | None = None

    @cache
    def sources() -> Mapping[str, Inputs]:
        return rendered_sources(root, variants)

    for variant in variants:
        files = (str(variant.dockerfile), str(variant.lock), str(variant.slim_file))
        inputs = {name: file_hash(f"{root}/{name}", read) for name in files}
        if variant.parent is None:
            copied = copied or _copied_files(root)
            inputs |= copied
            system = str(variant.system_dockerfile)
            inputs[system] = file_hash(f"{root}/{system}", read)
        else:
            inputs[PARENT] = result[variant.parent].key
        ids = base_ids.get(variant.name, {})
        inputs |= {name: ids.get(name, "") for name in variant.base_images}
        own = partial(lambda name: sources()[name], variant.name)
        result[variant.name] = Content(inputs, locks[variant.name], own)
    return result


def layers_id(layers: Sequence[str]) -> str:
    """What identifies a base image with these layers, on every engine: their ChainID.

    https://github.com/opencontainers/image-spec/blob/main/config.md#layer-chainid

    An engine's own ID would be of the manifest or of the configuration, by its image store. And no
    image takes anything of a base's configuration (ENV, CMD, labels, when it was made): only files.
    """
    return reduce(_chained, layers) if layers else ""


def _chained(below: str, layer: str) -> str:
    return f"sha256:{hashlib.sha256(f'{below} {layer}'.encode()).hexdigest()}"


def told_base_ids(variant: Variant, labels: Mapping[str, str]) -> dict[str, str]:
    """What the labels of an image say of its base images; nothing for one that it does not name."""
    told = decode_inputs(labels.get(INPUTS_LABEL, "")) or {}
    return {name: told.get(name, "") for name in variant.base_images}


def told_versions(labels: Mapping[str, str]) -> dict[str, str]:
    """What the labels of an image say of the versions of its packages."""
    told = decode_packages(labels.get(LOCK_LABEL, "")) or {}
    return {name: package[0] for name, package in told.items()}


def image_key(inputs: Inputs) -> str:
    """The key of an image with these inputs: 64 hexadecimal digits."""
    return hashlib.sha256(encode(inputs).encode()).hexdigest()


def encode(table: Inputs | Packages) -> str:
    """A table as the text of a label."""
    return json.dumps(table, sort_keys=True, separators=(",", ":"))


def decode_inputs(text: str) -> Inputs | None:
    """The inputs or the sources that a label tells, or None where it tells none."""
    table = _decode(text)
    if table is None or not all(isinstance(value, str) for value in table.values()):
        return None
    return table


def decode_packages(text: str) -> Packages | None:
    """The packages that a label tells, or None where it tells none."""
    table = _decode(text)
    if table is None:
        return None
    for value in table.values():
        if not isinstance(value, list) or list(map(type, value)) != [str, str]:
            return None
    return {name: tuple(value) for name, value in table.items()}


def _decode(text: str) -> dict[str, Any] | None:
    try:
        data = json.loads(text)
    except ValueError:
        return None
    return data if isinstance(data, dict) else None


def _copied_files(root: Path) -> dict[str, str]:
    """What goes into the images without a parent, and the programs that make all of them: what
    `base/.dockerignore` lets in but for the locks. No bytecode, nothing hidden."""
    base = root / "base"
    folders = (base / "server", base / "tools")
    files = (path for folder in folders for path in sorted(folder.rglob("*")) if path.is_file())
    named = ((path.relative_to(root), path) for path in (base / "dpkg-excludes", *files))
    return {
        name.as_posix(): file_hash(path)
        for name, path in named
        if not any(part == "__pycache__" or part.startswith(".") for part in name.parts)
    }
