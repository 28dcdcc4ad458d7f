"""Layers of a small image, made up: Debian with two packages, CPython, a package and the server."""

import io
import tarfile
from collections.abc import Mapping

from imagematrix.measure.contents import ImageFiles, LayerFiles, image_of, read_layer

LIBRARY = "usr/local/lib/python3.12"
SITE = f"{LIBRARY}/site-packages"
# A symbolic link is its target after an arrow, a folder is None.
Files = Mapping[str, str | bytes | None]

STATUS = """\
Package: bash
Status: install ok installed
Architecture: amd64
Version: 5.2.37-2+b10
Source: bash (5.2.37-2)
Description: a shell
 with a longer text

Package: gone
Status: deinstall ok config-files
Architecture: amd64
Version: 1.0

Package: libgcc-s1
Status: install ok installed
Architecture: amd64
Multi-Arch: same
Version: 14.2.0-19
Source: gcc-14
"""
COPYRIGHT = """\
Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/

Files: *
License: GPL-3+

License: Expat
 Permission is hereby granted
"""
DEBIAN: Files = {
    "bin": "-> usr/bin",
    "etc/os-release": "-> ../usr/lib/os-release",
    "usr/lib/os-release": 'NAME="Debian GNU/Linux"\nVERSION_CODENAME=trixie\nID=debian\n',
    "etc/passwd": "root:x:0:0::/root:/bin/sh\n",
    "usr/bin/bash": "program",
    "usr/bin/sh": "-> dash",
    "usr/bin/awk": "-> /etc/alternatives/awk",
    "usr/lib/libgcc_s.so.1": "library",
    "usr/lib/libgcc_s.so.1.old": "diverted",
    "usr/share/doc/bash/copyright": COPYRIGHT,
    "usr/share/doc/gcc-14-base/copyright": "see /usr/share/common-licenses/GPL-3.\n",
    "usr/share/doc/libgcc-s1": "-> gcc-14-base",
    "var/lib/dpkg/status": STATUS,
    "var/lib/dpkg/diversions": "/usr/lib/libgcc_s.so.1\n/usr/lib/libgcc_s.so.1.old\nbash\n",
    "var/lib/dpkg/info/bash.list": "/.\n/bin\n/bin/bash\n/bin/sh\n/usr/share/doc/bash/copyright\n"
    "/usr/lib/os-release\n/etc/os-release\n/bin\n",
    "var/lib/dpkg/info/bash.md5sums": "",
    "var/lib/dpkg/info/libgcc-s1:amd64.list": "/.\n/usr/lib/libgcc_s.so.1\n"
    "/usr/share/doc/libgcc-s1\n/usr/share/doc/gcc-14-base/copyright\n",
}
PROGRAM = b"\x7fELF\0lib/python3.12\x003.12.0a\0/usr/local/////3.12.1\0x3.12.1/lib\0" + b"\0" * 40
PYTHON: Files = {
    "usr/local/bin/python3": "-> python3.12",
    "usr/local/bin/python3.12": b"\x7fELF\0main\0",
    "usr/local/lib/libpython3.12.so.1.0": PROGRAM.replace(b"3.12.0a", b"3.1"),
    f"{LIBRARY}/json/__init__.py": "",
    f"{LIBRARY}/json/__pycache__/__init__.cpython-312.pyc": "",
    f"{LIBRARY}/lib-dynload/_ssl.cpython-312-x86_64-linux-gnu.so": "",
    f"{LIBRARY}/asyncore.py": "",
    "opt/inference-server/inference_server/__init__.py": '__version__ = "1.0.0"\n',
    "opt/inference-server/inference_server/_vendor/README.md": "# Packages\n\nA part of"
    " [Werkzeug](https://werkzeug.palletsprojects.com) 3.1.9, the release\n",
}
SERVER = frozenset(f"/{path}" for path in PYTHON if path.startswith("opt/inference-server/"))


def distribution(
    name: str, version: str, files: Files, metadata: str = "", top: str = SITE
) -> dict[str, str | bytes | None]:
    """The files of an installed package, with a RECORD of them."""
    folder = f"{name}-{version}.dist-info"
    head = f"Metadata-Version: 2.4\nName: {name}\nVersion: {version}\n{metadata}\nText\n"
    own = {f"{folder}/METADATA": head, **files}
    record = "".join(f'"{path}",sha256=x,1\n' for path in (*own, f"{folder}/RECORD"))
    return {f"{top}/{path}": text for path, text in {**own, f"{folder}/RECORD": record}.items()}


HTTPTOOLS = distribution(
    "HTTP_Tools", "0.9.0", {"httptools/__init__.py": ""}, "License-Expression: MIT\n"
)


def archive(files: Files) -> io.BytesIO:
    """A layer with these files, in this order."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for path, content in files.items():
            info = tarfile.TarInfo(path)
            data = content.encode() if isinstance(content, str) else content or b""
            if content is None:
                info.type = tarfile.DIRTYPE
            elif data.startswith((b"-> ", b"=> ")):
                info.type = tarfile.SYMTYPE if data.startswith(b"-> ") else tarfile.LNKTYPE
                info.linkname, data = data[3:].decode(), b""
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    buffer.seek(0)
    return buffer


def layer(files: Files) -> LayerFiles:
    """The same, read."""
    return read_layer(archive(files))


def image(*layers: Files) -> ImageFiles:
    """An image with these layers, lowest first, above Debian, CPython and a package."""
    return image_of(map(layer, ({**DEBIAN, **PYTHON, **HTTPTOOLS}, *layers)))
