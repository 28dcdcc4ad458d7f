"""`examples`: make the examples in their images, and compare them with the committed ones."""

import argparse
import contextlib
import io
import shutil
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import docker

from imagematrix.commands.options import add_selection, selection_of
from imagematrix.console import say
from imagematrix.errors import WorkError
from imagematrix.host.setup import ensure_engine
from imagematrix.matrix.selection import select
from imagematrix.plan.bake import image_tag
from imagematrix.repository.examples import EXAMPLES, Example, examples_of
from imagematrix.repository.project import Project

_HERE = "/tmp"
_MADE = "made"
_COMMITTED = "committed"
# The exit status of examples/make.py if something differs.
_DIFFERS = 3


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    add_selection(parser)
    parser.add_argument("--write", action="store_true", help="write what differs")


def run(project: Project, options: argparse.Namespace) -> int:
    """Makes the examples of the chosen images.

    Returns the exit status: 1 where something differs and is not written, or an image is not built
    here. Raises WorkError where an example cannot be made in its image.
    """
    names = {variant.name for variant in select(project.variants, selection_of(options))}
    examples = examples_of(project.root, project.variants)
    chosen = [example for example in examples if example.maker in names]
    if not chosen:
        makers = ", ".join(dict.fromkeys(example.maker for example in examples))
        say(f"No chosen image makes an example; these do: {makers}")
        return 0
    engine = ensure_engine()
    ids = engine.ids([image_tag(example.maker) for example in chosen])
    good = True
    with contextlib.closing(engine.client()) as client:
        for example in chosen:
            if ids[image_tag(example.maker)] is None:
                build = f"`nox -s build -- {example.maker}`"
                print(f"{example.folder}: {example.maker} is not built here; run {build}")
                good = False
                continue
            say(f"Making {example.folder} in {example.maker} …")
            started = time.monotonic()
            with made(client, project.root, example) as (differences, folder):
                for line in differences or [f"as committed ({time.monotonic() - started:.1f} s)"]:
                    print(f"{example.folder}: {line}")
                if differences and not options.write:
                    print(
                        f"{example.folder}: `nox -s examples -- --write {example.maker}` writes it"
                    )
                    good = False
                elif differences:
                    for name in write(folder, project.root / example.folder):
                        print(f"wrote {example.folder}/{name}")
    return 0 if good else 1


@contextlib.contextmanager
def made(
    client: docker.DockerClient, root: Path, example: Example
) -> Iterator[tuple[list[str], Path]]:
    """Makes an example in its image: the differences, in words, and a folder with the files, which
    is removed at the end.

    The container has no network, is not root, and works on copies, so it can change nothing here.
    Raises WorkError where the example cannot be made.
    """
    container = client.containers.create(
        image_tag(example.maker),
        ["python", "-m", "examples.make", example.module, _COMMITTED, _MADE],
        working_dir=_HERE,
        network_mode="none",
        labels={"inference.example": str(example.folder)},
    )
    try:
        container.put_archive(_HERE, _given(root, example))
        container.start()
        status = container.wait()["StatusCode"]
        output = container.logs(stdout=True, stderr=False).decode(errors="replace")
        if status not in (0, _DIFFERS):
            errors = container.logs(stdout=False, stderr=True, tail=30).decode(errors="replace")
            raise WorkError(f"{errors}{example.script} ended with {status} in {example.maker}")
        with tempfile.TemporaryDirectory() as folder:
            chunks, _ = container.get_archive(f"{_HERE}/{_MADE}")
            with tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as tar:
                tar.extractall(folder, filter="data")
            yield output.splitlines() if status else [], Path(folder, _MADE)
    finally:
        container.remove(force=True, v=True)


def _given(root: Path, example: Example) -> bytes:
    """The archive for the container: the generators, the committed example, and a folder that every
    user may write to."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        tar.add(root / EXAMPLES, EXAMPLES.name, filter=_readable)
        tar.add(root / example.folder, _COMMITTED, filter=_readable)
        folder = tarfile.TarInfo(_MADE)
        folder.type, folder.mode = tarfile.DIRTYPE, 0o777
        tar.addfile(folder)
    return buffer.getvalue()


def _readable(info: tarfile.TarInfo) -> tarfile.TarInfo | None:
    info.uid = info.gid = 0
    info.mode = 0o755 if info.isdir() else 0o644
    return None if info.name.endswith("__pycache__") else info


def write(made: Path, folder: Path) -> list[str]:
    """Replaces files and folders of the same names; returns their names."""
    for source in sorted(made.iterdir()):
        target = folder / source.name
        if source.is_dir():
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(source, target, copy_function=shutil.copyfile)
        else:
            shutil.copyfile(source, target)
    return sorted(source.name for source in made.iterdir())
