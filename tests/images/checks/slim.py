"""What is left of that: no more and no less than the matrix says, and compiled."""

import re
from fnmatch import translate
from functools import cache
from pathlib import PurePosixPath

from imagematrix.matrix.schema import MINIMAL
from imagematrix.matrix.variant import Trim
from tests.images.checks.check import layer, listing
from tests.images.running import RunningImage


@layer(MINIMAL)
def bytecode_is_there(image: RunningImage) -> None:
    """Modules are compiled, but for those that the matrix leaves without, all of them, and for the
    few that hold sources of another Python than this one."""
    library = f"/usr/local/lib/python{image.variant.python}/"
    files = {
        e.path for e in image.entries if e.kind == "f" and e.path.startswith("/usr/local/lib/")
    }
    sources = [PurePosixPath(path) for path in files if path.endswith(".py")]
    assert len(sources) > 500, f"only {len(sources)} modules: the scan saw nothing"
    tag = f"cpython-{image.variant.python.replace('.', '')}"
    bare: list[str] = []
    needless: list[str] = []
    for source in sources:
        compiled = str(source.parent / "__pycache__" / f"{source.stem}.{tag}.pyc") in files
        below = str(source).removeprefix(library)
        if _any_of(image.variant.uncompiled).match(below):
            if compiled:
                needless.append(str(source))
        elif not compiled:
            bare.append(str(source))
    share = len(bare) / len(sources)
    assert share < 0.01, f"{len(bare)} of {len(sources)} modules lack bytecode: {listing(bare)}"
    assert not needless, f"with bytecode in spite of the matrix: {listing(needless)}"


@layer(MINIMAL)
def bytecode_follows_its_source(image: RunningImage) -> None:
    """It is by the content of the source, and compared with it on import, so that a source which
    somebody changes runs (PEP 552): the flags say 3; 1 where it is not compared, and 0 where it is
    by the time of the source."""
    code = """
import json, os
flags = {}
for top in ("/usr/local/lib", "/opt"):
    for folder, _, names in os.walk(top):
        for path in (f"{folder}/{name}" for name in names if name.endswith(".pyc")):
            with open(path, "rb", buffering=0) as file:
                flags[path] = int.from_bytes(file.read(8)[4:], "little")
print(json.dumps([len(flags), sorted(path for path, flag in flags.items() if flag != 3)]))
"""
    count, others = image.python(code)
    assert count > 300, f"only {count} compiled modules: the scan saw nothing"
    assert not others, f"by time, or not compared: {listing(others)}"


_SITE = re.compile(r"/usr/local/lib/python[\d.]+/site-packages/(.+)")


@cache
def _any_of(trims: tuple[Trim, ...]) -> re.Pattern[str]:
    """Matches what an entry names; nothing where there is none."""
    return re.compile("|".join(f"(?:{translate(trim.path)})" for trim in trims) or "(?!)")


@cache
def _is_trimmed(path: str, trims: tuple[Trim, ...]) -> bool:
    """Whether an entry names a path below site-packages, or a folder that the path is in."""
    if _any_of(trims).match(path):
        return True
    folder, slash, _ = path.rpartition("/")
    return bool(slash) and _is_trimmed(folder, trims)


@layer(MINIMAL)
def files_of_the_records_are_there(image: RunningImage) -> None:
    """Each file that a distribution's RECORD names is there, unless the matrix trims it."""
    recorded = [path for found in image.distributions for path in found.files]
    assert len(recorded) > 300, f"only {len(recorded)} files are recorded: the scan saw nothing"
    without = [found.name for found in image.distributions if not found.files]
    assert not without, f"without a RECORD, by which pip replaces them: {listing(without)}"
    there = {entry.path for entry in image.entries}
    missing = (path for path in recorded if path not in there)
    found = [
        path
        for path in missing
        if not ((below := _SITE.fullmatch(path)) and _is_trimmed(below[1], image.variant.trim))
    ]
    assert not found, f"recorded, but missing: {listing(found)}"


@layer(MINIMAL)
def what_is_trimmed_is_gone(image: RunningImage) -> None:
    """Nothing is left below site-packages of what the matrix trims."""
    below = [match[1] for e in image.entries if (match := _SITE.fullmatch(e.path))]
    assert len(below) > 500, f"only {len(below)} paths below site-packages: the scan saw nothing"
    found = [path for path in below if _is_trimmed(path, image.variant.trim)]
    assert not found, f"trimmed, but there: {listing(found)}"


@layer(MINIMAL)
def what_is_stripped_has_no_symbols(image: RunningImage) -> None:
    """The libraries that the matrix strips have no table of symbols but that of the loader."""
    strip = image.variant.strip
    if not strip:
        return
    matches = (match for e in image.entries if e.kind == "f" and (match := _SITE.fullmatch(e.path)))
    files = [m[0] for m in matches if _is_trimmed(m[1], strip) and ".libs/" not in m[0]]
    assert files, f"nothing matches {listing(entry.path for entry in strip)}"
    # The kinds of the sections of an ELF file: man 5 elf, "Section header (Shdr)".
    found = image.python(
        "import json, struct\n"
        "def symbols(path):\n"
        "    with open(path, 'rb') as file:\n"
        "        head = file.read(64)\n"
        "        if head[:4] != b'\\x7fELF':\n"
        "            return False\n"
        "        start, size, count = struct.unpack_from('<Q10xHH', head, 40)\n"
        "        file.seek(start)\n"
        "        table = file.read(size * count)\n"
        "    return 2 in (struct.unpack_from('<I', table, i * size + 4)[0] for i in range(count))\n"
        f"print(json.dumps([path for path in {files!r} if symbols(path)]))"
    )
    assert not found, f"not stripped: {listing(found)}"
