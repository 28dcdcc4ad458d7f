"""The image of an inference configuration: on which base it is, and its Dockerfile.

What the keys mean:
https://learn.microsoft.com/azure/machine-learning/v1/reference-azure-machine-learning-cli
"""

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import jinja2

from imagematrix.build.inputs import SECRETS
from imagematrix.environments.model import Deployment
from imagematrix.environments.pypi import minimal_images
from imagematrix.errors import UserError
from imagematrix.files import read_text
from imagematrix.matrix.schema import MINIMAL, Accelerator, Track
from imagematrix.matrix.selection import newest
from imagematrix.matrix.variant import Variant
from imagematrix.plan.bake import TOOLS_SUITE, image_tag
from imagematrix.repository.former import image_for

TEMPLATE = PurePosixPath("base/deployment.Dockerfile.j2")
APP = "/var/azureml-app"
# Where models of a deployment are, as in Azure ML.
MODELS = f"{APP}/azureml-models"
# The name of the context with the server and what adds it to a base image.
SERVER_CONTEXT = "inference-base"

# The secret with pip's settings for the steps of a user, which are the host's with its CA bundle.
PIP_SECRET = "steps-pip-config"
_EVERYWHERE = ("ca-bundle", PIP_SECRET)
# Debian's mirrors are of no use to the apt of other distributions.
_ON_DEBIAN = ("apt-sources", "apt-config")

# https://github.com/distribution/reference/blob/main/regexp.go, without its limits of length.
_REFERENCE = re.compile(
    r"[A-Za-z0-9][A-Za-z0-9._-]*(:[0-9]+)?(/[A-Za-z0-9._-]+)*"
    r"(:[A-Za-z0-9_][A-Za-z0-9_.-]*)?(@sha256:[0-9a-f]{64})?"
)
_HEREDOC = re.compile(r"(?<!<)<<-?[\"']?([A-Za-z_][A-Za-z0-9_]*)")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# The registry of the historical images and of the recipes' base images.
_MICROSOFT = "mcr.microsoft.com"


@dataclass(frozen=True)
class Base:
    """What a deployment is based on. `variant` is an image of the matrix, None for others; those
    of other makers are `foreign`. `why` says why it was taken, "" where the configuration does."""

    reference: str
    variant: Variant | None = None
    why: str = ""
    foreign: bool = False


@dataclass(frozen=True)
class BasePython:
    """The Python of a base image: its executable, and its version ("3.10")."""

    executable: str
    version: str


@dataclass(frozen=True)
class AddedServer:
    """A server that is added to a base image without one: for `python`, with the parser of HTTP
    that the lock of the image `lock` has."""

    python: BasePython
    lock: Variant


@dataclass(frozen=True)
class EnvironmentImage:
    """The image that was made of a deployment's environment. `prefix` is the folder of a conda
    environment in it, "" where its packages are in the Python of the image."""

    reference: str
    prefix: str = ""


@dataclass(frozen=True)
class Model:
    """A model that is copied: `source` in the build context `context`, to `target`."""

    path: Path
    context: str
    source: str
    target: str

    @property
    def folder(self) -> Path:
        """The folder of this host that is the build context."""
        return self.path if self.source == "/" else self.path.parent


def choose_base(
    deployment: Deployment,
    variants: Sequence[Variant],
    environment: EnvironmentImage | None = None,
) -> Base:
    """The image that a deployment is based on.

    That is the base image that it names, or what takes the place of one that people know from
    Azure ML; else its environment; else a minimal image, with CUDA where a GPU is asked for.
    Raises UserError where there is no such image.
    """
    if deployment.base_image:
        base = _named_base(deployment, variants)
        if base.foreign or environment is None:
            return base
    if environment is not None:
        return Base(environment.reference, why="it has the environment of the configuration")
    if deployment.enable_gpu:
        return _cuda_base(deployment, variants)
    series = deployment.environment.series if deployment.environment else ""
    image = minimal_images(variants).get(series) if series else newest(variants, MINIMAL)
    if image is None:
        raise UserError(f"{deployment.file}: no minimal image has Python {series}")
    why = f"the minimal image of Python {series}" if series else "the newest minimal image"
    return Base(image_tag(image.name), image, why)


def _named_base(deployment: Deployment, variants: Sequence[Variant]) -> Base:
    named = deployment.base_image
    host, _, last = named.rpartition("/")
    if not host or host.partition("/")[0] == _MICROSOFT:
        for variant in variants:
            if last in (variant.name, image_tag(variant.name)) and not host:
                return Base(image_tag(variant.name), variant)
        if (instead := image_for(last, variants)) is not None:
            return Base(image_tag(instead.name), instead, f"it takes the place of {named}")
    if not _REFERENCE.fullmatch(named):
        raise UserError(f"{deployment.file}: {named!r} is no name of an image")
    tagged = ":" in last or "@" in last
    return Base(named if tagged else image_tag(named), foreign=True)


def _cuda_base(deployment: Deployment, variants: Sequence[Variant]) -> Base:
    images = [
        variant
        for variant in variants
        if (variant.framework, variant.accelerator) == (MINIMAL, Accelerator.CUDA)
        and variant.track is Track.CURRENT
        and variant.cuda is not None
    ]
    wanted = deployment.cuda_version
    versions = {image.name: image.cuda.version for image in images if image.cuda}
    fitting = [
        image
        for image in images
        if not wanted or f"{wanted}.".startswith(f"{versions[image.name]}.")
    ]
    found = newest(fitting, MINIMAL, Accelerator.CUDA)
    if found is None:
        there = ", ".join(sorted(set(versions.values()))) or "none"
        asked = f"CUDA {wanted}" if wanted else "CUDA"
        raise UserError(
            f"{deployment.file}: no minimal image has {asked} (there is: {there}); leave out"
            " cudaVersion, or name a baseImage that has it"
        )
    return Base(image_tag(found.name), found, "the newest minimal image with CUDA, for enableGpu")


def models_of(paths: Sequence[Path]) -> tuple[Model, ...]:
    """The models at these paths, which become folders and files of one folder in the image.

    Raises UserError for a path that does not exist, and for two of the same name.
    """
    models: dict[str, Model] = {}
    for number, path in enumerate(paths):
        absolute = path.absolute()
        if not absolute.exists():
            raise UserError(f"the model {path} does not exist")
        name = absolute.name
        if not name or name in models:
            raise UserError(f"two models are named {name!r}: rename one of {path}")
        source = "/" if absolute.is_dir() else f"/{_literal(name)}"
        target = f"{MODELS}/{name}/" if absolute.is_dir() else f"{MODELS}/"
        models[name] = Model(absolute, f"model{number}", source, target)
    return tuple(models.values())


def render_deployment(
    root: Path,
    deployment: Deployment,
    base: Base,
    *,
    added: AddedServer | None = None,
    environment: EnvironmentImage | None = None,
    models: Sequence[Model] = (),
) -> str:
    """The Dockerfile of a deployment.

    `added` is the server that is added to a base image without one; `environment` is the image
    that a conda environment is copied from in that case. Raises UserError for what no Dockerfile
    can express.
    """
    template = jinja2.Environment(
        loader=jinja2.FileSystemLoader(root),
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        autoescape=False,
    )
    template.filters |= {
        "value": quoted,
        "paths": _json,
        "words": _words,
        "shell": shlex.quote,
    }
    values: dict[str, object] = {
        "base": base.reference,
        "added": added,
        "environment_image": environment.reference if environment else "",
        "prefix": environment.prefix if environment else "",
        "app": APP,
        "steps": with_host_settings(_steps(deployment), _mounts(base)),
        "code": _code(deployment),
        "models": models,
        "variables": sorted(_variables(deployment, models).items()),
        "description": " ".join(deployment.description.split()),
        "suite": TOOLS_SUITE,
    }
    text = template.get_template(str(TEMPLATE)).render(values)
    header = f"# From {deployment.file.name}, rendered by imagematrix. Changes are overwritten.\n"
    return header + text.lstrip("\n")


def ignored_paths(deployment: Deployment) -> str:
    """The text of the file that says what of the source folder is not copied.

    That is what the folder's own .dockerignore says, the history of git, and the configuration
    itself, in which a password of a registry may stand.
    https://docs.docker.com/build/concepts/context/#filename-and-location
    """
    own = deployment.folder / ".dockerignore"
    lines = read_text(own, own).splitlines() if own.is_file() else []
    lines += [".git", ".dockerignore"]
    file = Path(deployment.file).absolute()
    if file.is_relative_to(deployment.folder.absolute()):
        inside = file.relative_to(deployment.folder.absolute())
        lines.append(re.sub(r"([\\*?\[\]])", r"\\\1", inside.as_posix()))
    return "\n".join([*lines, ""])


def _code(deployment: Deployment) -> list[str]:
    if deployment.source is not None:
        return [".", f"{APP}/"]
    return [_literal(deployment.script), f"{APP}/{deployment.script}"]


def _literal(path: str) -> str:
    """A file that COPY is to find by its name. Raises UserError for one that it would read as a
    pattern (of Go's path.Match); BuildKit has no way to write that down that always works."""
    if re.search(r"[\\*?\[]", path):
        raise UserError(
            f"{path!r} would be read as a pattern of names (by * ? [ or \\): rename it, or copy its"
            " folder as a whole"
        )
    return path


def _variables(deployment: Deployment, models: Sequence[Model]) -> Mapping[str, str]:
    variables = dict(deployment.environment.variables) if deployment.environment else {}
    for name in variables:
        if not _VARIABLE.fullmatch(name):
            raise UserError(f"{deployment.file}: {name!r} is no name of a variable")
    variables["AZUREML_ENTRY_SCRIPT"] = deployment.script
    if len(models) == 1 and models[0].source == "/":
        variables["AZUREML_MODEL_DIR"] = models[0].target.rstrip("/")
    elif models:
        variables["AZUREML_MODEL_DIR"] = MODELS
    return variables


def _steps(deployment: Deployment) -> str:
    """The additional steps. What follows them must not become a part of the last one."""
    steps = deployment.docker_steps.strip("\n")
    if steps.rstrip().endswith("\\"):
        raise UserError(
            f"{deployment.file}: the last line of extraDockerfileSteps goes on (\\ at its end), and"
            " no line follows"
        )
    return steps


def _mounts(base: Base) -> str:
    """The options by which a RUN gets the settings of the host."""
    names = (*_EVERYWHERE, *(() if base.foreign else _ON_DEBIAN))
    targets = {**SECRETS, PIP_SECRET: SECRETS["pip-config"]}
    return " ".join(
        f"--mount=type=secret,id={name},target={targets[name]},mode=0444" for name in names
    )


def with_host_settings(steps: str, mounts: str) -> str:
    """Steps in which each RUN has the options `mounts`, so that package managers get to know how
    this host reaches indexes and mirrors. BuildKit leaves out secrets that it is not given."""
    lines, ends, goes_on = [], list[str](), False
    for line in steps.splitlines():
        if ends:
            if line.lstrip("\t") == ends[0]:
                ends.pop(0)
        elif not (goes_on and re.match(r"\s*(#|$)", line)):
            begins = re.match(r"\s*(RUN|COPY|ADD)\s", line, re.IGNORECASE) if not goes_on else None
            ends = _HEREDOC.findall(line)
            if begins and begins[1].upper() == "RUN":
                line = f"RUN {mounts} {line[begins.end() :]}"
            goes_on = line.rstrip().endswith("\\") and not line.lstrip().startswith("#")
        lines.append(line)
    return "\n".join(lines)


def quoted(text: str) -> str:
    """A value as one word of ENV and LABEL, in which nothing is replaced.

    https://docs.docker.com/reference/dockerfile/#environment-replacement
    Raises UserError for line breaks, which the format cannot express.
    """
    if re.search(r"[\n\r\0]", text):
        raise UserError(f"{text!r} has a line break, which no value in a Dockerfile can have")
    return '"' + re.sub(r'([\\"$])', r"\\\1", text) + '"'


def _json(paths: Sequence[str]) -> str:
    """Paths of COPY in its JSON form, in which variables and quotes have their meaning as well."""
    for path in paths:
        if re.search(r"[\n\r\0]", path):
            raise UserError(f"the path {path!r} has a line break; rename it")
    return json.dumps([re.sub(r"([\\$\"'])", r"\\\1", path) for path in paths])


def _words(words: Sequence[str]) -> str:
    """A command in its JSON form, which is taken as it is."""
    return json.dumps(list(words))
