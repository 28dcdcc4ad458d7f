"""Base images: which are used, and how bootstrap bases are made from an installation."""

import os
import sys
import tarfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast
from unittest.mock import Mock

import docker.errors
import pytest

from imagematrix.errors import UserError, WorkError
from imagematrix.host import bases, bootstrap
from imagematrix.host.bases import BaseSource, required_references
from imagematrix.host.bootstrap import Interpreter, bootstrap_name
from imagematrix.host.engine import Engine
from imagematrix.matrix.variant import Variant
from tests.unit.helpers import Repository

FILES = {
    "bin/python3.12": b"#!{prefix}/bin/python3.12\n",
    "bin/idle3.12": b"",
    "bin/pip3.12": b"#!{prefix}/bin/python3.12\n",
    "include/python3.12/Python.h": b"// header\n",
    "lib/libpython3.12.so.1.0": b"\x7fNOT-ELF\0{prefix}/lib\0{prefix}\0",
    "lib/libother.so": b"",
    "lib/python3.12/os.py": b"PREFIX = '{prefix}/lib'\n",
    "lib/python3.12/__pycache__/os.pyc": b"",
    "lib/python3.12/config-3.12-x86_64-linux-gnu/libpython3.12.a": b"",
    "lib/python3.12/libx.a": b"",
    "lib/python3.12/test/test_os.py": b"",
    "lib/python3.12/idlelib/idle.py": b"",
    "lib/python3.12/json/tests/x.py": b"",
    "lib/python3.12/json/tool.py": b"",
    "lib/python3.12/site-packages/numpy/secret.py": b"",
    "lib/python3.12/site-packages/pip/__init__.py": b"",
    "lib/python3.12/site-packages/pip-25.0.dist-info/METADATA": b"",
}
PACKED = [
    "bin/python3.12",
    "lib/libpython3.12.so",
    "lib/libpython3.12.so.1.0",
    "lib/python3.12",
    "lib/python3.12/json",
    "lib/python3.12/os.py",
    "lib/python3.12/json/tool.py",
    "lib/python3.12/site-packages/pip",
    "lib/python3.12/site-packages/pip/__init__.py",
    "lib/python3.12/site-packages/pip-25.0.dist-info",
    "lib/python3.12/site-packages/pip-25.0.dist-info/METADATA",
    "include/python3.12",
    "include/python3.12/Python.h",
    "bin/python3",
    "bin/python",
]


def install(prefix: Path) -> Path:
    """A CPython installation, as far as its files go."""
    for name, content in FILES.items():
        file = prefix / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content.replace(b"{prefix}", str(prefix).encode()))
    (prefix / "bin/python3.12").chmod(0o700)
    (prefix / "lib/libpython3.12.so").symlink_to("libpython3.12.so.1.0")
    return prefix


@pytest.fixture
def interpreter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Interpreter:
    found = Interpreter(install(tmp_path / "versions" / "3.12.9"), "3.12.9", "pyenv")
    monkeypatch.setattr(bootstrap, "find_interpreter", lambda version: found)
    return found


def pack(tmp_path: Path) -> tarfile.TarFile:
    archive = tmp_path / "root.tar"
    assert bootstrap._python_root("3.12", archive).version == "3.12.9"
    return tarfile.open(archive)


@pytest.mark.usefixtures("interpreter")
def test_only_what_the_official_image_has_is_packed(tmp_path: Path) -> None:
    with pack(tmp_path) as tar:
        assert sorted(tar.getnames()) == sorted(f"usr/local/{name}" for name in PACKED)
        links = {member.name: member.linkname for member in tar.getmembers() if member.issym()}
        modes = {member.name: member.mode for member in tar.getmembers() if member.isfile()}

    assert links == {
        "usr/local/lib/libpython3.12.so": "libpython3.12.so.1.0",
        "usr/local/bin/python3": "python3.12",
        "usr/local/bin/python": "python3.12",
    }
    assert modes["usr/local/bin/python3.12"] == 0o755
    assert modes["usr/local/lib/python3.12/os.py"] == 0o644


def test_no_path_of_the_installation_stays(interpreter: Interpreter, tmp_path: Path) -> None:
    with pack(tmp_path) as tar:
        members = [member for member in tar.getmembers() if member.isfile()]
        content = {m.name: read.read() for m in members if (read := tar.extractfile(m))}

    old = str(interpreter.prefix).encode()
    assert not [name for name, data in content.items() if old in data]
    assert content["usr/local/lib/python3.12/os.py"] == b"PREFIX = '/usr/local/lib'\n"
    assert content["usr/local/bin/python3.12"] == b"#!/usr/local/bin/python3.12\n"


def test_in_a_binary_no_byte_moves(interpreter: Interpreter, tmp_path: Path) -> None:
    before = (interpreter.prefix / "lib/libpython3.12.so.1.0").read_bytes()

    with pack(tmp_path) as tar:
        read = tar.extractfile("usr/local/lib/libpython3.12.so.1.0")
        assert read is not None
        after = read.read()

    assert len(after) == len(before)
    assert [i for i, byte in enumerate(after) if not byte] == [
        i for i, byte in enumerate(before) if not byte
    ]
    paths = [os.path.normpath(part) for part in after.decode().split("\0")[1:3]]
    assert paths == ["/usr/local/3.12.9/lib", "/usr/local/3.12.9"]


@pytest.mark.usefixtures("interpreter")
def test_the_same_installation_makes_the_same_archive(tmp_path: Path) -> None:
    pack(tmp_path).close()
    first = (tmp_path / "root.tar").read_bytes()
    pack(tmp_path).close()

    assert (tmp_path / "root.tar").read_bytes() == first


def test_an_installation_without_pip_is_an_error(interpreter: Interpreter, tmp_path: Path) -> None:
    (interpreter.prefix / "lib/python3.12/site-packages/pip").rename(tmp_path / "pip")

    with pytest.raises(UserError, match=r"has no pip; run `.*/bin/python3\.12 -m ensurepip`$"):
        pack(tmp_path)


@pytest.mark.usefixtures("interpreter")
def test_a_bootstrap_base_says_what_the_official_image_says_of_its_cpython() -> None:
    engine = Mock()

    bootstrap.make_bootstrap_base(engine, "python:3.12-slim-trixie")

    _, repository, tag, changes = engine.client().api.import_image_from_file.call_args.args
    assert (repository, tag) == ("bootstrap/python", "3.12-slim-trixie")
    assert changes == [
        "ENV PYTHON_VERSION=3.12.9",
        'LABEL inference.base="bootstrap: CPython 3.12.9 from pyenv"',
    ]


def test_host_without_that_python_is_an_error_that_says_how_to_get_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bootstrap, "find_interpreter", lambda version: None)

    with pytest.raises(
        UserError, match=r"^no CPython 3\.12 on this host .*uv python install 3\.12"
    ):
        pack(tmp_path)


def test_the_newest_release_of_a_python_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path))
    monkeypatch.setattr(bootstrap, "_uv_interpreters", lambda version: iter(()))
    for name in ("3.12.9", "3.12.10", "3.12-dev", "3.1.12", "3.12.11"):
        install(tmp_path / "versions" / name)
    (tmp_path / "versions/3.12.11/bin/python3.12").unlink()

    found = bootstrap.find_interpreter("3.12")

    assert found == Interpreter(tmp_path / "versions/3.12.10", "3.12.10", "pyenv")
    assert bootstrap.find_interpreter("3.13") is None


def test_each_base_image_is_needed_once(repository: Repository) -> None:
    assert required_references(repository.project.variants) == (
        "debian:trixie-slim",
        "python:3.12-slim-trixie",
    )
    assert bootstrap_name("debian:trixie-slim") == "bootstrap/debian:trixie-slim"


class FakeEngine:
    """An engine that holds images under their names, and a registry that has some."""

    def __init__(self, *registry: str) -> None:
        self.registry, self.images = registry, dict[str, str]()
        self.pulled: list[str] = []
        self.environment: dict[str, list[str]] = {}
        self.api = self

    def inspect(self, images: Iterable[str]) -> dict[str, Any]:
        return {
            image: {
                "Id": "of this engine",
                "RootFS": {"Layers": [self.images[image]]},
                "Config": {"Env": self.environment.get(image)},
            }
            for image in images
            if image in self.images
        }

    def client(self) -> "FakeEngine":
        return self

    def close(self) -> None:
        """It is its own client."""

    def pull(self, repository: str, tag: str, platform: str) -> None:
        assert platform == "linux/amd64"
        image = f"{repository}:{tag}"
        self.pulled.append(image)
        if image not in self.registry:
            raise docker.errors.NotFound("x", explanation="no such host")
        self.images[image] = f"sha256:{image}"


DEBIAN, PYTHON, OTHER = "debian:trixie-slim", "python:3.12-slim-trixie", "python:3.7-slim-trixie"


@pytest.fixture
def roots(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> list[Variant]:
    """Two minimal images; this host has no Python to make the base of the second one from."""
    monkeypatch.setattr(bases, "require_buildx", lambda: None)

    def bootstrap(engine: FakeEngine, reference: str) -> None:
        if reference == OTHER:
            raise UserError("no CPython 3.7 on this host")
        engine.images[f"bootstrap/{reference}"] = reference
        engine.environment[f"bootstrap/{reference}"] = ["PYTHON_VERSION=3.12.9"]

    monkeypatch.setattr(bases, "make_bootstrap_base", bootstrap)
    first = repository.project.variants[0]
    return [first, replace(first, name="another", python="3.7")]


def ensured(engine: FakeEngine, roots: list[Variant], source: BaseSource) -> bases.Bases:
    return bases.ensure_bases(cast("Engine", engine), roots, source)


@pytest.mark.parametrize("source", [BaseSource.REGISTRY, BaseSource.AUTO])
def test_present_bases_are_used_without_importing_docker_py(
    roots: list[Variant], source: BaseSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The import takes longer than the rest of a build with nothing to do."""
    engine = FakeEngine(DEBIAN, PYTHON)
    ensured(engine, roots[:1], BaseSource.REGISTRY)
    monkeypatch.setitem(sys.modules, "docker.errors", None)

    assert ensured(engine, roots[:1], source).source is BaseSource.REGISTRY
    assert engine.pulled == [DEBIAN, PYTHON]


def test_a_python_that_cannot_be_had_stops_only_its_own_images(roots: list[Variant]) -> None:
    found = ensured(FakeEngine(), roots, BaseSource.AUTO)
    assert found.source is BaseSource.BOOTSTRAP
    assert found.ids.keys() == {DEBIAN, PYTHON}
    assert found.why_unavailable(roots[0]) == ""
    why = f"its base image {OTHER} cannot be made: no CPython 3.7 on this host"
    assert found.why_unavailable(roots[1]) == why


def test_a_base_is_identified_by_its_layers(roots: list[Variant]) -> None:
    engine = FakeEngine(DEBIAN, PYTHON)
    found = ensured(engine, roots[:1], BaseSource.REGISTRY)
    assert found.ids == {DEBIAN: f"sha256:{DEBIAN}", PYTHON: f"sha256:{PYTHON}"}


def test_the_full_version_of_cpython_is_that_of_the_base_image(
    roots: list[Variant], capsys: pytest.CaptureFixture[str]
) -> None:
    engine = FakeEngine(DEBIAN, PYTHON, OTHER)
    engine.environment[PYTHON] = ["PATH=/usr/local/bin", "PYTHON_VERSION=3.12.9"]
    found = ensured(engine, roots, BaseSource.REGISTRY)
    capsys.readouterr()

    versions = bases.python_versions(cast("Engine", engine), found, roots)

    assert versions == {PYTHON: "3.12.9"}
    said = capsys.readouterr().err
    assert f"{OTHER} has no PYTHON_VERSION" in said
    assert PYTHON not in said


def test_a_bootstrap_base_that_does_not_say_its_cpython_is_made_again(roots: list[Variant]) -> None:
    engine = FakeEngine()
    ensured(engine, roots[:1], BaseSource.AUTO)
    engine.images[f"bootstrap/{PYTHON}"] = "of older tools"
    engine.images[f"bootstrap/{DEBIAN}"] = "kept"
    del engine.environment[f"bootstrap/{PYTHON}"]

    ensured(engine, roots[:1], BaseSource.AUTO)

    assert engine.images == {f"bootstrap/{PYTHON}": PYTHON, f"bootstrap/{DEBIAN}": "kept"}


def test_a_registry_that_lacks_one_base_stops_only_its_images(roots: list[Variant]) -> None:
    found = ensured(FakeEngine(DEBIAN, PYTHON), roots, BaseSource.REGISTRY)
    assert found.source is BaseSource.REGISTRY
    assert found.why_unavailable(roots[0]) == ""
    why = f"its base image {OTHER} cannot be pulled (no such host)"
    assert found.why_unavailable(roots[1]) == why


def test_without_any_base_nothing_is_begun(roots: list[Variant]) -> None:
    with pytest.raises(WorkError, match=r"no CPython 3\.7 on this host"):
        ensured(FakeEngine(), roots[1:], BaseSource.AUTO)
    with pytest.raises(WorkError, match=f"{DEBIAN} cannot be pulled .*; .*{PYTHON} cannot be"):
        ensured(FakeEngine(), roots, BaseSource.REGISTRY)


def test_registry_that_cannot_be_reached_is_tried_once(roots: list[Variant]) -> None:
    engine = FakeEngine()
    ensured(engine, roots, BaseSource.AUTO)
    assert engine.pulled == [DEBIAN]
