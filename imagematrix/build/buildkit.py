"""Runs `docker buildx bake`.

A builder that has none of the engine's images gets those that the bake file names as OCI layouts,
which every BuildKit accepts from its client.
"""

import contextlib
import io
import json
import shutil
import subprocess
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from imagematrix.console import say
from imagematrix.errors import WorkError
from imagematrix.files import WORK_FOLDER
from imagematrix.host.buildx import Builder
from imagematrix.host.engine import Engine
from imagematrix.plan.bake import LOCAL_IMAGE, local_images, local_paths, with_contexts

_LAYOUTS = WORK_FOLDER / "oci"


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
    """A running `docker buildx bake`, with all its output on its standard output.

    It is ended when the block is left by an exception. Raises WorkError where the engine lacks an
    image that the bake file names.
    """
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
        # If bake exits at once, its output says why.
        with contextlib.suppress(BrokenPipeError), cast("io.TextIOWrapper", process.stdin) as given:
            given.write(json.dumps(definition))
        yield process
        process.wait()
    except BaseException:
        process.terminate()
        process.wait()
        raise


def _grants(definition: Mapping[str, Any], root: Path) -> list[str]:
    """The options that let bake read paths outside of the repository; none for a buildx before
    0.17, which neither knows nor needs them."""
    here = root.resolve()
    paths = [
        path for path in local_paths(definition) if not (root / path).resolve().is_relative_to(here)
    ]
    if not paths:
        return []
    command = ["docker", "buildx", "bake", "--help"]
    usage = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    return [f"--allow=fs.read={path}" for path in paths] if "--allow " in usage else []


# --- images for a builder without the engine's images ---------------------------------------------


def _reachable(
    definition: Mapping[str, Any], root: Path, engine: Engine, builder: Builder
) -> Mapping[str, Any]:
    """The bake file, with an OCI layout instead of each image that the builder cannot reach."""
    images = local_images(definition)
    if builder.has_images or not images:
        return definition
    ids = engine.ids(images)
    missing = sorted(image for image, id_ in ids.items() if id_ is None)
    if missing:
        raise WorkError(f"the engine has no {', '.join(missing)}, which images are based on")
    layouts = {}
    for image, id_ in ids.items():
        folder = _LAYOUTS / str(id_).replace(":", "-")
        if not (root / folder / "index.json").is_file():
            say(f"Exporting {image} for {builder.title} …")
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
    """Chunks as a stream for tarfile."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._rest = b""

    def read(self, size: int) -> bytes:
        """The next `size` bytes, fewer at the end."""
        while len(self._rest) < size and (chunk := next(self._chunks, b"")):
            self._rest += chunk
        taken, self._rest = self._rest[:size], self._rest[size:]
        return taken
