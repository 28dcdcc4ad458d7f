"""The image of a conda environment: what it is, and the files that its build needs."""

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath

from imagematrix.environments.conda import RATTLER, RATTLER_LOCK, CondaLock
from imagematrix.environments.details import Details
from imagematrix.environments.folder import IGNORED, environment_folder
from imagematrix.environments.model import Environment
from imagematrix.environments.pypi import ENVIRONMENTS
from imagematrix.matrix.names import ENVIRONMENT
from imagematrix.matrix.schema import Accelerator
from imagematrix.matrix.variant import Conda, Variant

INSTALL = PurePosixPath("imagematrix/environments/install_conda.py")
CONDA_LOCK = PurePosixPath("conda.lock")
# Where environments are in an image, as in those of Azure ML.
PREFIXES = PurePosixPath("/azureml-envs")

_HEADER = "# What pip adds to the packages in conda.lock.\n"


def conda_variant(
    root: Path,
    environment: Environment,
    name: str,
    lock: CondaLock,
    parent: Variant,
    builder: Variant,
    accelerator: Accelerator = Accelerator.CPU,
) -> Variant:
    """The image of a locked environment, based on `parent`.

    It is installed in `builder`, an image with a Python of 3.11 or newer, of which nothing stays.
    """
    digest = hashlib.sha256()
    for path, text in sorted(conda_files(root, lock).items()):
        digest.update(f"{path}\0{text}\0".encode())
    return replace(
        parent,
        name=name,
        folder=ENVIRONMENTS / name,
        framework=ENVIRONMENT,
        title="Environment",
        version=None,
        python=lock.series,
        accelerator=accelerator,
        pins=(),
        environment=tuple(environment.variables.items()),
        parent=parent.name,
        conda=Conda(str(PREFIXES / name), builder.name, digest.hexdigest(), lock.python),
    )


def conda_folder(
    root: Path, variant: Variant, lock: CondaLock, specification: str, details: Details
) -> dict[PurePosixPath, str]:
    """The folder of such an image, by paths in it: what `environment_folder` has, and more."""
    requirements = lock.requirements or _HEADER
    files = environment_folder(root, variant, requirements, specification, details)
    ignored = f"{IGNORED}!{CONDA_LOCK}\n!conda\n"
    return {**files, **conda_files(root, lock), PurePosixPath(".dockerignore"): ignored}


def conda_files(root: Path, lock: CondaLock) -> Mapping[PurePosixPath, str]:
    """The lock of conda's packages, and what installs them, as a build mounts them."""
    programs = {"install.py": INSTALL, "rattler.py": RATTLER, "rattler.txt": RATTLER_LOCK}
    texts = {
        PurePosixPath("conda", name): (root / path).read_text(encoding="utf-8")
        for name, path in programs.items()
    }
    return {CONDA_LOCK: lock.conda, **texts}
