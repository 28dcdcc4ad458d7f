"""The file that `docker buildx bake` builds a plan from.

Format: https://docs.docker.com/build/bake/reference/ (its JSON form). Paths are relative to the
repository.
"""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from imagematrix.matrix.platforms import PLATFORM
from imagematrix.matrix.variant import Variant
from imagematrix.plan.plan import Action, Step

# The stages of base/install.j2 that hold uv, and `strip`.
INSTALLER = "installer"
BINUTILS = "binutils"
# Before the name of an image, where a context is one that the engine has.
LOCAL_IMAGE = "docker-image://"


@dataclass(frozen=True)
class BuildEnvironment:
    """What the builds of one machine are given, none of which stays in an image.

    `base_sources` maps a base image to the local image that stands in for it. `secrets` are bake's
    secret options by id, `image_secrets` more of them by image; `wheel_folders` maps an image to a
    folder of wheels for it. `proxies` are the names of the environment's proxy variables.
    With `names_bases`, the builds are given the local image of each base under its own name too.
    `cache_from` and `cache_to` are `host/namespace` of a registry with the cache of each image.
    """

    base_sources: Mapping[str, str] = field(default_factory=dict)
    secrets: tuple[str, ...] = ()
    image_secrets: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    wheel_folders: Mapping[str, str] = field(default_factory=dict)
    proxies: tuple[str, ...] = ()
    uncompressed: bool = False
    names_bases: bool = False
    cache_from: str = ""
    cache_to: str = ""


def bake_file(
    steps: Sequence[Step], environment: BuildEnvironment, *, share: bool = True
) -> dict[str, Any]:
    """One target for each image that is to be built, all in the group `default`, and one for each
    stage that they share, if they are to.

    An image whose parent is built in the same run waits for it; else the local parent is used.
    """
    building = [step for step in steps if step.action is Action.BUILD]
    names = {step.variant.name for step in building}
    targets = {
        target_name(step.variant.name): _target(step, names, environment) for step in building
    }
    stages: dict[str, dict[str, Any]] = {}
    for stage in shared_stages(steps, share):
        stages[stage.target] = _stage_target(stage, targets[target_name(stage.maker)], environment)
        for name in stage.takers:
            targets[target_name(name)]["contexts"][stage.name] = f"target:{stage.target}"
    targets |= stages
    # A stage that the group does not name would become an image without a name after all:
    # https://github.com/docker/buildx/issues/2580
    definition: dict[str, Any] = {
        "group": {"default": {"targets": sorted(targets)}},
        "target": targets,
    }
    if environment.proxies:
        definition["variable"] = {name: {"default": ""} for name in environment.proxies}
    return definition


@dataclass(frozen=True)
class SharedStage:
    """A stage that Dockerfiles have in common, and that is made once: from that of the image
    `maker`, for the images `takers`, whose builds are given it under the stage's name.

    One that can do without the parent starts from `base` instead, and waits for nothing.
    """

    name: str
    maker: str
    takers: tuple[str, ...]
    base: str | None = None

    @property
    def target(self) -> str:
        """The name of the bake target that makes it."""
        return f"{target_name(self.maker)}-{self.name}"


def shared_stages(steps: Sequence[Step], share: bool = True) -> tuple[SharedStage, ...]:
    """The stages that images of one run have in common. What is in them is the same under every
    Python, but programs of one Debian release need its C library.

    Without `share`, none that stands on one of the images: whose it is that fails is not told.
    """
    building = [step.variant for step in steps if step.action is Action.BUILD]
    stages = []
    for suite in dict.fromkeys(variant.suite for variant in building):
        images = [variant for variant in building if variant.suite == suite]
        if share and len(images) > 1:
            stages.append(SharedStage(INSTALLER, images[0].name, _names(images)))
        if stripped := [variant for variant in images if variant.strip]:
            maker = stripped[0]
            base = maker.debian_image
            stages.append(SharedStage(BINUTILS, maker.name, _names(stripped), base))
    return tuple(stages)


def _names(variants: Iterable[Variant]) -> tuple[str, ...]:
    return tuple(variant.name for variant in variants)


def target_images(steps: Sequence[Step], *, share: bool = True) -> dict[str, str]:
    """The image that each target of the bake file is for; a shared stage is for its maker."""
    images = {
        target_name(step.variant.name): step.variant.name
        for step in steps
        if step.action is Action.BUILD
    }
    return images | {stage.target: stage.maker for stage in shared_stages(steps, share)}


def target_name(image: str) -> str:
    """The name of an image's target, in which bake admits no dot."""
    return image.replace(".", "_")


def image_tag(name: str) -> str:
    """The local tag of an image."""
    return f"{name}:latest"


def file_secret(name: str, path: str) -> str:
    """Bake's option for a secret that is a file of this host."""
    # Bake takes ${…} and %{…} in its strings for templates.
    return _csv_row([f"id={name}", "src=" + path.replace("${", "$${").replace("%{", "%%{")])


def _csv_row(fields: Sequence[str]) -> str:
    row = io.StringIO()
    csv.writer(row, lineterminator="").writerow(fields)
    return row.getvalue()


def local_paths(definition: Mapping[str, Any]) -> tuple[str, ...]:
    """The files and folders of this host that a bake file names, each once."""
    found: dict[str, None] = {}
    for target in definition["target"].values():
        contexts = [target.get("context", ""), *target.get("contexts", {}).values()]
        found |= dict.fromkeys(path for path in contexts if path and not _is_url(path))
        for part in (part for row in csv.reader(target.get("secret", [])) for part in row):
            if part.startswith("src="):
                path = part.removeprefix("src=").replace("$${", "${").replace("%%{", "%{")
                found[path] = None
    return tuple(found)


def _is_url(context: str) -> bool:
    return "://" in context or context.startswith("target:")


def local_images(definition: Mapping[str, Any]) -> tuple[str, ...]:
    """The images of the engine that a bake file names, each once."""
    contexts = (c for t in definition["target"].values() for c in t.get("contexts", {}).values())
    named = (context for context in contexts if context.startswith(LOCAL_IMAGE))
    return tuple(dict.fromkeys(context.removeprefix(LOCAL_IMAGE) for context in named))


def with_contexts(definition: Mapping[str, Any], instead: Mapping[str, str]) -> dict[str, Any]:
    """A bake file with other contexts in the place of those of `instead`."""
    targets = {}
    for name, target in definition["target"].items():
        contexts = {key: instead.get(c, c) for key, c in target.get("contexts", {}).items()}
        targets[name] = {**target, "contexts": contexts}
    return {**definition, "target": targets}


def _stage_target(
    stage: SharedStage, maker: Mapping[str, Any], environment: BuildEnvironment
) -> dict[str, Any]:
    contexts, args = maker["contexts"], maker["args"]
    if stage.base is not None:
        contexts = _stand_ins([stage.base], environment)
        args = args | {"BASE_IMAGE": stage.base}
    given = {key: maker[key] for key in ("context", "dockerfile", "secret", "attest", "platforms")}
    # Its content goes to the builds that name it, and nowhere else.
    output = ["type=cacheonly"]
    return given | {
        "target": stage.name, "contexts": dict(contexts), "args": args, "output": output
    }  # fmt: skip


def _stand_ins(references: Iterable[str], environment: BuildEnvironment) -> dict[str, str]:
    """The contexts that put local images in the place of base images."""
    sources = environment.base_sources
    return {
        reference: f"{LOCAL_IMAGE}{sources[reference]}"
        for reference in references
        if reference in sources and (sources[reference] != reference or environment.names_bases)
    }


def _cache_of(image: str, where: str) -> str:
    """BuildKit's option for the cache of an image in a registry."""
    return f"type=registry,ref={where}/{image}:buildcache"


def _target(step: Step, building: set[str], environment: BuildEnvironment) -> dict[str, Any]:
    variant = step.variant
    contexts = _stand_ins(variant.base_images, environment)
    if variant.parent in building:
        contexts[variant.parent] = f"target:{target_name(variant.parent)}"
    elif variant.parent is not None:
        contexts[variant.parent] = f"{LOCAL_IMAGE}{image_tag(variant.parent)}"
    if variant.name in environment.wheel_folders:
        contexts["wheels"] = environment.wheel_folders[variant.name]
    compression = ",compression=uncompressed" if environment.uncompressed else ""
    cache: dict[str, list[str]] = {}
    # All of its stages: the last one of most images is a copy.
    if where := environment.cache_to:
        cache["cache-to"] = [f"{_cache_of(variant.name, where)},mode=max"]
    if where := environment.cache_from:
        cache["cache-from"] = [_cache_of(variant.name, where)]
    return cache | {
        "context": str(variant.context),
        "dockerfile": str(variant.dockerfile.relative_to(variant.context)),
        "contexts": contexts,
        "tags": [image_tag(variant.name)],
        "labels": step.content.labels,
        # Their values come from the environment, and BuildKit keeps these names out of the history.
        "args": {name: f"${{{name}}}" for name in environment.proxies},
        "secret": [*environment.secrets, *environment.image_secrets.get(variant.name, ())],
        "attest": ["type=provenance,disabled=true"],
        "platforms": [PLATFORM],
        "output": [f"type=docker{compression}"],
    }
