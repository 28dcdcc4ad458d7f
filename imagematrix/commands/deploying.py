"""What `environment` does with an inferenceconfig.json: the image that serves it."""

import argparse
import os
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path

from imagematrix.build.results import Outcome, Result, results_json, results_table
from imagematrix.console import say
from imagematrix.environments.deploying import Options, build_deployment, plan_deployment
from imagematrix.environments.deployment import EnvironmentImage
from imagematrix.environments.foreign import credentials_of
from imagematrix.environments.matchspec import parse_match_spec
from imagematrix.environments.model import Decisions, Environment
from imagematrix.environments.specification import read_deployment
from imagematrix.host.setup import ensure_engine
from imagematrix.matrix.schema import Accelerator
from imagematrix.plan.bake import image_tag
from imagematrix.repository.project import Project


def add_deployment_options(parser: argparse.ArgumentParser) -> None:
    """The options that only an inferenceconfig.json needs."""
    parser.add_argument(
        "--model",
        type=Path,
        action="append",
        default=[],
        metavar="PATH",
        help="inferenceconfig.json: copy this folder or file to AZUREML_MODEL_DIR; repeatable",
    )
    parser.add_argument(
        "--password-stdin",
        action="store_true",
        help="inferenceconfig.json: read the password of baseImageRegistry from standard input",
    )


def deploy(
    project: Project,
    options: argparse.Namespace,
    decisions: Decisions,
    made_of: Callable[[Environment], EnvironmentImage],
) -> int:
    """Builds the image of an inferenceconfig.json; returns the exit status.

    `made_of` builds the image of an environment.
    """
    started = time.monotonic()
    deployment = read_deployment(options.specification, decisions)
    for note in deployment.notes:
        say(str(note))
    password = sys.stdin.readline().rstrip("\r\n") if options.password_stdin else ""
    credentials = credentials_of(deployment.registry, os.environ, password)
    environment = deployment.environment
    made = made_of(environment) if environment and _has_packages(environment) else None
    given = Options(
        image=_tagged(options.tag or _name(deployment.folder)),
        output=options.output,
        environment=made,
        models=tuple(options.model),
        credentials=credentials,
        bases=options.bases,
        builder=options.builder,
        refresh=options.pull,
    )
    planned = plan_deployment(project, deployment, given)
    chosen = planned.base.variant
    if deployment.enable_gpu and (chosen is None or chosen.accelerator is Accelerator.CPU):
        say(f"enableGpu chooses no image: {planned.base.reference} has CUDA only if it brings it.")
    if options.print:
        print(planned.dockerfile, end="")
        return 0
    folder = build_deployment(project, planned)
    size = ensure_engine().inspect([planned.image])[planned.image]["Size"] / 1e6
    seconds = time.monotonic() - started
    result = Result(planned.image, Outcome.BUILT, size, seconds, f"on {planned.base.reference}")
    if options.json:
        print(results_json([result]))
    else:
        print(results_table([result], seconds))
        print(f"{folder}: its Dockerfile")
        print(f"`nox -s verify -- {planned.image}` checks whether it is fit to serve")
    return 0


def _has_packages(environment: Environment) -> bool:
    """Whether it asks for more than a minimal image has."""
    names = {parse_match_spec(entry.text).name for entry in environment.conda}
    return bool(environment.pip or names - {"python", "pip"})


def _name(folder: Path) -> str:
    """The name of the image for the code in a folder, of the characters that names may have."""
    letters = re.sub(r"[^a-z0-9]+", "-", folder.absolute().name.lower()).strip("-")
    return f"deployment-{letters or 'app'}"


def _tagged(name: str) -> str:
    return name if ":" in name.rpartition("/")[2] else image_tag(name)
