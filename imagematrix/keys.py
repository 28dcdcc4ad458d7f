"""What goes into an image, and the key that is the hash of it all.

Two images of one key hold the same: the rendered Dockerfile, the lock, the files that are copied,
the parent's key, and the identities of the base images. The state of Debian's mirror at the time is
left out, so a key does not tell whether security updates are waiting; `--force` builds anew.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from imagematrix.variant import Variant

KEY_LABEL = "inference.matrix-key"
INPUTS_LABEL = "inference.matrix-inputs"

# What an input is called in a reason, next to the paths of files.
PARENT = "parent"

Inputs = Mapping[str, str]


def image_inputs(
    root: Path, variants: Sequence[Variant], base_ids: Mapping[str, str]
) -> dict[str, Inputs]:
    """The inputs of each image: name of the input to a hash of it, under the image's name.

    `variants` has parents before their children. `base_ids` maps the base images
    (`debian:trixie-slim`) to what identifies their content; those that cannot be had are left out.
    """
    result: dict[str, Inputs] = {}
    copied: dict[str, str] | None = None
    for variant in variants:
        inputs = {str(path): file_hash(root / path) for path in (variant.dockerfile, variant.lock)}
        if variant.parent is None:
            copied = copied or _server_files(root)
            inputs |= copied
        else:
            inputs[PARENT] = image_key(result[variant.parent])
        inputs |= {name: base_ids.get(name, "") for name in base_references(variant)}
        result[variant.name] = inputs
    return result


def base_references(variant: Variant) -> tuple[str, ...]:
    """The images of other makers that a Dockerfile starts from or copies from."""
    if variant.parent is not None:
        return (variant.cuda_image,) if variant.cuda_image else ()
    debian = f"debian:{variant.suite}-slim"
    return debian, f"python:{variant.python}-slim-{variant.suite}"


def image_key(inputs: Inputs) -> str:
    """The key of an image with these inputs: 64 hexadecimal digits."""
    return hashlib.sha256(encode_inputs(inputs).encode()).hexdigest()


def encode_inputs(inputs: Inputs) -> str:
    """The inputs as the text of a label."""
    return json.dumps(inputs, sort_keys=True, separators=(",", ":"))


def decode_inputs(text: str) -> Inputs | None:
    """The inputs that a label tells, or None where it tells none."""
    try:
        data = json.loads(text)
    except ValueError:
        return None
    if not isinstance(data, dict) or not all(isinstance(v, str) for v in data.values()):
        return None
    return data


def _server_files(root: Path) -> dict[str, str]:
    """What `base/.dockerignore` lets into the image: no bytecode, nothing hidden."""
    folder = root / "base" / "server"
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    named = ((path.relative_to(root), path) for path in files)
    return {
        name.as_posix(): file_hash(path)
        for name, path in named
        if not any(part == "__pycache__" or part.startswith(".") for part in name.parts)
    }


def file_hash(path: Path) -> str:
    """What stands for a file among the inputs: the start of its sha256."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
