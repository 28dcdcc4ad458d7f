"""Builds, sizes and starts, compared with what a person would write: `nox -s bench`.

The peer is one plain Dockerfile for each image (see benchmarks/plain.py); built one after the other
with `docker build`, and all at once with `docker buildx bake`.

It runs in a Docker engine of its own, which is empty at the start and removed at the end: no other
images or caches are touched, and a cold build is cold. That needs root and an installed dockerd.
"""

import argparse
import contextlib
import json
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from benchmarks import matrix as generated
from benchmarks.plain import Plain
from benchmarks.runs import Measured, Run, of_one_run, write_files
from benchmarks.sizes import Tree, read_tree, savings
from imagematrix.build.inputs import build_environment
from imagematrix.console import say
from imagematrix.files import WORK_FOLDER
from imagematrix.host.bases import Bases, BaseSource, ensure_bases
from imagematrix.host.buildx import Builder
from imagematrix.host.config import read_host_config
from imagematrix.host.debian import debian_mirrors
from imagematrix.host.engine import Engine
from imagematrix.host.setup import ensure_engine
from imagematrix.host.supply import resolve_supplies
from imagematrix.matrix.schema import MINIMAL
from imagematrix.matrix.selection import Selection, select, with_parents
from imagematrix.matrix.variant import Variant
from imagematrix.measure.layers import image_sizes
from imagematrix.plan.bake import image_tag
from imagematrix.repository.dockerfiles import render_dockerfiles
from imagematrix.repository.project import Project
from tests.engine.engines import fresh_engine

T = TypeVar("T")

REPOSITORY = Path(__file__).resolve().parent.parent
RESULTS = REPOSITORY / "docs" / "benchmarks"
PARTS = ("plan", "cold", "noop", "pin", "sizes", "imports", "checks", "bake")
PLANNED = 10_000
SMALLEST_SAVING = 50_000
ATTEMPTS = 3
# What the first pin of a framework installs, where that is called otherwise.
MODULES = {"scikit-learn": "sklearn", "pytorch": "torch"}
# Where no bytecode is found.
WITHOUT_BYTECODE = {"PYTHONPYCACHEPREFIX": "/nowhere"}


@dataclass
class Figures:
    """What was measured; every time is in seconds, every list one figure for each round, every size
    in bytes. `saved`, of the plain ones, says by image what ours leave out of them."""

    images: list[str]
    machine: str
    run: Run
    ours: Measured
    plain: Measured


@dataclass(frozen=True)
class Bench:
    """What all parts share. `secrets` are the environment variables that hold the secrets of
    builds; `trees` is filled with the file trees of our images."""

    engine: Engine
    variants: Sequence[Variant]
    plain: Plain
    secrets: Mapping[str, str]
    folder: Path
    rounds: int
    figures: Figures
    trees: dict[str, Tree] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """The images."""
        return [variant.name for variant in self.variants]

    def run(self, command: Sequence[str], cwd: Path = REPOSITORY, **environ: str) -> float:
        """Runs a command against the engine; returns its seconds, or raises SystemExit."""
        started = time.monotonic()
        result = subprocess.run(
            command,
            cwd=cwd,
            env={
                **self.engine.environ(),
                **self.secrets,
                "BUILDX_NO_DEFAULT_ATTESTATIONS": "1",
                **environ,
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
        )
        seconds = time.monotonic() - started
        with (self.folder / "log").open("a", encoding="utf-8") as log:
            log.write(f"$ {' '.join(command)}\n{result.stdout}\n{seconds:.1f} s\n")
        if result.returncode != 0:
            raise SystemExit(f"{' '.join(command)} failed:\n{result.stdout[-3000:]}")
        return seconds

    def prune(self) -> None:
        """Empties the builder's cache of this engine."""
        self.run(["docker", "buildx", "prune", "--all", "--force"])


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parses a command line; exits the process for an invalid one, as argparse does."""
    parser = argparse.ArgumentParser(prog="nox -s bench --", description=__doc__)
    parser.add_argument("patterns", nargs="*", metavar="PATTERN", help="images, as for `build`")
    parser.add_argument(
        "--parts", default=",".join(PARTS), help=f"some of these, with commas: {','.join(PARTS)}"
    )
    parser.add_argument("--rounds", type=int, default=5, help="how often what is short is repeated")
    parser.add_argument("--folder", type=Path, help="where the engine keeps its images meanwhile")
    parser.add_argument("--output", type=Path, default=RESULTS, help="where the results go")
    options = parser.parse_args(arguments)
    options.parts = options.parts.split(",")
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    return options


def main() -> int:
    """Measures the chosen parts, and writes them beside those measured before."""
    options = parse()
    parts = options.parts
    project = Project(REPOSITORY)
    host = read_host_config(os.environ, Path.home())
    chosen = with_parents(select(project.variants, Selection(tuple(options.patterns))),
                          project.variants)  # fmt: skip
    supplies = resolve_supplies(project.locks, chosen, host)
    variants = [variant for variant in chosen if not supplies[variant.name].unavailable]
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        wheels = {
            variant.name: _link(folder / "wheels" / variant.name, supplies[variant.name].wheels)
            for variant in variants
        }
        with contextlib.ExitStack() as stack:
            engine = None
            if parts != ["plan"]:
                source = ensure_engine()
                bases = ensure_bases(source, variants, BaseSource.AUTO)
                engine = stack.enter_context(fresh_engine(parent=options.folder)).engine
            run = Run.now(f"Docker {engine.version}" if engine else "")
            figures = figures_before(options.output, [v.name for v in variants], _machine(), run)
            try:
                if engine is None:
                    _plan(folder, options.rounds, figures)
                else:
                    _copy_bases(source, engine, bases)
                    given, secrets = build_environment(
                        REPOSITORY,
                        engine,
                        Builder(),
                        bases,
                        host,
                        debian_mirrors(),
                        variants,
                        supplies,
                    )
                    plain = Plain(bases, host, given, wheels, folder)
                    bench = Bench(engine, variants, plain, secrets, folder, options.rounds, figures)
                    measure(bench, parts)
            finally:
                # Also after a failure: measurements take long.
                write(options.output, figures)
                if (folder / "log").is_file():
                    (REPOSITORY / WORK_FOLDER).mkdir(exist_ok=True)
                    shutil.copy(folder / "log", REPOSITORY / WORK_FOLDER / "bench.log")
    print(markdown(figures))
    return 0


def write(output: Path, figures: Figures) -> None:
    """Writes the pages, and the figures for the next run."""
    document = {
        "images": figures.images,
        "machine": figures.machine,
        "run": asdict(figures.run),
        "ours": figures.ours.as_json(),
        "plain": figures.plain.as_json(),
    }
    write_files(output, "builds", markdown(figures), document)
    (output / "sizes.md").write_text(sizes_markdown(figures), encoding="utf-8")


def measure(bench: Bench, parts: Sequence[str]) -> None:
    """Measures the parts, ours first; the engine only keeps what is measured next."""
    figures = bench.figures
    if "plan" in parts:
        _plan(bench.folder, bench.rounds, figures)
    if set(parts) & {"cold", "noop", "pin", "sizes", "imports", "checks"}:
        say("ours: building …")
        build = [sys.executable, "-m", "imagematrix", "build", *bench.names]
        cold = _cold(bench, build, bench.names)
        if "cold" in parts:
            figures.ours.put("cold", cold)
            say(f"ours: {cold:.0f} s")
        for variant in bench.variants:
            tree = _measure_image(bench, parts, variant, variant.name, figures.ours)
            if tree is not None:
                bench.trees[variant.name] = tree
        if "noop" in parts:
            again = [*_nox(), "-s", "build", "--", *bench.names]
            figures.ours.put("noop", [bench.run(again) for _ in range(bench.rounds)])
        if "checks" in parts:
            figures.ours.put("checks", _checks(bench))
        if "pin" in parts:
            figures.ours.put("pin", _pin(bench))
        _remove(bench, bench.names)
        bench.prune()
    plain = bench.plain
    if set(parts) & {"cold", "sizes", "imports", "bake"}:
        for variant in bench.variants:
            # The plain Pythons are counted for neither side, as our bases are not.
            if variant.parent is None and (command := plain.build_python(variant)):
                say(f"plain: the Python of {variant.name} …")
                bench.run(command)
    if set(parts) & {"cold", "sizes", "imports"}:
        for variant in bench.variants:
            seconds = bench.run(plain.build(variant))
            if "cold" in parts:
                figures.plain.table("cold")[variant.name] = seconds
            say(f"plain: {variant.name} {seconds:.0f} s")
            tree = _measure_image(bench, parts, variant, plain.name(variant), figures.plain)
            if tree is not None:
                saved = savings(variant, tree, bench.trees[variant.name])
                figures.plain.table("saved")[variant.name] = saved
            _remove(bench, [plain.name(variant)])
        bench.prune()
    if "bake" in parts:
        targets = dict(map(plain.bake_target, bench.variants))
        definition = {"group": {"default": {"targets": sorted(targets)}}, "target": targets}
        file = bench.folder / "bake.json"
        file.write_text(json.dumps(definition), encoding="utf-8")
        bake = ["docker", "buildx", "bake", "--file", str(file), "--progress=plain"]
        cold = _cold(bench, bake, list(map(plain.name, bench.variants)))
        figures.plain.put("bake", cold)
        say(f"plain bake: {cold:.0f} s")
        figures.plain.put("noop", [bench.run(bake) for _ in range(bench.rounds)])
        _remove(bench, list(map(plain.name, bench.variants)))


def _cold(bench: Bench, command: Sequence[str], names: Sequence[str]) -> float:
    """Seconds of a cold build of all images at once. So many parallel downloads are too much for
    some networks, and pip or uv fails: then the build is repeated from nothing."""
    for _ in range(ATTEMPTS - 1):
        try:
            return bench.run(command)
        except SystemExit as error:
            say(f"failed, again from nothing: {str(error).strip().splitlines()[-1]}")
            _remove(bench, names)
            bench.prune()
    return bench.run(command)


def _nox() -> list[str]:
    return [sys.executable, "-m", "nox"]


# --- one image ------------------------------------------------------------------------------------


def _measure_image(
    bench: Bench, parts: Sequence[str], variant: Variant, name: str, into: Measured
) -> Tree | None:
    """The size of an existing image, and the time to import its framework. `name` is its local
    name."""
    tag = image_tag(name)
    tree = None
    if "sizes" in parts:
        tree = read_tree(bench.engine, tag, bench.folder)
        into.table("sizes")[variant.name] = {**asdict(tree.size), "hidden": tree.hidden}
    if "imports" in parts and variant.framework != MINIMAL:
        kinds: dict[str, Mapping[str, str]] = {"imports": {}}
        if into is bench.figures.plain:
            kinds["imports without bytecode"] = WITHOUT_BYTECODE
        for kind, environ in kinds.items():
            found = _imports(bench, tag, variant, environ)
            into.table(kind)[variant.name] = found
    return tree


def _imports(bench: Bench, tag: str, variant: Variant, environ: Mapping[str, str]) -> list[float]:
    """Seconds to import the framework, each in a container of its own."""
    module = MODULES.get(variant.framework, variant.framework)
    code = f"import time; t = time.perf_counter(); import {module}; print(time.perf_counter() - t)"
    command = ["docker", "run", "--rm", "--network=none", "--entrypoint=python3"]
    given = {"PYTHONDONTWRITEBYTECODE": "1", **environ}
    command += [f"--env={key}={value}" for key, value in given.items()]
    found = []
    for _ in range(bench.rounds):
        result = subprocess.run(
            [*command, tag, "-c", code],
            env=bench.engine.environ(), check=True, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        found.append(float(result.stdout.split()[-1]))
    return found


def _checks(bench: Bench) -> dict[str, dict[str, float]]:
    """Seconds of all checks of each image, in the parts of `check_seconds`; `layers` is the time to
    read and compress those that were never measured here."""
    layers = {}
    client = bench.engine.client()
    try:
        for name in bench.names:
            started = time.monotonic()
            image_sizes(REPOSITORY, client, [image_tag(name)])
            layers[name] = time.monotonic() - started
    finally:
        client.close()
    report = bench.folder / "checks.xml"
    selection = f"--selection=--force {' '.join(bench.names)}"
    bench.run([sys.executable, "-m", "pytest", "tests/images", selection, f"--junitxml={report}"])
    found = check_seconds(report)
    return {name: {**found[name], "layers": layers[name]} for name in bench.names}


def check_seconds(report: Path) -> dict[str, dict[str, float]]:
    """The seconds of each image in pytest's report: the `start` of its container, until it serves;
    the `loading` of its framework for the checks that need it; and the `work` of its checks without
    these, with the removal of the container."""
    suite = ElementTree.parse(report)
    seconds: dict[str, dict[str, float]] = defaultdict(lambda: {"work": 0.0})
    for case in suite.iter("testcase"):
        if match := re.search(r"\[(.+)-\w+\]", case.attrib["name"]):
            seconds[match[1]]["work"] += float(case.attrib["time"])
    for part in suite.iterfind("./testsuite/properties/property"):
        image, _, what = part.attrib["name"].rpartition(" ")
        seconds[image][what] = float(part.attrib["value"])
        seconds[image]["work"] -= seconds[image][what]
    return dict(seconds)


def _pin(bench: Bench) -> dict[str, Any]:
    """Seconds to build after one pin of one framework was changed, and what was built."""
    variant = next((v for v in bench.variants if v.framework != MINIMAL), None)
    if variant is None:
        raise SystemExit("the part pin needs an image of a framework")
    pin = next(p for p in reversed(variant.pins) if "==" in p)
    older = pin.replace("==", "<")
    root = bench.folder / "changed"
    for name in subprocess.run(
        ["git", "ls-files", "-z"], cwd=REPOSITORY, check=True, capture_output=True, text=True
    ).stdout.split("\0"):
        if name and (REPOSITORY / name).is_file():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(REPOSITORY / name, root / name)
    path = root / "matrix.yaml"
    head, mark, tail = path.read_text().partition(f"\n  {variant.framework}:\n")
    path.write_text(head + mark + tail.replace(pin, f'"{older}"', 1))
    machinery = [sys.executable, "-m", "imagematrix"]
    bench.run([*machinery, "lock", variant.name], cwd=root)
    bench.run([*machinery, "render"], cwd=root)
    started = time.monotonic()
    result = subprocess.run(
        [*machinery, "build", *bench.names, "--json"],
        cwd=root,
        env=bench.engine.environ(),
        check=True,
        capture_output=True,
        text=True,
    )
    seconds = time.monotonic() - started
    rows = json.loads(result.stdout)
    built = {row["name"]: row["detail"] for row in rows if row["outcome"] == "built"}
    return {"image": variant.name, "pin": f"{pin} → {older}", "seconds": seconds, "built": built}


def _remove(bench: Bench, names: Sequence[str]) -> None:
    bench.run(["docker", "image", "rm", "--force", *map(image_tag, names)])


# --- the plan of a large matrix -------------------------------------------------------------------


def _plan(folder: Path, rounds: int, figures: Figures) -> None:
    """Seconds of `nox -s plan` for a generated matrix, whose images would all be built."""
    root = folder / "large"
    root.mkdir()
    generated.write_templates(root, PLANNED)
    project = Project(root)
    generated.write_images(root, project.variants, render_dockerfiles(root, project.variants))
    for name in ("noxfile.py", "requirements.txt"):
        shutil.copy(REPOSITORY / name, root / name)
    (root / "published.json").write_text("[]\n", encoding="utf-8")
    command = [*_nox(), "-s", "plan", "--", "--against", "published.json"]
    environ = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    seconds = []
    for _ in range(rounds):
        started = time.monotonic()
        result = subprocess.run(
            command, cwd=root, env=environ, capture_output=True, text=True, check=False
        )
        seconds.append(time.monotonic() - started)
        if result.returncode != 0 or result.stdout.count("no such image yet") != PLANNED:
            raise SystemExit(f"the plan failed:\n{result.stderr[-2000:]}")
    figures.ours.put("plan", seconds)
    shutil.rmtree(root)


# --- the engine and the report --------------------------------------------------------------------


def _link(folder: Path, wheels: Sequence[Path]) -> Path:
    folder.mkdir(parents=True)
    for wheel in wheels:
        shutil.copy2(wheel, folder / wheel.name)
    return folder


def _copy_bases(source: Engine, target: Engine, bases: Bases) -> None:
    """Copies base images from one engine to another."""
    names = sorted(set(bases.images.values()))
    with subprocess.Popen(
        ["docker", "save", *names], env=source.environ(), stdout=subprocess.PIPE
    ) as saving:
        subprocess.run(
            ["docker", "load", "--quiet"],
            env=target.environ(),
            stdin=saving.stdout,
            check=True,
            stdout=subprocess.DEVNULL,
        )


def _machine() -> str:
    return f"{os.cpu_count()} processors ({platform.machine()}), {platform.system()}"


def figures_before(output: Path, names: list[str], machine: str, run: Run) -> Figures:
    """The figures that `run` begins with: those of earlier runs for the same images on the same
    machine, each with its run."""
    path = output / "builds.json"
    ours: dict[str, Any] = {}
    plain: dict[str, Any] = {}
    if path.is_file():
        data = json.loads(path.read_text(encoding="utf-8"))
        if data["images"] == names and data["machine"] == machine:
            ours, plain = data["ours"], data["plain"]
    return Figures(names, machine, run, Measured.read(run, ours), Measured.read(run, plain))


def markdown(figures: Figures) -> str:
    """The report: ratios of this build to plain ones, with their parts."""
    ours, plain = figures.ours, figures.plain
    lines = [
        "# Builds, sizes and starts compared with plain Dockerfiles",
        "",
        f"Measured by `nox -s bench`, {figures.machine}, for the images",
        f"{', '.join(figures.images)}. Plain is one Dockerfile for each image: `FROM` the same",
        "Python, `pip install --no-cache-dir -r` of the same lock. Ratios are plain / ours for",
        "cold builds (larger is better), and ours / plain for the rest (smaller is better); there",
        "is none of figures of two runs. [Sizes and imports](sizes.md) have a page of their own.",
        "",
        "| what | ours | plain | ratio | measured |",
        "|---|---:|---:|---:|---|",
    ]

    def row(what: str, left: _Figure | None, right: _Figure | None, faster: bool) -> None:
        if left is None:
            return
        ratio = ""
        if right is not None and of_one_run([left.run, right.run]):
            quotient = right.value / left.value if faster else left.value / right.value
            ratio = f"{quotient:.2f}"
        shown = [figure.seconds if figure else "" for figure in (left, right)]
        runs = _said(left.run, right.run if right else None)
        lines.append(f"| {what} | {' | '.join(shown)} | {ratio} | {runs} |")

    cold = _figure(ours, "cold")
    # Only a sum over all images is comparable.
    whole = set(plain.get("cold") or ()) == set(figures.images)
    one_by_one = _figure(plain, "cold", lambda found: sum(found.values())) if whole else None
    row("cold build of all, plain one after the other", cold, one_by_one, True)
    row("cold build of all, plain by bake", cold, _figure(plain, "bake"), True)
    noop = _figure(ours, "noop", statistics.median)
    row("nothing changed", noop, _figure(plain, "noop", statistics.median), False)
    if pin := ours.get("pin"):
        own = None
        if pin["image"] in (plain.get("cold") or ()):
            own = _figure(plain, "cold", lambda found: found[pin["image"]])
        what = f"one pin changed ({pin['pin']}: builds {', '.join(pin['built'])})"
        row(what, _figure(ours, "pin", lambda found: found["seconds"]), own, False)
    plan = _figure(ours, "plan", statistics.median)
    row(f"`nox -s plan` of {PLANNED:,} images", plan, None, False)
    if checks := ours.get("checks"):
        lines += [
            "",
            "All checks of an image: their work is what they take beyond the start of its",
            "container, until it serves, and beyond loading its framework once more, to ask it.",
            "New layers are read and compressed for their size, once."
            f" Measured: {_said(ours.runs['checks'])}.",
            "",
            "| image | work | start | loading | new layers |",
            "|---|---:|---:|---:|---:|",
        ]
        for name, found in _in_order(figures, checks):
            cells = [f"{found[what]:.2f} s" for what in ("work", "start", "loading", "layers")]
            lines.append(f"| `{name}` | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


@dataclass(frozen=True)
class _Figure:
    """A time, and the run that it is of."""

    value: float
    run: Run

    @property
    def seconds(self) -> str:
        return f"{self.value:,.2f} s" if self.value < 10 else f"{self.value:,.0f} s"


def _figure(
    side: Measured, name: str, reduce: Callable[[Any], float] = lambda found: found
) -> _Figure | None:
    """One figure of a side, reduced from its measurements; None if there are none."""
    found = side.get(name)
    return _Figure(reduce(found), side.runs[name]) if found else None


def _said(ours: Run, plain: Run | None = None) -> str:
    """When figures were measured: of both sides, where those differ."""
    return f"{ours}" if plain in (None, ours) else f"ours {ours}; plain {plain}"


def sizes_markdown(figures: Figures) -> str:
    """The report on sizes, imports, and what is left out."""
    ours, plain = figures.ours, figures.plain
    lines = [
        "# Sizes and imports compared with plain images",
        "",
        f"Measured by `nox -s bench`, {figures.machine}. Sizes are those of the final tree as an",
        "archive: what the layers of a plain image hold beside it, as caches that a base came",
        'with, is not counted against it. "Compressed" are our layers by zstd, as for a registry,',
        'and "hidden" is their share that the tree does not show. MB are 10^6 bytes. Figures of',
        "two runs are not compared.",
        *_together("Sizes", ours.runs.get("sizes"), plain.runs.get("sizes")),
        "| image | plain | ours | ratio | ours, compressed | hidden |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    if of_one_run([ours.runs.get("sizes"), plain.runs.get("sizes")]):
        left, right = ours.get("sizes"), plain.get("sizes")
        both = [name for name in figures.images if name in left and name in right]
        for name in both:
            share = f"{left[name]['hidden'] / left[name]['uncompressed']:.2%}"
            lines.append(f"| `{name}` | {_compared([left[name]], [right[name]])} | {share} |")
        if len(both) > 1:
            sides = ([side[name] for name in both] for side in (left, right))
            lines.append(f"| sum | {_compared(*sides)} | |")
    slow = "imports without bytecode"
    runs = [ours.runs.get("imports"), plain.runs.get(slow), plain.runs.get("imports")]
    lines += _together("Imports", *runs)
    lines += ["| import of the framework | ours | plain without bytecode | plain | ratio |"]
    lines += ["|---|---:|---:|---:|---:|"]
    if of_one_run(runs):
        for name, seconds in _in_order(figures, ours.get("imports")):
            if name in plain.get(slow):
                own, bare, other = map(
                    statistics.median, (seconds, plain.get(slow)[name], plain.get("imports")[name])
                )
                lines.append(
                    f"| `{name}` | {own:.2f} s | {bare:.2f} s | {other:.2f} s | {own / bare:.2f} |"
                )
    lines += _together("Savings", plain.runs.get("saved"))
    lines += ["| image | what is left out | saves |", "|---|---|---:|"]
    for name, saved in _in_order(figures, plain.get("saved") or {}):
        for what, size in sorted(saved.items(), key=lambda item: (-item[1], item[0])):
            if size >= SMALLEST_SAVING:
                lines.append(f"| `{name}` | {what} | {size / 1e6:.1f} MB |")
    return "\n".join(lines) + "\n"


def _together(what: str, *runs: Run | None) -> list[str]:
    """The lines before a table that holds both sides: the run that it is of."""
    if of_one_run(runs):
        return ["", f"{what}: measured {runs[0]}.", ""]
    return ["", f"{what}: not measured in one run.", ""]


def _compared(ours: Sequence[Mapping[str, int]], plain: Sequence[Mapping[str, int]]) -> str:
    left, right = (
        sum(size["uncompressed"] - size["hidden"] for size in side) / 1e6 for side in (ours, plain)
    )
    compressed = sum(size["compressed"] for size in ours) / 1e6
    return f"{right:,.0f} MB | {left:,.0f} MB | {left / right:.2f} | {compressed:,.0f} MB"


def _in_order(figures: Figures, found: Mapping[str, T]) -> list[tuple[str, T]]:
    """The values of images in the order of the matrix, from any run."""
    return [(name, found[name]) for name in figures.images if name in found]


if __name__ == "__main__":
    raise SystemExit(main())
