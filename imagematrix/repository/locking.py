"""Resolving the hash-locked requirements of an image, with uv."""

import json
import os
import re
import subprocess
import tempfile
import tomllib
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import uv
from packaging.version import InvalidVersion, Version

from imagematrix.errors import WorkError
from imagematrix.files import write_atomically
from imagematrix.host.config import PYPI, HostConfig
from imagematrix.matrix.lockfile import parse_lock
from imagematrix.matrix.variant import DeclaredWheel, Variant

# Beside pyproject.toml: what the nox sessions install.
TOOLS_LOCK = PurePosixPath("requirements.txt")
# What has an environment of its own, by its dependency group in pyproject.toml.
GROUP_LOCKS = {"rattler": PurePosixPath("imagematrix/environments/rattler.txt")}

# uv knows no newer glibc as a target; a wheel for a newer one would be refused, never installed.
_NEWEST_MANYLINUX = (2, 40)


def lock_header(variant: Variant) -> str:
    """The first lines of a lock: what it is and how it is made."""
    session = "environment" if variant.is_environment else "lock"
    return (
        f"# Requirements of {variant.folder.name}, resolved for CPython {variant.python} on x86_64"
        f" with\n# glibc {variant.suite.glibc}. Written by `nox -s {session}`. Do not edit.\n"
    )


def write_lock(root: Path, variant: Variant, host: HostConfig, *, upgrade: bool = False) -> bool:
    """Resolves the requirements of `variant` into its lock; returns whether that changed.

    Versions that the present lock holds are kept where they still fit, unless `upgrade` is set.
    Raises WorkError as `resolved_lock` does.
    """
    path = root / variant.lock
    text = resolved_lock(root, variant, host, None if upgrade else path)
    return write_atomically(path, text)


def resolved_lock(
    root: Path,
    variant: Variant,
    host: HostConfig,
    present: Path | None,
    constraints: Sequence[str] = (),
) -> str:
    """The text of the lock of `variant`.

    Versions that the lock `present` holds are kept where they still fit. `constraints` bound the
    versions of packages that something else requires. The packages of the parent image are kept as
    its own lock has them, which must exist. Raises WorkError with uv's words when there is no
    solution or no index.
    """
    parent_lock = root / "base" / variant.parent / "requirements.txt" if variant.parent else None
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        project = folder / "pyproject.toml"
        requirements = list(variant.pins)
        if parent_lock is not None:
            inherited = _pins_of(parent_lock)
            requirements += inherited
        project.write_text(_project(variant, requirements), encoding="utf-8")
        arguments = ["--python-version", variant.python, "--only-binary", ":all:"]
        for package in variant.sdists:
            arguments += ["--no-binary", package]
        arguments += ["--python-platform", f"x86_64-manylinux_{_manylinux(variant.suite.glibc)}"]
        for wheel in variant.wheels:
            arguments += ["--no-emit-package", wheel.name]
        if constraints:
            text = "".join(f"{constraint}\n" for constraint in constraints)
            (folder / "constraints.txt").write_text(text, encoding="utf-8")
            arguments += ["--constraints", "constraints.txt"]
        resolved = _compile(folder, arguments, present, host, variant.name)
    return lock_header(variant) + _with_declared(resolved, variant.wheels)


def write_tools_lock(root: Path, host: HostConfig, *, upgrade: bool = False) -> bool:
    """Resolves what the tools of this repository need, for every platform and Python that they
    support, into its lock; returns whether that changed. Raises WorkError as `write_lock` does."""
    path = root / TOOLS_LOCK
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        project = (root / "pyproject.toml").read_text(encoding="utf-8")
        (folder / "pyproject.toml").write_text(project, encoding="utf-8")
        arguments = ["--universal", "--python-version", "3.11", "--all-extras"]
        present = None if upgrade else path
        resolved = _compile(folder, arguments, present, host, TOOLS_LOCK.name)
    header = "# What the tools of this repository need, for every platform. Written by\n"
    return write_atomically(path, f"{header}# `nox -s lock -- --tools`. Do not edit.\n{resolved}")


def write_group_lock(
    root: Path, group: str, path: PurePosixPath, host: HostConfig, *, upgrade: bool = False
) -> bool:
    """Resolves a dependency group of pyproject.toml, which has an environment of its own, into its
    lock at `path`; returns whether that changed. Raises WorkError as `write_lock` does."""
    groups = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    requirements = groups["dependency-groups"][group]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        project = '[project]\nname = "lock"\nversion = "0"\nrequires-python = ">=3.11"\n'
        project += f"dependencies = {json.dumps(requirements)}\n"
        (folder / "pyproject.toml").write_text(project, encoding="utf-8")
        arguments = ["--universal", "--python-version", "3.11"]
        present = None if upgrade else root / path
        resolved = _compile(folder, arguments, present, host, path.name)
    header = f"# The group {group} of pyproject.toml, for every platform. Written by\n"
    text = f"{header}# `nox -s lock -- --tools`. Do not edit.\n{resolved}"
    return write_atomically(root / path, text)


def _compile(
    folder: Path, arguments: Sequence[str], present: Path | None, host: HostConfig, name: str
) -> str:
    """The requirements that uv resolves for the project file in `folder`.

    Versions that the lock `present` holds are kept where they still fit.
    """
    output = folder / "requirements.txt"
    if present is not None and present.is_file():
        output.write_text(present.read_text(encoding="utf-8"), encoding="utf-8")
    command = [uv.find_uv_bin(), "pip", "compile", "pyproject.toml", *arguments]
    command += ["--output-file", output.name, "--quiet", "--no-header", "--generate-hashes"]
    command += ["--annotation-style", "line", "--no-python-downloads"]
    result = subprocess.run(
        command, cwd=folder, env=uv_environ(host), capture_output=True, text=True, check=False
    )
    if result.returncode != 0:
        reason = result.stderr.strip().replace(str(folder), "").replace("\n", "\n  ")
        raise WorkError(f"{name}: the requirements cannot be resolved\n  {reason}")
    return _without_notes(output.read_text(encoding="utf-8"))


def uv_environ(host: HostConfig) -> dict[str, str]:
    """The environment variables with which uv asks the indexes of this host."""
    environ = {**os.environ, "UV_DEFAULT_INDEX": os.environ.get("UV_DEFAULT_INDEX", PYPI)}
    if host.index_url != PYPI:
        environ["UV_DEFAULT_INDEX"] = host.index_url
    if host.ca_bundle is not None:
        environ.setdefault("SSL_CERT_FILE", str(host.ca_bundle))
    if host.extra_index_urls:
        environ.setdefault("UV_INDEX", " ".join(host.extra_index_urls))
    return environ


def _manylinux(glibc: str) -> str:
    major, minor = (int(part) for part in glibc.split("."))
    return "_".join(map(str, min((major, minor), _NEWEST_MANYLINUX)))


def _pins_of(lock: Path) -> list[str]:
    if not lock.is_file():
        raise WorkError(
            f"{lock.parent.name} has no lock yet; run `nox -s lock -- {lock.parent.name}`"
        )
    packages = parse_lock(lock.read_text(encoding="utf-8"), PurePosixPath(lock.name))
    return [f"{name}=={package.version}" for name, package in packages.items()]


def _project(variant: Variant, requirements: Sequence[str]) -> str:
    """A project file whose dependencies are the pins, with the index that each is taken from."""
    lines = [
        "[project]",
        'name = "lock"',
        'version = "0"',
        f'requires-python = "=={variant.python}.*"',
        f"dependencies = {json.dumps(_undeclared(variant, requirements))}",
    ]
    if variant.index is not None:
        if not variant.index.packages:
            for number, url in enumerate(variant.index.urls):
                lines += ["[[tool.uv.index]]", f"name = {json.dumps(f'index-{number}')}"]
                lines += [f"url = {json.dumps(url)}"]
            # As pip does it, and builds: the best version, from wherever it comes.
            lines += ["[tool.uv]", 'index-strategy = "unsafe-best-match"']
        declared = {wheel.name for wheel in variant.wheels}
        asked = [name for name in variant.index.packages if name not in declared]
        if asked:
            lines += ["[[tool.uv.index]]", f"name = {json.dumps(variant.index.name)}"]
            lines += [f"url = {json.dumps(variant.index.url)}", "explicit = true"]
            lines += ["[tool.uv.sources]"]
            lines += [f"{name} = {{index = {json.dumps(variant.index.name)}}}" for name in asked]
    return "\n".join(lines) + "\n"


def _undeclared(variant: Variant, requirements: Sequence[str]) -> list[str]:
    """The requirements, with each declared wheel replaced by what that wheel requires."""
    declared = {f"{wheel.name}=={wheel.version}": wheel for wheel in variant.wheels}
    result: list[str] = []
    for requirement in requirements:
        wheel = declared.get(requirement)
        result += wheel.requires if wheel else [requirement]
    return result


def _without_notes(text: str) -> str:
    """Takes out the note that names the temporary project file, which says nothing."""
    text = re.sub(r"(, )?lock \(pyproject\.toml\)", "", text)
    text = re.sub(r"# via ?, ", "# via ", text)
    return re.sub(r"^[ ]*# via[ ]*\n", "", text, flags=re.MULTILINE)


def _with_declared(text: str, wheels: Sequence[DeclaredWheel]) -> str:
    entries = [
        f"{wheel.name}=={wheel.version} \\\n    --hash=sha256:{wheel.sha256}\n" for wheel in wheels
    ]
    blocks = re.split(r"^(?=[A-Za-z0-9])", text, flags=re.MULTILINE)
    head, packages = blocks[0], [*blocks[1:], *entries]
    return head + "".join(sorted(packages, key=str.lower))


@dataclass(frozen=True)
class Provided:
    """A package that is in an environment before pip adds to it, under its name on PyPI."""

    name: str
    version: str


def lock_of_pip(
    name: str,
    requirements: Sequence[str],
    constraints: Sequence[str],
    options: Sequence[str],
    provided: Sequence[Provided],
    python: str,
    glibc: str,
    host: HostConfig,
    present: str = "",
) -> str:
    """The text of the lock of what `requirements` add to the packages that are `provided`, which
    keep their versions and are not in the lock.

    `options` are those of pip for indexes, `python` is CPython's full version, `present` the text
    of a lock whose versions are kept where they fit. Raises WorkError with uv's words where there
    is no solution, also where a requirement contradicts what is provided.
    """
    usable = [package for package in provided if _is_version(package.version)]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        stubs = folder / "provided"
        stubs.mkdir()
        lines = [
            "[project]",
            'name = "lock"',
            'version = "0"',
            f"dependencies = {json.dumps(list(requirements))}",
        ]
        for package in usable:
            # The version may be on no index, and what it needs there is none of conda's.
            _write_stub(stubs, package)
            lines += ["[[tool.uv.dependency-metadata]]", f"name = {json.dumps(package.name)}"]
            lines += [f"version = {json.dumps(package.version)}", "requires-dist = []"]
        (folder / "pyproject.toml").write_text("\n".join(lines) + "\n", encoding="utf-8")
        fixed = [*constraints, *(f"{package.name}=={package.version}" for package in usable)]
        (folder / "constraints.txt").write_text("\n".join(fixed) + "\n", encoding="utf-8")
        arguments = ["--python-version", python, "--only-binary", ":all:", *map(_for_uv, options)]
        arguments += ["--python-platform", f"x86_64-manylinux_{_manylinux(glibc)}"]
        arguments += ["--constraints", "constraints.txt", "--find-links", "provided"]
        for package in usable:
            arguments += ["--no-emit-package", package.name]
        kept = folder / "present.txt"
        kept.write_text(present, encoding="utf-8")
        resolved = _compile(folder, arguments, kept if present else None, host, name)
    return _without_unsafe(resolved)


def _is_version(text: str) -> bool:
    try:
        Version(text)
    except InvalidVersion:
        # conda's versions have a wider form; PyPI has none like it.
        return False
    return True


def _for_uv(option: str) -> str:
    return {"--trusted-host": "--allow-insecure-host", "--pre": "--prerelease=allow"}.get(
        option, option
    )


def _write_stub(folder: Path, package: Provided) -> None:
    """A wheel with nothing in it but a name and a version.

    https://packaging.python.org/en/latest/specifications/binary-distribution-format/
    """
    stem = f"{package.name.replace('-', '_')}-{package.version}"
    with zipfile.ZipFile(folder / f"{stem}-py3-none-any.whl", "w") as wheel:
        metadata = f"Metadata-Version: 2.1\nName: {package.name}\nVersion: {package.version}\n"
        wheel.writestr(f"{stem}.dist-info/METADATA", metadata)
        tags = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        wheel.writestr(f"{stem}.dist-info/WHEEL", tags)
        wheel.writestr(f"{stem}.dist-info/RECORD", "")


def _without_unsafe(text: str) -> str:
    """Takes out uv's list of what it did not lock, which is in the environment already."""
    return text.partition("# The following packages were excluded from the output:")[0]
