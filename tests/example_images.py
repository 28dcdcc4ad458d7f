"""Images that tests take as examples, looked up in the matrix by what they are."""

from pathlib import Path

from imagematrix.matrix.schema import MINIMAL, Accelerator, Track
from imagematrix.matrix.selection import newest
from imagematrix.matrix.variant import Variant
from imagematrix.repository.project import Project

PROJECT = Project(Path(__file__).resolve().parents[1])


def example(
    framework: str = MINIMAL,
    accelerator: Accelerator = Accelerator.CPU,
    track: Track = Track.CURRENT,
) -> Variant:
    """The newest image of a kind, on the Python that most have; without options, the minimal one.

    Raises LookupError where the matrix has none.
    """
    found = newest(PROJECT.variants, framework, accelerator, track)
    if found is None:
        raise LookupError(f"the matrix has no {track} image of {framework} for {accelerator}")
    return found


def on_another_python() -> Variant:
    """A current minimal image for the CPU beside the one of `example()`."""
    one = example()
    return max(
        (v for v in PROJECT.variants if v.parent is None and v.track is one.track and v != one),
        key=lambda variant: [int(part) for part in variant.python.split(".")],
    )


def smallest_child() -> Variant:
    """The smallest image of a framework on the minimal one of `example()`."""
    sizes = PROJECT.sizes
    children = [v for v in PROJECT.variants if v.parent == example().name and v.version]
    measured = [v for v in children if v.name in sizes and v.accelerator is Accelerator.CPU]
    return min(measured, key=lambda variant: sizes[variant.name])
