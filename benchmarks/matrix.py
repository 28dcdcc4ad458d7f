"""Time from a matrix to its plan, for matrices that grow: `python benchmarks/matrix.py [--json]`.

Each is generated into a temporary folder with this repository's templates and small locks. Seconds
are those of the processor, so that other work on the machine does not count. The exit status is 1
when the time per image of the largest is more than half again that of the smallest.
"""

import argparse
import gc
import hashlib
import json
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from imagematrix.console import table
from imagematrix.matrix.rules import load_matrix
from imagematrix.matrix.schema import MINIMAL
from imagematrix.matrix.slim import read_slim
from imagematrix.matrix.variant import Variant, expand
from imagematrix.plan.content import image_contents
from imagematrix.plan.plan import make_plan
from imagematrix.repository.dockerfiles import render_dockerfiles
from imagematrix.repository.slim import render_slim
from imagematrix.repository.tree import check_rendered, orphans, read_locks

REPOSITORY = Path(__file__).resolve().parent.parent
T = TypeVar("T")
SIZES = (1_250, 2_500, 5_000, 10_000)
PYTHONS = ("3.9", "3.10", "3.11", "3.12", "3.13")
RELEASES_PER_FRAMEWORK = 25
LOCKED_PACKAGES = 10
LINEAR = 1.5


@dataclass(frozen=True)
class Measurement:
    """The processor seconds of each stage for one size."""

    images: int
    seconds: dict[str, float]

    @property
    def total(self) -> float:
        """The seconds of all stages."""
        return sum(self.seconds.values())

    @property
    def microseconds(self) -> float:
        """The time per image."""
        return self.total / self.images * 1e6


def main() -> int:
    """Measures all sizes; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="numbers of images")
    options = parser.parse_args()
    measurements = []
    for size in sorted(options.sizes):
        with tempfile.TemporaryDirectory() as folder:
            measurements.append(measure(Path(folder), size))
    growth = measurements[-1].microseconds / measurements[0].microseconds
    if options.json:
        print(
            json.dumps({"growth": growth, "sizes": [_figures(m) for m in measurements]}, indent=2)
        )
    else:
        _show(measurements, growth)
    return 0 if growth <= LINEAR else 1


def measure(root: Path, size: int) -> Measurement:
    """Times every stage on a generated matrix of `size` images."""
    write_templates(root, size)
    seconds: dict[str, float] = {}

    def timed(stage: str, work: Callable[[], T]) -> T:
        gc.collect()
        started = time.process_time()
        result = work()
        seconds[stage] = time.process_time() - started
        return result

    matrix = timed("load", lambda: load_matrix(root / "matrix.yaml"))
    variants = timed("expand", lambda: expand(matrix, lambda _: None, read_slim(root, matrix)))
    rendered = timed(
        "render", lambda: {**render_dockerfiles(root, variants), **render_slim(root, variants)}
    )
    write_images(root, variants, rendered)
    if len(variants) != size:
        raise AssertionError(f"{len(variants)} images for {size}")
    timed("check", lambda: [*check_rendered(root, rendered), *orphans(root, variants)])
    locks = timed("locks", lambda: read_locks(root, matrix, variants))
    bases = {v.name: dict.fromkeys(v.base_images, "") for v in variants}
    contents = timed("contents", lambda: image_contents(root, variants, bases, locks))
    timed("plan", lambda: make_plan(variants, contents, {}, {}))
    return Measurement(size, seconds)


def write_images(
    root: Path, variants: Iterable[Variant], rendered: Mapping[PurePosixPath, str]
) -> None:
    """Writes the rendered files, and a lock for each image."""
    for path, text in rendered.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text, encoding="utf-8")
    for variant in variants:
        (root / variant.lock).write_text(_lock_text(variant), encoding="utf-8")


def write_templates(root: Path, size: int) -> None:
    """Writes a matrix of `size` images and the templates that it needs."""
    base, frameworks = root / "base", root / "frameworks"
    (base / "server").mkdir(parents=True)
    (base / "server" / "app.py").write_text("pass\n", encoding="utf-8")
    for name in (
        "Dockerfile.j2",
        "macros.j2",
        "system.Dockerfile.j2",
        "tools.Dockerfile.j2",
        "dpkg-excludes",
        "slim.yaml",
    ):
        shutil.copy(REPOSITORY / "base" / name, base / name)
    shutil.copytree(REPOSITORY / "base" / "tools", base / "tools")
    frameworks.mkdir()
    shutil.copy(REPOSITORY / "frameworks" / "Dockerfile.j2", frameworks / "Dockerfile.j2")
    data = matrix_data(size)
    # JSON is YAML, with a line for each value.
    (root / "matrix.yaml").write_text(json.dumps(data, indent=1), encoding="utf-8")


def matrix_data(size: int) -> dict[str, Any]:
    """A matrix of exactly `size` images, a multiple of the Pythons."""
    count, rest = divmod(size, len(PYTHONS))
    if rest or count < 2:
        raise SystemExit(f"a size must be a multiple of {len(PYTHONS)}, and more than that")
    frameworks = {MINIMAL: {"title": "Python", "releases": [{"pins": PINS}]}}
    for first in range(0, count - 1, RELEASES_PER_FRAMEWORK):
        name = f"framework{first // RELEASES_PER_FRAMEWORK}-x"
        numbers = range(min(RELEASES_PER_FRAMEWORK, count - 1 - first))
        frameworks[name] = {
            "title": f"The framework {name}",
            "releases": [_release(name, number) for number in numbers],
        }
    return {
        "debian": {"trixie": list(PYTHONS)},
        "tracks": {"current": CURRENT},
        "sets": {"shared": PINS},
        "frameworks": frameworks,
    }


CURRENT = {"pythons": list(PYTHONS), "accelerators": ["cpu"], "supported_until": "2098-12-31"}
PINS = ["package0==1.0", "package1>=1,<2"]


def _release(framework: str, number: int) -> dict[str, Any]:
    version = f"1.{number}"
    return {"version": version, "sets": ["shared"], "pins": [f"{framework}=={version}.0"]}


def _lock_text(variant: Variant) -> str:
    """A lock that shares all packages but one with the locks of the other images."""
    digests = {f"package{number}==1.0": f"{number:064x}" for number in range(LOCKED_PACKAGES - 1)}
    if variant.version is not None:
        own = f"{variant.framework}=={variant.version}.0"
        digests[own] = hashlib.sha256(variant.name.encode()).hexdigest()
    return "".join(
        f"{pin} \\\n    --hash=sha256:{digest} \\\n    --hash=sha256:{'f' * 64}\n"
        for pin, digest in digests.items()
    )


def _figures(measurement: Measurement) -> dict[str, Any]:
    return {
        "images": measurement.images,
        "seconds": {stage: round(value, 4) for stage, value in measurement.seconds.items()},
        "total": round(measurement.total, 4),
        "microseconds_per_image": round(measurement.microseconds, 1),
    }


def _show(measurements: list[Measurement], growth: float) -> None:
    rows = [("images", *measurements[0].seconds, "seconds", "µs per image")]
    for measurement in measurements:
        stages = [f"{value:.2f}" for value in measurement.seconds.values()]
        total, each = f"{measurement.total:.2f}", f"{measurement.microseconds:.0f}"
        rows.append((f"{measurement.images:,}", *stages, total, each))
    print(table(rows, right=range(len(rows[0]))))
    verdict = "linear" if growth <= LINEAR else "NOT linear"
    print(f"{verdict}: the largest takes {growth:.2f} times as long per image as the smallest")


if __name__ == "__main__":
    raise SystemExit(main())
