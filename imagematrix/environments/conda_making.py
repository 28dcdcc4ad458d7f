"""From an environment of conda's packages to its image: locked, rendered, built and checked."""

import json
import os
from dataclasses import dataclass
from pathlib import Path

from imagematrix.console import say
from imagematrix.environments.conda import CondaLock, lock_conda, read_conda_lock
from imagematrix.environments.conda_image import CONDA_LOCK, conda_folder, conda_variant
from imagematrix.environments.condarc import CondaSettings, read_conda_settings
from imagematrix.environments.details import image_details
from imagematrix.environments.folder import DETAILS, dockerfile_of, write_folder
from imagematrix.environments.making import MadeEnvironment, Settings, built_image
from imagematrix.environments.model import Environment
from imagematrix.environments.pypi import ENVIRONMENTS, minimal_images
from imagematrix.environments.specification import mutated_specification, name_of
from imagematrix.errors import UserError
from imagematrix.host.config import HostConfig, read_host_config
from imagematrix.matrix.schema import MINIMAL, Accelerator
from imagematrix.matrix.selection import newest
from imagematrix.matrix.variant import LOCK_NAME, Variant
from imagematrix.repository.project import Project


@dataclass(frozen=True)
class _Locked:
    variant: Variant
    lock: CondaLock
    settings: CondaSettings


def conda_dockerfile(project: Project, environment: Environment) -> str:
    """The Dockerfile of an environment of conda's packages, which are locked for that.

    Raises what `lock_conda` raises.
    """
    return dockerfile_of(project.root, _locked(project, environment).variant)


def make_conda_environment(
    project: Project, environment: Environment, settings: Settings, cuda: str = ""
) -> MadeEnvironment:
    """Makes the image of an environment of conda's packages, if it is not up to date, and its
    parent where that is not.

    `cuda` is the version that a driver offers (`12.4`), empty on CPU. Nothing is written before its
    packages are locked. Raises what `lock_conda` raises.
    """
    locked = _locked(project, environment, cuda, upgrade=settings.upgrade)
    variant = locked.variant
    assert variant.conda is not None
    specification = mutated_specification(environment)
    details = image_details(
        variant.name,
        dockerfile_of(project.root, variant),
        specification,
        python=f"{variant.conda.prefix}/bin/python3",
        conda_path=variant.conda.prefix,
    )
    files = conda_folder(project.root, variant, locked.lock, specification, details)
    for folder in filter(None, [project.root / variant.folder, settings.output]):
        write_folder(folder, files)
    result = built_image(project, variant, details, settings, secrets_of(locked.settings))
    return MadeEnvironment(variant, settings.output or Path(variant.folder), result)


def _locked(
    project: Project, environment: Environment, cuda: str = "", *, upgrade: bool = False
) -> _Locked:
    host = read_host_config(os.environ, Path.home())
    settings = read_conda_settings(os.environ, Path.home(), host)
    parent, builder = images_of(project, environment)
    name = name_of(environment) + (f"-cuda{cuda}" if cuda else "")
    lock = environment_conda_lock(
        project, environment, name, parent, host, settings, cuda, upgrade=upgrade
    )
    accelerator = Accelerator.CUDA if cuda else Accelerator.CPU
    variant = conda_variant(project.root, environment, name, lock, parent, builder, accelerator)
    return _Locked(variant, lock, settings)


def images_of(project: Project, environment: Environment) -> tuple[Variant, Variant]:
    """The image that an environment is based on, and the one in which it is installed.

    The first is that of its Python; a Python without one is on the usual image.
    """
    usual = newest(project.variants, MINIMAL)
    if usual is None:
        raise UserError("the matrix has no current minimal image to base an environment on")
    return minimal_images(project.variants).get(environment.series, usual), usual


def environment_conda_lock(
    project: Project,
    environment: Environment,
    name: str,
    parent: Variant,
    host: HostConfig,
    settings: CondaSettings,
    cuda: str = "",
    *,
    upgrade: bool = False,
) -> CondaLock:
    """The locks of an environment: those that its folder has, else new ones.

    The name is that of its content, so the locks in its folder are of the same specification: then
    no channel is asked, unless `upgrade` is set. Raises what `lock_conda` raises.
    """
    folder = project.root / ENVIRONMENTS / name
    if not upgrade and (folder / DETAILS).is_file() and (folder / CONDA_LOCK).is_file():
        conda, requirements = folder / CONDA_LOCK, folder / LOCK_NAME
        return read_conda_lock(
            conda.read_text(encoding="utf-8"), requirements.read_text(encoding="utf-8")
        )
    say(f"Resolving {name} …")
    return lock_conda(
        project.root,
        environment,
        host,
        settings,
        glibc=parent.suite.glibc,
        image_python=parent.python,
        cuda=cuda,
    )


def secrets_of(settings: CondaSettings) -> dict[str, str]:
    """What the step that installs conda packages is given of this host."""
    secrets = {}
    if settings.mirrors:
        secrets["conda-mirrors"] = json.dumps({url: [*to] for url, to in settings.mirrors.items()})
    if settings.netrc is not None:
        secrets["netrc"] = settings.netrc.read_text(encoding="utf-8")
    return secrets
