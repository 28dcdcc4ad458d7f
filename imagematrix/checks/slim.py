"""What is left of that: no more and no less than the rules for it say, and compiled."""

import re
from fnmatch import translate
from functools import cache
from pathlib import PurePosixPath

from imagematrix.checks.check import layer, listing
from imagematrix.checks.running import RunningVariant
from imagematrix.matrix.schema import MINIMAL
from imagematrix.matrix.slim import Verb


@layer(MINIMAL)
def bytecode_is_there(image: RunningVariant) -> None:
    """Modules are compiled, but for those that the matrix leaves without, all of them, and for the
    few that hold sources of another Python than this one."""
    library = f"/usr/local/lib/python{image.variant.python}/"
    files = {
        e.path for e in image.entries if e.kind == "f" and e.path.startswith("/usr/local/lib/")
    }
    sources = [PurePosixPath(path) for path in files if path.endswith(".py")]
    assert len(sources) > 500, f"only {len(sources)} modules: the scan saw nothing"
    tag = f"cpython-{image.variant.python.replace('.', '')}"
    without = image.variant.patterns(Verb.SOURCE)
    bare: list[str] = []
    needless: list[str] = []
    for source in sources:
        compiled = str(source.parent / "__pycache__" / f"{source.stem}.{tag}.pyc") in files
        below = str(source).removeprefix(library)
        if _any_of(without).match(below):
            if compiled:
                needless.append(str(source))
        elif not compiled:
            bare.append(str(source))
    share = len(bare) / len(sources)
    assert share < 0.01, f"{len(bare)} of {len(sources)} modules lack bytecode: {listing(bare)}"
    assert not needless, f"with bytecode in spite of the matrix: {listing(needless)}"


@layer(MINIMAL)
def bytecode_follows_its_source(image: RunningVariant) -> None:
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


_LIBRARY = re.compile(r"/usr/local/lib/python[\d.]+/(.+)")


@cache
def _any_of(patterns: tuple[str, ...]) -> re.Pattern[str]:
    """Matches what a pattern names; nothing where there is none."""
    return re.compile("|".join(f"(?:{translate(pattern)})" for pattern in patterns) or "(?!)")


@cache
def _is_named(path: str, patterns: tuple[str, ...]) -> bool:
    """Whether a pattern names a path below the interpreter's library, or a folder that it is in."""
    if _any_of(patterns).match(path):
        return True
    folder, slash, _ = path.rpartition("/")
    return bool(slash) and _is_named(folder, patterns)


@layer(MINIMAL)
def files_of_the_records_are_there(image: RunningVariant) -> None:
    """Each file that a distribution's RECORD names is there, unless a slim rule removes it."""
    recorded = [path for found in image.distributions for path in found.files]
    assert len(recorded) > 300, f"only {len(recorded)} files are recorded: the scan saw nothing"
    without = [found.name for found in image.distributions if not found.files]
    assert not without, f"without a RECORD, by which pip replaces them: {listing(without)}"
    there = {entry.path for entry in image.entries}
    removed = image.variant.patterns(Verb.REMOVE)
    missing = (path for path in recorded if path not in there)
    found = [
        path
        for path in missing
        if not ((below := _LIBRARY.fullmatch(path)) and _is_named(below[1], removed))
    ]
    assert not found, f"recorded, but missing: {listing(found)}"


@layer(MINIMAL)
def what_is_removed_is_gone(image: RunningVariant) -> None:
    """Nothing is left of the interpreter and its packages that a slim rule removes."""
    below = [match[1] for e in image.entries if (match := _LIBRARY.fullmatch(e.path))]
    packaged = sum(path.startswith("site-packages/") for path in below)
    assert packaged > 500, f"only {packaged} paths below site-packages: the scan saw nothing"
    assert len(below) - packaged > 500, "few paths of the standard library: the scan saw nothing"
    found = [path for path in below if _is_named(path, image.variant.patterns(Verb.REMOVE))]
    assert not found, f"removed by a rule, but there: {listing(found)}"


@layer(MINIMAL)
def what_is_stripped_has_no_symbols(image: RunningVariant) -> None:
    """The libraries that a slim rule strips have no table of symbols but that of the loader."""
    strip = image.variant.patterns(Verb.STRIP)
    if not strip:
        return
    found = (_LIBRARY.fullmatch(e.path) for e in image.entries if e.kind == "f")
    files = [m[0] for m in found if m and _is_named(m[1], strip) and ".libs/" not in m[0]]
    assert files, f"nothing matches {listing(strip)}"
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
