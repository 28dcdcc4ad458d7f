"""What users bring: a conda specification, requirements, or an inference configuration.

The formats and their sources are in `conda_file`, `requirements` and `inference_config`.
"""

import hashlib
import json
from dataclasses import replace
from pathlib import Path, PurePath
from typing import Any

import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from imagematrix.environments.deployment_file import read_deployment_into
from imagematrix.environments.entries import Entry, Findings
from imagematrix.environments.environment_file import read_into
from imagematrix.environments.matchspec import parse_match_spec
from imagematrix.environments.model import Decisions, Deployment, Environment, Packages, Registry
from imagematrix.files import Reader, read_bytes

__all__ = [
    "Decisions",
    "Deployment",
    "Entry",
    "Environment",
    "Packages",
    "Registry",
    "content_of",
    "mutated_specification",
    "name_of",
    "read_deployment",
    "read_environment",
]


def read_environment(
    path: Path, decisions: Decisions, *, shown_as: PurePath | None = None, read: Reader = read_bytes
) -> Environment:
    """The environment of an env.yml (*.yml, *.yaml) or of requirements (*.txt).

    `shown_as` is the path that messages name, `path` if left out. Raises InputError with every
    error of the file, and of those that it includes, at once.
    """
    findings = Findings()
    environment = read_into(path, shown_as or path, decisions, findings, read)
    findings.raise_errors()
    if environment is None:  # pragma: no cover
        raise AssertionError(f"{path} has neither an environment nor an error")
    return replace(environment, notes=tuple(findings.notes))


def read_deployment(
    path: Path, decisions: Decisions, *, shown_as: PurePath | None = None, read: Reader = read_bytes
) -> Deployment:
    """The deployment of an inferenceconfig.json; its script, conda file and Docker steps are read
    and checked as well.

    Raises InputError with every error of all these files at once.
    """
    findings = Findings()
    deployment = read_deployment_into(path, shown_as or path, decisions, findings, read)
    findings.raise_errors()
    if deployment is None:  # pragma: no cover
        raise AssertionError(f"{path} has neither a deployment nor an error")
    return replace(deployment, notes=tuple(findings.notes))


def content_of(environment: Environment) -> str:
    """The environment in a normal form: the same text for files that ask for the same, whatever
    their comments, the order of their keys and packages, and their own name."""
    content = {
        "python": [environment.series, environment.python],
        "channels": [entry.text for entry in environment.channels],
        "conda": sorted(str(parse_match_spec(entry.text)) for entry in environment.conda),
        "pip": sorted(map(_normal_requirement, environment.pip)),
        "constraints": sorted(map(_normal_requirement, environment.constraints)),
        "options": [entry.text for entry in environment.pip_options],
        "hashes": {text: sorted(found) for text, found in environment.hashes.items()},
        "variables": dict(environment.variables),
    }
    return json.dumps(content, sort_keys=True)


def name_of(environment: Environment) -> str:
    """`azureml_` and a hash of the content: the name of the image and of the conda environment."""
    digest = hashlib.sha256(content_of(environment).encode("utf-8", "surrogatepass")).hexdigest()
    return f"azureml_{digest[:32]}"


def mutated_specification(environment: Environment) -> str:
    """The text of `mutated_conda_dependencies.yml`: the specification that was used, named as the
    image. Constraints, for which a conda specification has no place, are comments."""
    pip = [entry.text for entry in environment.pip_options]
    for entry in environment.pip:
        hashes = environment.hashes.get(entry.text, ())
        pip.append(" ".join([entry.text, *(f"--hash={digest}" for digest in hashes)]))
    conda: list[Any] = [entry.text for entry in environment.conda]
    if not any(parse_match_spec(text).name == "python" for text in conda):
        conda.insert(0, f"python={environment.series}")
    content: dict[str, Any] = {
        "channels": [entry.text for entry in environment.channels],
        "dependencies": [*conda, *([{"pip": pip}] if pip else [])],
        "name": name_of(environment),
    }
    if environment.variables:
        content["variables"] = dict(environment.variables)
    comments = "".join(f"# constraint: {entry.text}\n" for entry in environment.constraints)
    text: str = yaml.safe_dump(content, sort_keys=True, allow_unicode=True, width=10_000)
    return comments + text


def _normal_requirement(entry: Entry) -> str:
    requirement = Requirement(entry.text)
    requirement.name = canonicalize_name(requirement.name)
    return str(requirement)
