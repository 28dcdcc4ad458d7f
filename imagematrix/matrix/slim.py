"""What images do without: the rules of base/slim.yaml, and of frameworks/<name>/slim.yaml.

`read_slim` gives rules that later stages may rely on, or every error of the files at once.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from fnmatch import fnmatchcase
from functools import cache, cached_property
from pathlib import Path, PurePosixPath
from typing import Annotated

from packaging.requirements import Requirement
from pydantic import Field, ValidationError

from imagematrix.errors import Diagnostic, InputError
from imagematrix.matrix.document import Document, KeyPath, read_document
from imagematrix.matrix.messages import nearest, schema_diagnostics
from imagematrix.matrix.names import Cell, home_of, name_of, parent_of
from imagematrix.matrix.rules import Matrix
from imagematrix.matrix.schema import (
    Accelerators,
    Form,
    FrameworkName,
    ReleaseVersion,
    Section,
    Track,
)

RULES_NAME = "slim.yaml"
BASE_RULES = PurePosixPath("base", RULES_NAME)
SITE = "site-packages/"


class Verb(StrEnum):
    """What is done with the files that a rule names."""

    REMOVE = "remove"
    STRIP = "strip"
    SOURCE = "source"


@dataclass(frozen=True)
class SlimRule:
    """What is done with the files that a pattern names, and what they are.

    The pattern is one of fnmatch, relative to /usr/local/lib/python3.x: `*` matches `/`, too.
    """

    verb: Verb
    pattern: str
    reason: str


# No pattern may leave the library, name all of it, or need quotes in a shell.
Pattern = Annotated[
    str,
    Form(
        r"(?!/)(?!.*\.\.)(?!(?:site-packages)?[*?./]*$)[A-Za-z0-9_.*?/+-]+",
        "site-packages/*/tests",
    ),
]
Reason = Annotated[str, Form(r'[^\s"\$\\`|#](?:[^\n"\$\\`|#]*[^\s"\$\\`|#])?', "test suites")]
Patterns = Annotated[list[Pattern], Field(min_length=1)]


class Rules(Section):
    """Patterns below /usr/local/lib/python3.x, under what they name; `*` also matches `/`."""

    remove: dict[Reason, Patterns] = Field({}, description="What is removed.")
    strip: dict[Reason, Patterns] = Field(
        {},
        description="Libraries that lose their tables of symbols. Only where it was tried: strip"
        " breaks what patchelf has laid out.",
    )
    source: dict[Reason, Patterns] = Field(
        {},
        description="Modules that are left without bytecode, because what serves a model seldom or"
        " never imports them: the first import then takes longer.",
    )


class BaseOnly(Rules):
    """Rules for some images: those of one of the frameworks, and on one of the accelerators."""

    frameworks: list[FrameworkName] | None = Field(
        None, min_length=1, description="For images of which frameworks; of all if left out."
    )
    accelerators: Accelerators | None = Field(
        None, description="For images on which accelerators; on all if left out."
    )


class FrameworkOnly(Rules):
    """Rules for some images: those of one of the tracks and versions, and on one of the
    accelerators."""

    tracks: list[Annotated[Track, Field(strict=False)]] | None = Field(
        None, min_length=1, description="For images of which tracks; of all if left out."
    )

    versions: list[ReleaseVersion] | None = Field(
        None, min_length=1, description="For images of which versions; of all if left out."
    )
    accelerators: Accelerators | None = Field(
        None, description="For images on which accelerators; on all if left out."
    )


class BaseSlim(Rules):
    """What no image needs to serve a model. The file of a framework adds to it."""

    only: list[BaseOnly] = Field([], description="Rules that do not hold for every image.")


class FrameworkSlim(Rules):
    """What the images of a framework do not need to serve a model, beside base/slim.yaml."""

    only: list[FrameworkOnly] = Field(
        [], description="Rules that do not hold for every image of the framework."
    )


@dataclass(frozen=True, eq=False)
class _Group:
    """Rules with one condition, and where they stand in their file."""

    document: Document
    path: KeyPath
    rules: Rules
    narrowed: Mapping[str, list[str]] = field(default_factory=dict)

    def holds_for(self, cell: Cell) -> bool:
        return all(_key_of(cell, key) in values for key, values in self.conditions.items())

    @cached_property
    def conditions(self) -> Mapping[str, list[str]]:
        found = {key: getattr(self.rules, key, None) for key in _CONDITIONS}
        named = {key: values for key, values in found.items() if values is not None}
        return {**named, **self.narrowed}

    def placed(self) -> Iterator[tuple[SlimRule, KeyPath]]:
        for verb in Verb:
            patterns: Mapping[str, list[str]] = getattr(self.rules, verb)
            for reason, of_reason in patterns.items():
                for i, pattern in enumerate(of_reason):
                    yield SlimRule(verb, pattern, reason), (*self.path, str(verb), reason, i)


_CONDITIONS = ("frameworks", "tracks", "versions", "accelerators")


def _key_of(cell: Cell, condition: str) -> str | None:
    return {
        "frameworks": cell.framework,
        "tracks": cell.release.track,
        "versions": cell.release.version,
        "accelerators": cell.accelerator,
    }[condition]


@dataclass(frozen=True)
class _Placed:
    """A rule, and where it stands."""

    rule: SlimRule
    document: Document
    path: KeyPath

    @property
    def key(self) -> tuple[Verb, str]:
        return self.rule.verb, self.rule.pattern

    def diagnostic(self, message: str, hint: str) -> Diagnostic:
        return self.document.diagnostic(self.path, message, hint)


@dataclass(frozen=True)
class Slim:
    """The rules of a matrix's images: those for all, and those of each framework."""

    base: tuple[_Group, ...] = ()
    frameworks: Mapping[str, tuple[_Group, ...]] = field(default_factory=dict)

    def rules_of(self, cell: Cell) -> tuple[SlimRule, ...]:
        """The rules of one image: by verb, those of base before those of its framework."""
        return tuple(placed.rule for placed in _placed(self._groups(cell)))

    def _groups(self, cell: Cell) -> tuple[_Group, ...]:
        groups = (*self.base, *self.frameworks.get(cell.framework, ()))
        return tuple(group for group in groups if group.holds_for(cell))

    def errors(self, cells: Sequence[Cell]) -> Iterator[Diagnostic]:
        """What is wrong with the rules for the images of these cells."""
        for group in self.base:
            yield from _unmatched(group, cells)
        for name, groups in self.frameworks.items():
            for group in groups:
                yield from _unmatched(group, [c for c in cells if c.framework == name])
        roots = {name_of(cell): cell for cell in cells if cell.is_root}
        # Most images share their rules with others.
        kinds = {(self._groups(cell), parent_of(cell)) for cell in cells}
        for groups, parent_name in kinds:
            yield from _repeated(_placed(groups))
            if parent_name in roots:
                parent = roots[parent_name]
                yield from _on_the_parent(_placed(groups), _placed(self._groups(parent)), parent)


@cache
def _placed(groups: tuple[_Group, ...]) -> tuple[_Placed, ...]:
    """The rules of these groups, by verb."""
    found = [
        _Placed(rule, group.document, path) for group in groups for rule, path in group.placed()
    ]
    order = list(Verb)
    return tuple(sorted(found, key=lambda placed: order.index(placed.rule.verb)))


def _unmatched(group: _Group, cells: Sequence[Cell]) -> Iterator[Diagnostic]:
    """Conditions that no image meets. Accelerators alone are for images to come, too."""
    if group.path and not group.conditions:
        hint = "move it up to those, or name some images"
        yield group.document.diagnostic(group.path, "holds for every image", hint)
    if group.conditions.keys() == {"accelerators"}:
        return
    for key, values in group.conditions.items():
        for i, value in enumerate(values):
            narrowed = replace(group, narrowed={key: [value]})
            if not any(map(narrowed.holds_for, cells)):
                known = list(dict.fromkeys(_key_of(cell, key) or "" for cell in cells))
                hint = nearest(value, known) or f"use one of: {', '.join(known)}"
                at = (*group.path, key, i)
                yield group.document.diagnostic(at, f"no image has {value} here", hint)


def _repeated(rules: Iterable[_Placed]) -> Iterator[Diagnostic]:
    first: dict[tuple[Verb, str], str] = {}
    for placed in rules:
        if placed.key in first:
            message = f"the rule is also in {first[placed.key]}, for the same image"
            yield placed.diagnostic(message, "keep one of them")
            continue
        line = placed.document.places[placed.path][0]
        first[placed.key] = f"{placed.document.file}:{line}"


def _on_the_parent(
    rules: Iterable[_Placed], of_parent: Iterable[_Placed], parent: Cell
) -> Iterator[Diagnostic]:
    """Rules of an image that would change files of its parent. A layer cannot make those smaller:
    it hides what it removes, and holds what it strips a second time."""
    inherited = {placed.key for placed in of_parent}
    packages = [Requirement(pin.text).name for pin in parent.pins]
    for placed in rules:
        verb, pattern = placed.key
        if verb is Verb.SOURCE or (verb is Verb.REMOVE and placed.key in inherited):
            continue
        hint = "let it hold for that image alone, or name other files"
        if placed.key in inherited:
            message = f"{name_of(parent)} and the images on it would both strip this"
            yield placed.diagnostic(message, hint)
        elif not pattern.startswith(SITE):
            message = f"the standard library is that of {name_of(parent)}"
            yield placed.diagnostic(message, "move it to where it holds for that image, too")
        else:
            top = pattern.removeprefix(SITE).split("/")[0]
            if found := [name for name in packages if fnmatchcase(name, top)]:
                message = f"{found[0]} is installed in {name_of(parent)}"
                yield placed.diagnostic(message, hint)


def read_slim(root: Path, matrix: Matrix) -> Slim:
    """The rules of the files beside a matrix; a framework needs none.

    Raises InputError with every error of the files.
    """
    errors: list[Diagnostic] = []
    base = _read(root, BASE_RULES, BaseSlim, errors)
    frameworks = {}
    for name in matrix.spec.frameworks:
        file = home_of(name) / RULES_NAME
        if file != BASE_RULES and (root / file).is_file():
            frameworks[name] = _read(root, file, FrameworkSlim, errors)
    slim = Slim(base, frameworks)
    # Of a file that cannot be read nothing is known.
    if not errors:
        errors += slim.errors(matrix.cells)
    if errors:
        raise InputError(errors)
    return slim


def _read(
    root: Path,
    file: PurePosixPath,
    model: type[BaseSlim] | type[FrameworkSlim],
    errors: list[Diagnostic],
) -> tuple[_Group, ...]:
    try:
        document = read_document(root / file, file)
    except InputError as error:
        errors += error.diagnostics
        return ()
    errors += document.errors
    try:
        spec = model.model_validate(document.data)
    except ValidationError as error:
        errors += schema_diagnostics(document, model, error)
        return ()
    parts = (_Group(document, ("only", i), rules) for i, rules in enumerate(spec.only))
    return _Group(document, (), spec), *parts
