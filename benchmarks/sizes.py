"""Sizes and import times of the images and of plain ones: `python -m benchmarks.sizes [PATTERN…]`.

The plain image is what a person would write by hand: FROM the same Debian and the same CPython,
then `pip install --no-cache-dir -r` with the same lock. It is built, measured and removed, one at
a time. The images themselves must have been built. Figures are kept in build/sizes.json, so that
images can be measured one by one, and go into the tables of docs/sizes.md. It needs `zstd`.
"""

import argparse
import fnmatch
import io
import json
import os
import statistics
import subprocess
import sys
import tarfile
import tempfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

from imagematrix.availability import find_supplies
from imagematrix.bake import bake_file, image_tag, target_name
from imagematrix.bases import BaseSource, ensure_bases
from imagematrix.debian import debian_mirrors
from imagematrix.engine import Engine, find_engine
from imagematrix.environment import WORK_FOLDER, build_environment
from imagematrix.files import write_atomically
from imagematrix.hostconfig import read_host_config
from imagematrix.keys import Content, base_references
from imagematrix.plan import Action, Step
from imagematrix.project import Project
from imagematrix.variant import Selection, Variant, select

REPOSITORY = Path(__file__).resolve().parent.parent
DATA = REPOSITORY / WORK_FOLDER / "sizes.json"
DOCUMENT = REPOSITORY / "docs" / "sizes.md"
MARKS = ("<!-- figures -->\n", "<!-- /figures -->\n")
PLAIN = "plain-image-to-measure"
IMPORTS = {"scikit-learn": "sklearn", "pytorch": "torch", "minimal": "inference_server.app"}
LEFT_OUT = "/etc/dpkg/dpkg.cfg.d/inference-images"
ROUNDS = 5


@dataclass(frozen=True)
class Tree:
    """The final tree of an image: bytes in a layer's archive by path, of all its layers and of what
    the tree shows; `compressed` has the bytes of its layers by method."""

    files: Mapping[str, int]
    layers: int
    compressed: Mapping[str, int]
    left_out: tuple[str, ...]

    @property
    def hidden(self) -> int:
        """Bytes of layers that the tree does not show."""
        return self.layers - sum(self.files.values())


@dataclass(frozen=True)
class Figures:
    """What was measured of one image. Bytes and seconds; imports are medians."""

    plain: int
    ours: int
    hidden: int
    compressed: Mapping[str, int]
    saved: Mapping[str, int]
    imports: Mapping[str, float]


def main() -> int:
    """Measures the chosen images, and writes the tables from all that was measured so far."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("patterns", nargs="*", metavar="PATTERN", help="images; all current: none")
    parser.add_argument("--tables", action="store_true", help="only write the tables anew")
    options = parser.parse_args()
    project = Project(REPOSITORY)
    data: dict[str, Any] = json.loads(DATA.read_text()) if DATA.is_file() else {}
    if not options.tables:
        engine = find_engine()
        if engine is None:
            print("no Docker engine answers; run `nox -s build` first", file=sys.stderr)
            return 1
        for variant in select(project.variants, Selection(tuple(options.patterns))):
            if not _present(engine, variant):
                print(f"{variant.name}: not built, left out", file=sys.stderr)
                continue
            data[variant.name] = asdict(measure(project, engine, variant))
            DATA.parent.mkdir(exist_ok=True)
            DATA.write_text(json.dumps(data, indent=2) + "\n")
            print(f"{variant.name}: measured", file=sys.stderr)
    order = {v.name: Figures(**data[v.name]) for v in project.variants if v.name in data}
    text = tables(order)
    print(text)
    before, _, rest = DOCUMENT.read_text().partition(MARKS[0])
    write_atomically(DOCUMENT, before + MARKS[0] + text + MARKS[1] + rest.partition(MARKS[1])[2])
    return 0


def measure(project: Project, engine: Engine, variant: Variant) -> Figures:
    """Builds the plain image of a variant, and compares it with ours."""
    ours = read_tree(engine, image_tag(variant.name), compress=True)
    _build_plain(project, engine, variant)
    try:
        plain = read_tree(engine, PLAIN, compress=False)
        imports = dict(_import_times(engine, variant))
    finally:
        subprocess.run(
            ["docker", "image", "rm", "--force", PLAIN],
            env=engine.environ(), check=True, stdout=subprocess.PIPE,
        )  # fmt: skip
    return Figures(
        plain.layers, ours.layers, ours.hidden, ours.compressed, savings(variant, plain, ours),
        imports,
    )  # fmt: skip


# --- images ---------------------------------------------------------------------------------------


def _present(engine: Engine, variant: Variant) -> bool:
    command = ["docker", "image", "inspect", image_tag(variant.name)]
    return subprocess.run(command, env=engine.environ(), capture_output=True).returncode == 0


def plain_dockerfile(variant: Variant, root: Variant) -> str:
    """What a person would write by hand; `root` is the image that names the bases.

    `python:…` may be a stand-in that holds /usr/local alone, so it is laid on its Debian here; the
    official one brings the same libraries.
    """
    debian, python = base_references(root)
    packages = "ca-certificates libbz2-1.0 libffi8 libncursesw6 libreadline8 libsqlite3-0 libssl3"
    packages += f" {' '.join(variant.system)}"
    mounts = (
        "--mount=type=secret,id=apt-sources,target=/etc/apt/sources.list.d/debian.sources,mode=0444"
        " --mount=type=secret,id=apt-config,target=/etc/apt/apt.conf.d/99host,mode=0444"
        " --mount=type=secret,id=ca-bundle,target=/run/secrets/ca-bundle,mode=0444"
    )
    pip = (
        "--mount=type=secret,id=ca-bundle,target=/run/secrets/ca-bundle,mode=0444"
        " --mount=type=secret,id=pip-config,target=/etc/pip.conf,mode=0444"
        " --mount=type=bind,from=wheels,target=/mnt/wheels"
    )
    index = f"--extra-index-url {variant.index.url}" if variant.index else ""
    server = "COPY --from=server inference_server /opt/inference-server/inference_server\n"
    return (
        "FROM scratch AS wheels\n"
        f"FROM {python} AS python\n"
        f"FROM {debian}\n"
        f"RUN {mounts} apt-get update"
        f" && apt-get install --yes --no-install-recommends {packages}"
        # The official image is set so that apt keeps no caches, which a stand-in is not.
        " && rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin\n"
        "COPY --from=python /usr/local /usr/local\n"
        "RUN ldconfig\n"
        "COPY requirements.txt /tmp/requirements.txt\n"
        f"RUN {pip} if [ -f /run/secrets/ca-bundle ]; then export PIP_CERT=/run/secrets/ca-bundle;"
        " fi; python3 -m pip install --no-cache-dir --no-deps --find-links /mnt/wheels"
        f" {index} -r /tmp/requirements.txt\n{server}"
    )


def _build_plain(project: Project, engine: Engine, variant: Variant) -> None:
    """Gives the build what ours are given, by the same means."""
    host = read_host_config(os.environ, Path.home())
    root = next(v for v in project.variants if v.name == (variant.parent or variant.name))
    bases = ensure_bases(engine, [root], BaseSource.AUTO)
    supplies = find_supplies(project.locks, [variant], host)
    environment, variables = build_environment(
        REPOSITORY, engine, bases, host, debian_mirrors(), [variant], supplies
    )
    step = Step(variant, Action.BUILD, (), Content({}))
    definition = bake_file([step], environment)
    target = definition["target"][target_name(variant.name)]
    contexts = {
        reference: f"docker-image://{bases.images[reference]}"
        for reference in base_references(root)
        if bases.images[reference] != reference
    }
    wheels = {k: v for k, v in target["contexts"].items() if k == "wheels"}
    target |= {
        "context": str(variant.folder),
        "contexts": {**contexts, **wheels, "server": "base/server"},
        "dockerfile-inline": plain_dockerfile(variant, root),
        "tags": [f"{PLAIN}:latest"],
    }
    del target["dockerfile"]
    subprocess.run(
        ["docker", "buildx", "bake", "--file", "-", "--progress=plain"],
        input=json.dumps(definition), cwd=REPOSITORY, text=True, check=True,
        env={**engine.environ(), **variables, "BUILDX_NO_DEFAULT_ATTESTATIONS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=None if os.environ.get("VERBOSE") else subprocess.DEVNULL,
    )  # fmt: skip


def read_tree(engine: Engine, image: str, *, compress: bool) -> Tree:
    """Reads the layers of a local image, as the engine saves them."""
    with tempfile.NamedTemporaryFile(dir=REPOSITORY / WORK_FOLDER, suffix=".tar") as saved:
        command = ["docker", "image", "save", "--output", saved.name, image]
        subprocess.run(command, env=engine.environ(), check=True)
        with tarfile.open(saved.name) as archive:
            manifest = json.load(_member(archive, "manifest.json"))[0]
            files: dict[str, int] = {}
            total, left_out = 0, ""
            packed = {"zstd-3": 0, "zstd-12": 0, "gzip-6": 0}
            for name in manifest["Layers"]:
                total += _apply(files, _member(archive, name))
                left_out = _left_out(_member(archive, name)) or left_out
                for method in packed if compress else ():
                    packed[method] += _compressed(_member(archive, name), method)
    return Tree(files, total, packed if compress else {}, tuple(left_out.split()))


def _member(archive: tarfile.TarFile, name: str) -> IO[bytes]:
    file = archive.extractfile(name)
    assert file is not None, f"{name} is no file of the archive"
    return file


def _apply(files: dict[str, int], layer: IO[bytes]) -> int:
    """Lays a layer over `files`; returns what it takes as an archive."""
    total = 0
    with tarfile.open(fileobj=layer) as tar:
        start = 0
        for info in tar:
            # The headers before the content, and the content in blocks of 512 bytes.
            size = info.offset_data - start + -(-info.size // 512) * 512 * info.isreg()
            start = info.offset_data + -(-info.size // 512) * 512 * info.isreg()
            total += size
            path = PurePosixPath("/", info.name)
            if path.name.startswith(".wh."):
                gone = str(path.with_name(path.name.removeprefix(".wh.")))
                for known in [f for f in files if f == gone or f.startswith(f"{gone}/")]:
                    del files[known]
            else:
                files[str(path)] = size
    return total


def _left_out(layer: IO[bytes]) -> str:
    with tarfile.open(fileobj=layer) as tar:
        try:
            info = tar.getmember(LEFT_OUT.lstrip("/"))
        except KeyError:
            return ""
        text = _member(tar, info.name).read().decode()
    return text.replace("path-exclude=", "")


def _compressed(layer: IO[bytes], method: str) -> int:
    kind, level = method.split("-")
    if kind == "gzip":
        packer, size = zlib.compressobj(int(level), wbits=31), 0
        while block := layer.read(1 << 20):
            size += len(packer.compress(block))
        return size + len(packer.flush())
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            ["zstd", f"-{level}", "--quiet", "--stdout"], stdin=subprocess.PIPE, stdout=output
        )
        assert process.stdin is not None
        while block := layer.read(1 << 20):
            process.stdin.write(block)
        process.stdin.close()
        assert process.wait() == 0, "zstd failed"
        return output.seek(0, io.SEEK_END)


def savings(variant: Variant, plain: Tree, ours: Tree) -> dict[str, int]:
    """Bytes that each declared entry saves: of the plain image's files, those that are gone or
    smaller in ours, under the first entry that names them."""
    site = f"/usr/local/lib/python{variant.python}/site-packages/"
    saved: dict[str, int] = {}
    for path, size in plain.files.items():
        less = size - ours.files.get(path, 0)
        if less > 0:
            what = _entry(variant, path, site, ours.left_out)
            saved[what] = saved.get(what, 0) + less
    return dict(sorted(saved.items(), key=lambda item: -item[1]))


def _entry(variant: Variant, path: str, site: str, left_out: Iterable[str]) -> str:
    if path.startswith(site):
        parts = PurePosixPath(path.removeprefix(site)).parts
        parents = ["/".join(parts[: i + 1]) for i in range(len(parts))]
        # A compiled stub or test goes with its source.
        for trim in (*variant.trim, *variant.strip):
            if any(fnmatch.fnmatchcase(f"/{parent}", f"/{trim.path}") for parent in parents):
                return f"{trim.what} (`{trim.path}`)"
        return (
            "bytecode of pip" if parts[0] == "pip" and path.endswith(".pyc") else "other packages"
        )
    if any(fnmatch.fnmatchcase(path, pattern) for pattern in left_out):
        return "left out of Debian's packages"
    return "CPython" if path.startswith("/usr/local/") else "other of Debian"


def _import_times(engine: Engine, variant: Variant) -> Iterator[tuple[str, float]]:
    module = IMPORTS.get(variant.framework, variant.framework)
    code = f"import time; t = time.monotonic(); import {module}; print(time.monotonic() - t)"
    environment = {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": "/opt/inference-server"}
    runs = {
        "ours": (image_tag(variant.name), {}),
        # No bytecode is found there.
        "plain without bytecode": (PLAIN, {"PYTHONPYCACHEPREFIX": "/nowhere"}),
        "plain": (PLAIN, {}),
    }
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(ROUNDS):
        for name, (image, more) in runs.items():
            command = ["docker", "run", "--rm", "--network=none", "--entrypoint=python3"]
            command += [f"--env={key}={value}" for key, value in {**environment, **more}.items()]
            result = subprocess.run(
                [*command, image, "-c", code],
                env=engine.environ(), check=True, stdout=subprocess.PIPE, text=True,
            )  # fmt: skip
            seconds[name].append(float(result.stdout.split()[-1]))
    for name, values in seconds.items():
        yield name, statistics.median(values)


# --- tables ---------------------------------------------------------------------------------------


def tables(figures: Mapping[str, Figures]) -> str:
    """The tables of docs/sizes.md, in Markdown."""
    lines = ["| image | plain | ours | ratio | zstd -3 | zstd -12 | gzip -6 | hidden |"]
    lines += ["|---|---:|---:|---:|---:|---:|---:|---:|"]
    for name, image in figures.items():
        packed = " | ".join(_mb(size) for size in image.compressed.values())
        share = f"{image.ours / image.plain:.2f} | {packed} | {image.hidden / image.ours:.2%}"
        lines.append(f"| `{name}` | {_mb(image.plain)} | {_mb(image.ours)} | {share} |")
    plain, ours = (sum(getattr(f, key) for f in figures.values()) for key in ("plain", "ours"))
    if plain:
        lines.append(f"| sum | {_mb(plain)} | {_mb(ours)} | {ours / plain:.2f} | | | | |")
    lines += ["", "| import of the framework | ours | plain without bytecode | plain | ratio |"]
    lines += ["|---|---:|---:|---:|---:|"]
    for name, image in figures.items():
        own, bare, plain_time = (
            image.imports[key] for key in ("ours", "plain without bytecode", "plain")
        )
        lines.append(
            f"| `{name}` | {own:.2f} s | {bare:.2f} s | {plain_time:.2f} s | {own / bare:.2f} |"
        )
    lines += ["", "| image | what is left out | saves |", "|---|---|---:|"]
    for name, image in figures.items():
        for what, size in image.saved.items():
            if size >= 50_000:
                lines.append(f"| `{name}` | {what} | {_mb(size, 1)} |")
    return "\n".join(lines) + "\n"


def _mb(size: float, digits: int = 0) -> str:
    return f"{size / 1e6:,.{digits}f} MB"


if __name__ == "__main__":
    sys.exit(main())
