"""What is in an image, read from its layers: no container is started."""

import csv
import json
import posixpath
import re
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from email.message import Message
from email.parser import HeaderParser
from functools import cached_property
from typing import Any

import docker
import docker.errors
from packaging.utils import canonicalize_name

from imagematrix.errors import UserError, WorkError
from imagematrix.host.engine import layers_of
from imagematrix.measure.layers import read_layers
from imagematrix.measure.trees import Entry, Tree, entry_of, joined, merged, path_of
from imagematrix.release.contents import (
    Bundled,
    DebianPackage,
    Distribution,
    ImageContents,
)

SERVER = "/opt/inference-server"
DPKG = "/var/lib/dpkg"
_VERSION_OF_SERVER = f"{SERVER}/inference_server/__init__.py"
_BUNDLED_IN_SERVER = f"{SERVER}/inference_server/_vendor/README.md"
_OS_RELEASE = "/etc/os-release"
# The files whose content is read.
_KEPT = re.compile(
    r"/(?:etc|usr/lib)/os-release"
    rf"|{DPKG}/(?:status|status\.d/[^/]+|diversions|info/[^/]+\.list)"
    r"|/usr/share/doc/[^/]+/copyright"
    r"|.*\.dist-info/(?:METADATA|RECORD|sboms/[^/]+)|.*\.egg-info(?:/PKG-INFO)?"
    r"|.*/_vendor/vendor\.txt"
    rf"|{_VERSION_OF_SERVER}|{_BUNDLED_IN_SERVER}"
)
# The interpreter's own code: in its library, or in the program where that is linked statically.
_PYTHON = re.compile(r"/usr/local/(?:lib/libpython|bin/python)(3\.\d+)m?(?:\.so\.1\.0)?")
_BLOCK = 1 << 20


@dataclass(frozen=True)
class LayerFiles:
    """The entries of a layer, and the content of the files in it that say what it holds. That of a
    file of the interpreter is the full versions of CPython in it, a line each."""

    tree: Tree
    contents: Mapping[str, bytes]


@dataclass(frozen=True)
class ImageFiles:
    """The same of an image, as a container of it sees them."""

    tree: Tree
    contents: Mapping[str, bytes]

    def text(self, path: str) -> str:
        """The text of a file, empty where there is none; symbolic links are followed."""
        return self.contents.get(self.resolved(path), b"").decode("utf-8", errors="replace")

    def resolved(self, path: str) -> str:
        """The path with all symbolic links followed."""
        for _ in range(40):
            path = self.place(path)
            entry = self.tree.get(path)
            if entry is None or entry.type != "symbolic link":
                break
            path = posixpath.normpath(posixpath.join(posixpath.dirname(path), entry.link))
        return path

    def place(self, path: str) -> str:
        """The path with the symbolic links of its folders followed, but not its own."""
        folder, name = posixpath.split(path)
        return posixpath.join(self._folder(folder), name)

    def _folder(self, folder: str) -> str:
        if folder in ("", "/"):
            return "/"
        if folder not in self._folders:
            self._folders[folder] = self.resolved(folder)
        return self._folders[folder]

    @cached_property
    def _folders(self) -> dict[str, str]:
        return {}


def read_contents(client: docker.DockerClient, image: str) -> ImageContents:
    """What is in an image of the engine.

    Raises UserError where the engine does not have it, and WorkError where its layers do not say
    what is in it.
    """
    return contents_of(read_image(client, image), image)


def read_image(
    client: docker.DockerClient, image: str, known: dict[str, LayerFiles] | None = None
) -> ImageFiles:
    """The files of an image of the engine that say what it holds, as a container sees them.

    `known` has layers that were read before, by digest, and gets the others: images share layers.
    Raises UserError where the engine does not have the image.
    """
    try:
        layers = layers_of(client.api.inspect_image(image))
    except docker.errors.ImageNotFound:
        raise UserError(f"the engine has no image {image}") from None
    known = {} if known is None else known
    if lacking := set(layers) - known.keys():
        known |= read_layers(client, image, lacking, read_layer)
    return image_of(known[layer] for layer in layers)


def read_layer(content: Any) -> LayerFiles:
    """The files of a layer's archive, which is read once; none if it is not an archive."""
    tree: dict[str, Entry] = {}
    contents: dict[str, bytes] = {}
    try:
        with tarfile.open(fileobj=content, mode="r|", bufsize=_BLOCK) as archive:
            for member in archive:
                path = path_of(member)
                entry = tree[path] = entry_of(member)
                if entry.type == "hard link" and entry.link in contents:
                    contents[path] = contents[entry.link]
                elif member.isfile() and (file := archive.extractfile(member)) is not None:
                    if _KEPT.fullmatch(path):
                        contents[path] = file.read()
                    elif python := _PYTHON.fullmatch(path):
                        contents[path] = _versions_in(file.read(), python[1])
    except tarfile.ReadError:
        return LayerFiles({}, {})
    return LayerFiles(joined(tree), contents)


def _versions_in(program: bytes, minor: str) -> bytes:
    """The texts in a program that are a full version of this Python, a line each.

    `PY_VERSION` is one of them. It may share its place with the end of a longer text, such as the
    folder of an installation that is named by the version.
    """
    pattern = rb"(?<![\d.])" + re.escape(minor.encode()) + rb"\.\d+(?:(?:a|b|rc)\d+)?\+?(?=\0)"
    return b"\n".join(sorted(set(re.findall(pattern, program))))


def image_of(layers: Iterable[LayerFiles]) -> ImageFiles:
    """The files of an image with these layers, lowest first."""
    layers = tuple(layers)
    tree = merged(layer.tree for layer in layers)
    # What a higher layer removed is not in the tree; what it replaced is in a later layer.
    contents = {p: text for layer in layers for p, text in layer.contents.items() if p in tree}
    return ImageFiles(tree, contents)


def contents_of(files: ImageFiles, image: str) -> ImageContents:
    """What is in an image with these files. `image` is its name for messages.

    Raises WorkError where they do not say it: no dpkg, no interpreter, no server.
    """
    debian = tuple(sorted(_debian_packages(files), key=lambda one: (one.name, one.architecture)))
    distributions = tuple(sorted(_distributions(files), key=lambda one: (one.name, one.version)))
    interpreters = filter(_PYTHON.fullmatch, files.contents)
    versions = sorted({one for path in interpreters for one in files.text(path).split()})
    server = re.search(r'^__version__ = "(.+)"$', files.text(_VERSION_OF_SERVER), re.MULTILINE)
    fields = dict(re.findall(r'^([A-Z_]+)="?(.*?)"?$', files.text(_OS_RELEASE), re.MULTILINE))
    suite = fields.get("VERSION_CODENAME", "")
    unknown = {
        "packages of Debian": not debian,
        "packages of Python": not distributions,
        f"one version of CPython (found: {', '.join(versions) or 'none'})": len(versions) != 1,
        "a version of the server": server is None,
        "a Debian release": not suite,
    }
    if lacking := [what for what, is_unknown in unknown.items() if is_unknown]:
        raise WorkError(f"the layers of {image} do not show {'; '.join(lacking)}")
    return ImageContents(
        python=versions[0],
        server=server[1] if server is not None else "",
        suite=suite,
        debian=debian,
        distributions=distributions,
        server_bundled=_bundled_in_server(files),
    )


def _bundled_in_server(files: ImageFiles) -> tuple[Bundled, ...]:
    """What the server bundles, by the first line about each in its own list of it."""
    text = files.text(_BUNDLED_IN_SERVER)
    found = re.findall(r"^A part of \[(\S+)\]\(\S+\) (\d[\w.]*\w)", text, re.MULTILINE)
    return tuple(sorted(python_part(name, version) for name, version in found))


def python_part(name: str, version: str) -> Bundled:
    """A Python package that another one bundles."""
    name = canonicalize_name(name)
    return name, version, f"pkg:pypi/{name}@{version}"


def debian_stanzas(files: ImageFiles) -> Iterator[Message]:
    """dpkg's record of each installed package.

    https://www.debian.org/doc/debian-policy/ch-controlfields.html; images without dpkg have a file
    per package in status.d.
    """
    folder = f"{DPKG}/status.d/"
    parts = [p for p in sorted(files.contents) if p.startswith(folder)]
    for path in (f"{DPKG}/status", *parts):
        for block in files.text(path).split("\n\n"):
            stanza = HeaderParser().parsestr(block.lstrip("\n"))
            status = stanza.get("Status", "install ok installed" if path in parts else "")
            if stanza.get("Package") and status.split()[-1:] == ["installed"]:
                yield stanza


def _debian_packages(files: ImageFiles) -> Iterator[DebianPackage]:
    for stanza in debian_stanzas(files):
        name, version = stanza["Package"], stanza["Version"]
        # `Source: gcc-14 (14.2.0-19)`, where it has another name or version than the package.
        source, _, source_version = stanza.get("Source", name).partition(" ")
        yield DebianPackage(
            name=name,
            version=version,
            architecture=stanza["Architecture"],
            source=source,
            source_version=source_version.strip(" ()") or version,
            licences=_debian_licences(files.text(f"/usr/share/doc/{name}/copyright")),
        )


def _debian_licences(text: str) -> tuple[str, ...]:
    """The short names of licences in a copyright file; of one that is not machine-readable, the
    common licences that it refers to.

    https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
    """
    names = re.findall(r"^License:[ \t]*(\S.*)$", text, re.MULTILINE)
    common = re.findall(r"/usr/share/common-licenses/([A-Za-z][\w.+-]*[\w+])", text)
    return tuple(sorted({" ".join(name.split()) for name in names or common}))


@dataclass(frozen=True)
class InstalledFiles:
    """A distribution's folder of metadata, and the files that it records, with their full paths;
    `recorded` is empty where it has no RECORD."""

    metadata: str
    recorded: tuple[str, ...]


def installed_files(files: ImageFiles) -> list[InstalledFiles]:
    """Every distribution of an image, by the folder of its metadata.

    https://packaging.python.org/en/latest/specifications/recording-installed-packages/
    """
    found = []
    for path in sorted(files.contents):
        match = re.fullmatch(r"(.*\.(?:dist|egg)-info)(?:/(?:METADATA|PKG-INFO))?", path)
        if match is None:
            continue
        top = posixpath.dirname(match[1])
        rows = csv.reader(files.text(f"{match[1]}/RECORD").splitlines())
        paths = (posixpath.normpath(posixpath.join(top, row[0])) for row in rows if row)
        found.append(InstalledFiles(match[1], tuple(files.place(one) for one in paths)))
    return found


def _distributions(files: ImageFiles) -> Iterator[Distribution]:
    installed = installed_files(files)
    heads = {path: one.metadata for one in installed for path in _heads_of(one.metadata)}
    # A distribution that another one records as files of its own is bundled by that one.
    owners = {
        heads[path]: one.metadata
        for one in installed
        for path in one.recorded
        if heads.get(path, one.metadata) != one.metadata
    }
    inside: dict[str, list[Bundled]] = {}
    own = []
    for one in installed:
        head = _head(files, one.metadata)
        if one.metadata in owners:
            part = python_part(head["Name"], head["Version"])
            inside.setdefault(owners[one.metadata], []).append(part)
        else:
            own.append((one, head))
    for one, head in own:
        parts = [*inside.get(one.metadata, []), *_bundled(files, one)]
        yield Distribution(
            name=canonicalize_name(head["Name"]),
            version=head["Version"],
            licences=_licences(head),
            libraries=tuple(sorted(p for p in one.recorded if p in files.tree and _is_library(p))),
            bundled=tuple(sorted(set(parts))),
        )


def _heads_of(metadata: str) -> tuple[str, ...]:
    return f"{metadata}/METADATA", f"{metadata}/PKG-INFO", metadata


def _head(files: ImageFiles, metadata: str) -> Message:
    """The fields of a distribution's metadata.

    https://packaging.python.org/en/latest/specifications/core-metadata/
    """
    path = next(path for path in _heads_of(metadata) if path in files.contents)
    head = HeaderParser().parsestr(files.text(path))
    if not head.get("Name") or not head.get("Version"):
        raise WorkError(f"{path} has no name or no version of the package")
    return head


def _licences(head: Message) -> tuple[str, ...]:
    """The licences in a distribution's metadata: the expression, else the name, else classifiers.
    The field for the name often holds the whole text."""
    if expression := head.get("License-Expression", "").strip():
        return (expression,)
    name = head.get("License", "").strip()
    if name and len(name) <= 60 and "\n" not in name and name.upper() not in ("UNKNOWN", "NONE"):
        return (name,)
    classifiers = (text.split(" :: ") for text in head.get_all("Classifier", []))
    return tuple(sorted({parts[-1] for parts in classifiers if parts[0] == "License"}))


# `libgomp-a34b3233.so.1`, and not `_core.cpython-312-x86_64-linux-gnu.so`, which is a module.
_LIBRARY = re.compile(r".*(?:/lib[^/]*|\.libs/[^/]*)\.so(?:\.\d+)*")
_MODULE = re.compile(r".*\.(?:cpython-|abi3\.)[^/]*")


def _is_library(path: str) -> bool:
    return bool(_LIBRARY.fullmatch(path)) and not _MODULE.fullmatch(path)


def _bundled(files: ImageFiles, one: InstalledFiles) -> Iterator[Bundled]:
    """What a distribution says itself that it contains: by its SBOMs (PEP 770, CycloneDX), and by
    the list of what it vendors, as pip has it."""
    for path in one.recorded:
        if posixpath.dirname(path) == f"{one.metadata}/sboms" and path in files.contents:
            yield from _components(_json(files.text(path)))
        elif path.endswith("/_vendor/vendor.txt"):
            for name, version in re.findall(r"^\s*([\w.-]+)==([\w.!+]+)", files.text(path), re.M):
                yield python_part(name, version)


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _components(document: Any) -> Iterator[Bundled]:
    """The components of a CycloneDX document, and those inside of them. What has neither version
    nor package URL is a requirement, or a file."""
    parts = document.get("components") if isinstance(document, dict) else None
    for part in parts if isinstance(parts, list) else []:
        if isinstance(part, dict):
            values = (part.get("name"), part.get("version"), part.get("purl"))
            if all(isinstance(value, str) and value for value in values):
                yield (str(values[0]), str(values[1]), str(values[2]))
            yield from _components(part)
