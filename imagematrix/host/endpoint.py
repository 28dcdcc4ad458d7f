"""Which Docker engine is meant, and how it is reached: as the docker command reads it.

That is DOCKER_HOST, else DOCKER_CONTEXT, else the context that `docker context use` chose, else the
socket of this machine: https://docs.docker.com/reference/cli/docker/#environment-variables
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

# Importing it takes as long as all the rest of a plan: only what needs it does.
if TYPE_CHECKING:
    import docker

DEFAULT_SOCKET = Path("/var/run/docker.sock")
# Where docker looks when TLS is asked for and no engine is named.
_DEFAULT_TLS_HOST = "tcp://localhost:2376"
# What names an engine to the docker command.
_VARIABLES = (
    "DOCKER_HOST",
    "DOCKER_CONTEXT",
    "DOCKER_TLS",
    "DOCKER_TLS_VERIFY",
    "DOCKER_CERT_PATH",
)


@dataclass(frozen=True)
class Tls:
    """The files that TLS takes, as far as there are any; `verify`: whether the engine's certificate
    is held against `ca`."""

    ca: Path | None
    certificate: Path | None
    key: Path | None
    verify: bool


@dataclass(frozen=True)
class Endpoint:
    """Where an engine is. `named_by` says what chose it, nothing for the default; `variables` are
    what lets the docker command reach the same one."""

    host: str
    named_by: str = ""
    tls: Tls | None = None
    variables: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        return f"{self.host} ({self.named_by})" if self.named_by else self.host

    @property
    def socket(self) -> Path | None:
        """The socket on this machine, None for an engine that is reached in another way."""
        return Path(self.host.removeprefix("unix://")) if self.host.startswith("unix://") else None

    def client(self, seconds: int) -> "docker.DockerClient":
        """A client of the engine that waits so long for an answer; the caller closes it."""
        from imagematrix.host.client import client_of

        return client_of(self, seconds)

    def environ(self) -> dict[str, str]:
        """The environment for commands that shall talk to this engine."""
        others = {name: value for name, value in os.environ.items() if name not in _VARIABLES}
        return others | (dict(self.variables) or {"DOCKER_HOST": self.host})


def configured_endpoint() -> Endpoint:
    """Raises UserError with the contexts that there are where one is named that there is not."""
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
    """None where the docker command would not use TLS, which DOCKER_CERT_PATH alone changes not."""
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
    """The context that docker's configuration names, or nothing; docker itself takes a while."""
    try:
        read = json.loads((_config_folder() / "config.json").read_bytes())
    except (OSError, ValueError, RuntimeError):
        # Where it cannot be read, the docker command warns and goes on without.
        return ""
    chosen = read.get("currentContext") if isinstance(read, dict) else None
    return chosen if isinstance(chosen, str) else ""


def _of_context(name: str, named_by: str) -> Endpoint:
    """docker-py's own reader is not enough: it takes an unknown context for the default one, and
    looks in the working directory where docker has no config.json."""
    if shutil.which("docker") is None:
        raise UserError(
            f"{named_by} names the context {name}, and there is no docker to ask for it"
        )
    told = _docker("context", "inspect", name)
    if told.returncode != 0:
        # docker lists a chosen one that does not exist with the others.
        known = set(_docker("context", "ls", "--format", "{{.Name}}").stdout.split()) - {name}
        raise UserError(
            f"{named_by} names the Docker context {name}, which cannot be read:"
            f" {told.stderr.strip()}\n"
            f"The contexts here: {', '.join(sorted(known)) or 'none'}."
            " Choose one with DOCKER_CONTEXT or `docker context use`."
        )
    (context,) = json.loads(told.stdout)
    docker_endpoint: Mapping[str, Any] = context["Endpoints"]["docker"]
    files = (context.get("TLSMaterial") or {}).get("docker")
    tls = None
    if files:
        folder = Path(context["Storage"]["TLSPath"], "docker")
        tls = _tls(folder, files, not docker_endpoint.get("SkipTLSVerify"))
    variables = (("DOCKER_CONTEXT", name),)
    return Endpoint(docker_endpoint["Host"], f"the context {name}", tls, variables)


def _docker(*arguments: str) -> subprocess.CompletedProcess[str]:
    # Whichever context is current: the unknown one would fail each command.
    environ = {name: value for name, value in os.environ.items() if name != "DOCKER_CONTEXT"}
    return subprocess.run(
        ["docker", *arguments], env=environ, capture_output=True, text=True, check=False
    )
