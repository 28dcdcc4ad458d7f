"""Makes bootstrap bases: local base images for hosts without a registry.

Debian is made from one of its mirrors with mmdebstrap, CPython from an installation on this host.
"""

import contextlib
import io
import os
import shutil
import stat
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import uv
from packaging.version import Version

from imagematrix.console import say
from imagematrix.errors import UserError, WorkError
from imagematrix.host.debian import (
    DebianMirrors,
    apt_get,
    debian_mirrors,
    debian_sources,
    os_release_ids,
)
from imagematrix.host.engine import Engine
from imagematrix.matrix.platforms import EPOCH

BOOTSTRAP_LABEL = "inference.base"
# Official images of CPython have its full version there.
# https://github.com/docker-library/python/blob/master/Dockerfile-linux.template
PYTHON_VARIABLE = "PYTHON_VERSION"


def bootstrap_name(reference: str) -> str:
    """The local name of the bootstrap base for a base image."""
    return f"bootstrap/{reference}"


def make_bootstrap_base(engine: Engine, reference: str) -> None:
    """Makes the bootstrap base for a base image, and imports it into the engine.

    Raises UserError where this host lacks what it is made from, WorkError where that fails.
    """
    kind, tag = reference.split(":")
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        archive = Path(scratch) / "root.tar"
        if kind == "debian":
            suite = tag.removesuffix("-slim")
            origin, changes = _debian_root(suite, archive), []
        else:
            found = _python_root(tag.split("-")[0], archive)
            origin = f"CPython {found.version} from {found.origin}"
            changes = [f"ENV {PYTHON_VARIABLE}={found.version}"]
        repository, tag = bootstrap_name(reference).rsplit(":", 1)
        changes.append(f'LABEL {BOOTSTRAP_LABEL}="bootstrap: {origin}"')
        with contextlib.closing(engine.client()) as client:
            client.api.import_image_from_file(str(archive), repository, tag, changes)
    say(f"  {bootstrap_name(reference)}: {origin}, {time.monotonic() - started:.0f} s")


# --- Debian ---------------------------------------------------------------------------------------

# The excludes of debian:<suite>-slim: https://github.com/debuerreotype/debuerreotype (slimify).
_SLIM = (
    "path-exclude=/usr/share/doc/*",
    "path-include=/usr/share/doc/*/copyright",
    "path-exclude=/usr/share/groff/*",
    "path-exclude=/usr/share/info/*",
    "path-exclude=/usr/share/lintian/*",
    "path-exclude=/usr/share/linda/*",
    "path-exclude=/usr/share/locale/*",
    "path-exclude=/usr/share/man/*",
)


# As in the official image: packages that apt downloads are not kept in the layer.
_NO_APT_CACHE = (
    'DPkg::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb /var/cache/apt/*.bin || true"; };\n'
    'Dir::Cache::pkgcache ""; Dir::Cache::srcpkgcache "";\n'
)


def _debian_root(suite: str, archive: Path) -> str:
    if "debian" not in os_release_ids() or os.geteuid() != 0:
        raise UserError(
            "bootstrapping Debian needs mmdebstrap on a Debian-family host, as root; "
            "give the build a registry instead (`--bases registry`)"
        )
    if shutil.which("mmdebstrap") is None:
        say("Installing mmdebstrap.")
        apt_get("update")
        apt_get("install", "--no-install-recommends", "mmdebstrap")
    # Settings of this host do not stay: its mirror, resolver and name are removed last.
    sources = debian_sources(suite, DebianMirrors())
    hook = (
        f"printf '%s' '{_NO_APT_CACHE}' > \"$1/etc/apt/apt.conf.d/docker-clean\"; "
        # mmdebstrap leaves apt's caches, which are half as large as the rest.
        'rm -f "$1"/var/cache/apt/*.bin; '
        'rm -f "$1/etc/apt/sources.list" "$1/etc/resolv.conf" "$1/etc/hostname"; '
        f"printf '%s' '{sources}' > \"$1/etc/apt/sources.list.d/debian.sources\""
    )
    # In a mount namespace of its own, its mounts go when it is killed.
    command = ["unshare", "--mount"]
    command += ["mmdebstrap", "--variant=minbase", "--mode=root", "--format=tar"]
    command += [f"--dpkgopt={option}" for option in _SLIM]
    command += [f"--customize-hook={hook}", suite, str(archive), debian_mirrors().main]
    environ = {**os.environ, "SOURCE_DATE_EPOCH": str(EPOCH)}
    result = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        last = "\n  ".join(result.stderr.strip().splitlines()[-6:])
        raise WorkError(f"mmdebstrap could not make Debian {suite}:\n  {last}")
    return f"Debian {suite} by mmdebstrap"


# --- CPython --------------------------------------------------------------------------------------

# Folders that the official image lacks, or that the images remove anyway.
_LEFT_OUT_FOLDERS = frozenset({"__pycache__", "test", "tests", "idlelib", "turtledemo", "tkinter"})
_FOREIGN_PACKAGES = "site-packages"


@dataclass(frozen=True)
class Interpreter:
    """A CPython installation: its prefix, its full version, and who installed it."""

    prefix: Path
    version: str
    origin: str


def _python_root(version: str, archive: Path) -> Interpreter:
    found = find_interpreter(version)
    if found is None:
        raise UserError(
            f"no CPython {version} on this host to bootstrap from; install one with"
            f" `pyenv install {version}` or `uv python install {version}`, or give the build a"
            " registry (`--bases registry`)"
        )
    _require_strip()
    with tarfile.open(archive, "w", format=tarfile.PAX_FORMAT) as tar:
        for name, source, data in _interpreter_files(found, version):
            _add(tar, name, source, data)
    return found


def find_interpreter(version: str) -> Interpreter | None:
    """The newest CPython `version` (x.y) of pyenv or uv, or on PATH with a prefix of its own."""
    candidates = [*_pyenv_interpreters(version), *_uv_interpreters(version)]
    usable = [c for c in candidates if (c.prefix / "bin" / f"python{version}").is_file()]
    return max(usable, key=lambda candidate: Version(candidate.version), default=None)


def _pyenv_interpreters(version: str) -> Iterator[Interpreter]:
    root = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    for prefix in root.glob(f"versions/{version}.*"):
        patch = prefix.name.removeprefix(f"{version}.")
        if patch.isdigit():
            yield Interpreter(prefix.resolve(), prefix.name, "pyenv")


def _uv_interpreters(version: str) -> Iterator[Interpreter]:
    command = [uv.find_uv_bin(), "python", "find", "--no-project", "--no-python-downloads", version]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        return
    probe = "import sys, platform; print(sys.base_prefix); print(platform.python_version())"
    output = subprocess.run(
        [result.stdout.strip(), "-c", probe], capture_output=True, text=True, check=False
    ).stdout.splitlines()
    # Not Debian's own, which is spread over /usr and patched.
    if len(output) == 2 and output[0] != "/usr":
        yield Interpreter(Path(output[0]), output[1], "this host")


def _interpreter_files(
    interpreter: Interpreter, version: str
) -> Iterator[tuple[str, Path, bytes | None]]:
    """(path below /usr/local, source, new content) of each file that the official image has too."""
    prefix = interpreter.prefix
    replace = _relocation(prefix)
    stdlib = prefix / "lib" / f"python{version}"
    pip = sorted(stdlib.glob("site-packages/pip")) + sorted(
        stdlib.glob("site-packages/pip-*.dist-info")
    )
    if len(pip) != 2:
        raise UserError(f"{prefix} has no pip; run `{prefix}/bin/python{version} -m ensurepip`")
    trees = [stdlib, *pip, *sorted((prefix / "include").glob(f"python{version}*"))]
    files = [prefix / "bin" / f"python{version}", *sorted((prefix / "lib").glob("libpython*.so*"))]
    for path in (*files, *(path for tree in trees for path in _walk(tree, stdlib))):
        name = path.relative_to(prefix).as_posix()
        yield name, path, None if path.is_symlink() or path.is_dir() else replace(path)
    for link in ("python3", "python"):
        yield f"bin/{link}", Path(f"python{version}"), None


def _walk(tree: Path, stdlib: Path) -> Iterator[Path]:
    yield tree
    for folder, folders, names in os.walk(tree):
        here = Path(folder)
        folders[:] = sorted(
            name
            for name in folders
            if name not in _LEFT_OUT_FOLDERS
            and not (here == stdlib and (name == _FOREIGN_PACKAGES or name.startswith("config-")))
        )
        yield from (here / name for name in folders)
        yield from (here / name for name in sorted(names) if not name.endswith((".a", ".pyc")))


def _relocation(prefix: Path) -> Callable[[Path], bytes]:
    """A function that returns a file's content without the prefix that it was installed to.

    In text, the prefix becomes /usr/local. In a binary, strings must keep their length, and linkers
    merge a string that is the end of a longer one (a version with a prefix): there, only the parent
    folder of the prefix is replaced, by one of equal length. It need not exist: CPython finds its
    prefix from its own path, the loader finds the library through ldconfig.
    """
    old, parent = str(prefix).encode(), f"{prefix.parent}/".rstrip("/").encode() + b"/"
    start = b"/usr/local/" if len(parent) >= len(b"/usr/local/") else b"/"
    same_length = start.ljust(len(parent), b"/")

    def read(path: Path) -> bytes:
        data = _stripped(path)
        if b"\0" not in data:
            return data.replace(old, b"/usr/local")
        return data.replace(old, same_length + prefix.name.encode())

    return read


def _require_strip() -> None:
    """Installs `strip` if possible: without it, a minimal image is a third larger than on the
    official base image."""
    if shutil.which("strip") is None and "debian" in os_release_ids() and os.geteuid() == 0:
        say("Installing binutils.")
        apt_get("update")
        apt_get("install", "--no-install-recommends", "binutils")


def _stripped(path: Path) -> bytes:
    data = path.read_bytes()
    strip = shutil.which("strip")
    if strip is None or not data.startswith(b"\x7fELF"):
        return data
    with tempfile.NamedTemporaryFile() as output:
        result = subprocess.run(
            [strip, "--strip-unneeded", "-o", output.name, str(path)],
            check=False,
            capture_output=True,
        )
        return Path(output.name).read_bytes() if result.returncode == 0 else data


def _add(tar: tarfile.TarFile, name: str, source: Path, data: bytes | None) -> None:
    info = tarfile.TarInfo(str(PurePosixPath("usr/local") / name))
    info.mtime = EPOCH
    if data is not None:
        info.size = len(data)
        info.mode = 0o755 if source.stat().st_mode & stat.S_IXUSR else 0o644
        tar.addfile(info, io.BytesIO(data))
    elif source.is_dir():
        info.type, info.mode = tarfile.DIRTYPE, 0o755
        tar.addfile(info)
    else:
        info.type = tarfile.SYMTYPE
        info.linkname = str(source.readlink()) if source.is_symlink() else str(source)
        tar.addfile(info)
