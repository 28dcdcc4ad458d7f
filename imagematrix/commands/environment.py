"""`environment`: from a user's specification to a checked image, and how an image was made."""

import argparse
import contextlib
import json
import os
import time
from dataclasses import replace
from pathlib import Path

from imagematrix.build.disk import require_disk
from imagematrix.build.prepare import Request, prepare
from imagematrix.build.results import Outcome, Result, exit_status, results_json, results_table
from imagematrix.build.run import run_build
from imagematrix.commands.options import add_bases
from imagematrix.commands.verify_published import image_of
from imagematrix.console import say
from imagematrix.environments.checked import check_environment, failed_checks
from imagematrix.environments.details import Details, details_label, details_of, image_details
from imagematrix.environments.folder import DETAILS, dockerfile_of, environment_folder, write_folder
from imagematrix.environments.pypi import (
    ENVIRONMENTS,
    decisions,
    environment_lock,
    environment_variant,
    from_pypi,
)
from imagematrix.environments.specification import (
    Environment,
    Packages,
    mutated_specification,
    read_environment,
)
from imagematrix.errors import UserError, WorkError
from imagematrix.host.config import read_host_config
from imagematrix.host.engine import Engine, find_engine
from imagematrix.matrix.schema import Accelerator
from imagematrix.matrix.selection import Selection
from imagematrix.matrix.variant import Variant
from imagematrix.plan.bake import image_tag
from imagematrix.repository.project import Project


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.add_argument(
        "specification", nargs="?", type=Path, metavar="SPEC", help="requirements.txt or env.yml"
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
    add_bases(parser)


def run(project: Project, options: argparse.Namespace) -> int:
    """Runs the command; returns its exit status."""
    if (options.specification is None) == (options.show is None):
        raise UserError("name a specification (requirements.txt, env.yml), or an image by --show")
    if options.show is not None:
        print(json.dumps(shown(project, options.show), indent=2, ensure_ascii=False))
        return 0
    started = time.monotonic()
    environment = _pypi_environment(project, options)
    variant = environment_variant(project, environment)
    dockerfile = dockerfile_of(project.root, variant)
    if options.print:
        print(dockerfile, end="")
        return 0
    host = read_host_config(os.environ, Path.home())
    say(f"Resolving {variant.name} …")
    lock = environment_lock(project, variant, environment, host, upgrade=options.upgrade)
    specification = mutated_specification(environment)
    details = image_details(variant.name, dockerfile, specification)
    files = environment_folder(project.root, variant, lock, specification, details)
    for folder in filter(None, [project.root / variant.folder, options.output]):
        write_folder(folder, files)
    result = build(replace(project, environments=(variant,)), variant, details, options)
    folder = options.output or variant.folder
    if options.json:
        print(results_json([result]))
    else:
        print(results_table([result], time.monotonic() - started))
        print(f"{folder}: its Dockerfile, lock and details")
    return exit_status([result], strict=True)


def _pypi_environment(project: Project, options: argparse.Namespace) -> Environment:
    """The environment that is asked for, of PyPI's packages."""
    path: Path = options.specification
    requirements = path.suffix == ".txt"
    packages = options.packages or (Packages.PYPI if requirements else Packages.CONDA)
    # Channels have no meaning for PyPI.
    channels = {"defaults": ("conda-forge",)} if packages is Packages.PYPI else {}
    known = decisions(project, packages, options.python, channels)
    environment = read_environment(path, known)
    if packages is Packages.CONDA:
        raise UserError(
            f"{path}: packages of conda cannot be installed yet; `--packages pypi` takes those that"
            " are the same on PyPI"
        )
    environment = from_pypi(environment)
    for note in environment.notes:
        say(str(note))
    return environment


def build(
    project: Project, variant: Variant, details: Details, options: argparse.Namespace
) -> Result:
    """Builds and checks the image of an environment, on its parent, which is built if need be.

    The image gets its other name when it has passed its checks.
    """
    request = Request(
        Selection((variant.name,)), options.bases, options.pull, options.force, options.builder
    )
    prepared = prepare(project, request)
    require_disk(project.budgets.measured, prepared.engine, prepared.steps)
    labels = {variant.name: details_label(details)}
    results = run_build(
        project.root,
        prepared.engine,
        prepared.builder,
        prepared.steps,
        replace(prepared.environment, image_labels=labels),
        prepared.variables,
        prepared.present,
    )
    (result,) = (one for one in results if one.name == variant.name)
    if result.outcome not in (Outcome.BUILT, Outcome.UP_TO_DATE):
        return result
    checks = check_environment(project, prepared.engine, variant, again=options.force)
    if failed := failed_checks(checks):
        reasons = "\n".join(f"    {name}: {reason}" for name, reason in failed.items())
        detail = f"{len(failed)} of {len(checks)} checks\n{reasons}"
        return replace(result, outcome=Outcome.FAILED, detail=detail)
    if options.tag:
        _tag(prepared.engine, variant.name, options.tag)
    passed = f"{len(checks)} checks passed"
    return replace(result, detail="; ".join(filter(None, [result.detail, passed])))


def _tag(engine: Engine, name: str, tag: str) -> None:
    repository, colon, version = tag.rpartition(":")
    if not colon or "/" in version:
        repository, version = tag, "latest"
    with contextlib.closing(engine.client()) as client:
        client.api.tag(image_tag(name), repository, version)


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
