"""What is read of the files beside an inference configuration: its script and its Docker steps."""

import ast
import re
import sys
import warnings
from pathlib import PurePath

from imagematrix.environments.entries import Entry, Findings
from imagematrix.errors import Diagnostic
from imagematrix.matrix.messages import nearest

# https://docs.docker.com/reference/dockerfile/
_INSTRUCTIONS = {
    "ADD", "ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "HEALTHCHECK", "LABEL",
    "MAINTAINER", "ONBUILD", "RUN", "SHELL", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR",
}  # fmt: skip
_NOT_HERE = {
    "FROM": "it would begin another image; the base image is `baseImage`",
    "CMD": "it would replace the server; remove it",
    "ENTRYPOINT": "it would replace the server; remove it",
}
_HEREDOC = re.compile(r"<<-?([\"']?)([A-Za-z_][A-Za-z0-9_]*)\1")
_WITH_HEREDOC = {"RUN", "COPY", "ADD"}


def check_script(source: bytes, file: PurePath, series: str, findings: Findings) -> None:
    """Finds what keeps an entry script from being imported by that Python ("3.12")."""
    ours = sys.version_info[:2]
    theirs = tuple(map(int, series.split("."))) if series else ours
    tree: ast.Module | None = None
    with warnings.catch_warnings():
        # Of an invalid escape in a string, on standard error.
        warnings.simplefilter("ignore")
        try:
            tree = ast.parse(source, feature_version=min(ours, (theirs[0], theirs[1])))
        except SyntaxError as error:
            hint = ""
            if theirs > ours:
                running = ".".join(map(str, ours))
                hint = f"read by Python {running}; if Python {series} takes it, run this with that"
            message = f"Python cannot read it: {error.msg}"
            place = (max(error.lineno or 1, 1), max(error.offset or 1, 1))
            findings.error(Diagnostic(file, *place, "", message, hint))
        except ValueError as error:
            findings.error(Diagnostic(file, 1, 1, "", f"Python cannot read it: {error}"))
        except (RecursionError, MemoryError):
            findings.error(Diagnostic(file, 0, 0, "", "is nested too deeply"))
    if tree is not None and not _has_name(tree, "run"):
        hint = "the server calls run(data), and before that init() once"
        findings.note(Diagnostic(file, 1, 1, "", "defines no function run", hint))


def _has_name(tree: ast.Module, name: str) -> bool:
    """Whether a module may have a name, as far as its text says."""
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() if node.name == name:
                return True
            case ast.Name(id=found, ctx=ast.Store()) if found == name:
                return True
            case ast.alias() if name in (node.asname or node.name) or node.name == "*":
                return True
    return False


def check_docker_steps(text: str, file: PurePath, findings: Findings) -> None:
    """Finds instructions that would not be a step of the image, and what is no instruction."""
    lines = text.split("\n")
    number = 0
    while number < len(lines):
        line = lines[number]
        number += 1
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        first = Entry(line.strip(), file, number, len(line) - len(line.lstrip()) + 1)
        whole, number = _joined(lines, number)
        word, _, rest = whole.strip().partition(" ")
        _check_instruction(first, word.upper(), rest, findings)
        if word.upper() in _WITH_HEREDOC:
            number = _behind_heredocs(lines, number, whole, first, findings)


def _joined(lines: list[str], number: int) -> tuple[str, int]:
    """The instruction that begins on the line before `number`, and the number of the next one.

    Comments and empty lines do not end an instruction that goes on.
    """
    parts = [lines[number - 1].rstrip()]
    while parts[-1].endswith("\\") and number < len(lines):
        parts[-1] = parts[-1][:-1]
        while number < len(lines) and re.match(r"\s*(#|$)", lines[number]):
            number += 1
        if number < len(lines):
            parts.append(lines[number].rstrip())
            number += 1
    return " ".join(parts), number


def _check_instruction(first: Entry, word: str, rest: str, findings: Findings) -> None:
    inner = rest.split(maxsplit=1)[0].upper() if word == "ONBUILD" and rest.strip() else word
    if inner in _NOT_HERE:
        findings.error(first.diagnostic(f"{inner} has no place in these steps", _NOT_HERE[inner]))
    elif word not in _INSTRUCTIONS:
        hint = nearest(word, _INSTRUCTIONS) or "a command begins with RUN"
        findings.error(first.diagnostic(f"{first.text.split()[0]} is no instruction", hint))
    elif not rest.strip():
        findings.error(first.diagnostic(f"{word} says nothing", "complete or remove it"))


def _behind_heredocs(
    lines: list[str], number: int, whole: str, first: Entry, findings: Findings
) -> int:
    for _, mark in _HEREDOC.findall(whole):
        while number < len(lines) and lines[number].lstrip("\t") != mark:
            number += 1
        if number == len(lines):
            findings.error(first.diagnostic(f"the text behind <<{mark} has no end", f"add {mark}"))
        number += 1
    return number
