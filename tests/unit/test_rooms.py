"""The packages of `imagematrix`, from the ground up: each imports from those below it only."""

import ast
from pathlib import Path

from tests.unit.helpers import REPOSITORY

PACKAGE = "imagematrix"
GROUND = {"console", "errors", "files"}
FLOORS = [
    "matrix",
    "plan",
    "host",
    "repository",
    "release",
    "measure",
    "checks",
    "audit",
    "build",
    "environments",
    "publish",
    "catalogue",
    "commands",
    "cli",
]
# Rooms whose modules open no connection and ask no engine.
OFFLINE = {"matrix", "plan", "repository", "release", "catalogue"}
NETWORK = {"docker", "http", "requests", "socket", "ssl", "urllib"}


def imports(path: Path) -> set[str]:
    """The modules that a file imports, those inside functions too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.add(node.module or "")
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found


def room(module: str) -> str:
    """`imagematrix.plan.content` is in the room `plan`."""
    return module.split(".")[1]


def modules() -> dict[str, Path]:
    paths = (REPOSITORY / PACKAGE).rglob("*.py")
    named = {".".join(p.relative_to(REPOSITORY).with_suffix("").parts): p for p in paths}
    return {name: path for name, path in named.items() if path.name not in _NO_ROOM}


_NO_ROOM = {"__init__.py", "__main__.py"}


def test_every_room_is_on_a_floor() -> None:
    assert {room(module) for module in modules()} == {*GROUND, *FLOORS}


def test_room_imports_only_from_below() -> None:
    floor = {**dict.fromkeys(GROUND, -1), **{name: i for i, name in enumerate(FLOORS)}}
    for module, path in modules().items():
        for imported in imports(path):
            if imported.startswith(f"{PACKAGE}."):
                ours, theirs = room(module), room(imported)
                below = floor[theirs] < floor[ours]
                assert below or theirs == ours or {ours, theirs} <= GROUND, f"{module}: {imported}"


def test_plan_and_check_need_no_network() -> None:
    for module, path in modules().items():
        if room(module) in OFFLINE:
            reached = {name.split(".")[0] for name in imports(path)} & NETWORK
            assert not reached, f"{module}: {reached}"
