"""Why an image is out of date: how its content then differs from its content now, in words."""

from collections.abc import Iterator, Mapping

from imagematrix.matrix.variant import Variant
from imagematrix.plan.content import (
    INPUTS_LABEL,
    LOCK_LABEL,
    PARENT,
    SOURCES_LABEL,
    Content,
    Inputs,
    Packages,
    decode_inputs,
    decode_packages,
)
from imagematrix.plan.origins import MATRIX


def differences(variant: Variant, wanted: Content, labels: Mapping[str, str]) -> tuple[str, ...]:
    """One phrase for each difference; `labels` are those of the existing image."""
    present = decode_inputs(labels.get(INPUTS_LABEL, ""))
    if present is None:
        return ("the image does not say what it was built from",)
    rendered = (str(variant.dockerfile), str(variant.slim_file))
    reasons: list[str] = []
    for name in sorted(wanted.inputs.keys() | present.keys()):
        old, new = present.get(name), wanted.inputs.get(name)
        if old == new:
            continue
        more: list[str] = []
        if name in rendered and old is not None:
            more = list(_source_differences(decode_inputs(labels.get(SOURCES_LABEL, "")), wanted))
        elif name == str(variant.lock) and old is not None:
            known = decode_packages(labels.get(LOCK_LABEL, ""))
            changes = package_differences(known, wanted.packages) if known is not None else ()
            more = [f"lock: {change}" for change in changes]
        reasons += more or [_difference(name, old, new, variant)]
    return tuple(dict.fromkeys(reasons)) or ("the key was made another way",)


def parent_changes(variant: Variant) -> str:
    """The reason of an image whose parent is rebuilt."""
    return f"its parent {variant.parent} changes"


def _difference(name: str, old: str | None, new: str | None, variant: Variant) -> str:
    if name == PARENT:
        return parent_changes(variant)
    named = f"base image {name}" if ":" in name else name
    if old is None:
        return f"{named} is new"
    if new is None:
        return f"{named} is gone"
    return f"{named} {'moved' if ':' in name else 'changed'}"


def _source_differences(old: Inputs | None, wanted: Content) -> Iterator[str]:
    if old is None:
        return
    new = wanted.sources
    for name in sorted(old.keys() | new.keys()):
        if old.get(name) == new.get(name):
            continue
        if name not in old:
            yield f"{name} is new"
        elif name not in new:
            yield f"{name} is gone"
        elif name.startswith(f"{MATRIX}:"):
            yield f"{name} {old[name]} → {new[name]}"
        else:
            yield f"{name} changed"


def package_differences(old: Packages, new: Packages) -> tuple[str, ...]:
    """The change of each package: `numpy 2.5.4 → 2.5.5`, `foo 1.0 is new`, `bar is gone`."""
    changes = []
    for name in sorted(old.keys() | new.keys()):
        if name not in old:
            changes.append(f"{name} {new[name][0]} is new")
        elif name not in new:
            changes.append(f"{name} is gone")
        elif old[name][0] != new[name][0]:
            changes.append(f"{name} {old[name][0]} → {new[name][0]}")
        elif tuple(old[name]) != tuple(new[name]):
            changes.append(f"hashes of {name} changed")
    return tuple(changes)
