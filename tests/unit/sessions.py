"""The sessions of the noxfile, and how texts call them."""

import ast
import re
import shlex
from collections.abc import Iterator
from functools import cache

from benchmarks.builds import parse as parse_bench
from imagematrix.cli import parse
from tests.unit.helpers import REPOSITORY

# Up to what ends a command in a page: its code, a comment, a cell of a table, another command.
_CALL = re.compile(r"nox -s (?P<session>\w+)(?: -- (?P<options>[^`#|&;\n]+))?")


@cache
def sessions() -> dict[str, ast.FunctionDef]:
    """The sessions, by name: the functions that a decorator makes one of."""
    tree = ast.parse((REPOSITORY / "noxfile.py").read_text())
    return {
        node.name: node
        for node in tree.body
        if isinstance(node, ast.FunctionDef)
        and any("session" in ast.unparse(decorator) for decorator in node.decorator_list)
    }


def calls_of(text: str) -> Iterator[tuple[str, list[str]]]:
    """Each session that a page, a script or a workflow calls, with what it is given behind `--`."""
    for match in _CALL.finditer(text.replace("\\\n", " ")):
        yield match["session"], shlex.split(match["options"] or "")


def reached_from(session: str) -> set[str]:
    """The session and all that it calls."""
    calls = [node for node in ast.walk(sessions()[session]) if isinstance(node, ast.Call)]
    called = {call.func.id for call in calls if isinstance(call.func, ast.Name)}
    return {session}.union(*(reached_from(name) for name in called & sessions().keys()))


def words_of(session: str) -> set[str]:
    """Every text in the code of a session and of those that it calls."""
    nodes = [node for name in reached_from(session) for node in ast.walk(sessions()[name])]
    return {n.value for n in nodes if isinstance(n, ast.Constant) and isinstance(n.value, str)}


def check_call(session: str, options: list[str]) -> None:
    """Leaves with SystemExit, as argparse does, where a session does not take these options."""
    for name in reached_from(session):
        for call in ast.walk(sessions()[name]):
            if isinstance(call, ast.Call) and ast.unparse(call.func) == "imagematrix":
                given = [one.value for one in call.args[1:] if isinstance(one, ast.Constant)]
                parse([*map(str, given), *options])
    if "benchmarks.builds" in words_of(session):
        parse_bench(options)
