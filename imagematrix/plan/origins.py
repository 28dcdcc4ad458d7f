"""What an image's rendered files stem from: templates, what the matrix gives to them, slim rules.

This is no part of an image's key, which the rendered files are. It lets a reason name what was
edited instead of a file that nobody edits.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import cache
from operator import attrgetter
from pathlib import Path, PurePosixPath
from typing import Any

import jinja2
import jinja2.meta

from imagematrix.files import file_hash, text_hash
from imagematrix.matrix.slim import BASE_RULES, RULES_NAME
from imagematrix.matrix.variant import Variant

MATRIX = "matrix.yaml"
# These name the image, or reach it by its lock.
_NO_SOURCE = frozenset(
    {
        "name",
        "folder",
        "framework",
        "python",
        "parent",
        "track",
        "pins",
        "wheels",
        "example",
        "slim",
    }
)
# A longer value, or list, is told by its hash: all sources of an image are one of its labels.
_LONGEST = 60
_LONGEST_LIST = 2000


def rendered_sources(root: Path, variants: Sequence[Variant]) -> dict[str, Mapping[str, str]]:
    """The sources of each image's rendered files, under the image's name.

    A template, or a file of slim rules, stands under its path with its hash, a value of the matrix
    as `matrix.yaml: title`.
    """

    environment = jinja2.Environment(autoescape=False)

    @cache
    def used(name: str) -> tuple[str, ...]:
        tree = environment.parse((root / name).read_text(encoding="utf-8"))
        return tuple(used for used in jinja2.meta.find_referenced_templates(tree) if used)

    @cache
    def files(template: PurePosixPath, home: PurePosixPath) -> Mapping[str, str]:
        names = _closure(str(template), used)
        rules = {str(BASE_RULES), str(home / RULES_NAME)}
        names |= {name for name in rules if (root / name).is_file()}
        return {name: file_hash(root / name) for name in sorted(names)}

    names = [field.name for field in fields(Variant) if field.name not in _NO_SOURCE]

    # The images of a release share all of this, which is frozen.
    @cache
    def sources(template: PurePosixPath, home: PurePosixPath, *values: Any) -> Mapping[str, str]:
        told = dict(files(template, home))
        for name, value in zip(names, values, strict=True):
            told |= _values(f"{MATRIX}: {name}", value)
        return told

    given = attrgetter("template", "home", *names)
    return {variant.name: sources(*given(variant)) for variant in variants}


def _closure(name: str, used: Callable[[str], Iterable[str]]) -> set[str]:
    """A template and all that it extends, includes or imports, directly or not."""
    found: set[str] = set()
    waiting = {name}
    while waiting:
        current = waiting.pop()
        found.add(current)
        waiting |= set(used(current)) - found
    return found


def _values(name: str, value: Any) -> Iterator[tuple[str, str]]:
    """The parts of a value that are text; each item of a short list is one that is there or not."""
    if value is None:
        return
    if is_dataclass(value):
        for field in fields(value):
            yield from _values(f"{name}.{field.name}", getattr(value, field.name))
    elif isinstance(value, tuple):
        items = []
        for item in value:
            parts = [text for _, text in _values("", item)] if is_dataclass(item) else [str(item)]
            items.append("=".join(item) if isinstance(item, tuple) else " ".join(parts))
        if sum(map(len, items)) > _LONGEST_LIST:
            yield name, text_hash("\n".join(items))
        else:
            yield from ((f"{name} {item}", "") for item in items)
    else:
        text = str(value)
        yield name, text if len(text) <= _LONGEST else text_hash(text)
