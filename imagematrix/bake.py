"""The file that `docker buildx bake` builds a plan from.

Format: https://docs.docker.com/build/bake/reference/ (its JSON form). Paths are relative to the
repository.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from imagematrix.keys import base_references
from imagematrix.plan import Action, Step


@dataclass(frozen=True)
class BuildEnvironment:
    """What the builds of one machine are given, none of which stays in an image.

    `base_sources` maps a base image to the local image that stands in for it. `secrets` are bake's
    secret options by id, `image_secrets` more of them by image; `wheel_folders` maps an image to a
    folder of wheels for it. `proxies` are the names of the environment's proxy variables.
    """

    base_sources: Mapping[str, str] = field(default_factory=dict)
    secrets: tuple[str, ...] = ()
    image_secrets: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    wheel_folders: Mapping[str, str] = field(default_factory=dict)
    proxies: tuple[str, ...] = ()
    uncompressed: bool = False


def bake_file(steps: Sequence[Step], environment: BuildEnvironment) -> dict[str, Any]:
    """One target for each image that is to be built, all in the group `default`.

    An image whose parent is built in the same run waits for it; else the local parent is used.
    """
    building = [step for step in steps if step.action is Action.BUILD]
    names = {step.variant.name for step in building}
    targets = {
        target_name(step.variant.name): _target(step, names, environment) for step in building
    }
    definition: dict[str, Any] = {
        "group": {"default": {"targets": sorted(targets)}},
        "target": targets,
    }
    if environment.proxies:
        definition["variable"] = {name: {"default": ""} for name in environment.proxies}
    return definition


def target_name(image: str) -> str:
    """The name of an image's target, in which bake admits no dot."""
    return image.replace(".", "_")


def image_tag(name: str) -> str:
    """The local tag of an image."""
    return f"{name}:latest"


def _target(step: Step, building: set[str], environment: BuildEnvironment) -> dict[str, Any]:
    variant = step.variant
    contexts = {
        reference: f"docker-image://{environment.base_sources[reference]}"
        for reference in base_references(variant)
        if environment.base_sources.get(reference, reference) != reference
    }
    if variant.parent in building:
        contexts[variant.parent] = f"target:{target_name(variant.parent)}"
    elif variant.parent is not None:
        contexts[variant.parent] = f"docker-image://{image_tag(variant.parent)}"
    if variant.name in environment.wheel_folders:
        contexts["wheels"] = environment.wheel_folders[variant.name]
    compression = ",compression=uncompressed" if environment.uncompressed else ""
    return {
        "context": str(variant.context),
        "dockerfile": str(variant.dockerfile.relative_to(variant.context)),
        "contexts": contexts,
        "tags": [image_tag(variant.name)],
        "labels": step.content.labels,
        # Their values come from the environment, and BuildKit keeps these names out of the history.
        "args": {name: f"${{{name}}}" for name in environment.proxies},
        "secret": [*environment.secrets, *environment.image_secrets.get(variant.name, ())],
        "attest": ["type=provenance,disabled=true"],
        "output": [f"type=docker{compression}"],
    }
