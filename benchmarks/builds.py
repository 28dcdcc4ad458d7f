"""Builds, sizes and starts, compared with what a person would write: `nox -s bench`.

The peer is one plain Dockerfile for each image, `FROM` the same Python, with `pip install
--no-cache-dir -r` of the same lock; built one after the other with `docker build`, and all at once
with `docker buildx bake`. Both sides have the same base images, index, certificates and wheels.

All happens in a Docker engine of its own, which is empty at the start and gone at the end: nobody's
images or caches are touched, and a cold build is cold. That needs root and an installed dockerd.
"""

import argparse
import datetime
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
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import matrix as generated
from imagematrix.availability import find_supplies
from imagematrix.bake import BuildEnvironment, image_tag, target_name
from imagematrix.bases import Bases, BaseSource, ensure_bases
from imagematrix.debian import debian_mirrors
from imagematrix.engine import Engine, ensure_engine, say
from imagematrix.environment import WORK_FOLDER, build_environment
from imagematrix.hostconfig import HostConfig, read_host_config
from imagematrix.keys import base_references
from imagematrix.layers import image_sizes
from imagematrix.matrix import MINIMAL
from imagematrix.project import Project
from imagematrix.render import render_dockerfiles
from imagematrix.variant import Selection, Variant, select, with_parents
from tests.engine.engines import fresh_engine

REPOSITORY = Path(__file__).resolve().parent.parent
RESULTS = REPOSITORY / "docs" / "benchmarks"
PARTS = ("plan", "cold", "noop", "pin", "sizes", "imports", "checks", "bake")
PLANNED = 10_000
# What the first pin of a framework installs, where that is called otherwise.
MODULES = {"scikit-learn": "sklearn", "pytorch": "torch"}
PLAIN = "plain"


@dataclass
class Figures:
    """What was measured; every time is in seconds, every list one figure for each round."""

    images: list[str]
    machine: str
    date: str
    ours: dict[str, Any] = field(default_factory=dict)
    plain: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Bench:
    """What all parts share. `wheels` are folders of wheels by image; `given` is what builds are
    given on this machine, `secrets` the environment variables that hold its secrets."""

    engine: Engine
    bases: Bases
    host: HostConfig
    project: Project
    variants: Sequence[Variant]
    wheels: Mapping[str, Path]
    given: BuildEnvironment
    secrets: Mapping[str, str]
    folder: Path
    rounds: int
    figures: Figures

    @property
    def names(self) -> list[str]:
        """The images."""
        return [variant.name for variant in self.variants]

    def run(self, command: Sequence[str], cwd: Path = REPOSITORY, **environ: str) -> float:
        """Runs a command against the engine; returns its seconds. Ends all where it fails."""
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


def main() -> int:
    """Measures the parts that were asked for, and writes them beside those measured before."""
    parser = argparse.ArgumentParser(prog="nox -s bench --", description=__doc__)
    parser.add_argument("patterns", nargs="*", metavar="PATTERN", help="images, as for `build`")
    parser.add_argument(
        "--parts", default=",".join(PARTS), help=f"some of these, with commas: {','.join(PARTS)}"
    )
    parser.add_argument("--rounds", type=int, default=5, help="how often what is short is repeated")
    parser.add_argument("--folder", type=Path, help="where the engine keeps its images meanwhile")
    parser.add_argument("--output", type=Path, default=RESULTS, help="where the results go")
    options = parser.parse_args()
    parts = options.parts.split(",")
    if unknown := set(parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    project = Project(REPOSITORY)
    host = read_host_config(os.environ, Path.home())
    chosen = with_parents(select(project.variants, Selection(tuple(options.patterns))),
                          project.variants)  # fmt: skip
    supplies = find_supplies(project.locks, chosen, host)
    variants = [variant for variant in chosen if not supplies[variant.name].unavailable]
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        wheels = {
            variant.name: _link(folder / "wheels" / variant.name, supplies[variant.name].wheels)
            for variant in variants
        }
        figures = figures_before(options.output, [v.name for v in variants], _machine())
        try:
            if parts == ["plan"]:
                _plan(folder, options.rounds, figures)
            else:
                source = ensure_engine()
                bases = ensure_bases(source, variants, BaseSource.AUTO)
                with fresh_engine("bench0", "172.31.249.1", parent=options.folder) as engine:
                    _copy_bases(source, engine, bases)
                    given, secrets = build_environment(
                        REPOSITORY, engine, bases, host, debian_mirrors(), variants, supplies
                    )
                    bench = Bench(
                        engine,
                        bases,
                        host,
                        project,
                        variants,
                        wheels,
                        given,
                        secrets,
                        folder,
                        options.rounds,
                        figures,
                    )
                    measure(bench, parts)
        finally:
            # What was measured before something failed took long enough.
            _write(options.output, figures)
            if (folder / "log").is_file():
                (REPOSITORY / WORK_FOLDER).mkdir(exist_ok=True)
                shutil.copy(folder / "log", REPOSITORY / WORK_FOLDER / "bench.log")
    print(markdown(figures))
    return 0


def _write(output: Path, figures: Figures) -> None:
    output.mkdir(parents=True, exist_ok=True)
    text = json.dumps(asdict(figures), indent=2, sort_keys=True)
    (output / "builds.json").write_text(f"{text}\n", encoding="utf-8")
    (output / "builds.md").write_text(markdown(figures), encoding="utf-8")


def measure(bench: Bench, parts: Sequence[str]) -> None:
    """Measures the parts, ours first; no more is kept in the engine than is measured next."""
    figures = bench.figures
    if "plan" in parts:
        _plan(bench.folder, bench.rounds, figures)
    if set(parts) & {"cold", "noop", "pin", "sizes", "imports", "checks"}:
        say("ours: building …")
        cold = bench.run([sys.executable, "-m", "imagematrix", "build", *bench.names])
        if "cold" in parts:
            figures.ours["cold"] = cold
            say(f"ours: {cold:.0f} s")
        _measure_images(bench, parts, bench.names, {name: name for name in bench.names},
                        figures.ours)  # fmt: skip
        if "noop" in parts:
            build = [*_nox(), "-s", "build", "--", *bench.names]
            figures.ours["noop"] = [bench.run(build) for _ in range(bench.rounds)]
        if "checks" in parts:
            figures.ours["checks"] = _checks(bench)
        if "pin" in parts:
            figures.ours["pin"] = _pin(bench)
        _remove(bench, bench.names)
        bench.prune()
    if set(parts) & {"cold", "sizes", "imports", "pin", "bake"}:
        _make_pythons(bench)
    if set(parts) & {"cold", "sizes", "imports", "pin"}:
        figures.plain["cold"] = {}
        for variant in bench.variants:
            seconds = bench.run(_plain_build(bench, variant))
            figures.plain["cold"][variant.name] = seconds
            say(f"plain: {variant.name} {seconds:.0f} s")
            own = {variant.name: _plain_name(variant)}
            _measure_images(bench, parts, [variant.name], own, figures.plain)
            _remove(bench, [_plain_name(variant)])
        bench.prune()
    if "bake" in parts:
        file = bench.folder / "bake.json"
        file.write_text(json.dumps(_plain_bake(bench)), encoding="utf-8")
        bake = ["docker", "buildx", "bake", "--file", str(file), "--progress=plain"]
        figures.plain["bake"] = bench.run(bake)
        say(f"plain bake: {figures.plain['bake']:.0f} s")
        figures.plain["noop"] = [bench.run(bake) for _ in range(bench.rounds)]
        _remove(bench, [_plain_name(variant) for variant in bench.variants])


def _nox() -> list[str]:
    return [sys.executable, "-m", "nox", "--envdir", str(REPOSITORY / ".nox")]


# --- one image ------------------------------------------------------------------------------------


def _measure_images(
    bench: Bench,
    parts: Sequence[str],
    names: Sequence[str],
    tags: Mapping[str, str],
    into: dict[str, Any],
) -> None:
    """Sizes and times to import of images that are there. `tags` are what they are called there."""
    if "sizes" in parts:
        client = bench.engine.client()
        try:
            sizes = image_sizes(REPOSITORY, client, map(image_tag, tags.values()))
        finally:
            client.close()
        for name in names:
            into.setdefault("sizes", {})[name] = asdict(sizes[image_tag(tags[name])])
    if "imports" in parts:
        for variant in bench.variants:
            if variant.name in names and variant.framework != MINIMAL:
                imports = _imports(bench, tags[variant.name], variant)
                into.setdefault("imports", {})[variant.name] = imports


def _imports(bench: Bench, tag: str, variant: Variant) -> list[float]:
    """Seconds to import the framework, each in a container of its own; none where it cannot be."""
    module = MODULES.get(variant.framework, variant.framework)
    code = f"import time; t = time.perf_counter(); import {module}; print(time.perf_counter() - t)"
    command = ["docker", "run", "--rm", "--entrypoint", "python3", image_tag(tag), "-c", code]
    found = []
    for _ in range(bench.rounds):
        result = subprocess.run(
            command, env=bench.engine.environ(), capture_output=True, text=True, check=False
        )
        if result.returncode != 0:
            say(f"{tag} cannot import {module}: {result.stderr.strip().splitlines()[-1]}")
            return []
        found.append(float(result.stdout))
    return found


def _checks(bench: Bench) -> dict[str, float]:
    """Seconds of all checks of each image, without the start of its container."""
    report = bench.folder / "checks.xml"
    selection = f"--selection=--force {' '.join(bench.names)}"
    command = [sys.executable, "-m", "pytest", "tests/images", selection, f"--junitxml={report}"]
    bench.run([*command, "-o", "junit_duration_report=call"])
    seconds: dict[str, float] = dict.fromkeys(bench.names, 0.0)
    for case in ElementTree.parse(report).iter("testcase"):
        match = re.search(r"\[(.+)-\w+\]", case.attrib["name"])
        if match is not None:
            seconds[match[1]] += float(case.attrib["time"])
    return seconds


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


# --- the plain ones -------------------------------------------------------------------------------


def _plain_name(variant: Variant) -> str:
    return f"{PLAIN}-{variant.name}"


def plain_dockerfile(bench: Bench, variant: Variant) -> str:
    """What a person would write, with the mounts that this host's settings come by."""
    mounts = ["--mount=type=secret,id=pip-config,target=/etc/pip.conf"]
    options = ""
    if bench.host.ca_bundle is not None:
        mounts.append("--mount=type=secret,id=ca-bundle,target=/run/ca.pem")
        options += " --cert /run/ca.pem"
    if variant.name in bench.wheels and any(bench.wheels[variant.name].iterdir()):
        mounts.append("--mount=type=bind,from=wheels,target=/mnt/wheels")
        options += " --find-links /mnt/wheels"
    elif variant.index is not None:
        options += f" --extra-index-url {variant.index.url}"
    install = f"python3 -m pip install --no-cache-dir{options} -r /tmp/requirements.txt"
    return (
        f"FROM {_python(bench, variant)}\nCOPY requirements.txt /tmp/requirements.txt\n"
        f"RUN {' '.join(mounts)} {install}\n"
    )


def _plain_context(bench: Bench, variant: Variant) -> Path:
    context = bench.folder / PLAIN / variant.name
    context.mkdir(parents=True, exist_ok=True)
    shutil.copy(REPOSITORY / variant.lock, context / "requirements.txt")
    (context / "Dockerfile").write_text(plain_dockerfile(bench, variant), encoding="utf-8")
    return context


def _secrets(bench: Bench, variant: Variant) -> list[str]:
    return [*bench.given.secrets, *bench.given.image_secrets[variant.name]]


def _plain_build(bench: Bench, variant: Variant) -> list[str]:
    context = _plain_context(bench, variant)
    command = ["docker", "build", "--tag", image_tag(_plain_name(variant))]
    command += [part for secret in _secrets(bench, variant) for part in ("--secret", secret)]
    command += ["--build-context", f"wheels={bench.wheels[variant.name]}"]
    return [*command, str(context)]


def _plain_bake(bench: Bench) -> dict[str, Any]:
    targets = {
        target_name(variant.name): {
            "context": str(_plain_context(bench, variant)),
            "contexts": {"wheels": str(bench.wheels[variant.name])},
            "secret": _secrets(bench, variant),
            "tags": [image_tag(_plain_name(variant))],
            "output": ["type=docker"],
        }
        for variant in bench.variants
    }
    return {"group": {"default": {"targets": sorted(targets)}}, "target": targets}


def _python(bench: Bench, variant: Variant) -> str:
    """The Python that a plain image of this variant is FROM."""
    if bench.bases.source is BaseSource.REGISTRY:
        return f"python:{variant.python}-slim-{variant.suite}"
    return f"{PLAIN}-python:{variant.python}-slim-{variant.suite}"


def _make_pythons(bench: Bench) -> None:
    """Where CPython is a stand-in that holds no system, puts one under it, as the official image
    has it. This is not counted for either side."""
    if bench.bases.source is BaseSource.REGISTRY:
        return
    for variant in bench.variants:
        if variant.parent is not None:
            continue
        say(f"{_python(bench, variant)}: building …")
        command = ["docker", "build", "--target", "interpreter", "--tag", _python(bench, variant)]
        command += ["--file", str(REPOSITORY / variant.dockerfile)]
        command += [part for secret in _secrets(bench, variant) for part in ("--secret", secret)]
        for reference in base_references(variant):
            source = bench.bases.images[reference]
            command += ["--build-context", f"{reference}=docker-image://{source}"]
        bench.run([*command, str(REPOSITORY / variant.context)])


# --- the plan of a large matrix -------------------------------------------------------------------


def _plan(folder: Path, rounds: int, figures: Figures) -> None:
    """Seconds of `nox -s plan` for a generated matrix, of which everything would be built."""
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
    figures.ours["plan"] = seconds
    shutil.rmtree(root)


# --- the engine and the report --------------------------------------------------------------------


def _link(folder: Path, wheels: Sequence[Path]) -> Path:
    folder.mkdir(parents=True)
    for wheel in wheels:
        shutil.copy2(wheel, folder / wheel.name)
    return folder


def _copy_bases(source: Engine, target: Engine, bases: Bases) -> None:
    """Gives an engine the base images that another one has."""
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


def figures_before(output: Path, names: list[str], machine: str) -> Figures:
    """The figures of an earlier run of the same images: a part that is not measured is kept."""
    path = output / "builds.json"
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    if path.is_file():
        data = json.loads(path.read_text(encoding="utf-8"))
        if data["images"] == names and data["machine"] == machine:
            return Figures(**{**data, "date": today})
    return Figures(names, machine, today)


def markdown(figures: Figures) -> str:
    """The report: ratios of ours to plain, with what they are made of."""
    ours, plain = figures.ours, figures.plain
    lines = [
        "# Builds, sizes and starts compared with plain Dockerfiles",
        "",
        f"Measured by `nox -s bench` on {figures.date}, {figures.machine}, for the images",
        f"{', '.join(figures.images)}. Plain is one Dockerfile for each image: `FROM` the same",
        "Python, `pip install --no-cache-dir -r` of the same lock. Ratios are plain / ours for",
        "times of builds (larger is better), and ours / plain for the rest (smaller is better).",
        "",
        "| what | ours | plain | ratio |",
        "|---|---:|---:|---:|",
    ]

    def row(what: str, left: float | None, right: float | None, unit: str, faster: bool) -> None:
        if left is None:
            return
        shown = f"{left:,.2f} {unit}" if left < 10 else f"{left:,.0f} {unit}"
        other = (
            ""
            if right is None
            else f"{right:,.2f} {unit}"
            if right < 10
            else f"{right:,.0f} {unit}"
        )
        ratio = "" if not right else f"{right / left if faster else left / right:.2f}"
        lines.append(f"| {what} | {shown} | {other} | {ratio} |")

    one_by_one = sum(plain["cold"].values()) if plain.get("cold") else None
    row("cold build of all, plain one after the other", ours.get("cold"), one_by_one, "s", True)
    row("cold build of all, plain by bake", ours.get("cold"), plain.get("bake"), "s", True)
    row("nothing changed", _median(ours.get("noop")), _median(plain.get("noop")), "s", False)
    if pin := ours.get("pin"):
        own = plain.get("cold", {}).get(pin["image"])
        what = f"one pin changed ({pin['pin']}: builds {', '.join(pin['built'])})"
        row(what, pin["seconds"], own, "s", False)
    row(f"`nox -s plan` of {PLANNED:,} images", _median(ours.get("plan")), None, "s", False)
    for kind in ("uncompressed", "compressed"):
        for name in [*ours.get("sizes", {}), None]:
            sides = [
                sum(size[kind] for image, size in side.get("sizes", {}).items()
                    if name in (None, image)) / 1e6
                for side in (ours, plain)
            ]  # fmt: skip
            if sides[0]:
                row(f"{kind}: {name or 'sum'}", sides[0], sides[1] or None, "MB", False)
    for name, seconds in ours.get("imports", {}).items():
        other = _median(plain.get("imports", {}).get(name))
        row(f"import: {name}", _median(seconds), other, "s", False)
    for name, seconds in ours.get("checks", {}).items():
        row(f"all checks: {name}", seconds, None, "s", False)
    return "\n".join(lines) + "\n"


def _median(values: Sequence[float] | None) -> float | None:
    return statistics.median(values) if values else None


if __name__ == "__main__":
    raise SystemExit(main())
