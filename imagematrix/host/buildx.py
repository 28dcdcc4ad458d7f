"""docker buildx, and its builders.

The engine's own builder (driver `docker`) has the images of the engine. Every other one
(https://docs.docker.com/build/builders/drivers/) has none of them.
"""

import os
import re
import shutil
import subprocess
from dataclasses import dataclass

from imagematrix.console import say
from imagematrix.errors import UserError
from imagematrix.host.engine import Engine
from imagematrix.matrix.platforms import PLATFORM


@dataclass(frozen=True)
class Builder:
    """Where builds run: `name` in buildx, "" for the current builder."""

    name: str = ""
    driver: str = "docker"

    @property
    def has_images(self) -> bool:
        """Whether it reads the engine's images, and stores new ones there."""
        return self.driver == "docker"

    @property
    def title(self) -> str:
        """What messages call it."""
        if self.name:
            return f"the builder {self.name}"
        return "the engine" if self.has_images else f"the current builder ({self.driver})"


def has_buildx() -> bool:
    """Whether docker has the buildx plugin."""
    if shutil.which("docker") is None:
        return False
    command = ["docker", "buildx", "version"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def require_buildx() -> None:
    """Raises UserError, with how to install it, where buildx is missing."""
    if not has_buildx():
        raise UserError(
            "docker buildx is missing; install it: https://docs.docker.com/build/install-buildx/"
            " (Debian and Ubuntu: apt-get install docker-buildx)"
        )


def find_builder(engine: Engine, name: str = "") -> Builder:
    """The named builder, else that of BUILDX_BUILDER, else the one that `docker buildx use` chose.

    Raises UserError where buildx or the builder is missing, or where it does not build for the
    platform of the images.
    """
    require_buildx()
    name = name or os.environ.get("BUILDX_BUILDER", "")
    command = ["docker", "buildx", "inspect", *([name] if name else [])]
    result = subprocess.run(
        command, env=engine.environ(), capture_output=True, text=True, check=False
    )
    if result.returncode != 0:
        raise UserError(
            f"the builder {name or 'of buildx'} cannot be used:"
            f" {result.stderr.strip().removeprefix('ERROR: ')};"
            " `docker buildx ls` lists those that there are"
        )
    # Before `Nodes:` the fields of the builder, after it those of each node.
    fields = re.findall(r"^ *([A-Za-z][\w ]*): +(\S.*?) *$", result.stdout, re.MULTILINE)
    first = dict(reversed(fields))
    builder = Builder(name, first.get("Driver", "docker"))
    other = first.get("Endpoint", "default")
    if builder.has_images and other not in _own_names(engine):
        raise UserError(
            f"the builder {name} is another Docker engine ({other}), which keeps what it builds:"
            f" build there altogether, with DOCKER_CONTEXT={other}"
        )
    platforms = {
        platform.strip(" *")
        for field, value in fields
        if field == "Platforms"
        for platform in value.split(",")
    }
    # A builder that was never started lists none.
    if platforms and PLATFORM not in platforms:
        others = ", ".join(sorted(platforms))
        raise UserError(
            f"these images are for {PLATFORM}, which {builder.title} does not build for (but for"
            f" {others}): name an engine with DOCKER_HOST or a builder with --builder that does,"
            " or install emulation (https://docs.docker.com/build/building/multi-platform/#qemu)"
        )
    if builder.has_images and engine.platform != PLATFORM:
        say(
            f"The engine is {engine.platform} and emulates {PLATFORM}: it takes many times as long."
        )
    return builder


def require_cache(engine: Engine, builder: Builder) -> None:
    """Raises UserError where the builder cannot export its cache to a registry."""
    if builder.has_images and not engine.containerd_store:
        raise UserError(
            f"the Docker engine at {engine.endpoint} has the old image store,"
            " with which its builder exports no cache: turn on the containerd image store"
            " (https://docs.docker.com/engine/storage/containerd/), or name another --builder"
        )


def _own_names(engine: Engine) -> set[str]:
    """The names that buildx, run in the engine's environment, has for the engine itself."""
    return {
        "default",
        engine.endpoint.host,
        dict(engine.endpoint.variables).get("DOCKER_CONTEXT", ""),
    }
