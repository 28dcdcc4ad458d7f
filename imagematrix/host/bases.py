"""The images that every Dockerfile of ours starts from: Debian and CPython.

`registry` takes the official ones. `bootstrap` makes stand-ins where no registry can be reached:
Debian from a mirror of it with mmdebstrap, CPython from an installation on this host. Both are
kept as local images; stand-ins have names and a label of their own and are never published.
"""

import contextlib
import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from imagematrix.console import say
from imagematrix.errors import UserError, WorkError
from imagematrix.host.bootstrap import bootstrap_name, make_stand_in
from imagematrix.host.buildx import require_buildx
from imagematrix.host.engine import Engine, inspect_images, layers_of
from imagematrix.matrix.platforms import PLATFORM
from imagematrix.matrix.variant import Variant
from imagematrix.plan.bake import TOOLS_DEBIAN
from imagematrix.plan.content import layers_id, told_base_ids

if TYPE_CHECKING:
    import docker


class BaseSource(StrEnum):
    """Where the base images come from."""

    AUTO = "auto"
    REGISTRY = "registry"
    BOOTSTRAP = "bootstrap"


@dataclass(frozen=True)
class Bases:
    """`images` maps a reference in a Dockerfile to the local image that is used for it, `ids` to
    what identifies its content, `missing` one that cannot be had to the reason."""

    source: BaseSource
    images: Mapping[str, str]
    ids: Mapping[str, str]
    missing: Mapping[str, str] = field(default_factory=dict)

    def why_unavailable(self, variant: Variant) -> str:
        """Why the image cannot be built with these bases, or nothing."""
        references = [TOOLS_DEBIAN, *variant.base_images]
        references = [name for name in dict.fromkeys(references) if name in self.missing]
        return "; ".join(self.missing[name] for name in references)


def bases_of(
    client: "docker.DockerClient", variant: Variant, labels: Mapping[str, str]
) -> BaseSource:
    """Whose bases an image with these labels is on, as far as the engine still has stand-ins."""
    told = told_base_ids(variant, labels)
    names = {bootstrap_name(reference): known for reference, known in told.items()}
    here = _layers_ids(inspect_images(client, names))
    stand_in = any(known == names[name] for name, known in here.items())
    return BaseSource.BOOTSTRAP if stand_in else BaseSource.REGISTRY


def required_references(variants: Iterable[Variant]) -> tuple[str, ...]:
    """The base images that those variants without a parent start from, and that of the tools, each
    once."""
    roots = [variant.base_images for variant in variants if variant.parent is None]
    return tuple(dict.fromkeys([*itertools.chain(*roots), *([TOOLS_DEBIAN] if roots else [])]))


def ensure_bases(
    engine: Engine, variants: Iterable[Variant], source: BaseSource, *, refresh: bool = False
) -> Bases:
    """Makes sure that the engine holds the base images of `variants`, and says which they are.

    `auto` uses what the engine has, else a registry, else a bootstrap. `refresh` asks the registry
    (or makes the stand-ins) anew. What cannot be had is told as missing; where that leaves no image
    to build upon, UserError or WorkError is raised with the reason. Images that CUDA's libraries
    are taken from have no stand-in.
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
    stand_ins = {reference: bootstrap_name(reference) for reference in references}
    if source is BaseSource.AUTO and not refresh:
        for known, images in ((BaseSource.REGISTRY, official), (BaseSource.BOOTSTRAP, stand_ins)):
            ids = _ids(engine, images)
            if ids.keys() == images.keys():
                say(f"Bases: {known}, already here ({', '.join(sorted(images.values()))}).")
                return Bases(known, images, ids)
    # Images will have to be built on what is got now, which may take minutes.
    require_buildx()
    if source in (BaseSource.AUTO, BaseSource.REGISTRY):
        problems = _pull(engine, references, refresh, all_or_none=source is BaseSource.AUTO)
        if not problems or source is BaseSource.REGISTRY:
            say(f"Bases: registry ({', '.join(sorted(set(references) - problems.keys()))}).")
            missing = {
                reference: f"its base image {reference} cannot be pulled ({problem})"
                for reference, problem in problems.items()
            }
            return Bases(BaseSource.REGISTRY, official, _ids(engine, official), missing)
        ((reference, problem),) = problems.items()
        say(f"Bases: bootstrap, because no registry gives them ({reference}: {problem}).")
    else:
        say("Bases: bootstrap, as asked.")
    present = {} if refresh else _ids(engine, stand_ins)
    missing = {}
    for reference in references:
        if reference not in present:
            try:
                make_stand_in(engine, reference)
            except UserError as error:
                missing[reference] = f"its base image {reference} cannot be made: {error}"
    return Bases(BaseSource.BOOTSTRAP, stand_ins, _ids(engine, stand_ins), missing)


def _ids(engine: Engine, images: Mapping[str, str]) -> dict[str, str]:
    ids = _layers_ids(engine.inspect(images.values()))
    return {reference: ids[image] for reference, image in images.items() if image in ids}


def _layers_ids(images: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    return {image: layers_id(layers_of(told)) for image, told in images.items()}


def _pull(
    engine: Engine, images: Iterable[str], refresh: bool, *, all_or_none: bool = False
) -> dict[str, str]:
    """Pulls what is missing; returns the reason for each that could not be pulled. With
    `all_or_none`, none is tried after the first of them."""
    import docker.errors

    images = tuple(images)
    present = engine.inspect(images)
    problems: dict[str, str] = {}
    for image in images:
        if (image in present and not refresh) or (problems and all_or_none):
            continue
        repository, tag = image.rsplit(":", 1)
        say(f"Pulling {image} …")
        try:
            with contextlib.closing(engine.client()) as client:
                client.api.pull(repository, tag=tag, platform=PLATFORM)
        except (docker.errors.APIError, OSError) as error:
            explanation = getattr(error, "explanation", None) or error
            problems[image] = str(explanation).strip()
    return problems
