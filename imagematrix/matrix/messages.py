"""What pydantic finds wrong with a document, in words for the person who wrote it."""

import datetime
import difflib
import re
from collections.abc import Collection
from types import NoneType
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from imagematrix.errors import Diagnostic
from imagematrix.matrix.document import Document, KeyPath

# The versions of a requirement without its name.
_VERSIONS_ALONE = re.compile(r"[<>=!~]")
_YAML_KINDS: dict[type, str] = {
    bool: "a truth value",
    int: "a number",
    float: "a number",
    datetime.date: "a date",
    datetime.datetime: "a date",
}
_SHOWN_LENGTH = 60


def schema_diagnostics(
    document: Document, model: type[BaseModel], error: ValidationError
) -> list[Diagnostic]:
    """What is wrong with a document that is no `model`, each error at its place; without those of
    values that could not be read as YAML, which the document has among its own."""
    return [
        _diagnostic(document, model, item)
        for item in error.errors()
        if _path_of(item) not in document.unreadable
    ]


def nearest(value: str, known: Collection[str]) -> str:
    """A hint at the known name that is nearest to a wrong one; empty where none is near."""
    # Closer than by itself: of three letters, one that differs is another word (gpu, cpu).
    near = [] if value in known else difflib.get_close_matches(value, sorted(known), 1, 0.7)
    return f"did you mean {near[0]}?" if near else ""


def _path_of(error: Any) -> KeyPath:
    return tuple(key for key in error["loc"] if key != "[key]")


def _diagnostic(document: Document, model: type[BaseModel], error: Any) -> Diagnostic:
    path = _path_of(error)
    at_key = "[key]" in error["loc"]
    kind, value = error["type"], error["input"]
    shown = repr(value) if at_key else _shown(document, path, value)
    if kind == "extra_forbidden":
        known = list(_fields(_section_at(model, path[:-1])))
        hint = nearest(str(path[-1]), known) or f"known here: {', '.join(known)}"
        return document.diagnostic(path, f"unknown key {path[-1]}", hint, at_key=True)
    if kind == "missing":
        message = f"the key {path[-1]} is missing"
        return document.diagnostic(path[:-1], message, "add it")
    if kind == "string_type":
        yaml_kind = _YAML_KINDS.get(type(value))
        if yaml_kind is None:
            return document.diagnostic(path, f"must be text, is {shown}")
        # In JSON the quotes are the only way to write text, in YAML most texts need none.
        language = "" if document.file.suffix == ".json" else " for YAML"
        message = f"{shown} is {yaml_kind}{language}, not text"
        return document.diagnostic(path, message, f'write "{shown}" in quotes')
    if kind == "enum":
        allowed = [str(item) for item in _enum_values(error)]
        hint = nearest(str(value), allowed) if isinstance(value, str) else ""
        hint = hint or f"use one of: {', '.join(allowed)}"
        return document.diagnostic(path, f"{shown} is unknown", hint, at_key=at_key)
    if kind == "string_too_short":
        return document.diagnostic(path, "must not be empty")
    if kind == "too_short":
        return document.diagnostic(path, "must not be empty", "add an entry, or remove its parent")
    if kind in ("model_type", "dict_type", "model_attributes_type"):
        return document.diagnostic(path, f"must be a mapping of keys to values, is {shown}")
    if kind == "list_type":
        hint = "write [ … ] around it" if path in document.scalars and value is not None else ""
        return document.diagnostic(path, f"must be a list, is {shown}", hint)
    before = document.scalars.get((*path[:-1], path[-1] - 1)) if isinstance(path[-1], int) else None
    if before is not None and isinstance(value, str) and _VERSIONS_ALONE.match(value):
        message = f"{shown} has no name: the comma before it ends the value {before}"
        return document.diagnostic(path, message, f'write "{before},{value}" in quotes')
    message = error["msg"].removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    return document.diagnostic(path, message, at_key=at_key)


def _shown(document: Document, path: KeyPath, value: Any) -> str:
    """A wrong value, as it was typed."""
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    if value is None:
        return "null"
    text = document.scalars.get(path, "")
    text = text if len(text) <= _SHOWN_LENGTH else f"{text[:_SHOWN_LENGTH]}…"
    return repr(text) if isinstance(value, str) else text


def _enum_values(error: Any) -> list[str]:
    expected: str = error["ctx"]["expected"]
    return re.findall(r"'([^']*)'", expected)


def _fields(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """The fields of a section, by the keys that documents write."""
    return {field.alias or name: field for name, field in model.model_fields.items()}


def _section_at(model: type[BaseModel], path: KeyPath) -> type[BaseModel]:
    """The model of the mapping at a path of a document of `model`."""
    kind: Any = model
    for key in path:
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            kind = _fields(kind)[str(key)].annotation
        else:
            # Of dict[str, X] and list[X].
            kind = get_args(kind)[-1]
        options = [option for option in get_args(kind) if option is not NoneType]
        if NoneType in get_args(kind):
            (kind,) = options
    section: type[BaseModel] = kind
    return section
