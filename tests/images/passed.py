"""Which images have passed all their checks on this machine, so that they need not run again.

A record holds for one image alone (its ID in the engine), and for the very checks that it passed:
their code, what they compare with, and the parent that they compare layers with.
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import docker.errors

from imagematrix.build.bake import image_tag
from imagematrix.files import WORK_FOLDER, write_atomically
from imagematrix.host.engine import Engine
from imagematrix.matrix.variant import Variant

_RECORD = WORK_FOLDER / "passed.json"
# What checks are made of, next to the files of their image.
_CODE = ("tests/images/**/*.py", "imagematrix/**/*.py", "requirements.txt", "sizes.json")


def evidence(root: Path, engine: Engine, variants: Iterable[Variant]) -> dict[str, str]:
    """What a pass of each image would hold for, under its name; images that are absent left out."""
    code = _digest(root, [path for pattern in _CODE for path in sorted(root.glob(pattern))])
    server = _digest(root, _files(root / "base" / "server"))
    found = {}
    client = engine.client()
    try:
        for variant in variants:
            try:
                names = filter(None, (variant.name, variant.parent))
                ids = [client.api.inspect_image(image_tag(name))["Id"] for name in names]
            except docker.errors.ImageNotFound:
                continue
            own = [*_files(root / variant.folder), *_files(root / variant.example)]
            parts = [code, server, *ids, repr(variant), _digest(root, own)]
            found[variant.name] = hashlib.sha256("\n".join(parts).encode()).hexdigest()
    finally:
        client.close()
    return found


def passed_before(root: Path) -> Mapping[str, str]:
    """What each image passed its checks for the last time, under its name."""
    try:
        record = json.loads((root / _RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


@dataclass
class Outcomes:
    """What the checks of a run came to. An image passed when every one of its checks did."""

    passed: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    others: set[str] = field(default_factory=set)

    def add(self, image: str, check: str, phase: str, outcome: str) -> None:
        """Takes in one report of pytest's. With no image it is one of a worker that died."""
        if outcome != "passed":
            self.others.add(image)
        elif phase == "call":
            self.passed[image].add(check)

    def record(
        self, root: Path, expected: Mapping[str, set[str]], evidence: Mapping[str, str]
    ) -> None:
        """Notes the images that passed all that was expected, and forgets those that did not.

        `evidence` is from before the first check: what changed since is not what was checked.
        """
        others = self.others | expected.keys() if "" in self.others else self.others
        record = {name: value for name, value in passed_before(root).items() if name not in others}
        for image, checks in self.passed.items():
            if image not in others and checks == expected.get(image) and image in evidence:
                record[image] = evidence[image]
        write_atomically(root / _RECORD, json.dumps(record, indent=2, sort_keys=True) + "\n")


def _files(folder: Path) -> list[Path]:
    found = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return [path for path in found if "__pycache__" not in path.parts]


def _digest(root: Path, paths: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        digest.update(f"{path.relative_to(root)} {content}\n".encode())
    return digest.hexdigest()
