"""docker buildx: which builder there is, and handing a bake file to it.

The builder of the engine itself (driver `docker`) has the images of the engine. Every other one
(https://docs.docker.com/build/builders/drivers/) has none of them: those that the bake file names
are given to it as OCI layouts, which any BuildKit takes from the machine that asks it.
"""

import contextlib
import io
import json
import os
import re
import shutil
import subprocess
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from imagematrix.bake import LOCAL_IMAGE, local_images, local_paths, with_contexts
from imagematrix.engine import Engine, say
from imagematrix.errors import UserError, WorkError
from imagematrix.files import WORK_FOLDER
from imagematrix.platforms import PLATFORM

_LAYOUTS = WORK_FOLDER / "oci"


@dataclass(frozen=True)
class Builder:
    """Where builds run: `name` as buildx has it, nothing for the one that is current."""

    name: str = ""
    driver: str = "docker"

    @property
    def has_images(self) -> bool:
        """Whether it takes an image of the engine by its name, and keeps what it makes there."""
        return self.driver == "docker"


def has_buildx() -> bool:
    """Whether docker has the plugin."""
    if shutil.which("docker") is None:
        return False
    command = ["docker", "buildx", "version"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def require_buildx() -> None:
    """Raises UserError with what to install where buildx is missing, which is for building."""
    if not has_buildx():
        raise UserError(
            "docker buildx is missing; install it: https://docs.docker.com/build/install-buildx/"
            " (Debian and Ubuntu: apt-get install docker-buildx)"
        )


def find_builder(engine: Engine, name: str = "") -> Builder:
    """The builder of that name, else of BUILDX_BUILDER, else what `docker buildx use` chose.

    Raises UserError where buildx or the builder is missing, or where it does not build for the
    platform of the images.
    """
    require_buildx()
    name = name or os.environ.get("BUILDX_BUILDER", "")
    command = ["docker", "buildx", "inspect", *([name] if name else [])]
    result = subprocess.run(
        command, env=engine.environ(), capture_output=True, text=True, check=False
    )
    if result.returncode != 0:
        raise UserError(
            f"the builder {name or 'of buildx'} cannot be used:"
            f" {result.stderr.strip().removeprefix('ERROR: ')};"
            " `docker buildx ls` lists those that there are"
        )
    # Before `Nodes:` the fields of the builder, after it those of each node.
    fields = re.findall(r"^ *([A-Za-z][\w ]*): +(\S.*?) *$", result.stdout, re.MULTILINE)
    first = dict(reversed(fields))
    builder = Builder(name, first.get("Driver", "docker"))
    other = first.get("Endpoint", "default")
    if builder.has_images and other not in _own_names(engine):
        raise UserError(
            f"the builder {name} is another Docker engine ({other}), which keeps what it builds:"
            f" build there altogether, with DOCKER_CONTEXT={other}"
        )
    platforms = {
        platform.strip(" *")
        for field, value in fields
        if field == "Platforms"
        for platform in value.split(",")
    }
    # One that was not used yet tells none.
    if platforms and PLATFORM not in platforms:
        which = f"the builder {name}" if name else "the engine"
        others = ", ".join(sorted(platforms))
        raise UserError(
            f"these images are for {PLATFORM}, which {which} does not build for (but for"
            f" {others}): name an engine with DOCKER_HOST or a builder with --builder that does,"
            " or install emulation (https://docs.docker.com/build/building/multi-platform/#qemu)"
        )
    if builder.has_images and engine.platform != PLATFORM:
        say(
            f"The engine is {engine.platform} and emulates {PLATFORM}: it takes many times as long."
        )
    return builder


def require_cache(engine: Engine, builder: Builder) -> None:
    """Raises UserError where the builder cannot put its cache into a registry."""
    if builder.has_images and not engine.containerd_store:
        raise UserError(
            f"the Docker engine at {engine.endpoint} has the old image store,"
            " with which its builder exports no cache: turn on the containerd image store"
            " (https://docs.docker.com/engine/storage/containerd/), or name another --builder"
        )


def _own_names(engine: Engine) -> set[str]:
    """What buildx calls the engine itself, when it is asked for in the engine's environment."""
    return {
        "default",
        engine.endpoint.host,
        dict(engine.endpoint.variables).get("DOCKER_CONTEXT", ""),
    }


@contextlib.contextmanager
def running_bake(
    root: Path,
    engine: Engine,
    builder: Builder,
    definition: Mapping[str, Any],
    *,
    options: Iterable[str] = (),
    variables: Mapping[str, str] | None = None,
) -> Iterator[subprocess.Popen[str]]:
    """A run of `docker buildx bake` whose standard output has all that it says; ended when the
    block is left by an exception."""
    definition = _reachable(definition, root, engine, builder)
    command = ["docker", "buildx", "bake", "--file", "-", "--progress=plain", *options]
    if builder.name:
        command += ["--builder", builder.name]
    environ = {**engine.environ(), **(variables or {}), "BUILDX_NO_DEFAULT_ATTESTATIONS": "1"}
    command += _grants(definition, root)
    process = subprocess.Popen(
        command,
        cwd=root,
        env=environ,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    try:
        # Where bake ended at once, its words say why.
        with contextlib.suppress(BrokenPipeError), cast("io.TextIOWrapper", process.stdin) as given:
            given.write(json.dumps(definition))
        yield process
        process.wait()
    except BaseException:
        process.terminate()
        process.wait()
        raise


def _grants(definition: Mapping[str, Any], root: Path) -> list[str]:
    """The options that let bake read what the bake file names outside of the repository; none for a
    buildx before 0.17, which does not know them and asks for none."""
    here = root.resolve()
    paths = [
        path for path in local_paths(definition) if not (root / path).resolve().is_relative_to(here)
    ]
    if not paths:
        return []
    command = ["docker", "buildx", "bake", "--help"]
    told = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    return [f"--allow=fs.read={path}" for path in paths] if "--allow " in told else []


# --- images for a builder that has none -----------------------------------------------------------


def _reachable(
    definition: Mapping[str, Any], root: Path, engine: Engine, builder: Builder
) -> Mapping[str, Any]:
    """The bake file with a layout in the place of each image that the builder cannot reach."""
    images = local_images(definition)
    if builder.has_images or not images:
        return definition
    ids = engine.ids(images)
    missing = sorted(image for image, id_ in ids.items() if id_ is None)
    if missing:
        raise WorkError(f"the engine has no {', '.join(missing)}, which is to be built upon")
    layouts = {}
    for image, id_ in ids.items():
        folder = _LAYOUTS / str(id_).replace(":", "-")
        if not (root / folder / "index.json").is_file():
            say(f"Giving {image} to the builder {builder.name or builder.driver} …")
            _save(engine, image, root / folder)
        (manifest, *_) = json.loads((root / folder / "index.json").read_bytes())["manifests"]
        layouts[f"{LOCAL_IMAGE}{image}"] = f"oci-layout://{folder}@{manifest['digest']}"
    for old in (root / _LAYOUTS).iterdir():
        if not any(f"/{old.name}@" in layout for layout in layouts.values()):
            shutil.rmtree(old, ignore_errors=True)
    return with_contexts(definition, layouts)


def _save(engine: Engine, image: str, folder: Path) -> None:
    """Writes an image of the engine as an OCI layout."""
    making = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir(parents=True)
    with contextlib.closing(engine.client()) as client:
        stream = cast("io.BufferedIOBase", _Stream(client.api.get_image(image)))
        with tarfile.open(fileobj=stream, mode="r|") as archive:
            # Debian 12 has Python 3.11.2, without filters; the archive is the engine's own.
            archive.extraction_filter = getattr(tarfile, "data_filter", None)
            archive.extractall(making)
    shutil.rmtree(folder, ignore_errors=True)
    making.rename(folder)


class _Stream:
    """Chunks as tarfile reads a stream."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._rest = b""

    def read(self, size: int) -> bytes:
        """So many bytes, fewer at the end."""
        while len(self._rest) < size and (chunk := next(self._chunks, b"")):
            self._rest += chunk
        taken, self._rest = self._rest[:size], self._rest[size:]
        return taken
