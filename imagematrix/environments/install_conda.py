"""Installs the locked packages of a conda environment, in a build.

    install.py tool LOCK FOLDER             what LOCK has into FOLDER: py-rattler
    install.py environment CONTEXT PREFIX   what the locks in CONTEXT have into PREFIX

It runs as a program in a stage that no image keeps, on the minimal image's Python. It solves
nothing. Two runs give the same bytes: nothing depends on the clock or on the place of the cache.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

TOOLS = Path("/tools")
RATTLER = Path("/rattler")
SERVER = Path("/opt/inference-server")
# The image's own Python, and the HTTP parser that the server has there.
IMAGE = Path("/usr/local")
PARSER = IMAGE / "lib/inference-server/httptools"
CONDA_CACHE = Path("/var/cache/conda")
UV_CACHE = Path("/var/cache/uv")
# py-rattler 0.28 was seen to end without an answer now and then, where others use its cache.
_TRIES = 3
SECRETS = Path("/run/secrets")
# The packages of a folder that a build may be given.
PACKAGES = Path("/packages")

# Python of conda-forge brings a linker, for extensions that are built beside it.
_LINKER = "ld_impl_linux-64"
_TRIMMED = (
    "include",
    "man",
    "share/man",
    "share/doc",
    "share/info",
    "share/gtk-doc",
    "CACHEDIR.TAG",
)
# Where the packages are listed whose scripts were not run. Not among conda's records.
NOT_RUN = "etc/conda/scripts-not-run.json"


def install_tool(lock: Path, folder: Path) -> None:
    """Puts the packages of a lock into a folder."""
    uv = ("pip", "install", "--target", folder, "--python", sys.executable, "--no-deps")
    _uv(*uv, "--require-hashes", "--only-binary", ":all:", "--requirement", lock)


def install_environment(context: Path, prefix: Path) -> None:
    """Makes the environment that `conda.lock` and `requirements.txt` in the context lock."""
    start = int(time.time())
    answer = _install_packages(context, prefix)
    _tidy_records(prefix)
    _trim(prefix)
    python = prefix / "bin" / "python3"
    requirements = context / "requirements.txt"
    if "==" in requirements.read_text(encoding="utf-8"):
        uv = ("pip", "install", "--system", "--python", python, "--no-deps", "--require-hashes")
        _uv(*uv, "--only-binary", ":all:", "--requirement", requirements)
    # Those of packages depend on times.
    for folder in sorted(prefix.rglob("__pycache__")):
        shutil.rmtree(folder)
    _link_server(prefix, python)
    subprocess.run(
        [python, "-I", "-S", "-B", TOOLS / "finish.py", context / "slim.txt"], check=True
    )
    subprocess.run(["chmod", "-R", "u=rwX,go=rX", prefix], check=True)
    _report(prefix, answer)
    subprocess.run([TOOLS / "set-times", str(start)], check=True)


def _install_packages(context: Path, prefix: Path) -> dict[str, Any]:
    program = (context / "conda" / "rattler.py", "install", context / "conda.lock")
    words = (*program, prefix, CONDA_CACHE, PACKAGES, SECRETS / "conda-mirrors")
    command = [sys.executable, "-P", "-B", *map(str, words)]
    environ = {**_environ(), "PYTHONPATH": str(RATTLER)}
    if (SECRETS / "netrc").exists():
        environ["NETRC"] = str(SECRETS / "netrc")
    for _ in range(_TRIES):
        result = subprocess.run(
            command, env=environ, stdout=subprocess.PIPE, text=True, check=False
        )
        answer: dict[str, Any] = json.loads(result.stdout or "{}")
        if answer:
            break
        print(f"py-rattler ended without an answer ({result.returncode}).", file=sys.stderr)
        shutil.rmtree(prefix, ignore_errors=True)
    else:
        sys.exit(f"py-rattler ended without an answer {_TRIES} times")
    if result.returncode != 0:
        sys.exit("\n".join(error["message"] for error in answer.get("errors", ())))
    return answer


def _environ() -> dict[str, str]:
    bundle = SECRETS / "ca-bundle"
    return {**os.environ, **({"SSL_CERT_FILE": str(bundle)} if bundle.exists() else {})}


def _uv(*arguments: object) -> None:
    # The indexes of the host that builds take the place of those in a lock.
    own = Path("/etc/uv/uv.toml").exists()
    strategy = {} if own else {"UV_INDEX_STRATEGY": "unsafe-best-match"}
    words = (TOOLS / "uv", *arguments, "--cache-dir", UV_CACHE, "--link-mode", "copy")
    command = list(map(str, words))
    if subprocess.run(command, env={**_environ(), **strategy}, check=False).returncode != 0:
        sys.exit(1)


def _tidy_records(prefix: Path) -> None:
    """Takes out where the cache was, and lets all users read the records."""
    for path in prefix.glob("conda-meta/*.json"):
        record = json.loads(path.read_text(encoding="utf-8"))
        for name in ("extracted_package_dir", "package_tarball_full_path", "link"):
            record.pop(name, None)
        path.write_text(json.dumps(record, indent=1, sort_keys=True), encoding="utf-8")


def _trim(prefix: Path) -> None:
    """Takes out what serving never needs."""
    for path in prefix.glob(f"conda-meta/{_LINKER}-*.json"):
        record = json.loads(path.read_text(encoding="utf-8"))
        for file in record["files"]:
            (prefix / file).unlink(missing_ok=True)
        record["files"], record["paths_data"] = [], {"paths_version": 1, "paths": []}
        path.write_text(json.dumps(record, indent=1, sort_keys=True), encoding="utf-8")
    for name in _TRIMMED:
        path = prefix / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    for path in prefix.glob("lib/*.a"):
        path.unlink()


def _link_server(prefix: Path, python: Path) -> None:
    """Lets this Python find the server of the image, as base/tools/bin/link-server does for the
    image's own; it comes last, after the packages of the environment."""
    code = "import sysconfig; p = sysconfig.get_paths(); print(p['purelib']); print(p['stdlib'])"
    command = [str(python), "-I", "-S", "-B", "-c", code]
    output = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    site, library = map(Path, output.splitlines())
    own = site / "httptools"
    parser = prefix / "lib" / "inference-server"
    parser.mkdir()
    (parser / "httptools").symlink_to(own if own.is_dir() else PARSER)
    (image,) = IMAGE.glob("lib/python3*/site-packages/inference-server.pth")
    lines = image.read_text(encoding="utf-8")
    (site / "inference-server.pth").write_text(f"{lines}{parser}\n", encoding="utf-8")
    ensurepip = library / "ensurepip"
    if ensurepip.is_dir():
        shutil.rmtree(ensurepip)
    (library / "ensurepip.py").symlink_to(SERVER / "venv_pip.py")
    command_line = prefix / "bin" / "azmlinfsrv"
    command_line.write_text(
        f'#!/bin/sh\nexec {prefix}/bin/python3 -I -m inference_server.azmlinfsrv "$@"\n',
        encoding="utf-8",
    )
    command_line.chmod(0o755)


def _report(prefix: Path, answer: dict[str, Any]) -> None:
    """Names the packages whose scripts do not run, in the log and in the environment."""
    found = {kind: answer[kind] for kind in ("link_scripts", "activation") if answer[kind]}
    what = {
        "link_scripts": "scripts that would run when they are installed",
        "activation": "scripts that would run when a shell activates the environment",
    }
    for kind, names in found.items():
        print(f"not run: {what[kind]}, of {', '.join(names)}")
    if found:
        path = prefix / NOT_RUN
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    print(f"{len(answer['packages'])} conda packages in {prefix}")


if __name__ == "__main__":
    install = {"tool": install_tool, "environment": install_environment}[sys.argv[1]]
    install(Path(sys.argv[2]), Path(sys.argv[3]))
