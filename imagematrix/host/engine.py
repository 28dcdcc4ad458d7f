"""The Docker engine that answers: what it is, and what images it has.

That none answers is told apart with care: only where the kernel says that nobody listens at the
socket is there none. All else (no answer in time, a refusal, a network that does not lead there)
is an engine that cannot be used now, which is an error.
"""

import contextlib
import json
import re
import socket
import threading
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packaging.version import Version

from imagematrix.console import say
from imagematrix.errors import UserError
from imagematrix.host.endpoint import Endpoint, configured_endpoint
from imagematrix.matrix.platforms import PLATFORM

if TYPE_CHECKING:
    import docker

# The oldest one that is tested.
MINIMUM_VERSION = Version("26.1")
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm/v7"}
# How long an engine may take to say what it is, when the person is told that it takes so long, and
# how much it is asked at a time.
_SECONDS = 60
_PATIENCE = 5
_QUESTIONS = 4
# How long all other work may take that the engine is asked for.
_WORK_SECONDS = 600


@dataclass(frozen=True)
class Engine:
    """An engine that answers. `platform` is its own, as Docker writes it."""

    endpoint: Endpoint
    version: str
    containerd_store: bool
    data: Path | None
    platform: str = PLATFORM

    def client(self) -> "docker.DockerClient":
        """A client of this engine; the caller closes it."""
        return self.endpoint.client(_WORK_SECONDS)

    def inspect(self, images: Iterable[str]) -> dict[str, Mapping[str, Any]]:
        """What the engine tells of those of the images that it has.

        Each is asked for by its name: with containerd's store, a list of images takes more than
        twice the time for each of them, and has all that the engine holds.
        """
        images = tuple(images)
        socket_path = self.endpoint.socket
        if socket_path is not None:
            # Docker's own client asks where an answer is none: it has the words for what is wrong.
            with contextlib.suppress(OSError, ValueError, LookupError):
                answers = _ask_socket(socket_path, [f"/images/{image}/json" for image in images])
                found = zip(images, answers, strict=True)
                return {image: told for image, told in found if told is not None}
        with contextlib.closing(self.client()) as client:
            return inspect_images(client, images)

    def ids(self, images: Collection[str]) -> dict[str, str | None]:
        """The ID of each of the images, None for one that the engine does not have."""
        told = self.inspect(images)
        return {image: told[image]["Id"] if image in told else None for image in images}

    def environ(self) -> dict[str, str]:
        """The environment for commands that shall talk to this engine."""
        return self.endpoint.environ()


def find_engine(endpoint: Endpoint | None = None) -> Engine | None:
    """The engine at `endpoint`, else the configured one; None where nobody listens at its socket.

    Raises UserError where one may be there and cannot be used: it does not answer in time, refuses,
    cannot be reached, or is no Docker Engine of a version that these builds work with.
    """
    endpoint = endpoint or configured_endpoint()
    waiting = f"Waiting for the Docker engine at {endpoint}, {_SECONDS} s at most."
    timer = threading.Timer(_PATIENCE, say, [waiting])
    timer.daemon = True
    timer.start()
    try:
        answers = _ask(endpoint)
    finally:
        timer.cancel()
    return None if answers is None else _engine(endpoint, *answers)


def _ask(endpoint: Endpoint) -> tuple[Mapping[str, Any], Mapping[str, Any]] | None:
    """What the engine says of itself and of its version; None where nobody listens."""
    if endpoint.socket is not None:
        try:
            info, version = _ask_socket(endpoint.socket, ["/info", "/version"])
        except (FileNotFoundError, ConnectionRefusedError):
            return None
        except PermissionError:
            why = "one is there, but this user may not ask it (is it in the group docker?)"
            raise _no_answer(endpoint, why) from None
        except TimeoutError:
            why = f"it takes the connection, and said nothing in {_SECONDS} s: is it busy, or held?"
            raise _no_answer(endpoint, why) from None
        except (OSError, ValueError, LookupError):
            info = version = None
        if info is not None and version is not None:
            return info, version
    import docker.errors

    try:
        with contextlib.closing(endpoint.client(_SECONDS)) as client:
            return client.info(), client.version()
    except (docker.errors.DockerException, OSError, ValueError) as error:
        # Of what requests wraps around it, the words of the system are what a person can use.
        system = re.findall(r"\[Errno -?\d+\] ([^'\")\]]+)", str(error))
        raise _no_answer(endpoint, system[-1] if system else str(error)) from None


def _no_answer(endpoint: Endpoint, why: str) -> UserError:
    return UserError(
        f"the Docker engine at {endpoint} cannot be used: {why}\n"
        "Nothing was started or changed. Mend it, or name another engine with DOCKER_HOST or"
        " `docker context use`."
    )


def _engine(endpoint: Endpoint, info: Mapping[str, Any], version: Mapping[str, Any]) -> Engine:
    """Raises UserError where these builds do not work with what answered."""
    components = [part.get("Name", "") for part in version.get("Components") or []]
    found = plain_version(info.get("ServerVersion") or version.get("Version") or "")
    if "Podman Engine" in components:
        raise UserError(
            f"Podman {found} answers at {endpoint}: it has no BuildKit, which these builds are made"
            " with; name a Docker engine with DOCKER_HOST or `docker context use`"
        )
    system = info.get("OSType") or "linux"
    if system != "linux":
        raise UserError(
            f"the Docker engine at {endpoint} runs containers of {system}, and these images are"
            f" for {PLATFORM}; switch it to Linux containers, or name another one with DOCKER_HOST"
        )
    if Version(found) < MINIMUM_VERSION:
        message = f"the Docker engine at {endpoint} is {found}"
        raise UserError(f"{message}; {MINIMUM_VERSION} or newer is needed")
    status = dict(item for item in info.get("DriverStatus") or [] if len(item) == 2)
    store = "containerd.snapshotter" in status.get("driver-type", "")
    data = Path(info["DockerRootDir"]) if endpoint.socket is not None else None
    machine = info.get("Architecture") or ""
    platform = f"{system}/{_ARCHITECTURES.get(machine, machine)}" if machine else PLATFORM
    return Engine(endpoint, found, store, data, platform)


def _ask_socket(path: Path, questions: Sequence[str]) -> list[Any]:
    """What an engine on this machine answers to each question, None for what it does not have.

    Raises OSError as the kernel has it, ValueError or LookupError where an answer is none.
    """
    # With containerd's store, the engine takes milliseconds for each image.
    with ThreadPoolExecutor(_QUESTIONS) as threads:
        answers = list(threads.map(partial(_get, str(path)), questions))
    if unusual := [status for status, _ in answers if status not in (200, 404)]:
        raise ValueError(f"status {unusual[0]}")
    return [json.loads(content) if status == 200 else None for status, content in answers]


def _get(socket_path: str, path: str) -> tuple[int, bytes]:
    """Status and content of an answer by HTTP/1.0. To import the standard library's client takes
    longer than the answer."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(_SECONDS)
        connection.connect(socket_path)
        connection.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
        answer = b"".join(iter(lambda: connection.recv(1 << 16), b""))
    head, _, content = answer.partition(b"\r\n\r\n")
    return int(head.split(maxsplit=2)[1]), content


def inspect_images(
    client: "docker.DockerClient", images: Iterable[str]
) -> dict[str, Mapping[str, Any]]:
    """What the engine of a client tells of those of the images that it has."""
    import docker.errors

    told = {}
    for image in images:
        with contextlib.suppress(docker.errors.ImageNotFound):
            told[image] = client.api.inspect_image(image)
    return told


def layers_of(told: Mapping[str, Any]) -> tuple[str, ...]:
    """The digests of an image's layers, unpacked, from the lowest on, in what the engine tells."""
    return tuple(told["RootFS"].get("Layers") or ())


def plain_version(text: str) -> str:
    """`26.1.5+dfsg1` as `26.1.5`."""
    match = re.match(r"\d+(\.\d+)*", text)
    return match[0] if match else "0"
