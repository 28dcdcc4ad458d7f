"""Builds the image of an inference configuration."""

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from packaging.version import Version

from imagematrix.build.inputs import SECRETS, build_environment, pip_config, uv_config
from imagematrix.build.prepare import Request, prepare
from imagematrix.build.results import Outcome
from imagematrix.build.run import run_build
from imagematrix.build.target import build_targets
from imagematrix.console import say
from imagematrix.environments.deployment import (
    PIP_SECRET,
    SERVER_CONTEXT,
    AddedServer,
    Base,
    BasePython,
    EnvironmentImage,
    Model,
    choose_base,
    ignored_paths,
    models_of,
    render_deployment,
)
from imagematrix.environments.details import PYTHON, Details, details_label, image_details
from imagematrix.environments.foreign import (
    Credentials,
    look_into,
    pull_base,
    require_python,
)
from imagematrix.environments.model import Deployment
from imagematrix.environments.specification import mutated_specification
from imagematrix.errors import UserError, WorkError
from imagematrix.files import WORK_FOLDER, write_atomically
from imagematrix.host.bases import Bases, BaseSource, ensure_bases
from imagematrix.host.buildx import Builder, find_builder
from imagematrix.host.config import HostConfig, read_host_config
from imagematrix.host.debian import DebianMirrors, debian_mirrors
from imagematrix.host.engine import Engine
from imagematrix.host.setup import ensure_engine
from imagematrix.host.supply import Supply
from imagematrix.matrix.selection import Selection
from imagematrix.matrix.variant import Variant
from imagematrix.plan.bake import (
    LOCAL_IMAGE,
    TOOLS_SUITE,
    OtherImage,
    other_image,
    target_name,
)
from imagematrix.repository.project import Project

DEPLOYMENTS = WORK_FOLDER / "deployments"
DOCKERFILE = "Dockerfile"
# The Pythons that the server runs on.
PYTHONS = tuple(f"3.{minor}" for minor in range(7, 14))
_UV_VARIABLE = "IMAGEMATRIX_SECRET_UV"
_PIP_VARIABLE = "IMAGEMATRIX_SECRET_PIP"


@dataclass(frozen=True)
class Options:
    """How a deployment is built.

    `image` is the name and tag of the image. `output` is the folder of its Dockerfile, by default
    one below the work folder. `environment` is the image of the deployment's environment, which
    has been built before, None if it has none. `models` are folders and files. `credentials` are
    those of the registry of its base image, which `refresh` pulls again.
    """

    image: str
    output: Path | None = None
    environment: EnvironmentImage | None = None
    models: tuple[Path, ...] = ()
    credentials: Credentials | None = None
    bases: BaseSource | None = None
    builder: str = ""
    refresh: bool = False


@dataclass(frozen=True)
class Planned:
    """A deployment that can be built: its base, its Dockerfile, and what its build needs."""

    deployment: Deployment
    options: Options
    base: Base
    dockerfile: str
    models: tuple[Model, ...] = ()
    added: AddedServer | None = None

    @property
    def image(self) -> str:
        """The name and tag of the image."""
        return self.options.image


def plan_deployment(project: Project, deployment: Deployment, options: Options) -> Planned:
    """The Dockerfile of a deployment, and what its build needs; nothing is built or written.

    A base image of another maker is pulled if the engine lacks it, and looked into. Raises
    UserError, or a subclass, for what a person has to fix first.
    """
    models = models_of(options.models)
    base = choose_base(deployment, project.variants, options.environment)
    added = None
    if base.foreign:
        python = _foreign_python(ensure_engine(), deployment, base, options)
        if python is not None:
            roots = [variant for variant in project.variants if variant.parent is None]
            added = AddedServer(python, nearest(roots, python.version))
    text = render_deployment(
        project.root,
        deployment,
        base,
        added=added,
        environment=options.environment if added else None,
        models=models,
    )
    return Planned(deployment, options, base, text, models, added)


def build_deployment(project: Project, planned: Planned) -> Path:
    """Builds the image of a deployment; returns the folder with its Dockerfile, which is written.

    The image that it is based on is built if it is one of the matrix. Raises WorkError with the
    step that failed.
    """
    base, options = planned.base, planned.options
    engine = ensure_engine()
    builder = find_builder(engine, options.builder)
    if base.why:
        say(f"Based on {base.reference}: {base.why}.")
    if base.variant is not None:
        _build_base(project, base.variant, options)
    folder = options.output or project.root / DEPLOYMENTS / target_name(_name(options.image))
    folder = folder.absolute()
    write_atomically(folder / DOCKERFILE, planned.dockerfile)
    ignored = ignored_paths(planned.deployment)
    write_atomically(folder / f"{DOCKERFILE}.dockerignore", ignored)
    _build(project, planned, engine, builder, folder)
    return folder


def _name(image: str) -> str:
    """`127.0.0.1:5000/team/churn:2` as `churn`."""
    return image.rpartition("/")[2].partition(":")[0]


def _build_base(project: Project, variant: Variant, options: Options) -> None:
    selection = Selection(patterns=(variant.name,))
    request = Request(selection, bases=options.bases, builder=options.builder)
    prepared = prepare(project, request)
    results = run_build(
        project.root,
        prepared.engine,
        prepared.builder,
        prepared.steps,
        prepared.environment,
        prepared.variables,
        prepared.present,
    )
    for result in results:
        if result.outcome in (Outcome.FAILED, Outcome.UNAVAILABLE):
            raise WorkError(f"{result.name}, which it is based on: {result.detail}")


def _foreign_python(
    engine: Engine, deployment: Deployment, base: Base, options: Options
) -> BasePython | None:
    """The Python of somebody else's base image that serves; None where the image has the server."""
    missing = base.reference not in engine.inspect([base.reference])
    if missing or options.refresh or options.credentials:
        pull_base(engine, base.reference, options.credentials)
    found = look_into(engine, base.reference)
    environment = options.environment
    if environment is not None:
        if not environment.prefix:
            raise UserError(
                f"{deployment.file}: packages of PyPI go into the Python of these images, not into"
                f" that of {base.reference}; install them by conda, or leave out baseImage"
            )
        series = deployment.environment.series if deployment.environment else ""
        found = replace(found, version=series, python=f"{environment.prefix}/bin/python")
        require_python(base.reference, found, PYTHONS)
        return BasePython(found.python, found.version)
    if found.server:
        return None
    require_python(base.reference, found, PYTHONS)
    return BasePython(found.python, found.version)


def nearest(minimals: Sequence[Variant], version: str) -> Variant:
    """The image whose lock has a parser for a Python: that of the nearest one, rather a newer one
    than an older one. Parsers have wheels for some Pythons before and after."""
    wanted = Version(version).minor
    distance = {v.name: abs(Version(v.python).minor - wanted) for v in minimals}
    return min(minimals, key=lambda v: (distance[v.name], -Version(v.python).minor))


def _build(
    project: Project, planned: Planned, engine: Engine, builder: Builder, folder: Path
) -> None:
    deployment, options, added = planned.deployment, planned.options, planned.added
    base, source = planned.base, options.bases or BaseSource.AUTO
    host = read_host_config(os.environ, Path.home())
    bases = Bases(source, {}, {})
    if added is not None:
        # The tools image is made of Debian, and so is the stage that has what is added.
        bases = ensure_bases(engine, [added.lock], source)
    mirrors = debian_mirrors() if added or deployment.docker_steps else DebianMirrors()
    environment, variables = build_environment(
        project.root, engine, builder, bases, host, mirrors, [], {}
    )
    local = [base.reference, *([options.environment.reference] if options.environment else [])]
    contexts = {model.context: str(model.folder) for model in planned.models}
    contexts |= {reference: f"{LOCAL_IMAGE}{_tag_of(reference)}" for reference in local}
    given = {_UV_VARIABLE: uv_config(host, Supply()), _PIP_VARIABLE: _pip_of_steps(host)}
    definition = other_image(
        OtherImage(
            image=options.image,
            context=str(deployment.folder.absolute()),
            dockerfile=str(folder / DOCKERFILE),
            contexts=contexts | ({SERVER_CONTEXT: "base"} if added else {}),
            bases=(TOOLS_SUITE.debian_image,) if added else (),
            secrets=(f"id=uv-config,env={_UV_VARIABLE}", f"id={PIP_SECRET},env={_PIP_VARIABLE}"),
            labels=details_label(_details(planned)),
            suite=base.variant.suite if base.variant else TOOLS_SUITE,
            tools=added is not None,
        ),
        environment,
    )
    with _tagged(engine, base.reference):
        build_targets(project.root, engine, builder, definition, {**variables, **given})


def _tag_of(reference: str) -> str:
    """The name by which BuildKit finds an image in the engine; it asks registries for digests."""
    name, _, digest = reference.partition("@sha256:")
    return f"inference-by-digest:{digest}" if digest else name


@contextlib.contextmanager
def _tagged(engine: Engine, reference: str) -> Iterator[None]:
    """Has a name for an image that is named by its digest, for a while."""
    tag = _tag_of(reference)
    if tag == reference:
        yield
        return
    name, _, version = tag.partition(":")
    with contextlib.closing(engine.client()) as client:
        client.api.tag(reference, name, version)
        try:
            yield
        finally:
            client.api.remove_image(tag)


def _details(planned: Planned) -> Details:
    environment, made = planned.deployment.environment, planned.options.environment
    return image_details(
        _name(planned.image),
        planned.dockerfile,
        mutated_specification(environment) if environment else "",
        python=planned.added.python.executable if planned.added else PYTHON,
        conda_path=made.prefix if made and made.prefix else None,
    )


def _pip_of_steps(host: HostConfig) -> str:
    """The pip.conf of the steps that a user writes, in which nothing else names the CA bundle."""
    text = pip_config(host) or "[global]\n"
    return text + (f"cert = {SECRETS['ca-bundle']}\n" if host.ca_bundle else "")
