"""The content of an image, and its content key: the hash of all inputs.

The inputs are the rendered Dockerfile and list of slim rules, the lock, the copied files, the
parent's key, and the layers of the base images. An image has the same key on every machine and
engine. The state of Debian's mirror is not an input, so a key does not show whether security
updates are waiting; `--pending` asks for them.
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
# The repository and its commit.
# https://github.com/opencontainers/image-spec/blob/main/annotations.md
SOURCE_LABEL = "org.opencontainers.image.source"
REVISION_LABEL = "org.opencontainers.image.revision"
# The labels that record how an image was made.
OWN_LABELS = (KEY_LABEL, INPUTS_LABEL, LOCK_LABEL, SOURCES_LABEL, SOURCE_LABEL, REVISION_LABEL)
# CPython's full version.
PYTHON_LABEL = "inference.python-version"

# The name of the input that is the parent's key; most others are paths of files.
PARENT = "parent"

Inputs = Mapping[str, str]
# Version, and the start of a hash of the hashes, by name of the package.
Packages = Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class Present:
    """An existing image: its labels, and the digests of its uncompressed layers, lowest first; None
    where they are not known."""

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

    `inputs` maps the name of each input to its hash; the key is made of it. The other fields are
    not part of the key. They give reasons more detail: the lock, and the origins of the rendered
    files, which `load_origins` reads where an image is not up to date.
    """

    inputs: Inputs
    lock: Lock = field(default_factory=dict)
    load_origins: Callable[[], Inputs] = field(default=dict, compare=False)

    @cached_property
    def key(self) -> str:
        """The content key: the hash of the inputs."""
        return image_key(self.inputs)

    @cached_property
    def packages(self) -> Packages:
        """The lock as a label has it."""
        return {
            name: (str(package.version), text_hash(" ".join(sorted(package.sha256)))[:8])
            for name, package in self.lock.items()
        }

    @cached_property
    def sources(self) -> Inputs:
        """The origins of the rendered files."""
        return self.load_origins()

    @property
    def labels(self) -> dict[str, str]:
        """The labels that record what the image is made of."""
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
    """The content of each image, by the image's name.

    `variants` has parents before their children. `base_ids` has the `layers_id` of each base image
    (`debian:trixie-slim`) by the image's name, except of those that are not available.
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
    """The ChainID of a base image with these layers, which is the same on every engine.

    https://github.com/opencontainers/image-spec/blob/main/config.md#layer-chainid

    The engine's own ID is a digest of the manifest or of the configuration, depending on its image
    store. Images take only files from a base, nothing of its configuration (ENV, CMD, labels,
    creation time).
    """
    return reduce(_chained, layers) if layers else ""


def _chained(below: str, layer: str) -> str:
    return f"sha256:{hashlib.sha256(f'{below} {layer}'.encode()).hexdigest()}"


def base_ids_from_labels(variant: Variant, labels: Mapping[str, str]) -> dict[str, str]:
    """The `layers_id` of each base image, as an image's labels have it; "" where they do not."""
    inputs = decode_inputs(labels.get(INPUTS_LABEL, "")) or {}
    return {name: inputs.get(name, "") for name in variant.base_images}


def versions_from_labels(labels: Mapping[str, str]) -> dict[str, str]:
    """The version of each package, as an image's labels have them."""
    packages = decode_packages(labels.get(LOCK_LABEL, "")) or {}
    return {name: package[0] for name, package in packages.items()}


def image_key(inputs: Inputs) -> str:
    """The content key of an image with these inputs: 64 hexadecimal digits."""
    return hashlib.sha256(encode(inputs).encode()).hexdigest()


def encode(table: Inputs | Packages) -> str:
    """Encodes a table as the text of a label."""
    return json.dumps(table, sort_keys=True, separators=(",", ":"))


def decode_inputs(text: str) -> Inputs | None:
    """The inputs or origins in the text of a label, None where it has none."""
    table = _decode(text)
    if table is None or not all(isinstance(value, str) for value in table.values()):
        return None
    return table


def decode_packages(text: str) -> Packages | None:
    """The packages in the text of a label, None where it has none."""
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
    """The hashes of the files that images without a parent copy, and of the programs that build all
    images: what `base/.dockerignore` admits except for the locks. No bytecode, no hidden files."""
    base = root / "base"
    folders = (base / "server", base / "tools")
    files = (path for folder in folders for path in sorted(folder.rglob("*")) if path.is_file())
    named = ((path.relative_to(root), path) for path in (base / "dpkg-excludes", *files))
    return {
        name.as_posix(): file_hash(path)
        for name, path in named
        if not any(part == "__pycache__" or part.startswith(".") for part in name.parts)
    }
