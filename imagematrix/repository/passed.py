"""How each image passed its checks on this machine: a file for each image ID in build/passed.

A record holds for the very checks that were run: their code, and what they compare with.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

from imagematrix.files import WORK_FOLDER, file_hash, text_hash, write_atomically
from imagematrix.matrix.variant import Variant

_FOLDER = WORK_FOLDER / "passed"
# What the checks are made of; an image's own folder and its example come to that.
_CHECKS = ("tests/images", "imagematrix", "base", "requirements.txt", "sizes.json")


class Outcome(StrEnum):
    """How a check ended."""

    PASSED = "passed"
    SKIPPED = "skipped"
    FAILED = "failed"


@dataclass(frozen=True)
class CheckResult:
    """How a check ended; `reason` is empty for one that passed."""

    outcome: Outcome
    reason: str = ""


# By the name of the check.
Results = Mapping[str, CheckResult]


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
    """Whether the image passed exactly these checks, all of them."""
    results = read_results(root, image_id, digest)
    return bool(results) and all(one.outcome is Outcome.PASSED for one in results.values())


def read_results(root: Path, image_id: str, digest: str) -> Results:
    """How each of exactly these checks of the image ended; empty where they were not all run."""
    try:
        record = json.loads(results_file(root, image_id).read_text(encoding="utf-8"))
        if record["checks"] != digest:
            return {}
        return {
            name: CheckResult(Outcome(one["outcome"]), str(one["reason"]))
            for name, one in record["results"].items()
        }
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return {}


def record_results(root: Path, image_id: str, name: str, digest: str, results: Results) -> None:
    """Records how the checks of the image ended; `results` has all of them."""
    checks = {check: asdict(results[check]) for check in sorted(results)}
    record = {"image": name, "id": image_id, "checks": digest, "results": checks}
    write_atomically(results_file(root, image_id), json.dumps(record, indent=2) + "\n")


def forget_results(root: Path, image_id: str) -> None:
    """Removes the record of the image, if there is one."""
    results_file(root, image_id).unlink(missing_ok=True)


def results_file(root: Path, image_id: str) -> Path:
    """Where the record of an image is, if there is one."""
    return root / _FOLDER / f"{image_id.removeprefix('sha256:')}.json"
