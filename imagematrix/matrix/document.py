"""A YAML document as plain data, with the place of every value in it.

Places come from the marks of PyYAML's node graph (https://pyyaml.org/wiki/PyYAMLDocumentation).
"""

import json
import re
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import Any

import yaml

from imagematrix.errors import Diagnostic, InputError
from imagematrix.files import read_text

Key = str | int
KeyPath = tuple[Key, ...]


def _loader() -> Any:
    """Reads a large matrix several times faster where PyYAML was built with its C parser.

    The nodes are composed in Python all the same: in C, deep nesting ends the process.
    """
    if not yaml.__with_libyaml__:
        return yaml.SafeLoader

    parser: Any = vars(yaml.cyaml)["CParser"]

    def start(loader: Any, stream: str) -> None:
        parser.__init__(loader, stream)
        yaml.composer.Composer.__init__(loader)
        yaml.resolver.Resolver.__init__(loader)

    bases = (yaml.composer.Composer, parser, yaml.resolver.Resolver)
    return type("Loader", bases, {"__init__": start})


_Loader: Any = _loader()

# A few nested aliases can stand for billions of values; no real matrix comes near this number.
_MAX_VALUES = 2_000_000


@dataclass(frozen=True)
class Document:
    """`data` is what the YAML says; `places` maps the path of each value to (line, column).

    A key's own place is under its path as well: `places[("a", "b")]` is where the value of `b`
    starts, `key_places[("a", "b")]` where its key stands. `scalars` holds the text that was typed.
    `errors` is what is wrong with single keys and values; those at `unreadable` are None in
    `data`.
    """

    file: PurePath
    data: Any
    places: dict[KeyPath, tuple[int, int]]
    key_places: dict[KeyPath, tuple[int, int]]
    scalars: dict[KeyPath, str]
    errors: tuple[Diagnostic, ...] = ()
    unreadable: frozenset[KeyPath] = frozenset()

    def diagnostic(
        self, path: KeyPath, message: str, hint: str = "", *, at_key: bool = False
    ) -> Diagnostic:
        """A diagnostic at the value (or key) of `path`, or at its nearest ancestor that exists."""
        line, column = 1, 1
        for length in range(len(path), -1, -1):
            prefix = path[:length]
            place = (self.key_places if at_key else self.places).get(prefix)
            place = place or self.places.get(prefix)
            if place is not None:
                line, column = place
                break
        return Diagnostic(self.file, line, column, path_text(path), message, hint)


def path_text(path: KeyPath) -> str:
    """`("a", 0, "b")` as `a[0].b`."""
    text = ""
    for key in path:
        if isinstance(key, int):
            text += f"[{key}]"
        else:
            text += f".{key}" if text else key
    return text


def read_document(path: Path, shown_as: PurePath) -> Document:
    """Reads one YAML document.

    Raises InputError when the file is missing or is no YAML. A duplicate key, a key that is not
    text and a value that cannot be read are among the document's errors. `shown_as` is the path
    that messages name.
    """
    return parse_document(read_text(path, shown_as), shown_as)


def parse_json(text: str, shown_as: PurePath) -> Document:
    """The document of a text that is to be JSON (https://www.rfc-editor.org/rfc/rfc8259).

    Raises InputError when it is none, and otherwise what `parse_document` does.
    """
    # Editors on Windows begin a file with a byte order mark.
    text = text.removeprefix("\ufeff")
    try:
        data = json.loads(text)
    except RecursionError:
        message = "is nested too deeply"
        raise InputError([Diagnostic(shown_as, 0, 0, "", message)]) from None
    except json.JSONDecodeError as error:
        message = f"no valid JSON: {error.msg[:1].lower()}{error.msg[1:]}"
        if not text.strip():
            message = "is empty"
        place = (error.lineno, error.colno)
        raise InputError([Diagnostic(shown_as, *place, "", message)]) from None
    except ValueError:
        message = "no valid JSON: a number has too many digits"
        raise InputError([Diagnostic(shown_as, 0, 0, "", message)]) from None
    if halves := [found for found in _SURROGATES.finditer(text) if found["half"]]:
        raise InputError([_half(text, found, shown_as) for found in halves])
    # YAML takes neither tabs between values nor an escape in two halves.
    places = parse_document(_SURROGATES.sub(_whole, text.replace("\t", " ")), shown_as)
    return replace(places, data=data)


# Escapes of JSON for a character beyond the first 65,536 (RFC 8259, section 7), and a half of one.
_SURROGATES = re.compile(
    r"\\\\|(?P<pair>\\u[dD][89abAB]\w\w\\u[dD][c-fC-F]\w\w)|(?P<half>\\u[dD][89a-fA-F]\w\w)"
)


def _whole(found: re.Match[str]) -> str:
    """The escape as YAML writes it."""
    if found["pair"] is None:
        return found[0]
    character: str = json.loads(f'"{found[0]}"')
    return rf"\U{ord(character):08x}"


def _half(text: str, found: re.Match[str], file: PurePath) -> Diagnostic:
    before = text[: found.start()].split("\n")
    message = f"no valid JSON: {found[0]} is one half of a character"
    return Diagnostic(file, len(before), len(before[-1]) + 1, "", message)


def parse_document(text: str, shown_as: PurePath) -> Document:
    """The document of a YAML text, as `read_document` reads it from a file."""
    reader = _Reader(shown_as)
    try:
        root = yaml.compose(text, Loader=_Loader)
        if root is None:
            raise InputError([Diagnostic(shown_as, 1, 1, "", "is empty")])
        data = reader.read(root, ())
    except RecursionError:
        message = "is nested too deeply"
        raise InputError([Diagnostic(shown_as, 0, 0, "", message)]) from None
    except yaml.MarkedYAMLError as error:
        raise InputError(_no_yaml(text, error, shown_as)) from None
    except yaml.YAMLError as error:
        message = f"no valid YAML: {' '.join(str(error).split())}"
        raise InputError([Diagnostic(shown_as, 0, 0, "", message)]) from None
    return Document(
        shown_as,
        data,
        reader.places,
        reader.key_places,
        reader.scalars,
        tuple(reader.errors),
        frozenset(reader.unreadable),
    )


# https://git-scm.com/docs/git-merge#_how_conflicts_are_presented
_CONFLICT = re.compile(r"^(<{7}|\|{7}|={7}|>{7})(?= |$)", re.MULTILINE)
# By which a value begins only in quotes: https://yaml.org/spec/1.2.2/#53-indicator-characters
_INDICATORS = frozenset("!&*>|%@`")


def _no_yaml(text: str, error: yaml.MarkedYAMLError, file: PurePath) -> list[Diagnostic]:
    """Why a text is no YAML, in words for what people do most."""
    if conflicts := list(_CONFLICT.finditer(text)):
        lines = [text.count("\n", 0, found.start()) + 1 for found in conflicts]
        message = "a merge of git left this conflict marker"
        hint = "choose what is to stay, and remove the marker"
        return [Diagnostic(file, line, 1, "", message, hint) for line in lines]
    mark = error.problem_mark or error.context_mark
    line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
    typed = [*text.splitlines(), ""][line - 1]
    indent = typed[: len(typed) - len(typed.lstrip())]
    if "\t" in indent and column <= len(indent) + 1:
        message, hint = "is indented with a tab, which YAML does not take", "write spaces"
        return [Diagnostic(file, line, indent.index("\t") + 1, "", message, hint)]
    start = max(typed.rfind(mark, 0, column) + len(mark) for mark in ("[", ", ", ": ", "- "))
    value = re.split(r"\]|, |  #", typed[start:])[0].strip()
    quote = {value[:1], typed[column - 1 : column]} & _INDICATORS
    message = f"no valid YAML: {error.problem or error.context}"
    hint = f'write "{value}" in quotes' if quote else ""
    return [Diagnostic(file, line, column, "", message, hint)]


class _Reader:
    def __init__(self, file: PurePath) -> None:
        self.file = file
        self.places: dict[KeyPath, tuple[int, int]] = {}
        self.key_places: dict[KeyPath, tuple[int, int]] = {}
        self.scalars: dict[KeyPath, str] = {}
        self.errors: list[Diagnostic] = []
        self.unreadable: set[KeyPath] = set()
        # Anchored nodes may refer to themselves; the path of nodes being read shows it.
        self._open: set[int] = set()
        self._construct = yaml.constructor.SafeConstructor()

    def read(self, node: yaml.Node, path: KeyPath) -> Any:
        place = (node.start_mark.line + 1, node.start_mark.column + 1)
        self.places[path] = place
        if len(self.places) > _MAX_VALUES:
            message = f"expands to more than {_MAX_VALUES:,} values"
            raise InputError([Diagnostic(self.file, *place, path_text(path), message)])
        if id(node) in self._open:
            self._error(place, path, "refers to itself")
            self.unreadable.add(path)
            return None
        self._open.add(id(node))
        try:
            if isinstance(node, yaml.MappingNode):
                return self._mapping(node, path)
            if isinstance(node, yaml.SequenceNode):
                return [self.read(item, (*path, i)) for i, item in enumerate(node.value)]
            return self._scalar(node, path, place)
        finally:
            self._open.discard(id(node))

    def _mapping(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            place = (key_node.start_mark.line + 1, key_node.start_mark.column + 1)
            key = key_node.value
            if not isinstance(key_node, yaml.ScalarNode):
                self._error(place, path, "a key must be text")
                continue
            if key_node.tag == "tag:yaml.org,2002:merge":
                self._error(place, path, "merge keys have no meaning here", "write the keys out")
                continue
            if key_node.tag != "tag:yaml.org,2002:str":
                hint = f'write "{key}" in quotes'
                self._error(place, (*path, key), f"the key {key} is not text for YAML", hint)
            if key in result:
                first = self.key_places[(*path, key)]
                message = f"duplicate key {key}, first on line {first[0]}"
                self._error(place, (*path, key), message, "keep one of them")
                continue
            self.key_places[(*path, key)] = place
            result[key] = self.read(value_node, (*path, key))
        return result

    def _scalar(self, node: yaml.Node, path: KeyPath, place: tuple[int, int]) -> Any:
        self.scalars[path] = node.value
        try:
            return self._construct.construct_object(node)
        except (yaml.YAMLError, ArithmeticError, AttributeError, LookupError, ValueError) as error:
            # PyYAML does not check what stands behind an explicit tag (`!!bool x`) before it reads.
            kind = node.tag.removeprefix("tag:yaml.org,2002:")
            # From Python 3.14 on, what it was behind a comma as well.
            why = str(error).split(",")[0]
            is_date = kind == "timestamp" and isinstance(error, ValueError)
            message = f"cannot be read as YAML's {kind}" + (f" ({why})" if is_date else "")
            quotes = "write it in quotes"
            hint = f"correct it, or {quotes} if it is text" if is_date else quotes
            self._error(place, path, message, hint)
            self.unreadable.add(path)
            return None

    def _error(self, place: tuple[int, int], path: KeyPath, message: str, hint: str = "") -> None:
        self.errors.append(Diagnostic(self.file, *place, path_text(path), message, hint))
