"""Pushing images to a registry, under a tag that never moves and under `latest`."""

import datetime
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from imagematrix.build.buildkit import running_bake
from imagematrix.errors import WorkError
from imagematrix.host.buildx import Builder
from imagematrix.host.engine import Engine
from imagematrix.matrix.schema import Track
from imagematrix.matrix.variant import Variant
from imagematrix.plan.bake import LOCAL_IMAGE, image_tag, target_name
from imagematrix.plan.plan import Action, Step

# BuildKit's best compression, at twice the time of its default: images are pulled more often than
# they are pushed.
LEVEL = 12


def track_refusals(variants: Iterable[Variant]) -> list[str]:
    """A phrase for each image that may only be published with an option of its own."""
    return [
        f"{variant.name} is {variant.track.support}: publish it with --historical"
        for variant in variants
        if variant.track is Track.HISTORICAL
    ]


def refusals(steps: Iterable[Step], *, official_bases: bool) -> list[str]:
    """A phrase for each image of a plan that cannot be published.

    `official_bases` is whether they are based on official base images, or need not be.
    """
    refused = []
    for step in steps:
        name = step.variant.name
        if step.action is not Action.UP_TO_DATE:
            why = "; ".join(step.reasons)
            refused.append(f"{name} is not up to date ({why}): run `nox -s build`")
        elif not official_bases:
            refused.append(
                f"{name} is based on bootstrap bases, made on this host: build it with"
                " `--bases registry`, or publish it with --bootstrap-bases"
            )
    return refused


def next_tag(today: datetime.date, is_taken: Callable[[str], bool]) -> str:
    """The first tag `YYYYMMDD.vN` of a day that is not taken, from N = 1 on."""
    number = 1
    while is_taken(tag := f"{today:%Y%m%d}.v{number}"):
        number += 1
    return tag


def publication(names: Sequence[str], registry: str, tags: Sequence[str]) -> dict[str, Any]:
    """The bake file that pushes local images to `registry` (host/namespace) under `tags`.

    Each is built from itself: exactly what was checked is pushed, with compressed layers.
    """
    targets = {
        target_name(name): {
            "dockerfile-inline": f"FROM {image_tag(name)}\n",
            "contexts": {image_tag(name): f"{LOCAL_IMAGE}{image_tag(name)}"},
            "tags": [f"{registry}/{name}:{tag}" for tag in tags],
            "attest": ["type=provenance,disabled=true"],
            "output": [
                "type=image,push=true,oci-mediatypes=true,"
                f"compression=zstd,compression-level={LEVEL},force-compression=true"
            ],
        }
        for name in names
    }
    return {"group": {"default": {"targets": sorted(targets)}}, "target": targets}


def run_publication(
    root: Path, engine: Engine, builder: Builder, definition: Mapping[str, Any]
) -> None:
    """Pushes, with the credentials of `docker login`. Raises WorkError when that fails."""
    with running_bake(root, engine, builder, definition) as process:
        for line in process.stdout or ():
            sys.stderr.write(line)
    if process.returncode != 0:
        raise WorkError("not every image was pushed; see above, and run it again")
