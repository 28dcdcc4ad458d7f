"""Which builder there is, what it may read, and how it gets images that it does not have."""

import io
import json
import os
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import Mock

import pytest

from imagematrix.build.buildkit import running_bake
from imagematrix.errors import UserError, WorkError
from imagematrix.host.buildx import Builder, find_builder, require_buildx, require_cache
from imagematrix.host.endpoint import Endpoint
from imagematrix.host.engine import Engine
from imagematrix.plan.bake import file_secret, local_paths

ENGINE = Engine(Endpoint("unix:///nowhere"), "28.5", True, None)
INSPECTED = """Name:          {name}
Driver:        {driver}
Last Activity: 2026-11-28 10:41:20 +0000 UTC

Nodes:
Name:             {name}0
Endpoint:         {endpoint}
Status:           running
BuildKit version: v0.0.0+unknown
Platforms:        {platforms}
Labels:
 org.mobyproject.buildkit.worker.hostname: vm
"""
FakeDocker = Callable[..., Path]


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeDocker:
    """Replaces the docker command by one that records its input."""
    monkeypatch.delenv("BUILDX_BUILDER", raising=False)

    def put(inspect: str = "", help_text: str = "", known: str = "") -> Path:
        (tmp_path / "inspect").write_text(inspect)
        (tmp_path / "docker").write_text(
            "#!/bin/sh\n"
            f'echo "$@" >> {tmp_path}/given\n'
            'case "$*" in\n'
            f'"buildx inspect{known}") cat {tmp_path}/inspect ;;\n'
            '"buildx inspect"*) echo "ERROR: no builder \\"$3\\" found" >&2; exit 1 ;;\n'
            f'*--help) echo "{help_text}" ;;\n'
            f'"buildx bake"*) cat > {tmp_path}/definition ;;\n'
            "esac\n"
        )
        (tmp_path / "docker").chmod(0o755)
        return tmp_path

    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return put


def inspected(**fields: str) -> str:
    """What buildx says of a builder."""
    usual = {"name": "default", "driver": "docker", "endpoint": "default"}
    platforms = "linux/amd64, linux/amd64/v2, linux/386"
    return INSPECTED.format(**{**usual, "platforms": platforms, **fields})


@pytest.mark.parametrize("program", ["", "#!/bin/sh\nexit 1\n"], ids=["no docker", "no plugin"])
def test_missing_buildx_says_what_to_install(
    program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if program:
        (tmp_path / "docker").write_text(program)
        (tmp_path / "docker").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(UserError, match="docker buildx is missing; install it: https://") as error:
        require_buildx()
    assert error.value.exit_status == 2


def test_builder_of_the_engine_has_its_images(docker: FakeDocker) -> None:
    docker(inspected())
    assert find_builder(ENGINE) == Builder("", "docker")
    assert find_builder(ENGINE).has_images


def test_builder_is_named_by_the_environment(
    docker: FakeDocker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BUILDX_BUILDER", "far")
    docker(inspected(driver="remote", endpoint="tcp://10.0.0.1:1234"), known=" far")
    assert find_builder(ENGINE) == Builder("far", "remote")
    assert not find_builder(ENGINE).has_images


def test_unknown_builder_is_an_error(docker: FakeDocker) -> None:
    docker(inspected(), known=" far")
    with pytest.raises(UserError, match=r'builder near .* no builder "near" found; .*buildx ls'):
        find_builder(ENGINE, "near")


def test_builder_that_is_another_engine_is_refused(docker: FakeDocker) -> None:
    docker(inspected(name="other", endpoint="other"), known=" other")
    with pytest.raises(UserError, match=r"is another Docker engine .* DOCKER_CONTEXT=other"):
        find_builder(ENGINE, "other")


@pytest.mark.parametrize(
    ("platforms", "fits"),
    [("linux/arm64, linux/arm/v7", False), ("linux/arm64, linux/amd64", True), ("", True)],
    ids=["another", "emulated", "not known yet"],
)
def test_another_architecture_is_refused_before_building(
    platforms: str, fits: bool, docker: FakeDocker
) -> None:
    docker(inspected(platforms=platforms))
    if fits:
        assert find_builder(ENGINE) == Builder()
        return
    with pytest.raises(UserError, match="are for linux/amd64, which the engine does not build for"):
        find_builder(ENGINE)


DEFINITION = {
    "target": {
        "a": {
            "context": "base",
            "contexts": {"debian:x": "docker-image://bootstrap/debian:x", "b": "target:b"},
            "secret": [file_secret("ca", "/etc/ssl/my, own ${x}.crt"), "id=s,env=VARIABLE"],
        },
        "b": {"context": "base", "contexts": {"wheels": "build/wheels/b"}},
    }
}


def bake(root: Path, builder: Builder, engine: Engine = ENGINE) -> dict[str, Any]:
    """The bake file that docker was given."""
    with running_bake(root, engine, builder, DEFINITION) as process:
        assert process.stdout is not None
        process.stdout.read()
    assert process.returncode == 0
    given: dict[str, Any] = json.loads((root / "definition").read_text())
    return given


def test_files_that_a_bake_file_names_are_found() -> None:
    assert local_paths(DEFINITION) == ("base", "/etc/ssl/my, own ${x}.crt", "build/wheels/b")


def test_bake_may_read_the_files_outside_and_nothing_else(docker: FakeDocker) -> None:
    root = docker(help_text="      --allow stringArray   Allow build to access …")
    bake(root, Builder())
    *_, called = (root / "given").read_text().splitlines()
    assert called.count("--allow") == 1
    assert "--allow=fs.read=/etc/ssl/my, own ${x}.crt" in called


def test_work_folder_that_is_a_link_may_be_read(
    docker: FakeDocker, tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = docker(help_text="      --allow stringArray   Allow build to access …")
    (root / "build").symlink_to(tmp_path_factory.mktemp("elsewhere"))
    bake(root, Builder())
    assert "--allow=fs.read=build/wheels/b" in (root / "given").read_text()


def test_buildx_that_knows_no_grants_is_given_none(docker: FakeDocker) -> None:
    root = docker(help_text="      --builder string")
    assert bake(root, Builder()) == DEFINITION
    assert "--allow" not in (root / "given").read_text()


def archive(*names: str) -> list[bytes]:
    """What an engine saves of an image, in chunks."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name in names:
            content = json.dumps({"manifests": [{"digest": "sha256:m"}]}).encode()
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    whole = buffer.getvalue()
    return [whole[i : i + 700] for i in range(0, len(whole), 700)]


def saving(chunks: list[bytes]) -> tuple[Engine, Mock]:
    """An engine with one image, which it saves so."""
    client = Mock()
    client.api.get_image.side_effect = lambda _: iter(chunks)
    ids = {"bootstrap/debian:x": "sha256:1"}
    engine = SimpleNamespace(
        ids=lambda _: ids, client=lambda: client, environ=lambda: dict(os.environ)
    )
    return cast("Engine", engine), client


def test_builder_without_the_images_gets_them_as_layouts_once(docker: FakeDocker) -> None:
    root = docker()
    engine, client = saving(archive("oci-layout", "index.json"))
    for _ in range(2):
        given = bake(root, Builder("far", "remote"), engine)
        assert given["target"]["a"]["contexts"] == {
            "debian:x": "oci-layout://build/oci/sha256-1@sha256:m",
            "b": "target:b",
        }
    client.api.get_image.assert_called_once_with("bootstrap/debian:x")
    assert "--builder far" in (root / "given").read_text()


def test_missing_image_cannot_be_given_to_a_builder(docker: FakeDocker) -> None:
    root = docker()
    engine = cast("Engine", SimpleNamespace(ids=lambda names: dict.fromkeys(names)))
    with pytest.raises(WorkError, match="the engine has no bootstrap/debian:x"):
        bake(root, Builder("far", "remote"), engine)


@pytest.mark.parametrize(
    ("builder", "containerd_store", "exports"),
    [(Builder(), True, True), (Builder(), False, False), (Builder("far", "remote"), False, True)],
)
def test_builder_of_an_engine_exports_a_cache_with_one_store_only(
    builder: Builder, containerd_store: bool, exports: bool
) -> None:
    engine = replace(ENGINE, containerd_store=containerd_store)
    if exports:
        require_cache(engine, builder)
        return
    with pytest.raises(UserError, match="turn on the containerd image store"):
        require_cache(engine, builder)
