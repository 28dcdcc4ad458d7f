"""Which images passed all their checks on this machine: a file for each image ID in build/passed.

A record holds for the very checks that were passed: their code, and what they compare with.
"""

import json
from pathlib import Path

from imagematrix.files import WORK_FOLDER, file_hash, text_hash, write_atomically
from imagematrix.matrix.variant import Variant

_FOLDER = WORK_FOLDER / "passed"
# What the checks are made of; an image's own folder and its example come to that.
_CHECKS = ("tests/images", "imagematrix", "base", "requirements.txt", "sizes.json")


def checks_digest(root: Path, variant: Variant, parent_id: str) -> str:
    """What a pass of the image's checks holds for, beside the image itself.

    `parent_id` is the ID of the image whose layers are compared with its own, empty for none.
    """
    tops = [root / name for name in (*_CHECKS, variant.folder, variant.example)]
    files = {path for top in tops for path in (top, *top.rglob("*")) if path.is_file()}
    sources = sorted(path for path in files if path.suffix != ".pyc")
    contents = [f"{path.relative_to(root)} {file_hash(path)}" for path in sources]
    return text_hash("\n".join([repr(variant), parent_id, *contents]))


def has_passed(root: Path, image_id: str, digest: str) -> bool:
    """Whether the image passed exactly these checks."""
    try:
        record = json.loads(pass_file(root, image_id).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(record, dict) and record.get("checks") == digest


def record_pass(root: Path, image_id: str, name: str, digest: str) -> None:
    """Records that the image passed all its checks."""
    record = {"image": name, "id": image_id, "checks": digest}
    write_atomically(pass_file(root, image_id), json.dumps(record, indent=2) + "\n")


def forget_pass(root: Path, image_id: str) -> None:
    """Removes the record of the image, if there is one."""
    pass_file(root, image_id).unlink(missing_ok=True)


def pass_file(root: Path, image_id: str) -> Path:
    """Where the record of an image is, if there is one."""
    return root / _FOLDER / f"{image_id.removeprefix('sha256:')}.json"
