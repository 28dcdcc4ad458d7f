"""The Docker engine: whether one answers, its version, and its images.

There is no engine only if the kernel reports that no process listens at the socket. Everything else
(no answer in time, a refusal, an unreachable network) is an engine that cannot be used now, which
is an error.
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
# The timeout of the first requests, the time after which a message says that they take long, and
# the number of requests at a time.
_SECONDS = 60
_PATIENCE = 5
_CONNECTIONS = 4
# The timeout of all other requests.
_WORK_SECONDS = 600


@dataclass(frozen=True)
class Engine:
    """An engine that answers. `platform` is that of its machine, in Docker's notation."""

    endpoint: Endpoint
    version: str
    containerd_store: bool
    data: Path | None
    platform: str = PLATFORM

    def client(self) -> "docker.DockerClient":
        """A client of the engine; the caller closes it."""
        return self.endpoint.client(_WORK_SECONDS)

    def inspect(self, images: Iterable[str]) -> dict[str, Mapping[str, Any]]:
        """The engine's descriptions of those of the images that it has.

        One request for each: with containerd's store, listing all images takes more than twice the
        time for each of them.
        """
        images = tuple(images)
        socket_path = self.endpoint.socket
        if socket_path is not None:
            # On an invalid answer, docker-py asks again: its errors explain what is wrong.
            with contextlib.suppress(OSError, ValueError, LookupError):
                answers = _get_all(socket_path, [f"/images/{image}/json" for image in images])
                found = zip(images, answers, strict=True)
                return {image: answer for image, answer in found if answer is not None}
        with contextlib.closing(self.client()) as client:
            return inspect_images(client, images)

    def ids(self, images: Collection[str]) -> dict[str, str | None]:
        """The ID of each of the images, None for one that the engine does not have."""
        found = self.inspect(images)
        return {image: found[image]["Id"] if image in found else None for image in images}

    def environ(self) -> dict[str, str]:
        """The environment of commands for this engine."""
        return self.endpoint.environ()


def find_engine(endpoint: Endpoint | None = None) -> Engine | None:
    """The engine at `endpoint`, by default the configured one; None if its socket has no listener.

    Raises UserError where there may be one that cannot be used: it does not answer in time,
    refuses, cannot be reached, or is not a Docker Engine of a supported version.
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
    """The engine's answers to `info` and `version`; None if its socket has no listener."""
    if endpoint.socket is not None:
        try:
            info, version = _get_all(endpoint.socket, ["/info", "/version"])
        except (FileNotFoundError, ConnectionRefusedError):
            return None
        except PermissionError:
            why = "this user has no permission for its socket (is it in the group docker?)"
            raise _no_answer(endpoint, why) from None
        except TimeoutError:
            why = f"it accepts the connection, but did not answer in {_SECONDS} s: is it busy?"
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
        # The system's message, which requests wraps in its own, is the useful part.
        system = re.findall(r"\[Errno -?\d+\] ([^'\")\]]+)", str(error))
        raise _no_answer(endpoint, system[-1] if system else str(error)) from None


def _no_answer(endpoint: Endpoint, why: str) -> UserError:
    return UserError(
        f"the Docker engine at {endpoint} cannot be used: {why}\n"
        "Nothing was started or changed. Fix it, or name another engine with DOCKER_HOST or"
        " `docker context use`."
    )


def _engine(endpoint: Endpoint, info: Mapping[str, Any], version: Mapping[str, Any]) -> Engine:
    """The engine of these answers. Raises UserError where these builds do not work with it."""
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


def _get_all(socket_path: Path, paths: Sequence[str]) -> list[Any]:
    """The answers of an engine on this machine to a GET of each path, None for "not found".

    Over the socket itself: importing docker-py takes more than a third of a `build` with nothing to
    do. Raises OSError of the kernel, and ValueError or LookupError for an invalid answer.
    """
    # With containerd's store, the engine takes milliseconds for each image.
    with ThreadPoolExecutor(_CONNECTIONS) as threads:
        answers = list(threads.map(partial(_get, str(socket_path)), paths))
    if unusual := [status for status, _ in answers if status not in (200, 404)]:
        raise ValueError(f"status {unusual[0]}")
    return [json.loads(content) if status == 200 else None for status, content in answers]


def _get(socket_path: str, path: str) -> tuple[int, bytes]:
    """The status and content of the answer, by HTTP/1.0. Importing the standard library's client
    takes longer than the request."""
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
    """The descriptions, by the engine of a client, of those of the images that it has."""
    import docker.errors

    found = {}
    for image in images:
        with contextlib.suppress(docker.errors.ImageNotFound):
            found[image] = client.api.inspect_image(image)
    return found


def layers_of(description: Mapping[str, Any]) -> tuple[str, ...]:
    """The digests of an image's uncompressed layers, lowest first, in the engine's description."""
    return tuple(description["RootFS"].get("Layers") or ())


def plain_version(text: str) -> str:
    """`26.1.5+dfsg1` as `26.1.5`."""
    match = re.match(r"\d+(\.\d+)*", text)
    return match[0] if match else "0"
