"""What it adds to its parent."""

import warnings

from imagematrix.checks.check import layer
from imagematrix.checks.running import RunningVariant
from imagematrix.host.bases import bases_of
from imagematrix.matrix.schema import MINIMAL
from imagematrix.measure.budget import Kind, compare, growth_report
from imagematrix.measure.layers import image_sizes
from imagematrix.plan.bake import image_tag
from imagematrix.plan.content import versions_from_labels
from imagematrix.repository.sizes import UPDATE, read_budgets


@layer(MINIMAL)
def size_is_within_budget(image: RunningVariant) -> None:
    """It adds no more to its parent than it did when its size was recorded."""
    variant, client = image.variant, image.container.client
    assert client is not None
    references = {variant.name: image.reference}
    if variant.parent is not None:
        references[variant.parent] = image_tag(variant.parent)
    measured = image_sizes(image.root, client, references.values())
    sizes = {name: measured[reference] for name, reference in references.items()}
    budgets = read_budgets(image.root)
    bases = bases_of(client, variant, image.labels)
    verdict = compare(variant.name, variant.parent, sizes, bases, budgets)
    assert verdict.kind is not Kind.UNKNOWN, verdict.text
    if verdict.kind is Kind.GREW:
        recorded = budgets.measured[variant.name].packages
        report = (recorded, versions_from_labels(image.labels), image.file_sizes)
        raise AssertionError(growth_report(variant.name, verdict, *report))
    if verdict.kind is Kind.SHRANK:
        warnings.warn(f"{variant.name} {verdict.text}; `{UPDATE}` records that", stacklevel=2)
    if verdict.kind is Kind.OTHER_BASES:
        warnings.warn(f"the size of {variant.name} was not checked: {verdict.text}", stacklevel=2)


@layer("framework")
def layers_of_the_parent_are_shared(image: RunningVariant) -> None:
    """The first layers are the parent's, so that a host holds them once."""
    layers = tuple(image.image["RootFS"]["Layers"])
    assert image.parent_layers, "the parent has no layers"
    shared = layers[: len(image.parent_layers)]
    assert shared == image.parent_layers, f"not based on the {image.variant.parent} of this host"
    assert len(layers) > len(shared), "adds no layer to its parent"
