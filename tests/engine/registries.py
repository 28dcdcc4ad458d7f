"""docker-registry on loopback for a while: open to all, or with TLS and a password."""

import base64
import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bcrypt
import pytest

from imagematrix.host.config import read_host_config

USER, PASSWORD = "publisher", "secret of the publisher"


@dataclass(frozen=True)
class SecureRegistry:
    """A registry with TLS by an authority of its own, for USER with PASSWORD.

    `ca` is the authority's certificate, `certificate` and `key` are those of the server, `data` is
    the folder of what is pushed.
    """

    host: str
    ca: Path
    data: Path
    certificate: Path
    key: Path

    def environ(self, folder: Path, password: str = PASSWORD) -> Mapping[str, str]:
        """The environment of a host that knows the authority, and is logged in. The folder is for
        its files."""
        log_in_to(self.host, password, folder)
        known = read_host_config(os.environ, Path.home()).ca_bundle
        bundle = folder / "certificates.pem"
        bundle.write_text(self.ca.read_text() + (known.read_text() if known else ""))
        # The first of these that a host has set counts.
        named = dict.fromkeys(("PIP_CERT", "SSL_CERT_FILE"), str(bundle))
        return {"DOCKER_CONFIG": str(folder), **named}


def log_in_to(host: str, password: str, folder: Path) -> Path:
    """Makes the folder a configuration of Docker's that is logged in as USER; without a password,
    it is not."""
    folder.mkdir(parents=True, exist_ok=True)
    auth = base64.b64encode(f"{USER}:{password}".encode()).decode()
    login = {"auths": {host: {"auth": auth}}} if password else {}
    (folder / "config.json").write_text(json.dumps(login))
    return folder


def free_port(address: str = "127.0.0.1") -> int:
    """A port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind((address, 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def serve_registry(
    program: str, *, deletes: bool = False, needs_login: bool = False
) -> Iterator[str]:
    """The host:port of an empty registry, without TLS; whether it `deletes` what it is asked to,
    and whether it is for USER with PASSWORD only."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        auth = _for_the_user(folder) if needs_login else {}
        with _running(program, folder, {}, auth, deletes=deletes) as host:
            yield host


def _for_the_user(folder: Path) -> Mapping[str, Any]:
    """The settings of a registry that is for USER only."""
    # docker-registry takes bcrypt only; with the fewest rounds, it is asked often.
    hashed = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
    (folder / "htpasswd").write_text(f"{USER}:{hashed}\n")
    return {"auth": {"htpasswd": {"realm": "images", "path": str(folder / "htpasswd")}}}


@contextmanager
def serve_secure_registry(program: str, data: Path | None = None) -> Iterator[SecureRegistry]:
    """An empty registry with TLS and a password; what is pushed is below `data`."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ca, certificate, key = _certificates(folder)
        tls = {"tls": {"certificate": str(certificate), "key": str(key)}}
        auth = _for_the_user(folder)
        data = data or folder / "data"
        with _running(program, folder, tls, auth, data) as host:
            yield SecureRegistry(host, ca, data, certificate, key)


@contextmanager
def _running(
    program: str,
    folder: Path,
    http: Mapping[str, Any],
    more: Mapping[str, Any],
    data: Path | None = None,
    *,
    deletes: bool = False,
) -> Iterator[str]:
    port = free_port()
    storage = {"filesystem": {"rootdirectory": str(data or folder / "data")}}
    settings = {
        "version": 0.1,
        "log": {"level": "warn"},
        "storage": {**storage, "delete": {"enabled": deletes}},
        "http": {"addr": f"127.0.0.1:{port}", **http},
        **more,
    }
    config = folder / "config.yml"
    # YAML has JSON as a part of it.
    config.write_text(json.dumps(settings))
    with (folder / "log").open("w") as log:
        process = subprocess.Popen([program, "serve", str(config)], stdout=log, stderr=log)
    try:
        _wait_for(port, folder / "log")
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def _wait_for(port: int, log: Path) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            with socket.create_connection(("127.0.0.1", port), 2):
                return
        except OSError:
            assert time.monotonic() < deadline, f"the registry did not start: {log.read_text()}"
            time.sleep(0.1)


def _certificates(folder: Path) -> tuple[Path, Path, Path]:
    """An authority's certificate, and a certificate of it for 127.0.0.1 with its key."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed: no authority can be made")
    request = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    ca, ca_key = folder / "ca.pem", folder / "ca.key"
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    of_authority = ["-subj", "/CN=Authority of a test", "-keyout", ca_key, "-out", ca]
    of_server = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    of_server += ["-addext", "basicConstraints=critical,CA:FALSE", "-CA", str(ca)]
    of_server += ["-CAkey", str(ca_key), "-keyout", str(key), "-out", str(certificate)]
    for options in (of_authority, of_server):
        subprocess.run([*request, *options], check=True, capture_output=True)
    return ca, certificate, key
