"""The path that most users have: official base images from a registry, behind what a company has.

A registry on loopback holds the official names, a fresh engine has it as its mirror, and the host
has a package index that wants a password, a proxy, a certificate authority and a folder of wheels
of its own. The same build passes, uses all of them, and keeps nothing.
"""

import base64
import io
import json
import os
import select
import shutil
import socket
import ssl
import subprocess
import sys
import tarfile
import threading
import zipfile
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from imagematrix.checks import checks_of
from imagematrix.checks.running import run_image, wait_until_healthy
from imagematrix.host.config import read_host_config
from imagematrix.host.engine import Engine
from imagematrix.matrix.schema import Accelerator
from imagematrix.repository.project import Project
from tests.engine.conftest import ROOT, copy_repository, publish_bases
from tests.engine.engines import OwnEngine
from tests.example_images import example

IMAGE = example().name
WITH_CUDA = example(accelerator=Accelerator.CUDA)
USER, PASSWORD = "canary-user", "canary-password"
PROXY_USER = "canary-proxy-user"
CERTIFICATE_NAME = "Canary Test Authority"


@dataclass
class Seen:
    """What the index and the proxy were asked for."""

    pages: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    tunnels: list[str] = field(default_factory=list)


class _Handler(BaseHTTPRequestHandler):
    def __init__(self, seen: Seen, index_url: str, *arguments: object) -> None:
        self.seen, self.index_url = seen, index_url
        super().__init__(*arguments)  # type: ignore[arg-type]  # socketserver's own three

    def log_message(self, *_: object) -> None:
        """Nothing: pytest shows what failed."""

    def do_GET(self) -> None:
        """The page of a package, for who knows the password: that of the host's own index."""
        wanted = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        if self.headers.get("Authorization") != wanted:
            self.seen.refused.append(self.path)
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="index"')
        else:
            self.seen.pages.append(self.path)
            self.send_response(302)
            self.send_header("Location", self.index_url + self.path.removeprefix("/simple"))
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_CONNECT(self) -> None:
        """A tunnel, as an HTTP proxy gives it."""
        host, port = self.path.rsplit(":", 1)
        self.seen.tunnels.append(host)
        with socket.create_connection((host, int(port)), timeout=30) as upstream:
            self.send_response(200)
            self.end_headers()
            ends = {self.connection: upstream, upstream: self.connection}
            while True:
                for end in select.select(list(ends), [], [], 60)[0] or [None]:
                    data = end.recv(65536) if end is not None else b""
                    if not data:
                        return
                    ends[end].sendall(data)


@dataclass(frozen=True)
class RegistryBuild:
    """A build of IMAGE on the second engine: what it said, and the words that must not be in it."""

    engine: Engine
    stderr: str
    outcome: str
    seen: Seen
    canaries: tuple[str, ...]


@pytest.fixture(scope="session")
def registry_build(
    engine: Engine,
    registry: str,
    second_engine: OwnEngine,
    tree: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> RegistryBuild:
    """IMAGE, built from the registry by a host with everything that a host can have."""
    publish_bases(engine, registry, IMAGE)
    host = read_host_config(os.environ, Path.home())
    seen = Seen()
    handler = partial(_Handler, seen, host.index_url.rstrip("/"))
    server = ThreadingHTTPServer((second_engine.gateway, 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"{second_engine.gateway}:{server.server_port}"
    folder = tmp_path_factory.mktemp("canary-folder")
    bundle = _bundle(folder, host.ca_bundle)
    wheels = folder / "canary-wheels"
    wheels.mkdir()
    _download_wheel(wheels)
    environ = {
        **second_engine.engine.environ(),
        "PIP_INDEX_URL": f"http://{USER}:{PASSWORD}@{address}/simple",
        "PIP_TRUSTED_HOST": address,
        "PIP_FIND_LINKS": str(wheels),
        "PIP_CERT": str(bundle),
        "HTTPS_PROXY": f"http://{PROXY_USER}:{PASSWORD}@{address}",
    }
    command = [sys.executable, "-m", "imagematrix", "build", IMAGE, "--bases", "registry", "--json"]
    result = subprocess.run(
        command, cwd=tree, env=environ, capture_output=True, text=True, check=False
    )
    server.shutdown()
    assert result.returncode == 0, result.stderr[-6000:]
    (row,) = json.loads(result.stdout)
    certificate_line = bundle.read_text().splitlines()[2]
    canaries = (USER, PASSWORD, PROXY_USER, address, CERTIFICATE_NAME, certificate_line)
    return RegistryBuild(
        second_engine.engine,
        result.stderr,
        row["outcome"],
        seen,
        (*canaries, str(folder), folder.name, registry, *map(str, host.wheel_folders)),
    )


def _bundle(folder: Path, ca_bundle: Path | None) -> Path:
    """The host's certificates behind one of a new authority."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed: no authority can be made")
    certificate = folder / "canary.pem"
    command = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "/dev/null"]
    command += ["-subj", f"/CN={CERTIFICATE_NAME}", "-days", "2", "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    known = ca_bundle or Path(ssl.get_default_verify_paths().cafile or "/dev/null")
    bundle = folder / "canary-bundle.pem"
    bundle.write_text(certificate.read_text() + known.read_text())
    return bundle


def _download_wheel(folder: Path) -> None:
    """One wheel that the lock of IMAGE admits, so that the build takes it from the folder."""
    httptools = Project(ROOT).locks[IMAGE]["httptools"]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--only-binary", ":all:", "--python-version", "3.12"]
    command += ["--platform", "manylinux_2_28_x86_64", "--dest", str(folder)]
    command.append(f"httptools=={httptools.version}")
    subprocess.run(command, check=True, capture_output=True)
    assert list(folder.glob("*.whl")), "no wheel was downloaded"


def test_build_passes_with_bases_from_the_registry(registry_build: RegistryBuild) -> None:
    """The official names are resolved by the mirror, and one line says so."""
    assert registry_build.outcome == "built"
    line = "Bases: registry (debian:trixie-slim, python:3.12-slim-trixie)."
    assert line in registry_build.stderr.splitlines()


def test_build_used_the_index_the_proxy_and_the_wheels(registry_build: RegistryBuild) -> None:
    """Were one of them not used, that it leaves no trace would show nothing."""
    seen = registry_build.seen
    packages = {page.strip("/").split("/")[-1] for page in seen.pages}
    assert {"uv", "pip"} <= packages, packages
    assert "context wheels] load from client" in registry_build.stderr
    assert seen.tunnels, "nothing went through the proxy"


def test_image_from_the_registry_passes_its_checks(registry_build: RegistryBuild) -> None:
    """It is as good an image as one on other bases."""
    project = Project(ROOT)
    variant = next(v for v in project.variants if v.name == IMAGE)
    reference = f"{IMAGE}:latest"
    with run_image(registry_build.engine, reference, variant, project.locks[IMAGE], ROOT) as image:
        wait_until_healthy(image)
        for check in checks_of(variant):
            check(image)


def test_nothing_of_the_host_stays_in_the_image(registry_build: RegistryBuild) -> None:
    """No layer, no configuration and no history holds a word of the host's."""
    client = registry_build.engine.client()
    words = [word.encode() for word in registry_build.canaries]
    longest = max(map(len, words))
    found: set[bytes] = set()
    known = False
    tail = b""
    size = 0
    try:
        for chunk in client.api.get_image(f"{IMAGE}:latest"):
            window = tail + chunk
            found |= {word for word in words if word in window}
            known = known or b"inference-server" in window
            tail = window[-longest:]
            size += len(chunk)
        history = json.dumps(client.api.history(f"{IMAGE}:latest"))
        inspected = json.dumps(client.api.inspect_image(f"{IMAGE}:latest"))
    finally:
        client.close()
    assert size > 50e6, "the layers were not read"
    assert known, "the layers are compressed, nothing could have been found in them"
    assert not found, f"in a layer: {found}"
    kept = [word for word in registry_build.canaries if word in history + inspected]
    assert not kept, f"in the history or the configuration: {kept}"


def test_a_registry_that_lacks_the_image_is_an_error_that_names_it(
    second_engine: OwnEngine, tree: Path
) -> None:
    """`--bases registry` does not fall back to anything."""
    other = next(v for v in Project(ROOT).variants if v.parent is None and v.name != IMAGE)
    command = [sys.executable, "-m", "imagematrix", "build", other.name, "--bases", "registry"]
    result = subprocess.run(
        command,
        cwd=tree,
        env=second_engine.engine.environ(),
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode == 0:
        pytest.skip("this host reaches a registry that has every base image")
    assert result.returncode == 1
    assert f"python:{other.python}-slim-{other.suite}" in result.stderr
    assert "Traceback" not in result.stderr


# --- CUDA of an image of NVIDIA's -----------------------------------------------------------------

CUDA_IMAGE = "nvidia/cuda:11.7.1-runtime-ubuntu20.04"
CUDA_RUNTIME = "nvidia-cuda-runtime-cu11==11.7.99"
LIBRARIES = "usr/local/cuda-11.7/targets/x86_64-linux/lib"


@pytest.fixture(scope="session")
def with_cuda_image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the repository whose minimal image with CUDA takes that from CUDA_IMAGE."""
    root = copy_repository(tmp_path_factory.mktemp("with-cuda-image"))
    matrix = (root / "matrix.yaml").read_text()
    pinned = "pins: [nvidia-cuda-runtime==13.0.96]"
    assert matrix.count(pinned) == 1
    own = f"cuda_image: {CUDA_IMAGE}, pins: [pip==26.3]"
    (root / "matrix.yaml").write_text(matrix.replace(pinned, own))
    folder = root / WITH_CUDA.folder
    shutil.copy(root / f"base/{IMAGE}/requirements.txt", folder)
    _imagematrix(root, dict(os.environ), "render")
    return root


def _imagematrix(root: Path, environ: dict[str, str], *arguments: str) -> str:
    command = [sys.executable, "-m", "imagematrix", *arguments]
    result = subprocess.run(
        command, cwd=root, env=environ, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr[-4000:]
    return result.stdout


CUDA_VARIANT = WITH_CUDA.folder.name.replace("-cuda-", "-cuda11.7-")


def test_cuda_of_an_image_is_copied_from_the_registry(
    registry_build: RegistryBuild, registry: str, with_cuda_image: Path, tmp_path: Path
) -> None:
    """Without the image its row is unavailable, with the reason; with it the row is built, and its
    checks find that CUDA."""
    engine = registry_build.engine
    build = (engine.environ(), "build", CUDA_VARIANT, "--bases", "registry", "--json")
    parent, row = json.loads(_imagematrix(with_cuda_image, *build))
    if row["outcome"] == "built":
        pytest.skip("this host reaches a registry that has NVIDIA's images")
    assert (parent["outcome"], row["outcome"]) == ("up to date", "unavailable")
    assert f"only in the image {CUDA_IMAGE}, which cannot be pulled (" in row["detail"]

    _publish_cuda_image(engine, registry, tmp_path)
    _, row = json.loads(_imagematrix(with_cuda_image, *build))
    assert row["outcome"] == "built", row["detail"]

    project = Project(with_cuda_image)
    variant = next(v for v in project.variants if v.name == CUDA_VARIANT)
    lock = project.locks[CUDA_VARIANT]
    with run_image(engine, f"{CUDA_VARIANT}:latest", variant, lock, with_cuda_image) as image:
        wait_until_healthy(image)
        assert image.labels["inference.cuda"] == "11.7"
        listed = image.host.run("ls -l /usr/local/cuda/lib64").stdout
        assert "libcudart.so.11.0 -> libcudart.so.11.7.99" in listed, listed
        wanted = {"cuda_versions_agree", "cuda_libraries_resolve", "driver_is_asked_for"}
        checks = [check for check in checks_of(variant) if check.__name__ in wanted]
        assert len(checks) == len(wanted)
        for check in checks:
            check(image)


def _publish_cuda_image(engine: Engine, registry: str, folder: Path) -> None:
    """Pushes an image that has the runtime where NVIDIA's have it, and a cuDNN by name alone."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--only-binary", ":all:", "--platform", "manylinux1_x86_64"]
    subprocess.run([*command, "--dest", str(folder), CUDA_RUNTIME], check=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        runtime = archive.read("nvidia/cuda_runtime/lib/libcudart.so.11.0")
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:

        def add(name: str, content: bytes = b"", link: str = "") -> None:
            info = tarfile.TarInfo(name)
            info.size, info.linkname, info.mode = len(content), link, 0o644
            info.type = tarfile.SYMTYPE if link else tarfile.REGTYPE
            tar.addfile(info, io.BytesIO(content))

        add(f"{LIBRARIES}/libcudart.so.11.7.99", runtime)
        add(f"{LIBRARIES}/libcudart.so.11.0", link="libcudart.so.11.7.99")
        add("usr/local/cuda", link="cuda-11.7")
        add("usr/lib/x86_64-linux-gnu/libcudnn.txt")
        add("usr/lib/x86_64-linux-gnu/libnccl.txt")
    repository, tag = CUDA_IMAGE.split(":")
    client = engine.client()
    try:
        client.api.import_image_from_data(buffer.getvalue(), f"{registry}/{repository}", tag)
        for event in client.api.push(f"{registry}/{repository}", tag, stream=True, decode=True):
            assert "error" not in event, event["error"]
        client.api.remove_image(f"{registry}/{repository}:{tag}")
    finally:
        client.close()
