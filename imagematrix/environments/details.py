"""What an image of an environment says of how it was made.

The keys are those of Azure's `Environment.get_image_details`
(https://learn.microsoft.com/python/api/azureml-core/azureml.core.environment.dockerimagedetails).
The details are a label of the image, not a file in it: a label is part of the config, which a
registry gives without the layers, and `docker inspect` shows it. A Dockerfile could not set it,
because its own text is in it: so the build does.
"""

import json
from collections.abc import Mapping
from typing import Any

from imagematrix.errors import UserError

DETAILS_LABEL = "inference.environment-details"
PYTHON = "/usr/local/bin/python3"

Details = dict[str, Any]


def image_details(
    name: str,
    dockerfile: str,
    specification: str,
    *,
    python: str = PYTHON,
    conda_path: str | None = None,
) -> Details:
    """The details of an environment's image.

    `specification` is the text of its `mutated_conda_dependencies.yml`, `python` the path of its
    interpreter, `conda_path` that of its conda environment, None without one.
    """
    return {
        "name": name,
        "imageExistsInRegistry": False,
        "dockerImage": {
            "name": name,
            "registry": {"address": None, "username": None, "password": None},
        },
        "pythonEnvironment": {
            "interpreterPath": python,
            "condaEnvironmentName": name if conda_path else None,
            "condaEnvironmentPath": conda_path,
        },
        "ingredients": {"dockerfile": dockerfile, "condaDependencies": specification},
    }


def details_text(details: Details) -> str:
    """The details as the text of a file."""
    return json.dumps(details, indent=2, ensure_ascii=False) + "\n"


def details_label(details: Details) -> dict[str, str]:
    """The details as a label."""
    return {DETAILS_LABEL: json.dumps(details, separators=(",", ":"), ensure_ascii=False)}


def details_of(image: str, labels: Mapping[str, str], registry: str | None = None) -> Details:
    """The details in the labels of an image, which comes from a registry where one is given.

    Raises UserError for an image that has none.
    """
    try:
        details = json.loads(labels[DETAILS_LABEL])
        if registry is not None:
            details["imageExistsInRegistry"] = True
            details["dockerImage"]["registry"]["address"] = registry
            details["dockerImage"]["name"] = image.partition("/")[2]
    except (KeyError, TypeError, ValueError):
        raise UserError(
            f"{image} does not say how it was made: only `nox -s environment` puts that into an"
            " image. For one that `docker build` made, it is in details.json, beside the Dockerfile"
        ) from None
    if not isinstance(details, dict):
        raise UserError(f"the label {DETAILS_LABEL} of {image} has another form")
    return details
