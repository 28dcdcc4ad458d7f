"""The base images of all Dockerfiles: Debian and CPython.

`registry` pulls the official ones. `bootstrap` makes replacements where no registry can be reached:
Debian from one of its mirrors with mmdebstrap, CPython from an installation on this host. Both are
kept as local images; bootstrap bases have names and a label of their own and are never published.
"""

import contextlib
import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from imagematrix.console import say
from imagematrix.errors import UserError, WorkError
from imagematrix.host.bootstrap import PYTHON_VARIABLE, bootstrap_name, make_bootstrap_base
from imagematrix.host.buildx import require_buildx
from imagematrix.host.engine import Engine, inspect_images, layers_of
from imagematrix.matrix.platforms import PLATFORM
from imagematrix.matrix.variant import Variant
from imagematrix.plan.bake import TOOLS_SUITE
from imagematrix.plan.content import PYTHON_LABEL, base_ids_from_labels, layers_id

if TYPE_CHECKING:
    import docker


class BaseSource(StrEnum):
    """Where the base images come from."""

    AUTO = "auto"
    REGISTRY = "registry"
    BOOTSTRAP = "bootstrap"


@dataclass(frozen=True)
class Bases:
    """The base images on an engine, by their references in Dockerfiles.

    `images` has the local image of each, `ids` its `layers_id`, `missing` the reason for each that
    is unavailable.
    """

    source: BaseSource
    images: Mapping[str, str]
    ids: Mapping[str, str]
    missing: Mapping[str, str] = field(default_factory=dict)

    def why_unavailable(self, variant: Variant) -> str:
        """Why the image cannot be built with these bases; "" if it can."""
        references = [TOOLS_SUITE.debian_image, *variant.base_images]
        references = [name for name in dict.fromkeys(references) if name in self.missing]
        return "; ".join(self.missing[name] for name in references)


def bases_of(
    client: "docker.DockerClient", variant: Variant, labels: Mapping[str, str]
) -> BaseSource:
    """The source of the bases of an image with these labels: `bootstrap` if the engine still has
    one of them as a bootstrap base, else `registry`."""
    recorded = base_ids_from_labels(variant, labels)
    names = {bootstrap_name(reference): base_id for reference, base_id in recorded.items()}
    present = _layers_ids(inspect_images(client, names))
    bootstrapped = any(base_id == names[name] for name, base_id in present.items())
    return BaseSource.BOOTSTRAP if bootstrapped else BaseSource.REGISTRY


def python_versions(engine: Engine, bases: Bases, variants: Iterable[Variant]) -> dict[str, str]:
    """CPython's full version in the base images of the variants without a parent, by the reference
    in their Dockerfiles. An image that does not have it is left out, with a message."""
    references = dict.fromkeys(v.python_image for v in variants if v.parent is None)
    images = {name: bases.images[name] for name in references if name in bases.images}
    descriptions = engine.inspect(images.values())
    versions = {}
    for reference, image in images.items():
        if image not in descriptions:
            continue
        if version := _python_version(descriptions[image]):
            versions[reference] = version
        else:
            say(
                f"{image} has no {PYTHON_VARIABLE} in its environment, as the official image has:"
                f" images on it get no label {PYTHON_LABEL}."
            )
    return versions


def _python_version(description: Mapping[str, Any]) -> str:
    """CPython's full version in a base image, "" where it does not say it."""
    variables = (item.partition("=") for item in description["Config"].get("Env") or ())
    return next((value for name, _, value in variables if name == PYTHON_VARIABLE), "")


def required_references(variants: Iterable[Variant]) -> tuple[str, ...]:
    """The base images of the variants without a parent, and that of the tools image, each once."""
    roots = [variant.base_images for variant in variants if variant.parent is None]
    tools = [TOOLS_SUITE.debian_image] if roots else []
    return tuple(dict.fromkeys([*itertools.chain(*roots), *tools]))


def ensure_bases(
    engine: Engine, variants: Iterable[Variant], source: BaseSource, *, refresh: bool = False
) -> Bases:
    """Makes sure that the engine has the base images of `variants`, and returns them.

    `auto` uses those that the engine has, else a registry, else bootstrap bases. `refresh` pulls
    (or makes) them again. Unavailable ones are `missing` in the result; if no image can be built
    without them, UserError or WorkError is raised with the reason. For images that CUDA's libraries
    are copied from there is no bootstrap.
    """
    variants = tuple(variants)
    references = required_references(variants)
    bases = _ensure(engine, references, source, refresh)
    roots = [variant for variant in variants if variant.parent is None]
    if roots and all(map(bases.why_unavailable, roots)):
        raise WorkError(bases.why_unavailable(roots[0]))
    cuda_images = {v.cuda_image: v.cuda_image for v in variants if v.cuda_image}
    missing = {
        image: f"its libraries are only in the image {image}, which cannot be pulled ({problem})"
        for image, problem in _pull(engine, cuda_images, refresh).items()
    }
    found = _ids(engine, cuda_images)
    return replace(bases, ids={**bases.ids, **found}, missing={**bases.missing, **missing})


def _ensure(
    engine: Engine, references: tuple[str, ...], source: BaseSource, refresh: bool
) -> Bases:
    official = {reference: reference for reference in references}
    bootstrap = {reference: bootstrap_name(reference) for reference in references}
    if source is BaseSource.AUTO and not refresh:
        for known, images, ids_of in (
            (BaseSource.REGISTRY, official, _ids),
            (BaseSource.BOOTSTRAP, bootstrap, _bootstrap_ids),
        ):
            ids = ids_of(engine, images)
            if ids.keys() == images.keys():
                say(f"Bases: {known}, already here ({', '.join(sorted(images.values()))}).")
                return Bases(known, images, ids)
    # Fail before pulling, which may take minutes: without buildx nothing is built on these bases.
    require_buildx()
    if source in (BaseSource.AUTO, BaseSource.REGISTRY):
        problems = _pull(engine, references, refresh, all_or_none=source is BaseSource.AUTO)
        if not problems or source is BaseSource.REGISTRY:
            pulled = sorted(set(references) - problems.keys())
            say(f"Bases: registry ({', '.join(pulled)}).")
            missing = {
                reference: f"its base image {reference} cannot be pulled ({problem})"
                for reference, problem in problems.items()
            }
            return Bases(BaseSource.REGISTRY, official, _ids(engine, official), missing)
        ((reference, problem),) = problems.items()
        say(f"Bases: bootstrap, because no registry has them ({reference}: {problem}).")
    else:
        say("Bases: bootstrap, as requested.")
    present = {} if refresh else _bootstrap_ids(engine, bootstrap)
    missing = {}
    for reference in references:
        if reference not in present:
            try:
                make_bootstrap_base(engine, reference)
            except UserError as error:
                missing[reference] = f"its base image {reference} cannot be made: {error}"
    return Bases(BaseSource.BOOTSTRAP, bootstrap, _ids(engine, bootstrap), missing)


def _ids(engine: Engine, images: Mapping[str, str]) -> dict[str, str]:
    ids = _layers_ids(engine.inspect(images.values()))
    return {reference: ids[image] for reference, image in images.items() if image in ids}


def _bootstrap_ids(engine: Engine, images: Mapping[str, str]) -> dict[str, str]:
    """Without those that an older version of these tools made, which do not say their CPython."""
    descriptions = engine.inspect(images[name] for name in images if name.startswith("python:"))
    old = {image for image, found in descriptions.items() if not _python_version(found)}
    return _ids(engine, {name: image for name, image in images.items() if image not in old})


def _layers_ids(images: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    return {image: layers_id(layers_of(description)) for image, description in images.items()}


def _pull(
    engine: Engine, images: Iterable[str], refresh: bool, *, all_or_none: bool = False
) -> dict[str, str]:
    """Pulls missing images, or with `refresh` all; returns the reason for each failure. With
    `all_or_none`, no image is tried after the first failure."""
    images = tuple(images)
    present = {} if refresh else engine.inspect(images)
    missing = [image for image in images if image not in present]
    if not missing:
        return {}
    import docker.errors

    problems: dict[str, str] = {}
    for image in missing:
        if problems and all_or_none:
            break
        repository, tag = image.rsplit(":", 1)
        say(f"Pulling {image} …")
        try:
            with contextlib.closing(engine.client()) as client:
                client.api.pull(repository, tag=tag, platform=PLATFORM)
        except (docker.errors.APIError, OSError) as error:
            explanation = getattr(error, "explanation", None) or error
            problems[image] = str(explanation).strip()
    return problems
