"""Bake files for `docker buildx bake`: one for a plan, and the committed one.

Format: https://docs.docker.com/build/bake/reference/ (its JSON form). Paths are relative to the
repository.
"""

import csv
import io
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from imagematrix.matrix.platforms import EPOCH, PLATFORM
from imagematrix.matrix.schema import Suite
from imagematrix.matrix.selection import Selection, select
from imagematrix.matrix.variant import Variant
from imagematrix.plan.content import PYTHON_LABEL, REVISION_LABEL, SOURCE_LABEL
from imagematrix.plan.plan import Action, Step

# The tools image, whose programs builds use and no image keeps; its Dockerfile and its release.
TOOLS = "inference-tools"
TOOLS_DOCKERFILE = PurePosixPath("base/tools/Dockerfile")
TOOLS_SUITE = Suite.TRIXIE
LATEST = "latest"
# The prefix of a context that is an image of the engine.
LOCAL_IMAGE = "docker-image://"


@dataclass(frozen=True)
class BuildEnvironment:
    """The settings of this machine for builds. None but the last three stays in an image.

    `base_sources` maps a base image to the local image that replaces it. `secrets` are bake's
    options for secrets; `suite_secrets` are more of them by Debian release, `image_secrets` by
    image. `wheel_folders` maps an image to a folder of wheels for it. `proxies` are the names of
    the environment's proxy variables.
    With `names_bases`, base images that are not replaced are local images too.
    `cache_from` and `cache_to` are `host/namespace` of a registry with the cache of each image.
    `tag` is that of the images to build and of their parents. `image_labels` are labels of an image
    that are no part of its content key.
    `python_versions` has CPython's full version by base image. `source` and `revision` are the URL
    of the repository and the commit of its files, empty where they are not known.
    """

    base_sources: Mapping[str, str] = field(default_factory=dict)
    secrets: tuple[str, ...] = ()
    suite_secrets: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    image_secrets: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    wheel_folders: Mapping[str, str] = field(default_factory=dict)
    proxies: tuple[str, ...] = ()
    uncompressed: bool = False
    names_bases: bool = False
    cache_from: str = ""
    cache_to: str = ""
    tag: str = LATEST
    python_versions: Mapping[str, str] = field(default_factory=dict)
    source: str = ""
    revision: str = ""
    image_labels: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


def bake_file(steps: Sequence[Step], environment: BuildEnvironment) -> dict[str, Any]:
    """The bake file for the images that a plan builds.

    An image is based on the target of its parent if that is built in the same run, else on the
    local image.
    """
    building = [step for step in steps if step.action is Action.BUILD]
    definition = _definition([step.variant for step in building], environment)
    for step in building:
        target = definition["target"][target_name(step.variant.name)]
        target["labels"] = step.content.labels | _build_labels(step.variant, environment)
        if step.no_cache:
            target["no-cache"] = True
            if step.variant.parent is None:
                definition["target"][step.variant.system_image]["no-cache"] = True
    definition["group"] = {"default": {"targets": sorted(definition["target"])}}
    if environment.proxies:
        definition["variable"] = {name: {"default": ""} for name in environment.proxies}
    return definition


def _build_labels(variant: Variant, environment: BuildEnvironment) -> dict[str, str]:
    """The labels that are no part of the content key, which is the same for commits that change
    nothing of an image."""
    labels = {SOURCE_LABEL: environment.source, REVISION_LABEL: environment.revision}
    own = environment.image_labels.get(variant.name, {})
    labels |= {name: _literal(value) for name, value in own.items()}
    if variant.parent is None:
        labels[PYTHON_LABEL] = environment.python_versions.get(variant.python_image, "")
        return {name: value for name, value in labels.items() if value}
    # Its CPython is its parent's, its commit is not: an empty label hides the parent's.
    return labels


def committed_bake_file(variants: Sequence[Variant]) -> dict[str, Any]:
    """The bake file for people without these tools: every image, on official base images, without
    the labels that record its content. Its group `default` has the current CPU images.
    """
    definition = _definition(variants, BuildEnvironment())
    default = [target_name(variant.name) for variant in select(variants, Selection())]
    return {"group": {"default": {"targets": sorted(default)}}, **definition}


def _definition(variants: Sequence[Variant], environment: BuildEnvironment) -> dict[str, Any]:
    """A target for each image, for the tools image, and for the system images that the images
    without a parent are based on."""
    names = {variant.name for variant in variants}
    targets = {target_name(v.name): _image_target(v, names, environment) for v in variants}
    if variants:
        targets[TOOLS] = _tools_target(environment)
    for variant in variants:
        if variant.parent is None:
            targets[variant.system_image] = _system_target(variant, environment)
    return {"target": targets}


@dataclass(frozen=True)
class OtherImage:
    """An image that is none of the matrix: its name with a tag, its build context and Dockerfile
    (paths of this host), and its named contexts. `bases` are references of base images that local
    ones may replace, `secrets` are bake's options, `suite` is the Debian release whose mirrors it
    gets. With `tools` it uses the tools image."""

    image: str
    context: str
    dockerfile: str
    contexts: Mapping[str, str] = field(default_factory=dict)
    bases: tuple[str, ...] = ()
    secrets: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    suite: Suite = TOOLS_SUITE
    tools: bool = False


def other_image(wanted: OtherImage, environment: BuildEnvironment) -> dict[str, Any]:
    """The bake file for one image that is none of the matrix."""
    named = {name: _literal(context) for name, context in wanted.contexts.items()}
    compression = ",compression=uncompressed" if environment.uncompressed else ""
    target = _common(wanted.suite, environment) | {
        "context": _literal(wanted.context),
        "dockerfile": _literal(wanted.dockerfile),
        "contexts": {**_replaced_bases(wanted.bases, environment), **named},
        "tags": [wanted.image],
        "labels": {name: _literal(value) for name, value in wanted.labels.items()},
        "output": [f"type=docker{compression}"],
    }
    target["secret"] += wanted.secrets
    targets = {"image": target}
    if wanted.tools:
        target["contexts"][TOOLS] = f"target:{TOOLS}"
        targets[TOOLS] = _tools_target(environment)
    definition: dict[str, Any] = {"target": targets, "group": {"default": {"targets": ["image"]}}}
    if environment.proxies:
        definition["variable"] = {name: {"default": ""} for name in environment.proxies}
    return definition


def targets_of(steps: Sequence[Step]) -> dict[str, tuple[str, ...]]:
    """The images that need each target of the bake file: what cannot be built if it fails."""
    building = [step.variant for step in steps if step.action is Action.BUILD]
    targets: dict[str, tuple[str, ...]] = {target_name(v.name): (v.name,) for v in building}
    if building:
        targets[TOOLS] = tuple(variant.name for variant in building)
    for variant in building:
        if variant.parent is None:
            system = variant.system_image
            targets[system] = (*targets.get(system, ()), variant.name)
    return targets


def target_name(image: str) -> str:
    """The name of an image's target; bake admits no dot in it."""
    return image.replace(".", "_")


def image_tag(name: str, tag: str = LATEST) -> str:
    """The local name of an image."""
    return f"{name}:{tag}"


def file_secret(name: str, path: str) -> str:
    """Bake's option for a secret that is a file of this host."""
    return _csv_row([f"id={name}", "src=" + _literal(path)])


def _literal(text: str) -> str:
    """A text as bake reads it: it expands ${…} and %{…} in its strings."""
    return text.replace("${", "$${").replace("%{", "%%{")


def _plain(text: str) -> str:
    """The text that bake reads."""
    return text.replace("$${", "${").replace("%%{", "%{")


def _csv_row(fields: Sequence[str]) -> str:
    row = io.StringIO()
    csv.writer(row, lineterminator="").writerow(fields)
    return row.getvalue()


def local_paths(definition: Mapping[str, Any]) -> tuple[str, ...]:
    """The files and folders of this host that a bake file names, each once."""
    found: dict[str, None] = {}
    for target in definition["target"].values():
        contexts = [target.get("context", ""), *target.get("contexts", {}).values()]
        found |= {_plain(path): None for path in contexts if path and not _is_url(path)}
        # Others are in the context.
        if (dockerfile := _plain(target.get("dockerfile", ""))).startswith("/"):
            found[dockerfile] = None
        for part in (part for row in csv.reader(target.get("secret", [])) for part in row):
            if part.startswith("src="):
                found[_plain(part.removeprefix("src="))] = None
    return tuple(found)


def _is_url(context: str) -> bool:
    return "://" in context or context.startswith("target:")


def local_images(definition: Mapping[str, Any]) -> tuple[str, ...]:
    """The images of the engine that a bake file names, each once."""
    contexts = (c for t in definition["target"].values() for c in t.get("contexts", {}).values())
    named = (context for context in contexts if context.startswith(LOCAL_IMAGE))
    return tuple(dict.fromkeys(context.removeprefix(LOCAL_IMAGE) for context in named))


def with_contexts(definition: Mapping[str, Any], instead: Mapping[str, str]) -> dict[str, Any]:
    """A copy of a bake file with the contexts that are keys of `instead` replaced."""
    targets = {}
    for name, target in definition["target"].items():
        contexts = {key: instead.get(c, c) for key, c in target.get("contexts", {}).items()}
        targets[name] = {**target, "contexts": contexts}
    return {**definition, "target": targets}


def _tools_target(environment: BuildEnvironment) -> dict[str, Any]:
    return {
        **_common(TOOLS_SUITE, environment),
        "context": str(TOOLS_DOCKERFILE.parent),
        "contexts": _replaced_bases([TOOLS_SUITE.debian_image], environment),
        # Other targets mount it; it becomes no image of the engine.
        "output": ["type=cacheonly"],
    }


def _system_target(variant: Variant, environment: BuildEnvironment) -> dict[str, Any]:
    return {
        **_common(variant.suite, environment),
        "context": str(variant.context),
        "dockerfile": str(variant.system_dockerfile.relative_to(variant.context)),
        "contexts": _replaced_bases([variant.debian_image], environment),
        "output": ["type=cacheonly"],
    }


def _common(suite: Suite, environment: BuildEnvironment) -> dict[str, Any]:
    """The part that all targets on a Debian release share."""
    return {
        # The values of proxies come from the environment. BuildKit keeps all of these arguments out
        # of the history.
        "args": {"SOURCE_DATE_EPOCH": str(EPOCH)}
        | {name: f"${{{name}}}" for name in environment.proxies},
        "secret": [*environment.secrets, *environment.suite_secrets.get(suite, ())],
        "attest": ["type=provenance,disabled=true"],
        "platforms": [PLATFORM],
    }


def _replaced_bases(references: Iterable[str], environment: BuildEnvironment) -> dict[str, str]:
    """The contexts that replace base images by local images."""
    sources = environment.base_sources
    return {
        reference: f"{LOCAL_IMAGE}{sources[reference]}"
        for reference in references
        if reference in sources and (sources[reference] != reference or environment.names_bases)
    }


def _cache_of(image: str, where: str) -> str:
    """BuildKit's option for the cache of an image in a registry."""
    return f"type=registry,ref={where}/{image}:buildcache"


def _image_context(image: str, building: Collection[str], environment: BuildEnvironment) -> str:
    """The context that is another image: the target that builds it, or the local image."""
    if image in building:
        return f"target:{target_name(image)}"
    return f"{LOCAL_IMAGE}{image_tag(image, environment.tag)}"


def _image_target(
    variant: Variant, building: Collection[str], environment: BuildEnvironment
) -> dict[str, Any]:
    bases = variant.base_images if variant.parent else (variant.python_image,)
    if variant.is_environment:
        # BuildKit looks at the bases of its stages for the tools, which it does not build.
        bases = (*bases, TOOLS_SUITE.debian_image)
    contexts = {TOOLS: f"target:{TOOLS}", **_replaced_bases(bases, environment)}
    if variant.parent is None:
        contexts[variant.system_image] = f"target:{variant.system_image}"
    else:
        contexts[variant.parent] = _image_context(variant.parent, building, environment)
    if variant.conda is not None:
        used = variant.conda.builder
        contexts[used] = _image_context(used, building, environment)
    if variant.name in environment.wheel_folders:
        contexts["wheels"] = environment.wheel_folders[variant.name]
    compression = ",compression=uncompressed" if environment.uncompressed else ""
    target = _common(variant.suite, environment)
    target["secret"] += environment.image_secrets.get(variant.name, ())
    # mode=max caches every stage: in most images, the last one only copies.
    if where := environment.cache_to:
        target["cache-to"] = [f"{_cache_of(variant.name, where)},mode=max"]
    if where := environment.cache_from:
        target["cache-from"] = [_cache_of(variant.name, where)]
    return target | {
        "context": str(variant.context),
        "dockerfile": str(variant.dockerfile.relative_to(variant.context)),
        "contexts": contexts,
        "tags": [image_tag(variant.name, environment.tag)],
        "output": [f"type=docker{compression}"],
    }
