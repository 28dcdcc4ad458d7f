"""Which engine is meant, as the docker command reads it."""

import json
import os
from pathlib import Path

import pytest

from imagematrix.errors import UserError
from imagematrix.host.endpoint import Endpoint, Tls, configured_endpoint

DEFAULT = Endpoint("unix:///var/run/docker.sock")
# What docker 28 says of contexts, as far as it is read.
DOCKER = """#!/bin/sh
test -z "$DOCKER_CONTEXT" || exit 9
case "$*" in
"context inspect remote") cat {folder}/remote.json ;;
"context inspect "*) echo 'context "'$3'": context not found: open …' >&2; exit 1 ;;
"context ls --format {{{{.Name}}}}") printf 'default\\nremote\\ngone\\n' ;;
esac
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Docker's folder, with a docker command that knows the context `remote`."""
    for name in list(os.environ):
        if name.startswith("DOCKER_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    tls = tmp_path / "tls" / "docker"
    tls.mkdir(parents=True)
    for name in ("ca.pem", "cert.pem", "key.pem"):
        (tls / name).touch()
    remote = {
        "Name": "remote",
        "Endpoints": {"docker": {"Host": "tcp://10.1.2.3:2376", "SkipTLSVerify": False}},
        "TLSMaterial": {"docker": ["ca.pem", "cert.pem", "key.pem"]},
        "Storage": {"TLSPath": str(tmp_path / "tls")},
    }
    (tmp_path / "remote.json").write_text(json.dumps([remote]))
    (tmp_path / "docker").write_text(DOCKER.format(folder=tmp_path))
    (tmp_path / "docker").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return tmp_path


def chosen(folder: Path, config: str) -> Endpoint:
    """What is meant with such a config.json."""
    (folder / "config.json").write_text(config)
    return configured_endpoint()


def test_endpoint_is_the_default_where_nothing_is_configured() -> None:
    assert configured_endpoint() == DEFAULT


def test_docker_host_comes_before_every_context(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "127.0.0.1:2375")
    monkeypatch.setenv("DOCKER_CONTEXT", "remote")
    found = configured_endpoint()
    assert (found.host, found.named_by, found.tls) == ("tcp://127.0.0.1:2375", "DOCKER_HOST", None)
    assert found.environ()["DOCKER_HOST"] == "127.0.0.1:2375"


@pytest.mark.parametrize("named_by", ["DOCKER_CONTEXT", "config.json"])
def test_context_is_read_with_its_certificates(
    named_by: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DOCKER_CONTEXT, for which docker needs no config.json, or the one that is in use."""
    if named_by == "DOCKER_CONTEXT":
        monkeypatch.setenv("DOCKER_CONTEXT", "remote")
        found = configured_endpoint()
    else:
        found = chosen(folder, '{"currentContext": "remote"}')
    tls = folder / "tls" / "docker"
    assert found.host == "tcp://10.1.2.3:2376"
    assert found.tls == Tls(tls / "ca.pem", tls / "cert.pem", tls / "key.pem", verify=True)
    environ = found.environ()
    assert environ["DOCKER_CONTEXT"] == "remote"
    assert "DOCKER_HOST" not in environ, "docker would not look at the context"


@pytest.mark.parametrize(
    "config", ['{"auths": {}}', "[]", "{", '{"currentContext": "default"}', '{"currentContext": 7}']
)
def test_configuration_without_a_context_means_the_default(config: str, folder: Path) -> None:
    (folder / "docker").unlink()
    assert chosen(folder, config) == DEFAULT


def test_unknown_context_is_an_error_that_names_the_known_ones(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match=r"names the Docker context gone, .* not found") as error:
        chosen(folder, '{"currentContext": "gone"}')
    assert "The contexts here: default, remote." in str(error.value)
    monkeypatch.setenv("DOCKER_CONTEXT", "typo")
    with pytest.raises(UserError, match=r"^DOCKER_CONTEXT names the Docker context typo"):
        configured_endpoint()
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(UserError, match="cannot be read without the docker command"):
        configured_endpoint()


def test_tls_of_the_environment_is_that_of_the_docker_command(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_CERT_PATH", str(folder / "tls" / "docker"))
    assert configured_endpoint() == DEFAULT, "certificates alone turn nothing on"
    monkeypatch.setenv("DOCKER_TLS_VERIFY", "1")
    found = configured_endpoint()
    assert found.host == "tcp://localhost:2376"
    tls = folder / "tls" / "docker"
    assert found.tls == Tls(tls / "ca.pem", tls / "cert.pem", tls / "key.pem", verify=True)
    assert found.environ()["DOCKER_CERT_PATH"] == str(tls)
    monkeypatch.setenv("DOCKER_CERT_PATH", str(folder / "nothing"))
    assert configured_endpoint().tls == Tls(None, None, None, verify=True)
    monkeypatch.setenv("DOCKER_TLS_VERIFY", "")
    monkeypatch.setenv("DOCKER_TLS", "1")
    assert configured_endpoint().tls == Tls(None, None, None, verify=False)


def test_another_engine_gets_nothing_of_the_configured_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DOCKER_CONTEXT", "remote")
    monkeypatch.setenv("DOCKER_TLS_VERIFY", "1")
    environ = Endpoint("unix:///of/another").environ()
    given = {name: value for name, value in environ.items() if name.startswith("DOCKER_")}
    assert given == {
        "DOCKER_HOST": "unix:///of/another",
        "DOCKER_CONFIG": os.environ["DOCKER_CONFIG"],
    }
