"""An environment of PyPI's packages: one more image on the minimal image of its Python."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import PurePosixPath

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from imagematrix.console import say
from imagematrix.environments.matchspec import parse_match_spec
from imagematrix.environments.specification import (
    Decisions,
    Entry,
    Environment,
    Packages,
    name_of,
)
from imagematrix.errors import Diagnostic, InputError, UserError, WorkError
from imagematrix.files import WORK_FOLDER
from imagematrix.host.config import HostConfig
from imagematrix.host.supply import why_unreachable
from imagematrix.matrix.lockfile import Lock, parse_lock
from imagematrix.matrix.names import ENVIRONMENT
from imagematrix.matrix.schema import MINIMAL, Track
from imagematrix.matrix.selection import newest
from imagematrix.matrix.variant import Index, Variant
from imagematrix.repository.locking import resolved_lock
from imagematrix.repository.project import Project

# Relative to the repository: the folder of each environment, under its name.
ENVIRONMENTS = PurePosixPath(WORK_FOLDER.as_posix(), "environments")

# Conda packages that are the same project, with the same versions, under this name on PyPI. Other
# names may be another project there (`graphviz`, `snappy`) or none, and no table says which.
_SAME_NAME = """
aiohttp attrs beautifulsoup4 boto3 catboost certifi click cloudpickle cryptography cython dask
datasets fastapi filelock flask fsspec gensim gunicorn h5py httpx huggingface_hub idna
imbalanced-learn jinja2 joblib jsonschema keras lightgbm llvmlite lxml markupsafe matplotlib
mlflow networkx nltk numba numexpr numpy onnx onnxruntime openpyxl orjson packaging pandas
patsy pillow plotly polars protobuf psutil pyarrow pydantic pyjwt python-dateutil
python-multipart pytz pyyaml regex requests safetensors scikit-image scikit-learn scipy seaborn
sentence-transformers sentencepiece setuptools shap six spacy sqlalchemy statsmodels sympy
tensorboard tensorflow threadpoolctl tokenizers torchvision tqdm transformers typing_extensions
typing-extensions urllib3 uvicorn werkzeug wheel xgboost xlrd zstandard
"""
_OTHER_NAME = {
    "matplotlib-base": "matplotlib",
    "py-xgboost": "xgboost",
    "pytorch": "torch",
}
# The image has its own, and they are no packages that an application imports.
_IN_THE_IMAGE = frozenset({"python", "pip"})
# What they are for is in every image, and their versions are bound to Flask's.
_SERVERS = frozenset({"azureml-defaults", "azureml-inference-server-http"})
_NO_EFFECT = re.compile(r"--(prefer-binary|require-hashes|only-binary[ =]:all:)")


def minimal_images(variants: Iterable[Variant]) -> dict[str, Variant]:
    """The image that an environment is based on, by its Python, oldest first."""
    roots = [variant for variant in variants if variant.parent is None]
    # A current image takes the place of a historical one.
    roots.sort(key=lambda variant: (Version(variant.python), variant.track is Track.CURRENT))
    return {variant.python: variant for variant in roots}


def decisions(
    project: Project,
    packages: Packages,
    python: str = "",
    channels: Mapping[str, tuple[str, ...]] | None = None,
) -> Decisions:
    """What a specification is read with: `python` and `channels` are those of the options.

    Raises UserError for a Python that no image can have.
    """
    images = minimal_images(project.variants)
    usual = newest(project.variants, MINIMAL)
    found = Decisions(
        pythons=tuple(images),
        default_python=usual.python if usual is not None else list(images)[-1],
        packages=packages,
        python=python,
        channels=channels or {},
    )
    if python and python not in found.possible:
        raise UserError(f"--python {python}: use one of {', '.join(found.possible)}")
    return found


def from_pypi(environment: Environment) -> Environment:
    """The same environment, with PyPI's packages in place of conda's.

    Raises InputError with every package and option for which that is not clear.
    """
    errors: list[Diagnostic] = []
    notes: list[Diagnostic] = []
    requirements: list[Entry] = []
    for entry in environment.pip:
        requirement = Requirement(entry.text)
        if requirement.url:
            message = f"{requirement.name} is taken from an address, which no lock of versions has"
            hint = "name a version, and put its wheel into an index or a folder of PIP_FIND_LINKS"
            errors.append(entry.diagnostic(message, hint))
        elif canonicalize_name(requirement.name) in _SERVERS:
            notes.append(_left_out(entry))
        else:
            requirements.append(entry)
    for entry in environment.conda:
        found = _requirement(entry)
        if isinstance(found, Diagnostic):
            errors.append(found)
        elif found:
            requirements.append(replace(entry, text=found))
    for option in environment.pip_options:
        if not _NO_EFFECT.fullmatch(option.text) and not _extra_index(option):
            message = f"{option} is not taken from a specification: it is a setting of this host"
            hint = "remove it, and set it in pip's configuration where it is needed"
            errors.append(option.diagnostic(message, hint))
    for name, value in environment.variables.items():
        if not value.isprintable():
            message = f"the value of {name} has a character that a Dockerfile cannot hold"
            errors.append(Diagnostic(environment.file, 0, 0, "variables", message))
    if errors:
        raise InputError(errors)
    return replace(
        environment,
        channels=(),
        conda=(),
        # In an order of their own: its name does not depend on that of the file.
        pip=tuple(sorted(requirements, key=str)),
        notes=(*environment.notes, *notes),
    )


def _extra_index(option: Entry) -> str:
    """The URL of an index that is asked besides that of the host; empty for other options."""
    name, _, url = option.text.replace("=", " ", 1).partition(" ")
    is_url = re.fullmatch(r"https?://\S+", url.strip()) is not None
    return url.strip().rstrip("/") if name == "--extra-index-url" and is_url else ""


def without_server(environment: Environment) -> Environment:
    """The same environment without what pip would install of another server, with a note of it."""
    servers = [
        e for e in environment.pip if canonicalize_name(Requirement(e.text).name) in _SERVERS
    ]
    return replace(
        environment,
        pip=tuple(entry for entry in environment.pip if entry not in servers),
        notes=(*environment.notes, *map(_left_out, servers)),
    )


def _left_out(entry: Entry) -> Diagnostic:
    message = f"{entry} is left out: the image has a server of its own"
    hint = "name azureml-core where the script imports azureml.core"
    return entry.diagnostic(message, hint)


def _requirement(entry: Entry) -> str | Diagnostic:
    """The requirement for a conda package, empty for what the image has of its own."""
    hint = "`--packages conda` takes it from its channel"
    try:
        spec = parse_match_spec(entry.text)
    except ValueError as error:
        return entry.diagnostic(str(error))
    if spec.name in _IN_THE_IMAGE:
        return ""
    if spec.channel or spec.build or spec.url:
        return entry.diagnostic(f"{entry} names a channel, a build or an address of conda", hint)
    if spec.name not in _SAME_NAME.split() and spec.name not in _OTHER_NAME:
        message = f"it is not known which project of PyPI is conda's {spec.name}"
        return entry.diagnostic(message, f"name it under `pip:`, or {hint}")
    alternatives = spec.specifiers
    if alternatives is None or len(alternatives) > 1:
        return entry.diagnostic(f"PyPI has no form for the versions of {entry}", hint)
    return _OTHER_NAME.get(spec.name, spec.name) + "".join(map(str, alternatives))


def environment_variant(project: Project, environment: Environment) -> Variant:
    """The image of an environment, which comes from `from_pypi`."""
    parent = minimal_images(project.variants)[environment.series]
    name = name_of(environment)
    cell = project.matrix.by_folder[parent.folder.name]
    indexes = " ".join(filter(None, map(_extra_index, environment.pip_options)))
    return replace(
        parent,
        name=name,
        folder=ENVIRONMENTS / name,
        framework=ENVIRONMENT,
        title="Environment",
        version=None,
        pins=tuple(entry.text for entry in environment.pip),
        slim=project.slim.rules_of(replace(cell, framework=ENVIRONMENT)),
        environment=tuple(environment.variables.items()),
        index=Index("specification", indexes, ()) if indexes else None,
        parent=parent.name,
    )


def environment_lock(
    project: Project,
    variant: Variant,
    environment: Environment,
    host: HostConfig,
    *,
    upgrade: bool = False,
) -> str:
    """The text of the lock of an environment.

    The present lock stays as long as it has the packages of the parent, unless `upgrade` is set:
    then no index is asked. Raises WorkError where there is no solution, where an index cannot be
    reached, and for a hash that the specification does not admit.
    """
    path = project.root / variant.lock
    if not upgrade and path.is_file():
        text = path.read_text(encoding="utf-8")
        if _has_all(_parsed(text, variant), project.locks[str(variant.parent)]):
            return text
    say(f"Resolving {variant.name} …")
    constraints = [entry.text for entry in environment.constraints]
    try:
        text = resolved_lock(project.root, variant, host, None if upgrade else path, constraints)
    except WorkError as error:
        problem = why_unreachable(f"{host.index_url.rstrip('/')}/pip/", host.ca_bundle)
        # An index that answers need not have that page.
        if problem.startswith("cannot be reached"):
            raise WorkError(f"{variant.name} is unavailable: the index {problem}") from None
        for url in variant.index.urls if variant.index else ():
            if problem := why_unreachable(f"{url}/", host.ca_bundle):
                raise WorkError(f"{variant.name} is unavailable: {url} {problem}") from None
        raise WorkError(f"{error}{_hint(str(error), variant, project)}") from None
    return _admitted(text, variant, environment)


def _hint(error: str, variant: Variant, project: Project) -> str:
    """What can be done about an error of uv."""
    hints = []
    if "no usable wheels" in error:
        others = ", ".join(name for name in minimal_images(project.variants))
        hints.append(
            f"Only wheels are installed: admit another version, another Python (--python: {others})"
            " or take it from conda (--packages conda)."
        )
    for name, package in project.locks[str(variant.parent)].items():
        if f"{name}=={package.version}" in error:
            hints.append(f"{variant.parent}, which it is based on, has {name} {package.version}.")
    return "".join(f"\n  {hint}" for hint in hints)


def _parsed(text: str, variant: Variant) -> Lock:
    return parse_lock(text, variant.lock)


def _has_all(lock: Lock, parent: Lock) -> bool:
    return all(
        name in lock and lock[name].version == package.version for name, package in parent.items()
    )


def _admitted(text: str, variant: Variant, environment: Environment) -> str:
    """The lock with those hashes alone that the specification admits, where it names any."""
    lock, problems = _parsed(text, variant), []
    for requirement, hashes in environment.hashes.items():
        name = canonicalize_name(Requirement(requirement).name)
        if name not in lock:
            continue
        named = {text.rpartition(":")[2] for text in hashes}
        if not named & lock[name].sha256:
            problems.append(
                f"{requirement}: the specification admits sha256 {_listing(named)}, and the index"
                f" has {_listing(lock[name].sha256)}"
            )
        text = "".join(_without_other_hashes(text, name, named))
    if problems:
        raise WorkError("hashes differ; nothing was changed\n" + "\n".join(problems))
    return text


def _listing(hashes: Iterable[str]) -> str:
    first, *rest = sorted(hashes)
    return f"{first} and {len(rest)} more" if rest else first


_PACKAGE = re.compile(r"^(?=[A-Za-z0-9])", re.MULTILINE)


def _without_other_hashes(text: str, name: str, hashes: set[str]) -> Iterator[str]:
    for block in _PACKAGE.split(text):
        if canonicalize_name(block.partition("==")[0]) != name:
            yield block
            continue
        pin, *rest = re.split(r" \\\n\s+--hash=sha256:", block)
        last, newline, comment = rest[-1].partition("\n")
        kept = [one for one in (*rest[:-1], last) if one in hashes]
        lines = [pin, *(f"    --hash=sha256:{one}" for one in kept)]
        yield " \\\n".join(lines) + newline + comment
