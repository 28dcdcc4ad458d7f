"""The inputs of builds on this machine: secrets, settings and wheels. None stays in an image."""

import json
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from imagematrix.files import WORK_FOLDER
from imagematrix.host.bases import Bases
from imagematrix.host.buildx import Builder
from imagematrix.host.config import PYPI, HostConfig
from imagematrix.host.debian import DebianMirrors, debian_sources
from imagematrix.host.engine import Engine
from imagematrix.host.supply import Supply
from imagematrix.matrix.schema import Suite
from imagematrix.matrix.variant import Variant
from imagematrix.plan.bake import BuildEnvironment, file_secret

# The IDs of the secrets, and where Dockerfiles mount them; a test compares both. BuildKit ignores
# the mount of a secret that is not given.
SECRETS = {
    "ca-bundle": "/run/secrets/ca-bundle",
    "pip-config": "/etc/pip.conf",
    "uv-config": "/etc/uv/uv.toml",
    "apt-sources": "/etc/apt/sources.list.d/debian.sources",
    "apt-config": "/etc/apt/apt.conf.d/99host",
}
# Where Dockerfiles mount the context with the wheels of an image.
WHEELS = "/wheels"
# A private mirror may have a private certificate.
APT_CONFIG = f'Acquire::https::CAInfo "{SECRETS["ca-bundle"]}";\n'


def build_environment(
    root: Path,
    engine: Engine,
    builder: Builder,
    bases: Bases,
    host: HostConfig,
    mirrors: DebianMirrors,
    variants: Iterable[Variant],
    supplies: Mapping[str, Supply],
) -> tuple[BuildEnvironment, dict[str, str]]:
    """The settings of the builds, and the environment variables that hold their secrets.

    Wheels are linked (or copied) below the work folder, one folder for each image that needs any.
    Secrets are passed in variables, so that none is ever written to a file.
    """
    secrets: list[str] = []
    suite_secrets: dict[str, tuple[str, ...]] = {}
    variables: dict[str, str] = {}
    if host.ca_bundle is not None:
        secrets.append(file_secret("ca-bundle", str(host.ca_bundle)))

    def secret(name: str, content: str) -> str:
        variable = f"IMAGEMATRIX_SECRET_{len(variables)}"
        variables[variable] = content
        return f"id={name},env={variable}"

    if pip := pip_config(host):
        secrets.append(secret("pip-config", pip))
    if mirrors.are_custom():
        secrets.append(secret("apt-config", APT_CONFIG))
        suite_secrets = {
            suite: (secret("apt-sources", debian_sources(suite, mirrors)),) for suite in Suite
        }
    image_secrets: dict[str, tuple[str, ...]] = {}
    wheel_folders: dict[str, str] = {}
    for variant in variants:
        supply = supplies[variant.name]
        image_secrets[variant.name] = (secret("uv-config", uv_config(host, supply)),)
        if supply.wheels:
            folder = _stage_wheels(root, variant.name, supply.wheels)
            wheel_folders[variant.name] = str(folder)
    environment = BuildEnvironment(
        base_sources=bases.images,
        secrets=tuple(secrets),
        suite_secrets=suite_secrets,
        image_secrets=image_secrets,
        wheel_folders=wheel_folders,
        proxies=host.proxies,
        uncompressed=engine.containerd_store,
        names_bases=not builder.has_images,
    )
    return environment, variables


def uv_config(host: HostConfig, supply: Supply) -> str:
    """The uv.toml (https://docs.astral.sh/uv/reference/settings/#pip) of one image's build."""
    lines = []
    if host.trusted_hosts:
        lines.append(f"allow-insecure-host = {json.dumps(host.trusted_hosts)}")
    lines += ["[pip]", 'index-strategy = "unsafe-best-match"']
    if host.index_url != PYPI:
        lines.append(f"index-url = {json.dumps(host.index_url)}")
    extra = [*host.extra_index_urls, *(supply.index.urls if supply.index else ())]
    if extra:
        lines.append(f"extra-index-url = {json.dumps(extra)}")
    links = [*host.find_links, *([WHEELS] if supply.wheels else [])]
    if links:
        lines.append(f"find-links = {json.dumps(links)}")
    return "\n".join(lines) + "\n"


def pip_config(host: HostConfig) -> str:
    """The pip.conf of builds, empty if pip's defaults are enough."""
    lines = []
    if host.index_url != PYPI:
        lines.append(f"index-url = {host.index_url}")
    if host.extra_index_urls:
        lines.append(f"extra-index-url = {' '.join(host.extra_index_urls)}")
    if host.trusted_hosts:
        lines.append(f"trusted-host = {' '.join(host.trusted_hosts)}")
    return "\n".join(["[global]", *lines]) + "\n" if lines else ""


def _stage_wheels(root: Path, image: str, wheels: Sequence[Path]) -> Path:
    folder = root / WORK_FOLDER / "wheels" / image
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for wheel in wheels:
        try:
            os.link(wheel, folder / wheel.name)
        except OSError:
            shutil.copy2(wheel, folder / wheel.name)
    return folder.relative_to(root)
