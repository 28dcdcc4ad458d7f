"""Copy the part of Werkzeug that the server needs from its released wheel, and patch it.

``python vendoring/vendor.py`` rewrites the files below ``inference_server/_vendor/werkzeug``. With
``--check`` it compares them instead, and exits with 1 if they differ. The wheel comes from the
package index that pip is configured with, or from ``--wheel FILE``; its hash is pinned.

For a new release, set ``VERSION`` and ``SHA256`` and run it. If the patch does not apply, fix the
files by hand and make a new patch from the difference to ``--unpatched FOLDER``.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

VERSION = "3.1.9"
SHA256 = "6392e50c78460ba618e5b21f08a71f59c99ce99cdc6cf6e3dd7e6ccca8754fab"

HERE = Path(__file__).parent
PATCH = HERE / "werkzeug.patch"
TARGET = HERE.parent / "base" / "server" / "inference_server" / "_vendor" / "werkzeug"

LICENCE = f"werkzeug-{VERSION}.dist-info/licenses/LICENSE.txt"
# Requests, responses and what they need. Left out: the development server, the debugger, routing,
# middleware, the test client, context locals, password hashes.
MODULES = (
    "_internal",
    "datastructures/__init__",
    "datastructures/accept",
    "datastructures/auth",
    "datastructures/cache_control",
    "datastructures/csp",
    "datastructures/etag",
    "datastructures/file_storage",
    "datastructures/headers",
    "datastructures/mixins",
    "datastructures/range",
    "datastructures/structures",
    "exceptions",
    "formparser",
    "http",
    "sansio/__init__",
    "sansio/http",
    "sansio/multipart",
    "sansio/request",
    "sansio/response",
    "sansio/utils",
    "urls",
    "user_agent",
    "utils",
    "wrappers/__init__",
    "wrappers/request",
    "wrappers/response",
    "wsgi",
)
# Classes and functions of these modules that nothing above uses: they would bring further modules
# (file system, logging, imports by name), or are meant for tests, or are deprecated.
DROPPED = {
    "_internal": {"_ColorStreamHandler", "_has_level_handler", "_log"},
    "datastructures/__init__": {"__getattr__"},
    "datastructures/structures": {
        "_ImmutableOrderedMultiDict",
        "_OrderedMultiDict",
        "_omd_bucket",
        "__getattr__",
    },
    "sansio/multipart": {"MultipartEncoder"},
    "utils": {
        "ImportStringError",
        "append_slash_redirect",
        "find_modules",
        "import_string",
        "redirect",
        "secure_filename",
        "send_file",
        "send_from_directory",
    },
}


def without(source: str, names: set[str]) -> str:
    """The source of a module without these classes and functions of its top level."""
    lines = source.splitlines(keepends=True)
    found = set()
    for node in reversed(ast.parse(source).body):
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)) and node.name in names:
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            del lines[first - 1 : node.end_lineno]
            found.add(node.name)
    if found != names:
        raise SystemExit(f"not in this release of Werkzeug: {', '.join(sorted(names - found))}")
    return "".join(lines)


def fetch(folder: Path) -> Path:
    """Download the pinned wheel with pip."""
    requirement = folder / "requirements.txt"
    requirement.write_text(f"werkzeug=={VERSION} --hash=sha256:{SHA256}\n")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    command += ["--no-deps", "--only-binary", ":all:", "--require-hashes", "--dest", str(folder)]
    subprocess.run([*command, "--requirement", str(requirement)], check=True)
    return folder / f"werkzeug-{VERSION}-py3-none-any.whl"


def unpack(wheel: Path, folder: Path) -> None:
    """Put the chosen part of the wheel into a folder."""
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if digest != SHA256:
        raise SystemExit(f"{wheel} has the SHA-256 {digest}, and not {SHA256}")
    with zipfile.ZipFile(wheel) as archive:
        for module in MODULES:
            source = archive.read(f"werkzeug/{module}.py").decode("utf-8")
            path = folder / f"{module}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(without(source, DROPPED.get(module, set())), encoding="utf-8")
        (folder / "LICENSE.txt").write_bytes(archive.read(LICENCE))
    title = f'"""A part of Werkzeug {VERSION}: see README.md in the folder above."""\n'
    (folder / "__init__.py").write_text(title, encoding="utf-8")


def apply(folder: Path) -> None:
    """Change the files as the patch says."""
    # Outside of a repository git takes the paths as they are.
    environ = {**os.environ, "GIT_CEILING_DIRECTORIES": str(folder.parent)}
    command = ["git", "apply", "--whitespace=nowarn", str(PATCH)]
    subprocess.run(command, cwd=folder, check=True, env=environ)


def contents(folder: Path) -> dict[str, bytes]:
    """The files below a folder, without bytecode."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }


def main() -> int:
    """Write the files, or compare them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="compare, and write nothing")
    parser.add_argument("--wheel", type=Path, help="the wheel, instead of downloading it")
    parser.add_argument("--unpatched", type=Path, help="write the files as they were into a folder")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        wheel = arguments.wheel or fetch(folder)
        made = folder / "werkzeug"
        unpack(wheel, arguments.unpatched or made)
        if arguments.unpatched:
            return 0
        apply(made)
        new, old = contents(made), contents(TARGET) if TARGET.is_dir() else {}
    differing = sorted(path for path in {*new, *old} if new.get(path) != old.get(path))
    if arguments.check:
        for path in differing:
            print(f"{TARGET / path} is not what the wheel and the patch give", file=sys.stderr)
        return 1 if differing else 0
    for path in differing:
        if path in new:
            (TARGET / path).parent.mkdir(parents=True, exist_ok=True)
            (TARGET / path).write_bytes(new[path])
        else:
            (TARGET / path).unlink()
        print(f"wrote {path}" if path in new else f"removed {path}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
