"""From an environment of PyPI's packages to its image: locked, rendered, built and checked."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from imagematrix.build.disk import require_disk
from imagematrix.build.prepare import Request, prepare
from imagematrix.build.results import Outcome, Result
from imagematrix.build.run import run_build
from imagematrix.console import say
from imagematrix.environments.checked import check_environment, failed_checks, remarks
from imagematrix.environments.details import Details, details_label, image_details
from imagematrix.environments.folder import dockerfile_of, environment_folder, write_folder
from imagematrix.environments.model import Environment
from imagematrix.environments.pypi import environment_lock, environment_variant
from imagematrix.environments.specification import mutated_specification
from imagematrix.host.bases import BaseSource
from imagematrix.host.config import read_host_config
from imagematrix.matrix.selection import Selection
from imagematrix.matrix.variant import Variant
from imagematrix.repository.project import Project


@dataclass(frozen=True)
class Settings:
    """How an image of an environment is made.

    `output` is a folder that becomes a copy of that of the image. `upgrade` takes the newest
    versions that the specification admits. `bases`, `refresh`, `force` and `builder` are those of
    `Request`; `force` runs all checks again, too.
    """

    output: Path | None = None
    upgrade: bool = False
    bases: BaseSource | None = None
    refresh: bool = False
    force: bool = False
    builder: str = ""


@dataclass(frozen=True)
class MadeEnvironment:
    """The image of an environment; `result` is a failure where it is not built or not right, and
    `folder` has all that it is made of."""

    variant: Variant
    folder: Path
    result: Result

    @property
    def is_right(self) -> bool:
        """Whether the image is there, up to date, and has passed its checks."""
        return self.result.outcome in (Outcome.BUILT, Outcome.UP_TO_DATE)


def environment_dockerfile(project: Project, environment: Environment) -> str:
    """The Dockerfile of an environment, which comes from `from_pypi`."""
    return dockerfile_of(project.root, environment_variant(project, environment))


def make_environment(
    project: Project, environment: Environment, settings: Settings
) -> MadeEnvironment:
    """Makes the image of an environment, which comes from `from_pypi`, if it is not up to date, and
    its parent where that is not.

    Nothing is written before its lock is resolved. Raises WorkError where that fails, and UserError
    for what a person has to fix first.
    """
    variant = environment_variant(project, environment)
    host = read_host_config(os.environ, Path.home())
    lock = environment_lock(project, variant, environment, host, upgrade=settings.upgrade)
    specification = mutated_specification(environment)
    details = image_details(variant.name, dockerfile_of(project.root, variant), specification)
    files = environment_folder(project.root, variant, lock, specification, details)
    for folder in filter(None, [project.root / variant.folder, settings.output]):
        write_folder(folder, files)
    result = built_image(project, variant, details, settings)
    return MadeEnvironment(variant, settings.output or Path(variant.folder), result)


def built_image(
    project: Project,
    variant: Variant,
    details: Details,
    settings: Settings,
    secrets: Mapping[str, str] | None = None,
) -> Result:
    """Builds the image of an environment whose folder is written, if it is not up to date, and
    checks it. `secrets` are texts by name that only the steps get which mount them."""
    project = replace(project, environments=(variant,))
    names = (variant.name, *([variant.conda.builder] if variant.conda else []))
    prepared = prepare(
        project,
        Request(
            Selection(names),
            settings.bases,
            settings.refresh,
            settings.force,
            settings.builder,
        ),
    )
    given = {f"IMAGEMATRIX_{name.upper().replace('-', '_')}": name for name in secrets or {}}
    variables = {variable: (secrets or {})[name] for variable, name in given.items()}
    options = tuple(f"id={name},env={variable}" for variable, name in given.items())
    require_disk(project.budgets.measured, prepared.engine, prepared.steps)
    labels = {variant.name: details_label(details)}
    results = run_build(
        project.root,
        prepared.engine,
        prepared.builder,
        prepared.steps,
        replace(
            prepared.environment,
            image_labels=labels,
            secrets=(*prepared.environment.secrets, *options),
        ),
        {**prepared.variables, **variables},
        prepared.present,
    )
    (result,) = (one for one in results if one.name == variant.name)
    if result.outcome not in (Outcome.BUILT, Outcome.UP_TO_DATE):
        return result
    checks = check_environment(project, prepared.engine, variant, again=settings.force)
    if failed := failed_checks(checks):
        reasons = "".join(f"\n    {name}: {reason}" for name, reason in failed.items())
        detail = f"{len(failed)} of {len(checks)} checks{reasons}"
        return replace(result, outcome=Outcome.FAILED, detail=detail)
    noted = remarks(checks)
    for reason in noted.values():
        say(f"{variant.name}: {reason}")
    passed = f"{len(checks) - len(noted)} checks passed"
    return replace(result, detail="; ".join(filter(None, [result.detail, passed])))
