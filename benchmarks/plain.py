"""Plain images, as a person writes them by hand: the peer of our images in comparisons.

One plain Dockerfile for each image, `FROM` the official Python, with `pip install --no-cache-dir
-r` of the same lock and without anything else. Both sides have the same base images, index,
certificates and wheels.
"""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imagematrix.host.bases import Bases, BaseSource
from imagematrix.host.config import HostConfig
from imagematrix.matrix.variant import Variant
from imagematrix.plan.bake import BuildEnvironment, image_tag, target_name

REPOSITORY = Path(__file__).resolve().parent.parent
# The libraries that CPython's extension modules link to, as in the official image of Python.
_LIBRARIES = "ca-certificates libbz2-1.0 libffi8 libncursesw6 libreadline8 libsqlite3-0 libssl3"
_APT = (
    "--mount=type=secret,id=apt-sources,target=/etc/apt/sources.list.d/debian.sources,mode=0444"
    " --mount=type=secret,id=apt-config,target=/etc/apt/apt.conf.d/99host,mode=0444"
    " --mount=type=secret,id=ca-bundle,target=/run/ca.pem,mode=0444"
)


@dataclass(frozen=True)
class Plain:
    """Builds plain images. `given` has the settings of this machine for builds, `wheels` the folder
    of wheels of each image; the build contexts are written to `folder`."""

    bases: Bases
    host: HostConfig
    given: BuildEnvironment
    wheels: Mapping[str, Path]
    folder: Path

    def name(self, variant: Variant) -> str:
        """The name of a variant's plain image."""
        return f"plain-{variant.name}"

    def dockerfile(self, variant: Variant) -> str:
        """The Dockerfile, with the mounts of this host's settings."""
        mounts = ["--mount=type=secret,id=pip-config,target=/etc/pip.conf,mode=0444"]
        options = ""
        if self.host.ca_bundle is not None:
            mounts.append("--mount=type=secret,id=ca-bundle,target=/run/ca.pem,mode=0444")
            options += " --cert /run/ca.pem"
        if variant.name in self.wheels and any(self.wheels[variant.name].iterdir()):
            mounts.append("--mount=type=bind,from=wheels,target=/mnt/wheels")
            options += " --find-links /mnt/wheels"
        elif variant.index is not None:
            options += f" --extra-index-url {variant.index.url}"
        install = f"python3 -m pip install --no-cache-dir{options} -r /tmp/requirements.txt"
        packages = _apt_install(" ".join(variant.debian)) if variant.debian else ""
        return (
            f"FROM {self._python(variant)}\n{packages}"
            "COPY requirements.txt /tmp/requirements.txt\n"
            f"RUN {' '.join(mounts)} {install}\n"
        )

    def build(self, variant: Variant) -> list[str]:
        """The command that builds the plain image."""
        command = ["docker", "build", "--tag", image_tag(self.name(variant))]
        command += self._secret_options(variant)
        command += ["--build-context", f"wheels={self.wheels[variant.name]}"]
        return [*command, str(self._context(variant))]

    def bake_target(self, variant: Variant) -> tuple[str, dict[str, Any]]:
        """The plain image as a target of a bake file, with its name there."""
        return target_name(variant.name), {
            "context": str(self._context(variant)),
            "contexts": {"wheels": str(self.wheels[variant.name])},
            "secret": self._secrets(variant),
            "tags": [image_tag(self.name(variant))],
            "output": ["type=docker"],
        }

    def build_python(self, variant: Variant) -> list[str]:
        """The command that puts a bootstrap base of CPython, which has no system, on its Debian, as
        the official image of Python is made; empty where that one is used. `variant` has no parent.
        """
        if self.bases.source is BaseSource.REGISTRY:
            return []
        debian, python = variant.base_images
        context = self.folder / "python" / variant.name
        context.mkdir(parents=True, exist_ok=True)
        (context / "Dockerfile").write_text(
            f"FROM {python} AS python\nFROM {debian}\n{_apt_install(_LIBRARIES)}"
            "COPY --from=python /usr/local /usr/local\nRUN ldconfig\n"
        )
        command = ["docker", "build", "--tag", self._python(variant)]
        command += self._secret_options(variant)
        for reference in (debian, python):
            image = self.bases.images[reference]
            command += ["--build-context", f"{reference}=docker-image://{image}"]
        return [*command, str(context)]

    def _python(self, variant: Variant) -> str:
        name = f"python:{variant.python}-slim-{variant.suite}"
        return name if self.bases.source is BaseSource.REGISTRY else f"plain-{name}"

    def _context(self, variant: Variant) -> Path:
        context = self.folder / "plain" / variant.name
        context.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / variant.lock, context / "requirements.txt")
        (context / "Dockerfile").write_text(self.dockerfile(variant), encoding="utf-8")
        return context

    def _secrets(self, variant: Variant) -> list[str]:
        return [*self.given.secrets, *self.given.image_secrets[variant.name]]

    def _secret_options(self, variant: Variant) -> list[str]:
        return [part for secret in self._secrets(variant) for part in ("--secret", secret)]


def _apt_install(packages: str) -> str:
    return (
        f"RUN {_APT} apt-get update && apt-get install --yes --no-install-recommends {packages}"
        " && rm -rf /var/lib/apt/lists/*\n"
    )
