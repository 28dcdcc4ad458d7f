"""Compares two images of an engine: their bytes, or their content."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import docker
import docker.errors

from imagematrix.errors import UserError
from imagematrix.host.engine import layers_of
from imagematrix.measure.layers import read_layers
from imagematrix.measure.trees import (
    Difference,
    Tree,
    config_differences,
    layer_differences,
    merged,
    read_texts,
    read_tree,
    text_difference,
    tree_differences,
)


@dataclass(frozen=True)
class Image:
    """An image as the engine has it. `digest` is that of its manifest where the engine has the
    containerd image store, else that of its configuration, which names its layers as well."""

    digest: str
    layers: Sequence[str]
    config: Mapping[str, Any]
    history: Sequence[Mapping[str, Any]]


def inspect(client: docker.DockerClient, reference: str) -> Image:
    """An image of the engine. Raises UserError where it has none of that name."""
    try:
        description = client.api.inspect_image(reference)
        history = client.api.history(reference)
    except docker.errors.ImageNotFound:
        raise UserError(f"the engine has no image {reference}") from None
    more = {name: description.get(name) for name in ("Created", "Architecture", "Os")}
    steps = [
        {key: step.get(key) for key in ("Created", "CreatedBy", "Comment")} for step in history
    ]
    config = {**description["Config"], **more}
    return Image(description["Id"], layers_of(description), config, steps)


def same_bytes(
    client: docker.DockerClient, references: tuple[str, str], above: int = 0
) -> list[Difference]:
    """The differences between two images in their layers above the lowest `above` (those of their
    parents), and in their configuration with its history; none only if both have the same digest.
    """
    first, second = (inspect(client, reference) for reference in references)
    if first.digest == second.digest:
        return []
    trees = _trees(client, dict(zip(references, (first, second), strict=True)))
    one, other = ([trees[layer] for layer in image.layers] for image in (first, second))
    found = _with_lines(client, references, (first, second), layer_differences(one, other, above))
    found += config_differences(
        *({**image.config, "History": image.history} for image in (first, second))
    )
    # Not visible in the entries: two layers with the same entries can be different archives.
    for number, pair in enumerate(zip(first.layers, second.layers, strict=False), 1):
        if number > above and pair[0] != pair[1] and not any(d.layer == number for d in found):
            found.append(Difference(number, "", "the archive of the same entries", *pair))
    return found or [Difference(0, "", "digest", first.digest, second.digest)]


def same_content(
    client: docker.DockerClient,
    references: tuple[str, str],
    without_labels: Collection[str],
    *,
    times: bool = False,
) -> list[Difference]:
    """The differences between the file trees that containers of two images see, however the layers
    divide them, and between their configurations, except for the labels in `without_labels`."""
    first, second = (inspect(client, reference) for reference in references)
    trees = _trees(client, dict(zip(references, (first, second), strict=True)))
    one, other = (merged(trees[layer] for layer in image.layers) for image in (first, second))
    found = tree_differences(one, other, times=times)
    found = _with_lines(client, references, (first, second), found)
    return found + config_differences(
        *(_settings(image.config, without_labels) for image in (first, second))
    )


def _with_lines(
    client: docker.DockerClient,
    references: tuple[str, str],
    images: tuple[Image, Image],
    found: Sequence[Difference],
) -> list[Difference]:
    """The differences, with the differing lines of short texts. Only layers that the images do not
    share are read for it."""
    paths = {one.path for one in found if one.what == "sha256"}
    if not paths:
        return list(found)
    shared = set(images[0].layers) & set(images[1].layers)
    texts: list[list[Mapping[str, str]]] = []
    for reference, image in zip(references, images, strict=True):
        own = set(image.layers) - shared
        read = read_layers(client, reference, own, partial(read_texts, paths=paths))
        texts.append([read.get(layer, {}) for layer in image.layers])

    def text(layers: Sequence[Mapping[str, str]], one: Difference) -> str | None:
        if one.layer:
            return layers[one.layer - 1].get(one.path)
        return next((layer[one.path] for layer in reversed(layers) if one.path in layer), None)

    result = []
    for one in found:
        pair = [text(layers, one) for layers in texts] if one.what == "sha256" else [None, None]
        if pair[0] is not None and pair[1] is not None:
            result.append(replace(one, lines=text_difference(pair[0], pair[1])))
        else:
            result.append(one)
    return result


def _settings(config: Mapping[str, Any], without_labels: Collection[str]) -> Mapping[str, Any]:
    labels = config.get("Labels") or {}
    kept = {name: value for name, value in labels.items() if name not in without_labels}
    return {**config, "Labels": kept, "Created": None}


def _trees(client: docker.DockerClient, images: Mapping[str, Image]) -> dict[str, Tree]:
    """The tree of each layer, by its digest; those that images share are read once."""
    found: dict[str, Tree] = {}
    for reference, image in images.items():
        if lacking := set(image.layers) - found.keys():
            found |= read_layers(client, reference, lacking, read_tree)
    return found
