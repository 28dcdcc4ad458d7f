"""Engines and builders that are not on the default socket: over TLS, over ssh, and other BuildKits.

Each is a way to the engine that holds the images, or to one of our own; nothing leaves loopback.
"""

import json
import os
import socket
import ssl
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import pytest

from imagematrix.checks import checks_of
from imagematrix.checks.running import run_image, wait_until_healthy
from imagematrix.host.endpoint import configured_endpoint
from imagematrix.host.engine import Engine, find_engine
from imagematrix.repository.project import Project
from tests.engine.conftest import ROOT, publish_bases
from tests.engine.engines import OwnEngine
from tests.engine.forwarding import buildkit, connection, forwarding
from tests.example_images import example, on_another_python, smallest_child
from tests.images.running import build_images

IMAGE = example().name
CHILD = smallest_child().name
OTHER = on_another_python().name


# --- engines --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Tls:
    """An engine behind TLS that wants certificates, and the folder of those."""

    host: str
    certificates: Path


@pytest.fixture(scope="module")
def tls(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tls]:
    """The engine that holds the images, over TLS as
    https://docs.docker.com/engine/security/protect-access/ has it."""
    folder = tmp_path_factory.mktemp("certificates")
    key = ["-newkey", "rsa:2048", "-nodes", "-days", "2"]

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    try:
        ca = ["-x509", "-subj", "/CN=ca", "-keyout", "ca-key.pem", "-out", "ca.pem"]
        openssl("req", *key, *ca)
    except FileNotFoundError:
        pytest.skip("openssl is not installed: no certificate can be made")
    for name in ("server", "client"):
        (folder / f"{name}.ext").write_text("subjectAltName=IP:127.0.0.1\n")
        openssl(
            "req", *key, "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.csr"
        )
        signed = ["-CA", "ca.pem", "-CAkey", "ca-key.pem", "-CAcreateserial", "-days", "2"]
        signed += ["-extfile", f"{name}.ext", "-in", f"{name}.csr", "-out", f"{name}.pem"]
        openssl("x509", "-req", *signed)
    (folder / "client.pem").rename(folder / "cert.pem")
    (folder / "client.key").rename(folder / "key.pem")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(folder / "ca.pem"))
    context.verify_mode = ssl.CERT_REQUIRED
    # As an engine does, which is no Python of 3.13.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    context.load_cert_chain(folder / "server.pem", folder / "server.key")
    plain = socket.create_server(("127.0.0.1", 0))
    with (
        context.wrap_socket(plain, server_side=True) as listening,
        forwarding(listening, lambda: connection(engine)),
    ):
        yield Tls(f"tcp://127.0.0.1:{listening.getsockname()[1]}", folder)


def _serves(image: str, **environ: str) -> None:
    """The engine that is configured so has the image, and its checks reach its container."""
    build = [sys.executable, "-m", "imagematrix", "build", image, "--json"]
    with patch.dict(os.environ, environ):
        result = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stderr[-3000:]
        assert {row["outcome"] for row in json.loads(result.stdout)} == {"up to date"}
        found = find_engine(configured_endpoint())
        assert found is not None
        project = Project(ROOT)
        variant = next(variant for variant in project.variants if variant.name == image)
        lock = project.locks[image]
        with run_image(found, f"{image}:latest", variant, lock, ROOT) as running:
            wait_until_healthy(running)
            wanted = {"example_is_scored", "python_version"}
            checks = [check for check in checks_of(variant) if check.__name__ in wanted]
            assert len(checks) == len(wanted)
            for check in checks:
                check(running)


@pytest.mark.parametrize("by", ["variables", "context"])
def test_an_engine_over_tls_serves(by: str, tls: Tls, config: Path, engine: Engine) -> None:
    build_images(engine, IMAGE)
    folder = tls.certificates
    if by == "variables":
        given = {"DOCKER_HOST": tls.host, "DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": str(folder)}
    else:
        files = {"ca": "ca.pem", "cert": "cert.pem", "key": "key.pem"}
        spec = ",".join([f"host={tls.host}", *(f"{k}={folder / v}" for k, v in files.items())])
        create = ["docker", "context", "create", "far", "--docker", spec]
        subprocess.run(create, check=True, capture_output=True)
        given = {"DOCKER_CONTEXT": "far"}
    _serves(IMAGE, **given)


def test_an_engine_over_tls_without_a_certificate_is_an_error(tls: Tls, config: Path) -> None:
    command = [sys.executable, "-m", "imagematrix", "engine"]
    environ = {**os.environ, "DOCKER_HOST": tls.host, "DOCKER_TLS_VERIFY": "1"}
    result = subprocess.run(
        command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False
    )
    assert result.returncode == 2, result.stdout
    assert f"at {tls.host} (DOCKER_HOST) cannot be used" in result.stderr
    assert "Traceback" not in result.stderr


def test_an_engine_over_ssh_serves(engine: Engine, config: Path, tmp_path: Path) -> None:
    """ssh itself is a script that runs here what it is to run there."""
    if engine.endpoint.socket is None:
        pytest.skip("the engine is not on this machine: there is nothing to lead to")
    build_images(engine, IMAGE)
    programs = tmp_path / "programs"
    programs.mkdir()
    ssh = programs / "ssh"
    # After its options comes the host, and then the command.
    ssh.write_text(
        "#!/bin/sh\n"
        'while [ "$1" != far ] && [ $# -gt 0 ]; do shift; done\n'
        'shift; [ "$1" = -- ] && shift\n'
        f"unset DOCKER_CONTEXT; export DOCKER_HOST={engine.endpoint.host}\n"
        'exec sh -c "$*"\n'
    )
    ssh.chmod(0o755)
    create = ["docker", "context", "create", "far", "--docker", "host=ssh://far"]
    subprocess.run(create, check=True, capture_output=True)
    _serves(IMAGE, DOCKER_CONTEXT="far", PATH=f"{programs}:{os.environ['PATH']}")


# --- builders -------------------------------------------------------------------------------------


@pytest.fixture
def remote_builder(second_engine: OwnEngine, config: Path, tmp_path: Path) -> Iterator[str]:
    """A builder of buildx that is neither the engine which holds the images nor any engine."""
    with buildkit(second_engine.engine, tmp_path / "buildkit.sock") as address:
        name = "far"
        create = ["docker", "buildx", "create", "--name", name, "--driver", "remote", address]
        subprocess.run(create, check=True, capture_output=True)
        yield name


def test_another_builder_gets_bases_and_parents_and_gives_back_images(
    remote_builder: str, engine: Engine, registry: str, second_engine: OwnEngine, tree: Path
) -> None:
    """Its results come into the engine that is configured, and its cache goes where it is sent."""
    publish_bases(engine, registry, OTHER)
    home = second_engine.engine
    cache = ("--cache-to", f"{registry}/cache")
    outcomes, said = _built(home, tree, OTHER, "--builder", remote_builder, *cache)
    assert outcomes == {OTHER: "built"}
    assert "context debian:trixie-slim] OCI load from client" in said
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"http://{registry}/v2/cache/{OTHER}/tags/list") as answer:
        assert json.load(answer)["tags"] == ["buildcache"]

    publish_bases(engine, registry, IMAGE)
    _built(home, tree, IMAGE)
    outcomes, said = _built(home, tree, CHILD, "--builder", remote_builder)
    assert outcomes == {IMAGE: "up to date", CHILD: "built"}
    assert f"context {IMAGE}] OCI load from client" in said


def _built(engine: Engine, tree: Path, *arguments: str) -> tuple[dict[str, str], str]:
    command = [sys.executable, "-m", "imagematrix", "build", *arguments, "--json"]
    result = subprocess.run(
        [*command, "--bases", "registry"],
        cwd=tree,
        env=engine.environ(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-4000:]
    return {row["name"]: row["outcome"] for row in json.loads(result.stdout)}, result.stderr
