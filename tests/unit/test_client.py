"""An engine over TLS, with certificates as Docker's manual has them made."""

import http.server
import json
import shutil
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from imagematrix.errors import UserError
from imagematrix.host.endpoint import Endpoint, Tls
from imagematrix.host.engine import find_engine

INFO = {"ServerVersion": "28.5.2", "DockerRootDir": "/data", "OSType": "linux"}
VERSION = {"ApiVersion": "1.44", "Version": "28.5.2", "Components": [{"Name": "Engine"}]}


class _Answers(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        content = json.dumps(VERSION if self.path.endswith("/version") else INFO).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that https://docs.docker.com/engine/security/protect-access/ has made, and those of
    another authority."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed: no certificate can be made")
    folder = tmp_path_factory.mktemp("certificates")
    key = ["-newkey", "rsa:2048", "-nodes", "-days", "2"]

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    for name in ("ca", "other"):
        own = ["-keyout", f"{name}-key.pem", "-out", f"{name}.pem"]
        openssl("req", *key, "-x509", "-subj", f"/CN={name}", *own)
    (folder / "ext").write_text("subjectAltName=IP:127.0.0.1\n")
    for name, subject in (("server", "server"), ("", "client")):
        start = f"{name}-" if name else ""
        made = ["-keyout", f"{start}key.pem", "-out", f"{start}request.pem"]
        openssl("req", *key, "-subj", f"/CN={subject}", *made)
        by = ["-CA", "ca.pem", "-CAkey", "ca-key.pem", "-CAcreateserial", "-extfile", "ext"]
        asked = ["-days", "2", "-in", f"{start}request.pem", "-out", f"{start}cert.pem"]
        openssl("x509", "-req", *by, *asked)
    return folder


@pytest.fixture
def host(certificates: Path) -> Iterator[str]:
    """The address of an engine that wants a certificate of its authority."""
    authority = str(certificates / "ca.pem")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=authority)
    context.verify_mode = ssl.CERT_REQUIRED
    # Here only the other side is looked at.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    context.load_cert_chain(certificates / "server-cert.pem", certificates / "server-key.pem")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Answers) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"tcp://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.filterwarnings("ignore::urllib3.exceptions.InsecureRequestWarning")
def test_engine_is_held_against_its_own_authority_and_no_other(
    host: str, certificates: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is trusted for package indexes on this host has nothing to do with it."""
    own = (certificates / "cert.pem", certificates / "key.pem")
    trusted = certificates / "ca.pem"
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificates / "other.pem"))
    found = find_engine(Endpoint(host, "DOCKER_HOST", Tls(trusted, *own, True)))
    assert found is not None
    assert (found.version, found.data) == ("28.5.2", None)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(trusted))
    with pytest.raises(UserError, match=r"cannot be used: .*CERTIFICATE_VERIFY_FAILED"):
        find_engine(Endpoint(host, "DOCKER_HOST", Tls(certificates / "other.pem", *own, True)))
    unverified = find_engine(Endpoint(host, "DOCKER_HOST", Tls(None, *own, False)))
    assert unverified is not None


def test_certificate_of_another_name_is_none(host: str, certificates: Path) -> None:
    own = (certificates / "cert.pem", certificates / "key.pem")
    tls = Tls(certificates / "ca.pem", *own, verify=True)
    with pytest.raises(UserError, match=r"cannot be used: .*localhost"):
        find_engine(Endpoint(host.replace("127.0.0.1", "localhost"), "DOCKER_HOST", tls))


def test_without_a_certificate_the_engine_cannot_be_used(host: str, certificates: Path) -> None:
    tls = Tls(certificates / "ca.pem", None, None, verify=True)
    with pytest.raises(UserError, match=r"at tcp://.* \(DOCKER_HOST\) cannot be used"):
        find_engine(Endpoint(host, "DOCKER_HOST", tls))
