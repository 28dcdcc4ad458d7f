"""The configured Docker engine, and how to reach it. The rules are those of the docker command.

DOCKER_HOST, else DOCKER_CONTEXT, else the context that `docker context use` chose, else the socket
of this machine: https://docs.docker.com/reference/cli/docker/#environment-variables
"""

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imagematrix.errors import UserError

# Importing docker-py takes as long as the rest of a plan, so it is imported where it is needed.
if TYPE_CHECKING:
    import docker

DEFAULT_SOCKET = Path("/var/run/docker.sock")
# Docker's default engine if TLS is requested.
_DEFAULT_TLS_HOST = "tcp://localhost:2376"
# The variables by which the docker command chooses an engine.
_VARIABLES = (
    "DOCKER_HOST",
    "DOCKER_CONTEXT",
    "DOCKER_TLS",
    "DOCKER_TLS_VERIFY",
    "DOCKER_CERT_PATH",
)


@dataclass(frozen=True)
class Tls:
    """The files for TLS, as far as they exist; `verify` is whether the engine's certificate is
    verified."""

    ca: Path | None
    certificate: Path | None
    key: Path | None
    verify: bool


@dataclass(frozen=True)
class Endpoint:
    """The address of an engine. `named_by` is what chose it, "" for the default; with `variables`,
    the docker command reaches the same one."""

    host: str
    named_by: str = ""
    tls: Tls | None = None
    variables: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        return f"{self.host} ({self.named_by})" if self.named_by else self.host

    @property
    def socket(self) -> Path | None:
        """The socket on this machine, None for an engine that is reached by other means."""
        return Path(self.host.removeprefix("unix://")) if self.host.startswith("unix://") else None

    def client(self, seconds: int) -> "docker.DockerClient":
        """A client of the engine with a timeout of `seconds`; the caller closes it."""
        from imagematrix.host.client import client_of

        return client_of(self, seconds)

    def environ(self) -> dict[str, str]:
        """The environment of commands for this engine."""
        others = {name: value for name, value in os.environ.items() if name not in _VARIABLES}
        return others | (dict(self.variables) or {"DOCKER_HOST": self.host})


def configured_endpoint() -> Endpoint:
    """The configured engine. Raises UserError, with the existing contexts, for an unknown one."""
    given = tuple((name, os.environ[name]) for name in _VARIABLES if os.environ.get(name))
    tls = _tls_of_environment(os.environ)
    if host := os.environ.get("DOCKER_HOST"):
        return Endpoint(host if "://" in host else f"tcp://{host}", "DOCKER_HOST", tls, given)
    name, named_by = os.environ.get("DOCKER_CONTEXT"), "DOCKER_CONTEXT"
    if not name:
        name, named_by = _chosen_context(), "`docker context use`"
    if name and name != "default":
        return _of_context(name, named_by)
    if tls is not None:
        return Endpoint(_DEFAULT_TLS_HOST, "DOCKER_TLS_VERIFY", tls, given)
    return Endpoint(f"unix://{DEFAULT_SOCKET}")


def _config_folder() -> Path:
    return Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker")


def _tls_of_environment(environ: Mapping[str, str]) -> Tls | None:
    """None where the docker command does not use TLS, as with DOCKER_CERT_PATH alone."""
    if not (environ.get("DOCKER_TLS_VERIFY") or environ.get("DOCKER_TLS")):
        return None
    folder = Path(environ.get("DOCKER_CERT_PATH") or _config_folder())
    verify = bool(environ.get("DOCKER_TLS_VERIFY"))
    return _tls(folder, ["ca.pem", "cert.pem", "key.pem"], verify)


def _tls(folder: Path, names: list[str], verify: bool) -> Tls:
    def file(start: str) -> Path | None:
        found = (folder / name for name in names if name.startswith(start))
        return next((path for path in found if path.is_file()), None)

    return Tls(file("ca"), file("cert"), file("key"), verify)


def _chosen_context() -> str:
    """The context in docker's configuration, or "". Read here, as the docker command is slow."""
    try:
        read = json.loads((_config_folder() / "config.json").read_bytes())
    except (OSError, ValueError, RuntimeError):
        # The docker command only warns about an unreadable file.
        return ""
    chosen = read.get("currentContext") if isinstance(read, dict) else None
    return chosen if isinstance(chosen, str) else ""


def _of_context(name: str, named_by: str) -> Endpoint:
    """The endpoint of a context. docker-py's own reader is not enough: it replaces an unknown
    context by the default one, and without a config.json it reads the working directory."""
    if shutil.which("docker") is None:
        raise UserError(
            f"{named_by} names the context {name}, which cannot be read without the docker command"
        )
    result = _docker("context", "inspect", name)
    if result.returncode != 0:
        # docker also lists the chosen context if it does not exist.
        known = set(_docker("context", "ls", "--format", "{{.Name}}").stdout.split()) - {name}
        raise UserError(
            f"{named_by} names the Docker context {name}, which cannot be read:"
            f" {result.stderr.strip()}\n"
            f"The contexts here: {', '.join(sorted(known)) or 'none'}."
            " Choose one with DOCKER_CONTEXT or `docker context use`."
        )
    (context,) = json.loads(result.stdout)
    docker_endpoint: Mapping[str, Any] = context["Endpoints"]["docker"]
    files = (context.get("TLSMaterial") or {}).get("docker")
    tls = None
    if files:
        folder = Path(context["Storage"]["TLSPath"], "docker")
        tls = _tls(folder, files, not docker_endpoint.get("SkipTLSVerify"))
    variables = (("DOCKER_CONTEXT", name),)
    return Endpoint(docker_endpoint["Host"], f"the context {name}", tls, variables)


def _docker(*arguments: str) -> subprocess.CompletedProcess[str]:
    # With an unknown context as the current one, every command would fail.
    environ = {name: value for name, value in os.environ.items() if name != "DOCKER_CONTEXT"}
    return subprocess.run(
        ["docker", *arguments], env=environ, capture_output=True, text=True, check=False
    )
