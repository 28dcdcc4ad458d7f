"""The file trees of images, and what our images leave out of plain ones."""

import fnmatch
import json
import subprocess
import tarfile
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from imagematrix.host.engine import Engine
from imagematrix.matrix.slim import Verb
from imagematrix.matrix.variant import Variant
from imagematrix.measure.layers import layer_size
from imagematrix.repository.sizes import Size

LEFT_OUT = "/etc/dpkg/dpkg.cfg.d/inference-images"


@dataclass(frozen=True)
class Tree:
    """The final tree of an image: by path, the bytes that a file takes in a layer's archive; `size`
    is that of all its layers, `left_out` are the path-excludes of its dpkg."""

    files: Mapping[str, int]
    size: Size
    left_out: tuple[str, ...]

    @property
    def hidden(self) -> int:
        """Bytes in layers that are not in the final tree."""
        return self.size.uncompressed - sum(self.files.values())


def read_tree(engine: Engine, image: str, scratch: Path) -> Tree:
    """Reads the layers of a local image, as the engine saves them into the folder `scratch`."""
    with tempfile.NamedTemporaryFile(dir=scratch, suffix=".tar") as saved:
        command = ["docker", "image", "save", "--output", saved.name, image]
        subprocess.run(command, env=engine.environ(), check=True)
        with tarfile.open(saved.name) as archive:
            manifest = json.load(_member(archive, "manifest.json"))[0]
            files: dict[str, int] = {}
            size, left_out = Size(0, 0), ""
            for name in manifest["Layers"]:
                size += layer_size(_member(archive, name))[1]
                with tarfile.open(fileobj=_member(archive, name)) as layer:
                    lay_over(files, layer)
                    left_out = _left_out(layer) or left_out
    return Tree(files, size, tuple(left_out.split()))


def _member(archive: tarfile.TarFile, name: str) -> IO[bytes]:
    file = archive.extractfile(name)
    assert file is not None, f"{name} is no file of the archive"
    return file


def lay_over(files: dict[str, int], layer: tarfile.TarFile) -> None:
    """Applies a layer to `files`, a tree by path."""
    start = 0
    for info in layer:
        # The headers before the content, and the content in blocks of 512 bytes.
        end = info.offset_data + -(-info.size // 512) * 512 * info.isreg()
        size, start = end - start, end
        path = PurePosixPath("/", info.name)
        if path.name.startswith(".wh."):
            gone = str(path.with_name(path.name.removeprefix(".wh.")))
            for known in [f for f in files if f == gone or f.startswith(f"{gone}/")]:
                del files[known]
        else:
            files[str(path)] = size


def _left_out(layer: tarfile.TarFile) -> str:
    try:
        text = _member(layer, LEFT_OUT.lstrip("/")).read().decode()
    except KeyError:
        return ""
    return text.replace("path-exclude=", "")


def savings(variant: Variant, plain: Tree, ours: Tree) -> dict[str, int]:
    """The bytes that each rule saves: of the plain image's files that are gone or smaller in ours,
    by the first rule that matches."""
    library = f"/usr/local/lib/python{variant.python}/"
    saved: dict[str, int] = {}
    for path, size in plain.files.items():
        less = size - ours.files.get(path, 0)
        if less > 0:
            what = _entry(variant, path, library, ours.left_out)
            saved[what] = saved.get(what, 0) + less
    return dict(sorted(saved.items(), key=lambda item: -item[1]))


def _entry(variant: Variant, path: str, library: str, left_out: Iterable[str]) -> str:
    below = path.removeprefix(library)
    if path.endswith(".pyc"):
        # The name of bytecode is that of its source and of the interpreter.
        source = below.replace("__pycache__/", "").partition(".cpython-")[0] + ".py"
        for rule in variant.slim:
            if rule.verb is Verb.SOURCE and fnmatch.fnmatchcase(source, rule.pattern):
                return f"bytecode: {rule.reason}"
    if path.startswith(library):
        parts = PurePosixPath(below).parts
        parents = ["/".join(parts[: i + 1]) for i in range(len(parts))]
        # A compiled stub or test goes with its source.
        for rule in variant.slim:
            if rule.verb is not Verb.SOURCE and fnmatch.filter(parents, rule.pattern):
                return f"{rule.reason} (`{rule.pattern}`)"
        if parts[0] == "site-packages":
            return "other packages"
    if any(fnmatch.fnmatchcase(path, pattern) for pattern in left_out):
        return "left out of Debian's packages"
    return "CPython" if path.startswith("/usr/local/") else "other of Debian"
