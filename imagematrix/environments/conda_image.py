"""The image of a conda environment: the files that its build needs."""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath

import jinja2

from imagematrix.environments.conda import RATTLER, RATTLER_LOCK, CondaLock
from imagematrix.matrix.platforms import CREATED, LICENCES
from imagematrix.matrix.variant import LOCK_NAME, SLIM_NAME, Variant
from imagematrix.repository.slim import render_slim

TEMPLATE = PurePosixPath("base/conda.Dockerfile.j2")
INSTALL = PurePosixPath("imagematrix/environments/install_conda.py")
CONDA_LOCK = "conda.lock"
# Where environments are in an image, as in those of Azure ML.
PREFIXES = PurePosixPath("/azureml-envs")

# What a value of ENV may hold without quotes.
_PLAIN = re.compile(r"[\w./:=,@%+-]+", re.ASCII)


def conda_variant(
    name: str, folder: PurePosixPath, parent: Variant, lock: CondaLock, title: str = "Environment"
) -> Variant:
    """The image of an environment, based on `parent`, with its files in `folder`, which is relative
    to the repository."""
    return replace(
        parent,
        name=name,
        folder=folder,
        framework="environment",
        title=title,
        version=None,
        python=lock.series,
        pins=(),
        environment=(),
        parent=parent.name,
    )


def render_conda(
    root: Path,
    variant: Variant,
    builder: Variant,
    lock: CondaLock,
    variables: Mapping[str, str],
    *,
    cuda: bool = False,
) -> dict[PurePosixPath, str]:
    """The build context of an environment's image, by the paths below its folder.

    `builder` is the image in which it is installed, whose Python is 3.11 or newer; nothing of it is
    kept. `variables` are set in the image. The Dockerfile mounts what frameworks mount, and the
    secrets `conda-mirrors` (a mapping as JSON, like `CondaSettings.mirrors`) and `netrc`.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(root),
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        autoescape=False,
    )
    environment.globals |= {"created": CREATED, "licences": LICENCES}
    text = environment.get_template(str(TEMPLATE)).render(
        variant=variant,
        builder=builder.name,
        prefix=prefix_of(variant.name),
        variables=[(name, _word(value)) for name, value in variables.items()],
        cuda=cuda,
    )
    files = {
        "Dockerfile": f"# Rendered from {TEMPLATE} by `nox -s environment`. Do not edit.\n{text}",
        CONDA_LOCK: lock.conda,
        SLIM_NAME: render_slim(root, [variant])[variant.slim_file],
        "conda/install.py": (root / INSTALL).read_text(encoding="utf-8"),
        "conda/rattler.py": (root / RATTLER).read_text(encoding="utf-8"),
        "conda/rattler.txt": (root / RATTLER_LOCK).read_text(encoding="utf-8"),
    }
    if lock.requirements:
        files[LOCK_NAME] = lock.requirements
    return {PurePosixPath(path): content for path, content in files.items()}


def prefix_of(name: str) -> PurePosixPath:
    """Where the environment of this name is in its image."""
    return PREFIXES / name


def _word(value: str) -> str:
    """A value of `ENV`: in quotes if Docker would take it for something else without.

    https://docs.docker.com/reference/dockerfile/#environment-replacement
    """
    if _PLAIN.fullmatch(value):
        return value
    return '"' + re.sub(r'(["\\$])', r"\\\1", value) + '"'
