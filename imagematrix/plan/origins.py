"""The origins of an image's rendered files: templates, values of the matrix, slim rules.

They are not part of an image's key; the rendered files are. With them, a reason names the file or
value that was edited instead of the rendered file.
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
# Fields that only name the image, are no part of it, or whose effect is in its lock.
_NO_SOURCE = frozenset(
    {
        "name",
        "folder",
        "framework",
        "python",
        "parent",
        "track",
        "supported_until",
        "pins",
        "wheels",
        "example",
        "slim",
    }
)
# Longer values and lists are replaced by their hash: the origins become a label of the image.
_LONGEST = 60
_LONGEST_LIST = 2000


def rendered_sources(root: Path, variants: Sequence[Variant]) -> dict[str, Mapping[str, str]]:
    """The origins of each image's rendered files, by the image's name.

    A template or a file of slim rules is a path with a hash, a value of the matrix is
    `matrix.yaml: title` with the value.
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

    # The images of a release share all these values, which are frozen.
    @cache
    def sources(template: PurePosixPath, home: PurePosixPath, *values: Any) -> Mapping[str, str]:
        result = dict(files(template, home))
        for name, value in zip(names, values, strict=True):
            result |= _values(f"{MATRIX}: {name}", value)
        return result

    given = attrgetter("template", "home", *names)
    return {variant.name: sources(*given(variant)) for variant in variants}


def _closure(name: str, used: Callable[[str], Iterable[str]]) -> set[str]:
    """A template and all templates that it extends, includes or imports, directly or indirectly."""
    found: set[str] = set()
    waiting = {name}
    while waiting:
        current = waiting.pop()
        found.add(current)
        waiting |= set(used(current)) - found
    return found


def _values(name: str, value: Any) -> Iterator[tuple[str, str]]:
    """The text values that make up a value; each item of a short list is a name of its own."""
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
