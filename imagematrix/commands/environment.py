"""`environment`: from a user's specification to a checked image, and how an image was made."""

import argparse
import contextlib
import json
import os
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from imagematrix.build.results import exit_status, results_json, results_table
from imagematrix.commands.deploying import add_deployment_options, deploy
from imagematrix.commands.options import add_bases
from imagematrix.commands.verify_published import image_of
from imagematrix.console import say
from imagematrix.environments.conda_image import PREFIXES
from imagematrix.environments.conda_making import conda_dockerfile, make_conda_environment
from imagematrix.environments.condarc import read_conda_settings
from imagematrix.environments.deployment import EnvironmentImage
from imagematrix.environments.details import Details, details_of
from imagematrix.environments.folder import DETAILS
from imagematrix.environments.making import Settings, environment_dockerfile, make_environment
from imagematrix.environments.pypi import (
    ENVIRONMENTS,
    decisions,
    from_pypi,
    without_server,
)
from imagematrix.environments.specification import (
    Environment,
    Packages,
    name_of,
    read_environment,
)
from imagematrix.errors import UserError, WorkError
from imagematrix.host.config import read_host_config
from imagematrix.host.engine import find_engine
from imagematrix.host.setup import ensure_engine
from imagematrix.matrix.schema import Accelerator
from imagematrix.plan.bake import LATEST, image_tag
from imagematrix.repository.project import Project


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.add_argument(
        "specification",
        nargs="?",
        type=Path,
        metavar="SPEC",
        help="requirements.txt, env.yml, or inferenceconfig.json",
    )
    parser.add_argument(
        "--packages",
        type=Packages,
        choices=list(Packages),
        help="where packages come from (default: pypi for requirements.txt, conda for env.yml)",
    )
    parser.add_argument(
        "--python", default="", metavar="X.Y", help="the Python (default: that of SPEC, else 3.12)"
    )
    parser.add_argument(
        "--channel",
        action="append",
        default=[],
        metavar="NAME=CHANNEL",
        help="take a conda channel for one that SPEC names: defaults=conda-forge",
    )
    parser.add_argument(
        "--accelerator",
        type=Accelerator,
        choices=[Accelerator.CPU],
        default=Accelerator.CPU,
        help="what it computes on (default: cpu)",
    )
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help="also write the folder of the image here"
    )
    parser.add_argument("--upgrade", action="store_true", help="newest versions that SPEC admits")
    parser.add_argument("--tag", default="", metavar="NAME[:TAG]", help="another name of the image")
    parser.add_argument("--force", action="store_true", help="rebuild it although it is up to date")
    parser.add_argument("--print", action="store_true", help="only print the Dockerfile")
    parser.add_argument(
        "--show",
        metavar="IMAGE",
        help="print how an image was made, from the engine or a registry: a name, or"
        " HOST/NAMESPACE/NAME with :TAG or @DIGEST",
    )
    parser.add_argument("--json", action="store_true", help="print the results as JSON")
    add_deployment_options(parser)
    add_bases(parser)


def run(project: Project, options: argparse.Namespace) -> int:
    """Runs the command; returns its exit status."""
    if (options.specification is None) == (options.show is None):
        raise UserError("name a specification (requirements.txt, env.yml), or an image by --show")
    if options.show is not None:
        print(json.dumps(shown(project, options.show), indent=2, ensure_ascii=False))
        return 0
    if options.specification.suffix == ".json":
        packages = options.packages or Packages.CONDA
        known = decisions(project, packages, options.python, _channels(packages, options.channel))
        return deploy(project, options, known, partial(_environment_image, project, options))
    if options.model or options.password_stdin:
        raise UserError("--model and --password-stdin are for an inferenceconfig.json")
    started = time.monotonic()
    path: Path = options.specification
    usual = Packages.PYPI if path.suffix == ".txt" else Packages.CONDA
    packages = options.packages or usual
    environment = _environment(project, packages, options)
    settings = Settings(
        options.output,
        options.upgrade,
        options.bases,
        options.pull,
        options.force,
        options.builder,
    )
    dockerfile, make = environment_dockerfile, make_environment
    if packages is Packages.CONDA:
        dockerfile, make = conda_dockerfile, make_conda_environment
    if options.print:
        print(dockerfile(project, environment), end="")
        return 0
    made = make(project, environment, settings)
    if made.is_right and options.tag:
        _tag(made.variant.name, options.tag)
    if options.json:
        print(results_json([made.result]))
    else:
        print(results_table([made.result], time.monotonic() - started))
        print(f"{made.folder}: its Dockerfile, lock and details")
    return exit_status([made.result], strict=True)


def _environment(project: Project, packages: Packages, options: argparse.Namespace) -> Environment:
    """The environment that is asked for."""
    known = decisions(project, packages, options.python, _channels(packages, options.channel))
    return _of_packages(read_environment(options.specification, known), packages)


def _of_packages(environment: Environment, packages: Packages) -> Environment:
    """The environment as its packages are taken, after what is said of it."""
    chosen_from = from_pypi if packages is Packages.PYPI else without_server
    environment = chosen_from(environment)
    for note in environment.notes:
        say(str(note))
    return environment


def _channels(packages: Packages, options: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The channels that are taken for others, by options and as this host has chosen."""
    channels = {}
    for option in options:
        name, equals, channel = option.partition("=")
        if not (name and equals and channel):
            raise UserError(f"--channel {option}: write NAME=CHANNEL, as defaults=conda-forge")
        channels[name] = tuple(channel.split(","))
    if packages is Packages.PYPI:
        # They have no meaning there.
        return {"defaults": ("conda-forge",), **channels}
    home = Path.home()
    of_host = read_conda_settings(os.environ, home, read_host_config(os.environ, home)).defaults
    return {**({"defaults": of_host} if of_host else {}), **channels}


def _environment_image(
    project: Project, options: argparse.Namespace, environment: Environment
) -> EnvironmentImage:
    """The image of the environment of a deployment, which is made unless only a Dockerfile is to be
    printed. Raises WorkError where it is not right."""
    packages = options.packages or Packages.CONDA
    environment = _of_packages(environment, packages)
    is_conda = packages is Packages.CONDA
    name = name_of(environment)
    image = EnvironmentImage(image_tag(name), str(PREFIXES / name) if is_conda else "")
    if options.print:
        return image
    settings = Settings(
        None, options.upgrade, options.bases, options.pull, options.force, options.builder
    )
    make = make_conda_environment if is_conda else make_environment
    made = make(project, environment, settings)
    if not made.is_right:
        raise WorkError(f"{made.variant.name}, the environment of it: {made.result.detail}")
    return image


def _tag(name: str, tag: str) -> None:
    """Gives an image of the engine another name."""
    import docker.errors

    repository, colon, version = tag.rpartition(":")
    if not colon or "/" in version:
        repository, version = tag, LATEST
    with contextlib.closing(ensure_engine().client()) as client:
        try:
            client.api.tag(image_tag(name), repository, version)
        except docker.errors.APIError as error:
            raise UserError(f"--tag {tag}: {error.explanation or error}") from None


def shown(project: Project, image: str) -> Details:
    """How an image was made, from the engine if it has the image, else from its registry.

    The folder of an environment that was not built here says it, too. Raises UserError where
    nothing does.
    """
    engine = find_engine()
    found = engine.inspect([image]) if engine is not None else {}
    if image in found:
        return details_of(image, found[image]["Config"].get("Labels") or {})
    if "/" not in image:
        folder = project.root / ENVIRONMENTS / image / DETAILS
        if folder.is_file():
            return dict(json.loads(folder.read_text(encoding="utf-8")))
        raise UserError(
            f"there is no image {image} here; one in a registry is HOST/NAMESPACE/NAME:TAG"
        )
    registry, repository, reference = image_of(
        image, read_host_config(os.environ, Path.home()).ca_bundle
    )
    present = registry.image(repository, reference)
    if present is None:
        raise WorkError(f"the registry has no {image}")
    return details_of(image, present.labels, image.partition("/")[0])
