"""Requirements as pip reads them from a file, and from the `pip:` section of a conda specification.

Format: https://pip.pypa.io/en/stable/reference/requirements-file-format/. Each requirement is read
by `packaging`, in the form of https://packaging.python.org/en/latest/specifications/dependency-specifiers/
"""

import os
import re
import shlex
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath
from urllib.parse import unquote, urlsplit

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import (
    InvalidSdistFilename,
    InvalidWheelFilename,
    canonicalize_name,
    parse_sdist_filename,
    parse_wheel_filename,
)

from imagematrix.environments.entries import Entry, Findings, has_login
from imagematrix.errors import Diagnostic, InputError
from imagematrix.files import Reader, read_text
from imagematrix.matrix.lockfile import logical_lines
from imagematrix.matrix.messages import nearest
from imagematrix.matrix.schema import why_no_requirement

# Options of a whole file, under each of their names; True where a value follows.
_OPTIONS = {
    "--index-url": True,
    "--extra-index-url": True,
    "--find-links": True,
    "--no-index": False,
    "--no-binary": True,
    "--only-binary": True,
    "--prefer-binary": False,
    "--pre": False,
}
_IGNORED = {
    "--require-hashes": (False, "every package is compared with its hash anyway"),
    "--use-feature": (True, "uv resolves the requirements, not pip"),
}
_REFUSED = {
    "--trusted-host": (
        "the certificate of an index is always checked",
        "remove it; SSL_CERT_FILE or PIP_CERT names the certificate of your own authority",
    ),
}
_FILES = {"--requirement": True, "--constraint": True, "--editable": True}
_SHORT = {
    "-r": "--requirement",
    "-c": "--constraint",
    "-e": "--editable",
    "-i": "--index-url",
    "-f": "--find-links",
    "--pypi-url": "--index-url",
}
_KNOWN = {*_OPTIONS, *_IGNORED, *_REFUSED, *_FILES, *_SHORT}
_ADDRESSES = {"--index-url", "--extra-index-url", "--find-links"}
# Which options are not of the whole file, and stand behind a requirement.
_OF_REQUIREMENT = re.compile(r"(?<=\s)(--[a-z][a-z-]*)(?:=|\s+|$)")
_HASH = re.compile(r"(sha256:[0-9a-f]{64}|sha384:[0-9a-f]{96}|sha512:[0-9a-f]{128})")
_VARIABLE = re.compile(r"\$\{[A-Z0-9_]+\}")
_VCS = re.compile(r"(?:git|hg|svn|bzr)(?:\+|:|@)")
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_PATH = re.compile(r"\.{0,2}/|\.{1,2}$|\.{1,2}\\|[A-Za-z]:\\|~|file:")
_ARCHIVE = re.compile(r"[^\s@;]+\.(whl|tar\.gz|zip|tar\.bz2|tgz)(\s|$)")

NO_PATHS = "publish it as a wheel on an index, or copy its code beside the entry script"


@dataclass
class Requirements:
    """What was read so far. `pip` and `constraints` are in the form of PEP 508, `options` hold for
    all of them ("--pre", "--index-url https://…"), `hashes` are under the requirement's text."""

    pip: list[Entry] = field(default_factory=list)
    constraints: list[Entry] = field(default_factory=list)
    options: list[Entry] = field(default_factory=list)
    hashes: dict[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class _Place:
    """Where relative paths of a line start, and which files led to it."""

    folder: Path
    shown_in: PurePath
    including: tuple[Path, ...]
    constraint: bool = False


class RequirementsReader:
    """Reads lines of requirements, and the files that they include, into `result`."""

    def __init__(self, findings: Findings, read: Reader) -> None:
        self.result = Requirements()
        self._findings = findings
        self._read = read
        self._first: dict[tuple[PurePath, str, str, bool], Entry] = {}

    def read_file(self, path: Path, shown_as: PurePath) -> None:
        """Reads a file. What is wrong with it, missing or no text, is among the findings."""
        try:
            text = read_text(path, shown_as, self._read)
        except InputError as error:
            self._findings.take(error)
            return
        self._lines(text, shown_as, _Place(path.parent, shown_as.parent, (_normal(path),)))
        if not any(logical_lines(text)):
            self._findings.error(Diagnostic(shown_as, 1, 1, "", "is empty"))

    def read_entry(self, entry: Entry, folder: Path, shown_in: PurePath) -> None:
        """Reads one line that stands in another file; relative paths start at `folder`."""
        for _, line in logical_lines(entry.text):
            self._line(replace(entry, text=line), _Place(folder, shown_in, ()))

    def _lines(self, text: str, shown_as: PurePath, place: _Place) -> None:
        text = text.removeprefix("\ufeff")
        raw = text.splitlines()
        for number, line in logical_lines(text):
            first = raw[number - 1]
            column = len(first) - len(first.lstrip()) + 1
            self._line(Entry(line, shown_as, number, column), place)

    def _line(self, entry: Entry, place: _Place) -> None:
        if _VARIABLE.search(entry.text):
            message = "variables of the environment are not put in"
            hint = "write the value; the password of an index belongs in a netrc file"
            self._error(entry, message, hint)
        elif entry.text.startswith("-"):
            self._option(entry, place)
        else:
            self._requirement(entry, place)

    def _option(self, entry: Entry, place: _Place) -> None:
        try:
            words = shlex.split(entry.text)
        except ValueError:
            self._error(entry, "has a quotation mark without its second", "close or remove it")
            return
        while words:
            name, has_value, value = words.pop(0).partition("=")
            if short := re.fullmatch(r"(-[rceif])(.+)", name):
                # Attached to the letter: `-rbase.txt`.
                name, value = short[1], f"{short[2]}{has_value}{value}"
                has_value = "="
            option = _SHORT.get(name, name)
            takes = _takes_value(option)
            if takes is None:
                known = sorted(_KNOWN)
                hint = nearest(name, known) or f"known here: {', '.join(known)}"
                self._error(entry, f"unknown option {name}", hint)
                return
            if takes and not has_value:
                value = words.pop(0) if words else ""
            if takes and not value:
                self._error(entry, f"{name} has no value", "write one behind it")
                return
            self._one_option(entry, option, value, place)

    def _one_option(self, entry: Entry, option: str, value: str, place: _Place) -> None:
        if option == "--editable":
            self._error(entry, "an installation from a working copy cannot be locked", NO_PATHS)
        elif option in ("--requirement", "--constraint"):
            self._include(entry, value, option == "--constraint", place)
        elif option in _REFUSED:
            message, hint = _REFUSED[option]
            self._error(entry, f"{option}: {message}", hint)
        elif option in _IGNORED:
            self._findings.note(entry.diagnostic(f"{option}: {_IGNORED[option][1]}", "ignored"))
        elif option in _ADDRESSES and not self._is_address(entry, option, value):
            return
        else:
            self.result.options.append(replace(entry, text=f"{option} {value}".strip()))

    def _is_address(self, entry: Entry, option: str, value: str) -> bool:
        if has_login(value):
            self._error(entry, f"{option}: {value} has a password in it", _NO_LOGINS)
        elif not re.match(r"https?://[^\s/]+", value):
            message = f"{option} must be an address of http or https, is {value!r}"
            self._error(entry, message, "paths of this machine do not exist in the build")
        else:
            return True
        return False

    def _include(self, entry: Entry, value: str, constraint: bool, place: _Place) -> None:
        if _URL.match(value):
            hint = "download it, and name the file"
            self._error(entry, f"{value} is on another machine, and may change", hint)
            return
        path = place.folder / value
        if _normal(path) in place.including:
            self._error(entry, f"{value} includes itself", "remove one of the two lines")
            return
        shown_as = place.shown_in / value
        try:
            text = read_text(path, shown_as, self._read)
        except InputError as error:
            message = error.diagnostics[0].message
            self._error(entry, f"{value} {message}", "its path is relative to this file")
            return
        except ValueError:
            self._error(entry, f"{value!r} is no path")
            return
        including = (*place.including, _normal(path))
        inner = _Place(path.parent, shown_as.parent, including, place.constraint or constraint)
        self._lines(text, shown_as, inner)

    def _requirement(self, entry: Entry, place: _Place) -> None:
        text, *options = _OF_REQUIREMENT.split(entry.text)
        hashes = []
        for name, value in zip(options[::2], options[1::2], strict=True):
            if name != "--hash":
                hint = "only --hash may stand behind a requirement"
                self._error(entry, f"{name} cannot be kept", hint)
                return
            digest = value.strip().strip("'\"").lower()
            if not _HASH.fullmatch(digest):
                message = f"{value.strip()!r} is no hash, such as sha256:…"
                self._error(entry, message, "copy it from the index, or remove --hash")
                return
            hashes.append(digest)
        requirement = self._parsed(entry, text.strip())
        if requirement is None:
            return
        found = replace(entry, text=str(requirement))
        if self._is_repeated(found, requirement, place):
            return
        (self.result.constraints if place.constraint else self.result.pip).append(found)
        if hashes:
            self.result.hashes[found.text] = tuple(sorted(hashes))

    def _parsed(self, entry: Entry, text: str) -> Requirement | None:
        """The requirement, None where it is none or names what cannot be locked."""
        if has_login(text):
            self._error(entry, f"{text} has a password in it", _NO_LOGINS)
            return None
        if _PATH.match(text) or (_ARCHIVE.match(text) and not _URL.match(text)):
            self._error(entry, f"{text} is a path of this machine", NO_PATHS)
            return None
        if _VCS.match(text):
            self._error(entry, f"{text}: what a repository holds has no hash", NO_PATHS)
            return None
        if _URL.match(text):
            name = _name_of_url(text)
            if not name:
                hint = f"write the name of the package before it: name @ {text.split('#')[0]}"
                self._error(entry, "the address does not say which package it is", hint)
                return None
            text = f"{name} @ {text}"
        try:
            requirement = Requirement(text)
        except InvalidRequirement as error:
            self._error(entry, why_no_requirement(text, error))
            return None
        except (ValueError, RecursionError):
            self._error(entry, f"{text!r} is no valid requirement")
            return None
        if requirement.url and _VCS.match(requirement.url):
            message = f"{requirement.url}: what a repository holds has no hash"
            self._error(entry, message, NO_PATHS)
            return None
        if requirement.url and not re.match(r"https?://", requirement.url):
            self._error(entry, f"{requirement.url} is a path of this machine", NO_PATHS)
            return None
        if canonicalize_name(requirement.name) == "python":
            hint = "choose it with --python, or write a conda specification"
            self._error(entry, "Python is no package of an index", hint)
            return None
        if any("+unknown" in clause.version for clause in requirement.specifier):
            message = f"{requirement}: this version is that of a working copy, and on no index"
            self._error(entry, message, "name a version that was released, or remove it")
            return None
        return requirement

    def _is_repeated(self, entry: Entry, requirement: Requirement, place: _Place) -> bool:
        """Whether it is left out because it was there before; in one file, that is an error."""
        name = canonicalize_name(requirement.name)
        key = (entry.file, name, str(requirement.marker or ""), place.constraint)
        if (first := self._first.get(key)) is not None:
            message = f"{requirement.name} is here twice, first on line {first.line}"
            self._error(entry, message, "keep one of them")
            return True
        self._first[key] = entry
        others = self.result.constraints if place.constraint else self.result.pip
        return entry.text in {other.text for other in others}

    def _error(self, entry: Entry, message: str, hint: str = "") -> None:
        self._findings.error(entry.diagnostic(message, hint))


_NO_LOGINS = "it would be in the lock; write the address without it, and the password in ~/.netrc"


def _takes_value(option: str) -> bool | None:
    """Whether a value follows an option; None if there is no such option."""
    if option in _REFUSED:
        return True
    if option in _IGNORED:
        return _IGNORED[option][0]
    return {**_OPTIONS, **_FILES}.get(option)


def _name_of_url(url: str) -> str:
    """The package of an archive, by the fragment or by the name of the file; empty if unknown."""
    try:
        parts = urlsplit(url.split()[0])
    except ValueError:
        return ""
    if egg := re.search(r"(?:^|&)egg=([A-Za-z0-9][A-Za-z0-9._-]*)", parts.fragment):
        return egg[1]
    file = unquote(parts.path.rsplit("/", 1)[-1])
    try:
        if file.endswith(".whl"):
            return str(parse_wheel_filename(file)[0])
        return str(parse_sdist_filename(file)[0])
    except (InvalidWheelFilename, InvalidSdistFilename):
        return ""


def _normal(path: Path) -> Path:
    return Path(os.path.normpath(path))
