"""A conda channel, made of a CPython of this host and of wheels, and served on loopback.

Formats: https://docs.conda.io/projects/conda-build/en/stable/resources/package-spec.html and
https://github.com/conda/ceps/blob/main/cep-0035.md (repodata.json, .conda).
"""

import base64
import configparser
import hashlib
import io
import json
import os
import tarfile
import threading
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.parser import HeaderParser
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import zstandard
from packaging.utils import canonicalize_name

from imagematrix.host.bootstrap import Interpreter
from imagematrix.matrix.platforms import EPOCH

# Installers replace it by the prefix that they install to.
PLACEHOLDER = ("/opt/anaconda1anaconda2anaconda3_" + "placehold_" * 30)[:255]
_LEFT_OUT = {
    *("__pycache__", "test", "tests", "idlelib", "turtledemo", "tkinter", "ensurepip"),
    "site-packages",
}


@dataclass(frozen=True)
class File:
    """A file of a package. One with a `link` is a symbolic link to it."""

    content: bytes = b""
    executable: bool = False
    link: str = ""


@dataclass
class Channel:
    """A folder with the packages of a channel; `write` has to be called after the last `add`."""

    folder: Path
    rows: dict[str, dict[str, Any]] = field(default_factory=dict)

    def add(
        self,
        name: str,
        version: str,
        build: str = "0",
        *,
        depends: Sequence[str] = (),
        files: Mapping[str, File] | None = None,
        entry_points: Sequence[str] = (),
        noarch: str = "",
        **more: Any,
    ) -> Path:
        """Writes a package and returns its path. `noarch` is "python" or "generic", empty for
        linux-64; `more` are other fields of its index."""
        subdir = "noarch" if noarch else "linux-64"
        row = {"name": name, "version": version, "build": build, "build_number": 0}
        row |= {"depends": list(depends), "subdir": subdir, "timestamp": EPOCH * 1000, **more}
        if noarch:
            row["noarch"] = noarch
        path = self.folder / subdir / f"{name}-{version}-{build}.conda"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(_package(path.stem, row, files or {}, noarch, entry_points))
        self.rows[f"{subdir}/{path.name}"] = row
        return path

    def write(self) -> None:
        """Writes the indexes of what was added."""
        for subdir in ("linux-64", "noarch"):
            packages = {}
            for place, row in self.rows.items():
                if place.startswith(f"{subdir}/"):
                    content = (self.folder / place).read_bytes()
                    hashes = {
                        "sha256": hashlib.sha256(content).hexdigest(),
                        "md5": hashlib.md5(content).hexdigest(),
                        "size": len(content),
                    }
                    packages[place.partition("/")[2]] = row | hashes
            document = {"info": {"subdir": subdir}, "packages": {}, "packages.conda": packages}
            folder = self.folder / subdir
            folder.mkdir(parents=True, exist_ok=True)
            text = json.dumps(document | {"repodata_version": 1}, sort_keys=True)
            (folder / "repodata.json").write_text(text)

    def add_python(self, interpreter: Interpreter) -> Path:
        """Adds a CPython of this host, and the package that says which ABI it has."""
        series = ".".join(interpreter.version.split(".")[:2])
        abi = f"cp{series.replace('.', '')}" + ("m" if series == "3.7" else "")
        self.add("python_abi", series, f"0_{abi}", noarch="generic")
        return self.add(
            "python",
            interpreter.version,
            "0_cpython",
            depends=["__glibc >=2.17"],
            files=dict(_interpreter_files(interpreter, series)),
            constrains=[f"python_abi {series}.* *_{abi}"],
            python_site_packages_path=f"lib/python{series}/site-packages",
        )

    def add_wheel(self, wheel: Path, series: str, depends: Iterable[str] = ()) -> Path:
        """Adds what is in a wheel, under its own name and version. One with compiled modules is for
        the Python `series` alone."""
        archive = zipfile.ZipFile(wheel)
        names = archive.namelist()
        info = next(n.split("/")[0] for n in names if n.split("/")[0].endswith(".dist-info"))
        metadata = HeaderParser().parsestr(archive.read(f"{info}/METADATA").decode())
        pure = "Root-Is-Purelib: true" in archive.read(f"{info}/WHEEL").decode()
        site = "site-packages" if pure else f"lib/python{series}/site-packages"
        files = {
            f"{site}/{name}": File(archive.read(name))
            for name in names
            if not name.endswith("/") and f"{info[:-10]}.data/" not in name
        }
        files[f"{site}/{info}/INSTALLER"] = File(b"conda\n")
        parser = configparser.ConfigParser(delimiters=("=",))
        if (scripts := f"{info}/entry_points.txt") in names:
            parser.read_string(archive.read(scripts).decode())
        entry_points = []
        if parser.has_section("console_scripts"):
            entry_points = [f"{k} = {v}" for k, v in parser.items("console_scripts")]
        name = canonicalize_name(metadata["Name"])
        if pure:
            return self.add(
                name,
                metadata["Version"],
                "pyh_0",
                depends=["python >=3.7", *depends],
                files=files,
                entry_points=entry_points,
                noarch="python",
            )
        major, minor = series.split(".")
        needs = [f"python >={series},<{major}.{int(minor) + 1}.0a0", f"python_abi {series}.*"]
        build = f"py{major}{minor}_0"
        needs += depends
        return self.add(name, metadata["Version"], build, depends=needs, files=files)


@contextmanager
def served(folder: Path, address: str = "127.0.0.1", credentials: str = "") -> Iterator[str]:
    """The URL of a folder, which is served by HTTP until the context ends, only to those who give
    the credentials (`user:password`) where there are any."""
    handler = type("Handler", (_Handler,), {"credentials": credentials})
    server = ThreadingHTTPServer((address, 0), partial(handler, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://{address}:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(SimpleHTTPRequestHandler):
    credentials = ""

    def send_head(self) -> Any:
        wanted = base64.b64encode(self.credentials.encode()).decode()
        if self.credentials and self.headers.get("Authorization") != f"Basic {wanted}":
            self.send_response(401)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return None
        return super().send_head()

    def log_message(self, format: str, *args: Any) -> None:
        pass


def _package(
    stem: str,
    row: Mapping[str, Any],
    files: Mapping[str, File],
    noarch: str,
    entry_points: Sequence[str],
) -> bytes:
    paths = []
    for path, file in sorted(files.items()):
        entry: dict[str, Any] = {
            "_path": path,
            "path_type": "softlink" if file.link else "hardlink",
            "sha256": hashlib.sha256(file.content).hexdigest(),
            "size_in_bytes": len(file.content),
        }
        if PLACEHOLDER.encode() in file.content:
            entry |= {"prefix_placeholder": PLACEHOLDER, "file_mode": "text"}
        paths.append(entry)
    info = {
        "info/index.json": row,
        "info/paths.json": {"paths": paths, "paths_version": 1},
        "info/about.json": {},
    }
    if noarch == "python":
        python = {"type": "python", "entry_points": list(entry_points)}
        info["info/link.json"] = {"noarch": python, "package_metadata_version": 1}
    parts = {
        "metadata.json": b'{"conda_pkg_format_version": 2}',
        f"pkg-{stem}.tar.zst": _tar(files),
        f"info-{stem}.tar.zst": _tar(
            {name: File(json.dumps(document).encode()) for name, document in info.items()}
        ),
    }
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as output:
        for name, content in parts.items():
            output.writestr(zipfile.ZipInfo(name, (2020, 1, 1, 0, 0, 0)), content)
    return archive.getvalue()


def _tar(files: Mapping[str, File]) -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, file in sorted(files.items()):
            info = tarfile.TarInfo(name)
            info.mtime = EPOCH
            info.mode = 0o755 if file.executable else 0o644
            if file.link:
                info.type, info.linkname = tarfile.SYMTYPE, file.link
            info.size = len(file.content)
            tar.addfile(info, io.BytesIO(file.content))
    return zstandard.ZstdCompressor(level=3).compress(raw.getvalue())


def _interpreter_files(interpreter: Interpreter, series: str) -> Iterator[tuple[str, File]]:
    prefix = interpreter.prefix
    library = prefix / "lib" / f"python{series}"
    found = [prefix / "bin" / f"python{series}", *sorted((prefix / "lib").glob("libpython*.so*"))]
    for folder, folders, names in os.walk(library):
        folders[:] = [
            f for f in sorted(folders) if f not in _LEFT_OUT and not f.startswith("config-")
        ]
        found += [Path(folder, n) for n in sorted(names) if not n.endswith((".pyc", ".a"))]
    for path in found:
        name = path.relative_to(prefix).as_posix()
        if path.is_symlink():
            yield name, File(link=str(path.readlink()))
        else:
            yield name, File(_relocated(path, prefix), os.access(path, os.X_OK))
    for link in ("python3", "python"):
        yield f"bin/{link}", File(link=f"python{series}")


def _relocated(path: Path, prefix: Path) -> bytes:
    """The content of a file of an interpreter, for any prefix."""
    content, old = path.read_bytes(), str(prefix).encode()
    if b"\0" not in content:
        return content.replace(old, PLACEHOLDER.encode())
    # The path of libraries in an ELF file; what is shorter than the string is filled up.
    libraries = old + b"/lib\0"
    return content.replace(libraries, b"$ORIGIN/../lib".ljust(len(libraries), b"\0"))
