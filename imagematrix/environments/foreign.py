"""Base images of other makers: pulled, with a password where they need one, and looked into."""

import contextlib
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from imagematrix.console import say
from imagematrix.environments.model import Registry
from imagematrix.errors import UserError, WorkError
from imagematrix.host.engine import Engine
from imagematrix.host.pull import is_refusal, pull
from imagematrix.matrix.platforms import PLATFORM

USERNAME_VARIABLE = "BASE_IMAGE_REGISTRY_USERNAME"
PASSWORD_VARIABLE = "BASE_IMAGE_REGISTRY_PASSWORD"
_HOW = (
    f"set {USERNAME_VARIABLE} and {PASSWORD_VARIABLE} in the environment, or log in by `docker"
    " login`"
)
# Run by the image's own shell, as the user of the contract: a Python that only root may start does
# not count. Each line is a word and its value.
_LOOK = """\
for file in /lib/ld-musl-*; do if [ -e "$file" ]; then echo "musl $file"; fi; done
if [ -e /opt/inference-server/inference_server ]; then echo "server yes"; fi
command -v useradd > /dev/null || [ -e /usr/sbin/useradd ] || echo "no-useradd yes"
python=$(command -v python3 || command -v python || true)
if [ -n "$python" ]; then
    "$python" -c 'import sys; print("python %d.%d %s" % (sys.version_info[:2] + (sys.executable,)))'
fi
exit 0
"""


@dataclass(frozen=True)
class Credentials:
    """User name and password for one registry."""

    username: str
    password: str = field(repr=False)


@dataclass(frozen=True)
class Found:
    """What a base image has: the Python that its users start ("", "" if none), the scoring server,
    the programs that add users, and the libc musl."""

    python: str = ""
    version: str = ""
    server: bool = False
    useradd: bool = True
    musl: bool = False


def credentials_of(
    registry: Registry | None, environ: Mapping[str, str], password: str = ""
) -> Credentials | None:
    """The credentials for the registry of a base image; None where none are given.

    `password` is that of the standard input. It comes before the one of the environment, and that
    before the one of the configuration. Raises UserError for one without the other.
    """
    username = environ.get(USERNAME_VARIABLE, "") or (registry.username if registry else "")
    password = (
        password or environ.get(PASSWORD_VARIABLE, "") or (registry.password if registry else "")
    )
    if bool(username) != bool(password):
        lacking, given = ("password", "user name") if username else ("user name", "password")
        raise UserError(f"the registry of the base image has a {given} and no {lacking}; {_HOW}")
    return Credentials(username, password) if username else None


def pull_base(engine: Engine, reference: str, credentials: Credentials | None) -> None:
    """Pulls a base image into the engine, with these credentials, else with those of `docker
    login`. They are given to the engine for this pull alone.

    Raises UserError where the registry asks for others, and WorkError for all else.
    """
    login = (
        {"username": credentials.username, "password": credentials.password}
        if credentials
        else None
    )
    say(f"Pulling {reference} …")
    error = pull(engine, reference, login)
    if not error:
        return
    if is_refusal(error):
        if credentials is None:
            raise UserError(f"the base image {reference} needs a log-in ({error}); {_HOW}")
        raise UserError(
            f"the registry of {reference} refuses {credentials.username!r} with this password"
            f" ({error})"
        )
    raise WorkError(f"the base image {reference} cannot be pulled: {error}")


def look_into(engine: Engine, reference: str) -> Found:
    """What a base image has, by starting its shell, without a network. Raises UserError for one
    without a shell, or for another platform."""
    import docker.errors

    description = engine.inspect([reference]).get(reference)
    if description is None:
        raise WorkError(f"the engine has no {reference}")
    platform = f"{description.get('Os')}/{description.get('Architecture')}"
    if platform != PLATFORM:
        raise UserError(f"the base image {reference} is for {platform}, not for {PLATFORM}")
    options: dict[str, Any] = {
        "entrypoint": ["/bin/sh"],
        "user": "1000:1000",
        "network_mode": "none",
        "labels": {"inference.base": "true"},
    }
    with contextlib.closing(engine.client()) as client:
        container = client.containers.create(reference, ["-c", _LOOK], **options)
        try:
            container.start()
            container.wait()
            lines = container.logs(stdout=True, stderr=False).decode(errors="replace")
        except docker.errors.APIError as error:
            raise UserError(
                f"the base image {reference} has no /bin/sh that starts ({error.explanation})"
            ) from None
        finally:
            container.remove(force=True)
    return _found(lines)


def _found(text: str) -> Found:
    words = dict(line.split(" ", 1) for line in text.splitlines() if " " in line)
    version, _, python = words.get("python", "").partition(" ")
    return Found(python, version, "server" in words, "no-useradd" not in words, "musl" in words)


def require_python(reference: str, found: Found, pythons: tuple[str, ...]) -> None:
    """Raises UserError, with what to do, where the server cannot be added to a base image."""
    if found.musl:
        raise UserError(
            f"the base image {reference} has musl (as Alpine), for which few packages of Python are"
            " built, and not those of the server; take a base of Debian or Ubuntu"
        )
    if not found.useradd:
        raise UserError(
            f"the base image {reference} has no useradd, which adds the user of the server; take a"
            " base of Debian or Ubuntu (package passwd)"
        )
    if found.version not in pythons:
        has = (
            f"has Python {found.version} ({shlex.quote(found.python)})"
            if found.python
            else "has no Python that the user 1000 can start"
        )
        raise UserError(
            f"the base image {reference} {has}; the server runs on {pythons[0]} to {pythons[-1]}:"
            " a condaFile brings one"
        )
