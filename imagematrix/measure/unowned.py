"""Files of an image that belong to nothing that its SBOM lists.

Every file and every link of an image is either dpkg's, recorded by a Python package, CPython's, the
server's, or made by one of the steps that `_MADE` lists. The rest is "unowned": a module without a
package, a library that was copied, a program without updates. CPython has no list of its files: of
its library, the names of the top-level modules are compared, and not what is inside of them.
"""

import posixpath
import re
import sys
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path, PurePosixPath

from imagematrix.measure.contents import DPKG, SERVER, ImageFiles, debian_stanzas, installed_files

# Links and files that no package lists, by what makes them. Nothing here is on a path that Python
# or the loader searches, but for the links of the server.
_MADE = re.compile(
    "|".join(
        (
            # dpkg's and apt's own records.
            rf"{DPKG}/(?:status|diversions|statoverride|available|arch(?:-native)?|cmethopt)(?:-old)?",
            rf"{DPKG}/(?:lock(?:-frontend)?|triggers/[^/]+|alternatives/[^/]+|info/format)",
            r"/var/lib/apt/extended_states|/var/cache/debconf/[^/]+\.dat(?:-old)?",
            # Debian's base: the links of a merged /usr, accounts, PAM, time zone, settings
            # of dpkg and apt, sources of packages; what official images add.
            # https://github.com/debuerreotype/debuerreotype
            r"/(?:bin|sbin|lib(?:32|64|x32)?)|/etc/(?:machine-id|resolv\.conf)",
            r"/etc/(?:passwd|group|shadow|gshadow|subuid|subgid|shells|\.pwd\.lock|environment|fstab)",
            r"/etc/(?:hostname|inputrc|localtime|timezone|motd|nsswitch\.conf|profile|ld\.so\.cache)",
            r"/etc/(?:pam\.d/common-[a-z-]+|security/opasswd|dpkg/origins/default)",
            r"/etc/(?:ca-certificates\.conf|ssl/certs/[^/]+)",
            r"/etc/(?:apt/(?:sources\.list|apt\.conf)(?:\.d/[^/]+)?|dpkg/dpkg\.cfg\.d/[^/]+)",
            r"/var/lib/(?:pam/[^/]+|shells\.state|systemd/deb-systemd-helper-enabled/.+)",
            r"/usr/share/info/dir|/usr/sbin/policy-rc\.d|/var/spool/mail|/usr/local/man",
            r"/(?:root|home/dockeruser)/\.(?:bashrc|profile|bash_logout)",
            # Links by which Debian starts services and selects alternatives.
            r"/etc/(?:rc[0-6S]\.d|systemd/system/[^/]+\.wants|alternatives)/[^/]+",
            # The server's links, and where the loader finds CUDA: base/tools/bin.
            r"/usr/local/bin/azmlinfsrv|/usr/local/lib/inference-server/httptools",
            r"/usr/local/lib/python3\.\d+/site-packages/inference-server\.pth",
            r"/etc/ld\.so\.conf\.d/cuda\.conf",
        )
    )
)
_DEVICE = re.compile(r"/dev/.*")
# CPython's programs, with those of pip's companions that official images leave, and its library.
_PYTHON = re.compile(
    r"/usr/local/bin/(?:python(?:3(?:\.\d+m?)?)?(?:-config)?|pydoc(?:3(?:\.\d+)?)?"
    r"|2to3(?:-3\.\d+)?|pyvenv(?:-3\.\d+)?|wheel|easy_install(?:-3\.\d+)?)"
    r"|/usr/local/lib/(?:libpython3(?:\.\d+m?)?\.so(?:\.1\.0)?|pkgconfig/python-?3[^/]*\.pc)"
    r"|/usr/local/include/python3\.\d+m?/.*"
)
# The first name below the interpreter's library, and below its folder of compiled modules.
_LIBRARY = re.compile(
    r"/usr/local/lib/python3\.\d+/(?:lib-dynload/|__pycache__/)?([^/.]+)(?:[/.].*)?"
)
# What other Pythons than the one that runs this have in their libraries, from 3.7 to 3.14, and the
# names that `sys.stdlib_module_names` leaves out.
_OTHER_MODULE = re.compile(
    r"LICENSE|__hello__|__phello__|_android_support|_apple_support|_ast_unparse|_bootlocale"
    r"|_bootsubprocess|_colorize|_crypt|_dummy_thread|_hmac|_interpchannels|_interpqueues"
    r"|_interpreters|_ios_support|_opcode_metadata|_py_warnings|_pydatetime|_pylong|_pyrepl"
    r"|_remote_debugging|_sha2|_sha256|_sha512|_sysconfig|_typing|_zstd|aifc|annotationlib"
    r"|asynchat|asyncore|audioop|binhex|cgi|cgitb|chunk|compression|crypt|distutils"
    r"|dummy_threading|formatter|imghdr|imp|lib2to3|macpath|mailcap|msilib|nis|nntplib"
    r"|nturl2path|ossaudiodev|parser|pathlib|pipes|smtpd|sndhdr|spwd|string|sunau|symbol"
    r"|telnetlib|uu|xdrlib|_sysconfigdata_.*|config-3|_test\w*|_ctypes_test|_?xx\w*"
)
_BYTECODE = re.compile(r"(.*)/__pycache__/([^/]+)\.cpython-\d+(?:\.opt-[12])?\.pyc")
# Where the libraries of CUDA are copied to from an image of NVIDIA's.
CUDA_FOLDER = "/usr/local/cuda"
# A sentence names so many.
_MOST = 8


def server_files(root: Path) -> frozenset[str]:
    """Where the files of the server are in an image. `root` is the repository's."""
    folder = root / "base" / "server"
    below = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return frozenset(str(PurePosixPath(SERVER) / path.as_posix()) for path in below)


def findings(
    files: ImageFiles, server: Collection[str], copied: Collection[str] = ()
) -> tuple[str, ...]:
    """What is in an image, but in no package of it, and packages without their files: a sentence
    for each of these kinds.

    `server` has the paths of the server's files, `copied` the folders that its Dockerfile copies
    from other images.
    """
    found = {
        "in no package": unowned_files(files, server, copied),
        "installed, but none of its files is there": tuple(_hollow(files)),
    }
    return tuple(f"{kind}: {_listing(names)}" for kind, names in found.items() if names)


def _listing(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST} more" if len(names) > _MOST else ""
    return ", ".join(names[:_MOST]) + more


def unowned_files(
    files: ImageFiles, server: Collection[str], copied: Collection[str] = ()
) -> tuple[str, ...]:
    """The files and links that no package has; the parameters are those of `findings`."""
    listed = _listed_by_dpkg(files)
    owned = {path for paths in listed.values() for path in paths}
    owned |= {path for one in installed_files(files) for path in one.recorded}
    owned |= set(server)
    above = tuple(f"{folder.rstrip('/')}/" for folder in copied)
    return tuple(
        sorted(
            path
            for path, entry in files.tree.items()
            if entry.type != "folder"
            and path not in owned
            and not _is_bytecode(files, path, owned)
            and not _is_known(path, entry.type)
            and not entry.link.startswith("/etc/alternatives/")
            and not path.startswith(above)
            and not _belongs_to_dpkg(path, listed)
        )
    )


def _is_bytecode(files: ImageFiles, path: str, owned: Collection[str]) -> bool:
    """Whether a file is the bytecode of a module that is there, and belongs to a package."""
    match = _BYTECODE.fullmatch(path)
    source = f"{match[1]}/{match[2]}.py" if match else ""
    return source in owned and source in files.tree


def _is_known(path: str, kind: str) -> bool:
    if _MADE.fullmatch(path) or _PYTHON.fullmatch(path):
        return True
    if _DEVICE.fullmatch(path) and kind != "file":
        return True
    match = _LIBRARY.fullmatch(path)
    return match is not None and _is_of_the_library(match[1])


def _is_of_the_library(name: str) -> bool:
    return name in sys.stdlib_module_names or bool(_OTHER_MODULE.fullmatch(name))


def _listed_by_dpkg(files: ImageFiles) -> dict[str, set[str]]:
    """The paths that dpkg has of each installed package (`name`, or `name:architecture`), with
    those that it diverted."""
    names = {
        name
        for stanza in debian_stanzas(files)
        for name in (stanza["Package"], f"{stanza['Package']}:{stanza['Architecture']}")
    }
    listed = {}
    for name in names:
        text = files.text(f"{DPKG}/info/{name}.list")
        if text:
            listed[name] = {files.place(line) for line in text.splitlines() if line != "/."}
    # Three lines for each: the path, the path to which it is diverted, the package that does it.
    diversions = files.text(f"{DPKG}/diversions").splitlines()
    listed[""] = {files.place(path) for path in diversions[1::3]}
    return listed


def _belongs_to_dpkg(path: str, listed: Collection[str]) -> bool:
    """Whether a file is dpkg's own about an installed package."""
    folder, name = posixpath.split(path)
    return folder == f"{DPKG}/info" and name.rpartition(".")[0] in listed


def _hollow(files: ImageFiles) -> Iterator[str]:
    """The packages of which only the record is there."""
    for name, paths in sorted(_listed_by_dpkg(files).items()):
        if name and not any(_is_file(files, path) for path in paths):
            yield name
    for one in installed_files(files):
        others = [path for path in one.recorded if not path.startswith(f"{one.metadata}/")]
        if others and not any(_is_file(files, path) for path in others):
            yield posixpath.basename(one.metadata)


def _is_file(files: ImageFiles, path: str) -> bool:
    entry = files.tree.get(path)
    return entry is not None and entry.type != "folder"
