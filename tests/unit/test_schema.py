"""The JSON schemas: what editors underline is what `check` refuses."""

import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any

import fastjsonschema
import pytest
import yaml

from imagematrix.repository.schemas import MATRIX_SCHEMA, render_schemas
from tests.unit.helpers import BASE_SLIM, MATRIX, REPOSITORY, XGBOOST_SLIM, changed

SCHEMAS = {path: json.loads(text) for path, text in render_schemas().items()}
BASE = PurePosixPath("base/slim.schema.json")
FRAMEWORKS = PurePosixPath("frameworks/slim.schema.json")
RULES = [*REPOSITORY.glob("base/slim.yaml"), *REPOSITORY.glob("frameworks/*/slim.yaml")]
FILES = [REPOSITORY / "matrix.yaml", *sorted(RULES)]


@cache
def validator(schema: PurePosixPath) -> Any:
    return fastjsonschema.compile(SCHEMAS[schema], use_default=False)


class _Loader(yaml.SafeLoader):
    """Reads dates as text, as editors do: YAML 1.2 has no type for them, and neither has JSON."""


_Loader.add_constructor("tag:yaml.org,2002:timestamp", lambda _, node: str(node.value))


def refused(text: str, schema: PurePosixPath) -> bool:
    try:
        validator(schema)(yaml.load(text, _Loader))
    except fastjsonschema.JsonSchemaValueException:
        return True
    return False


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(REPOSITORY)))
def test_a_file_names_its_schema_which_accepts_it(file: Path) -> None:
    first = file.read_text().splitlines()[0]
    named = file.parent / first.removeprefix("# yaml-language-server: $schema=")
    schema = PurePosixPath(named.resolve().relative_to(REPOSITORY))

    assert not refused(file.read_text(), schema)


def test_the_repository_of_the_tests_is_accepted() -> None:
    assert not refused(MATRIX, MATRIX_SCHEMA)
    assert not refused(BASE_SLIM, BASE)
    assert not refused(XGBOOST_SLIM, FRAMEWORKS)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("tracks:", "trakcs:"),
        ("  trixie:", "  buster:"),
        ('trixie: ["3.12"]', "trixie: [3.12]"),
        ('trixie: ["3.12"]', 'trixie: ["2.7"]'),
        ("  current:", "  curent:"),
        ("data: [pandas>=3]", "data: []"),
        ("data: [pandas>=3]", "Data: [pandas>=3]"),
        ("data: [pandas>=3]", "data: [7]"),
        ("    title: XGBoost\n", ""),
        ("title: XGBoost", "titel: XGBoost"),
        ('version: "3.4"', "version: 3.4"),
        ('version: "3.4"', 'version: "3.4-rc1"'),
        ("accelerators: [cpu]\n        pins: [xgboost", "accelerators: [gpu]\n        pins: [xgb"),
        ("XGBOOST_HOME: /tmp/xgboost", "xgboost_home: /tmp/xgboost"),
        ("XGBOOST_HOME: /tmp/xgboost", 'XGBOOST_HOME: "$HOME"'),
        ("package: torch", "package: Torch"),
        ("sets: [data]", "sets: data"),
        ("pins: [torch==2.0.0+cpu]", "pin: [torch==2.0.0+cpu]"),
        ("url: https://wheels.example/cpu", "url: http://wheels.example/cpu"),
        ("b" * 64, "b" * 63),
        ("supported_until: 2098-12-31", "supported_until: 2098"),
        ("supported_until: 2098-12-31", "supported_until: soon"),
    ],
)
def test_what_is_wrong_with_a_matrix_is_underlined(old: str, new: str) -> None:
    assert refused(changed(MATRIX, (old, new)), MATRIX_SCHEMA)


@pytest.mark.parametrize(
    ("text", "schema"),
    [
        ("trim: {tests: [test]}", BASE),
        ("remove: [test]", BASE),
        ("remove: {tests: test}", BASE),
        ("remove: {tests: [/etc]}", BASE),
        ('remove: {tests: ["*"]}', FRAMEWORKS),
        ("remove: {tests: [site-packages/../a]}", FRAMEWORKS),
        ('remove: {"a | b": [test]}', BASE),
        ("only: [{accelerators: [gpu]}]", BASE),
        ('only: [{versions: ["3.4"]}]', BASE),
        ("only: [{frameworks: [xgboost]}]", FRAMEWORKS),
        ("only: [{versions: [3.4]}]", FRAMEWORKS),
    ],
)
def test_what_is_wrong_with_rules_is_underlined(text: str, schema: PurePosixPath) -> None:
    assert refused(text, schema)


def keys(schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every key of the models of a schema, with what is said of it."""
    for section in (schema, *schema["$defs"].values()):
        yield from section.get("properties", {}).items()


@pytest.mark.parametrize("path", SCHEMAS, ids=str)
def test_editors_explain_every_key(path: PurePosixPath) -> None:
    for name, value in keys(SCHEMAS[path]):
        assert re.fullmatch(r"[A-Z`].+\.", value.get("description", "")), name


@pytest.mark.parametrize("path", SCHEMAS, ids=str)
def test_a_pattern_is_one_that_editors_read(path: PurePosixPath) -> None:
    """With the flag `u`, JavaScript refuses an escape of what needs none."""
    text = json.dumps(SCHEMAS[path])
    patterns = re.findall(r'"pattern": ("(?:[^"\\]|\\.)*")', text)
    assert patterns
    for pattern in map(json.loads, patterns):
        escaped = set(re.findall(r"\\(.)", pattern))
        assert escaped <= set("sSn$.\\"), pattern
