"""Whether the engine has enough disk space for a build."""

import shutil
from collections.abc import Mapping, Sequence

from imagematrix.errors import WorkError
from imagematrix.host.engine import Engine
from imagematrix.matrix.variant import Variant
from imagematrix.plan.plan import Action, Step
from imagematrix.repository.sizes import Measured

# What an image that was never measured is assumed to add to its parent, in MB; the disk that an
# image takes while it is built, as a multiple of its layers (the engine keeps both the archives and
# the files); and the disk that every build takes for base images, package lists, downloads and
# tools, in MB. At most, a minimal image alone took 0.9 GB of an empty engine, scikit-learn on it
# another 1.5 GB.
_UNMEASURED = 1000.0
_DISK_FACTOR = 2.2
_DISK_OF_ANY = 1000.0


def free_megabytes(engine: Engine) -> float | None:
    """The free disk space of the engine, in MB; None for an engine on another machine."""
    if engine.data is None or not engine.data.exists():
        return None
    return shutil.disk_usage(engine.data).free / 1e6


def require_disk(measured: Mapping[str, Measured], engine: Engine, steps: Sequence[Step]) -> None:
    """Raises WorkError where the engine has too little disk space for what a plan builds.

    `measured` has the recorded size of each image that was measured, by its name.
    """
    building = [step.variant for step in steps if step.action is Action.BUILD]
    free = free_megabytes(engine)
    if free is None or not building:
        return
    needed = needed_megabytes(building, measured)
    if needed > free:
        raise WorkError(
            f"building {len(building)} images takes about {needed / 1e3:.1f} GB, and"
            f" {engine.data} has {free / 1e3:.1f} GB free; remove images that are no longer"
            " needed (`docker system prune`) or choose fewer"
        )


def needed_megabytes(building: Sequence[Variant], measured: Mapping[str, Measured]) -> float:
    """The disk space that the engine needs to build these images in one run, in MB."""
    added = (
        measured[v.name].added.uncompressed / 1e6 if v.name in measured else _UNMEASURED
        for v in building
    )
    return _DISK_OF_ANY + _DISK_FACTOR * sum(added)
