"""The file trees of two images, and their differences, path by path."""

import difflib
import hashlib
import json
import tarfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from typing import Any

_CHUNK = 1 << 20
# Differences of texts are shown by lines up to these limits, so never whole programs.
_LONGEST_TEXT = 1 << 18
_MOST_LINES = 8
_KINDS = {
    tarfile.REGTYPE: "file",
    tarfile.AREGTYPE: "file",
    tarfile.DIRTYPE: "folder",
    tarfile.SYMTYPE: "symbolic link",
    tarfile.LNKTYPE: "hard link",
    tarfile.CHRTYPE: "character device",
    tarfile.BLKTYPE: "block device",
    tarfile.FIFOTYPE: "pipe",
}
# Whiteouts: names by which a layer removes files of the layers below it.
# https://github.com/opencontainers/image-spec/blob/main/layer.md#whiteouts
_GONE = ".wh."
_OPAQUE = ".wh..wh..opq"
_XATTR = "SCHILY.xattr."
MISSING = "missing"


@dataclass(frozen=True)
class Entry:
    """One path of a tree. `link` is the target of a symbolic link, or the first path of a file that
    has several by hard links. Differences are named by the fields."""

    type: str
    mode: str
    owner: str
    mtime: float
    link: str = ""
    size: int = 0
    sha256: str = ""
    device: str = ""
    xattrs: str = ""


_FIELDS = tuple(field.name for field in fields(Entry))
Tree = Mapping[str, Entry]


@dataclass(frozen=True)
class Difference:
    """One difference between a first and a second image, at a path or in the configuration.

    `layer` counts from 1, and is 0 where all layers are compared as one tree. `lines` are the
    differing lines of a short text, as in a patch.
    """

    layer: int
    path: str
    what: str
    first: str
    second: str
    lines: tuple[str, ...] = ()


def read_tree(content: Any) -> Tree:
    """The entries of a layer's archive, in its order; none if it is not an archive."""
    entries: dict[str, Entry] = {}
    try:
        with tarfile.open(fileobj=content, mode="r|") as archive:
            for member in archive:
                entries[path_of(member)] = _entry(archive, member)
    except tarfile.ReadError:
        return {}
    return joined(entries)


def _entry(archive: tarfile.TarFile, member: tarfile.TarInfo) -> Entry:
    entry = entry_of(member)
    file = archive.extractfile(member) if member.isfile() else None
    if file is None:
        return entry
    digest = hashlib.sha256()
    while chunk := file.read(_CHUNK):
        digest.update(chunk)
    return replace(entry, sha256=digest.hexdigest())


def entry_of(member: tarfile.TarInfo) -> Entry:
    """The entry of a member of a layer's archive, without the hash of its content."""
    xattrs = {key: value for key, value in member.pax_headers.items() if key.startswith(_XATTR)}
    return Entry(
        type=_KINDS.get(member.type, f"type {member.type!r}"),
        mode=f"{member.mode:04o}",
        owner=f"{member.uid}:{member.gid}",
        mtime=member.mtime,
        link=f"/{member.linkname}" if member.islnk() else member.linkname,
        size=member.size if member.isfile() else 0,
        device=f"{member.devmajor}:{member.devminor}" if member.isdev() else "",
        xattrs=" ".join(f"{key.removeprefix(_XATTR)}={xattrs[key]}" for key in sorted(xattrs)),
    )


def read_texts(content: Any, paths: Collection[str]) -> Mapping[str, str]:
    """The short texts among these paths of a layer's archive, by path."""
    found = {}
    try:
        with tarfile.open(fileobj=content, mode="r|") as archive:
            for member in archive:
                path = path_of(member)
                if path not in paths or not member.isfile() or member.size > _LONGEST_TEXT:
                    continue
                data = archive.extractfile(member)
                with suppress(UnicodeDecodeError):
                    found[path] = data.read().decode() if data is not None else ""
    except tarfile.ReadError:
        return {}
    return {path: text for path, text in found.items() if "\0" not in text}


def text_difference(first: str, second: str) -> tuple[str, ...]:
    """The first differing lines of two texts, as in a patch."""
    lines = difflib.unified_diff(first.splitlines(), second.splitlines(), lineterm="", n=0)
    changed = [line for line in lines if not line.startswith(("---", "+++", "@@"))]
    more = [f"… and {len(changed) - _MOST_LINES} more lines"] if len(changed) > _MOST_LINES else []
    return tuple(changed[:_MOST_LINES] + more)


def path_of(member: tarfile.TarInfo) -> str:
    """The absolute path of a member of a layer's archive."""
    name = member.name.removeprefix("./").strip("/")
    return f"/{name}" if name != "." else "/"


def joined(entries: Mapping[str, Entry]) -> Tree:
    """A layer's entries with hard links resolved. Which of the paths has the content in an archive
    only depends on its order."""
    groups: dict[str, list[str]] = {}
    for path, entry in entries.items():
        if entry.type == "hard link" and entry.link in entries:
            groups.setdefault(entry.link, [entry.link]).append(path)
    found = {}
    for file, paths in groups.items():
        first, *others = sorted(paths)
        found[first] = entries[file]
        found |= {path: replace(entries[file], link=first) for path in others}
    return {path: found.get(path, entry) for path, entry in entries.items()}


def merged(layers: Iterable[Tree]) -> Tree:
    """The tree that a container of an image with these layers sees; `layers` are lowest first."""
    tree: dict[str, Entry] = {}
    for layer in layers:
        gone, emptied = set(), set()
        for path, entry in layer.items():
            folder, _, name = path.rpartition("/")
            if name == _OPAQUE:
                emptied.add(folder)
            elif name.startswith(_GONE):
                gone.add(f"{folder}/{name.removeprefix(_GONE)}")
            elif entry.type != "folder" and path in tree and tree[path].type == "folder":
                gone.add(path)
        if gone or emptied:
            tree = {
                path: entry
                for path, entry in tree.items()
                if path not in gone and not any(a in gone or a in emptied for a in _above(path))
            }
        for path, entry in layer.items():
            if not path.rpartition("/")[2].startswith(_GONE):
                tree[path] = entry
    return tree


def _above(path: str) -> Iterator[str]:
    while path := path.rpartition("/")[0]:
        yield path


def tree_differences(
    first: Tree, second: Tree, layer: int = 0, *, times: bool = True
) -> list[Difference]:
    """The differences between two trees, by path; without `times`, neither modification times nor
    the order of the entries count."""
    found = []
    for path in sorted(first.keys() | second.keys()):
        one, other = first.get(path), second.get(path)
        if one is None or other is None:
            types = [entry.type if entry else MISSING for entry in (one, other)]
            found.append(Difference(layer, path, "type", types[0], types[1]))
        elif one.type != other.type:
            found.append(Difference(layer, path, "type", one.type, other.type))
        elif one != other:
            for name in _FIELDS:
                pair = (getattr(one, name), getattr(other, name))
                if pair[0] != pair[1] and (times or name != "mtime"):
                    texts = [_date(value) if name == "mtime" else str(value) for value in pair]
                    found.append(Difference(layer, path, name, texts[0], texts[1]))
    if times and not found and list(first) != list(second):
        found.append(Difference(layer, "", "order of the entries", "", ""))
    return found


def _date(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()


def config_differences(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[Difference]:
    """The differences between two configurations; of lists, the items that differ."""
    found = []
    one, other = dict(_values("", first)), dict(_values("", second))
    for name in sorted(one.keys() | other.keys()):
        pair = (one.get(name), other.get(name))
        if pair[0] == pair[1]:
            continue
        if isinstance(pair[0], list) and isinstance(pair[1], list):
            own = [item for item in pair[0] if item not in pair[1]]
            added = [item for item in pair[1] if item not in pair[0]]
            pair = (own, added) if own or added else pair
        texts = [MISSING if value is None else _text(value) for value in pair]
        found.append(Difference(0, "", name, texts[0], texts[1]))
    return found


def _values(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for key, part in value.items():
            yield from _values(f"{name}.{key}" if name else key, part)
    elif value not in (None, "", [], {}):
        yield name, value


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)


def layer_differences(
    first: Sequence[Tree], second: Sequence[Tree], above: int = 0
) -> list[Difference]:
    """The differences between two lists of layers, by layer and path, above the lowest `above`."""
    found = []
    for number in range(above, max(len(first), len(second))):
        one, other = (trees[number] if number < len(trees) else {} for trees in (first, second))
        if one is not other:
            found += tree_differences(one, other, number + 1)
    return found
