"""The parts that can be tested alone."""

from __future__ import annotations

import ast
import graphlib
import inspect
import logging
import os
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .harness import PYTHON, SOURCE

sys.path.insert(0, str(SOURCE))

from inference_server import app, config, exit_codes
from inference_server.script import inputs, outputs
from inference_server.workers import frames, messages


def call(
    method: str = "POST", content: bytes = b"", kind: str = "", query: str = ""
) -> messages.Call:
    return messages.Call(method, "/score", query, kind, {}, "", content)


def test_settings_have_the_defaults_of_the_contract() -> None:
    settings = config.load({})
    assert settings.app_root == "/var/azureml-app"
    assert settings.script_path == "/var/azureml-app/main.py"
    assert (settings.port, settings.worker_count, settings.worker_timeout_s) == (5001, 1, 300)
    assert settings.scoring_timeout_ms == 3_600_000
    assert settings.warnings == ()
    assert settings.body_limit == 100 * 1024 * 1024
    assert settings.concurrency == 1


def test_an_idle_connection_outlives_those_of_balancers() -> None:
    """They keep theirs for 60 s: the end must come from them, or a request is lost."""
    assert config.load({}).idle_timeout_s > 60


def test_all_wrong_settings_are_reported_at_once() -> None:
    with pytest.raises(exit_codes.FatalError) as fault:
        config.load({"WORKER_COUNT": "0", "SERVER_PORT": "http", "WORKER_PRELOAD": "perhaps"})
    assert fault.value.code == 3
    for text in ("WORKER_COUNT='0'", "SERVER_PORT='http'", "WORKER_PRELOAD='perhaps'"):
        assert text in fault.value.message


def test_empty_settings_are_no_settings() -> None:
    assert config.load({"WORKER_COUNT": "", "AZUREML_MODEL_DIR": ""}).worker_count == 1


def test_a_config_file_fills_what_the_environment_leaves_out(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"SCORING_TIMEOUT_MS": 5, "SERVICE_NAME": "file"}')
    settings = config.load({"AML_APP_ROOT": str(tmp_path), "SERVICE_NAME": "environment"})
    assert (settings.scoring_timeout_ms, settings.service_name) == (5, "environment")


def test_the_config_file_of_a_model_is_ignored(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"hidden_size": 768}')
    assert config.load({"AML_APP_ROOT": str(tmp_path)}).worker_count == 1


def test_ids_are_random_uuids() -> None:
    made = {app.new_id() for _ in range(1000)}
    assert len(made) == 1000
    for text in made:
        parsed = uuid.UUID(text)
        assert (parsed.version, parsed.variant, str(parsed)) == (4, uuid.RFC_4122, text)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("x=1&x=2&y=z", {"x": [1, 2], "y": "z"}),
        ("x=NaN-like&y=1e3&z={}", {"x": "NaN-like", "y": 1000.0, "z": {}}),
        ("x=%ff", {"x": "%FF"}),
        ("&&=&", {"": ""}),
    ],
)
def test_query(query: str, expected: dict[str, Any]) -> None:
    assert inputs.query_parameters(query) == expected


def make_schema_input() -> inputs.SchemaInput:
    def run(data: Any, extra: int = 3) -> None: ...

    return inputs.SchemaInput(list(inspect.signature(run).parameters.values()))


def test_schema_input() -> None:
    parse = make_schema_input()
    kind = "application/json; charset=utf-8"
    assert parse(call(content=b'{"data": [1]}', kind=kind)) == {"data": [1], "extra": 3}
    assert parse(call("GET", query="data=1&extra=2")) == {"data": 1, "extra": 2}


@pytest.mark.parametrize(
    ("content", "kind", "status", "message"),
    [
        (b"{}", "text/plain", 415, "Expects Content-Type to be application/json"),
        (b"{}", "", 415, "Expects Content-Type to be application/json"),
        (b"{", "application/json", 400, "POST body could not be decoded as JSON: "),
        (b"", "application/json", 400, "POST body is empty. Expecting a JSON dictionary."),
        (b"[1]", "application/json", 400, "POST body should be a JSON dictionary."),
        (b"\xff\xff", "application/json", 400, "Input cannot be decoded as UTF-8: "),
        (b"{}", "application/json", 400, "A value is not provided for the 'data' parameter."),
        (b"[" * 100_000, "application/json", 400, ""),
    ],
)
def test_schema_input_refuses(content: bytes, kind: str, status: int, message: str) -> None:
    with pytest.raises(messages.RefusedError) as refused:
        make_schema_input()(call(content=content, kind=kind))
    assert refused.value.status == status
    assert refused.value.message.startswith(message)


@pytest.mark.parametrize("result", [float("nan"), float("inf"), {"a": 1j}, {(1, 2): 3}, b"x"])
def test_results_without_a_json_form(result: object) -> None:
    with pytest.raises(outputs.UnserialisableError):
        outputs.make(result)


def test_frames() -> None:
    ours, theirs = socket.socketpair()
    large = bytes(range(256)) * 40
    for content in (b"", b"abc", large):
        frames.send(ours, frames.SCORE, 7, ("a", {"b": 1}), content, 1.5)
    frames.send(ours, frames.READY)
    reader = frames.Reader(theirs)
    for content in (b"", b"abc", large):
        assert reader.next() == (frames.SCORE, 7, ("a", {"b": 1}), content, 1.5)
    assert reader.next() == (frames.READY, 0, None, b"", 0.0)
    ours.sendall(frames.pack(frames.SCORE, 0, None, b"abc")[:-1])
    ours.close()
    with pytest.raises(frames.ClosedError):
        reader.next()


# The rooms of the package, the lowest first: their modules, and the rooms that they may import. A
# name that ends with a dot means all modules of a package that no other room has. What runs in
# the service's process and what runs in a worker's meet in the first two rooms only.
ROOMS: dict[str, tuple[str, str]] = {
    "protocol": ("workers.frames workers.messages", ""),
    "ground": (
        "account cgroup config encoding exit_codes interpreter log swagger syntax __init__",
        "",
    ),
    "workers": ("workers.", "protocol ground"),
    "app": ("app memory metrics", "protocol ground workers"),
    "http": ("http.", "protocol ground workers app"),
    "service": (
        "__main__ azmlinfsrv extra_packages health service",
        "protocol ground workers app http",
    ),
    "vendored": ("_vendor.", ""),
    "aml": ("aml.", "protocol ground vendored"),
    "script": ("script.", "protocol ground aml"),
}
PACKAGE = Path(app.__file__).parent


def modules() -> dict[str, Path]:
    """The files of all modules by their names in the package; a package is ``name.__init__``."""
    return {
        ".".join(file.relative_to(PACKAGE).with_suffix("").parts): file
        for file in PACKAGE.rglob("*.py")
    }


def room_of(module: str) -> str:
    exact = [room for room, (names, _) in ROOMS.items() if module in names.split()]
    folder = module.partition(".")[0] + "."
    [room] = exact or [room for room, (names, _) in ROOMS.items() if folder in names.split()]
    return room


def imported(module: str, file: Path) -> Iterator[str]:
    """The modules of the package that a module imports, wherever in its text it does."""
    names = modules()
    here = module.split(".")[:-1]
    for node in ast.walk(ast.parse(file.read_text())):
        if not isinstance(node, ast.ImportFrom) or not node.level:
            continue
        base = here[: len(here) - node.level + 1]
        if node.module:
            base += node.module.split(".")
        for alias in node.names:
            for path in ([*base, alias.name], base, [*base, "__init__"]):
                if ".".join(path) in names:
                    yield ".".join(path)
                    break


def test_a_room_imports_only_what_is_below_it() -> None:
    below: list[str] = []
    for room, (_, allowed) in ROOMS.items():
        assert set(allowed.split()) <= set(below), room
        below.append(room)
    graph = {module: set(imported(module, file)) for module, file in modules().items()}
    for module, others in graph.items():
        room = room_of(module)
        for other in others:
            assert room_of(other) in (room, *ROOMS[room][1].split()), f"{module} imports {other}"
    ours = {module for module in graph if room_of(module) != "vendored"}
    graphlib.TopologicalSorter({module: graph[module] & ours for module in ours}).prepare()


@pytest.mark.parametrize(
    ("start", "present", "absent"),
    [
        ("service", ("http.listener", "workers.supervisor"), ("script", "aml", "_vendor")),
        ("health", ("config",), ("script", "aml", "_vendor", "http", "workers", "app", "log")),
        ("script.worker", ("script.load",), ("aml", "_vendor", "http", "app", "workers.pool")),
    ],
)
def test_a_process_loads_its_own_rooms_only(
    start: str, present: tuple[str, ...], absent: tuple[str, ...]
) -> None:
    code = f"import sys, inference_server.{start}; print(*sys.modules)"
    environ = {**os.environ, "PYTHONPATH": str(SOURCE)}
    output = subprocess.run(
        [PYTHON, "-c", code], env=environ, stdout=subprocess.PIPE, check=True, text=True
    ).stdout
    prefix = "inference_server."
    loaded = {name[len(prefix) :] for name in output.split() if name.startswith(prefix)}
    assert loaded.issuperset(present)
    assert not [name for name in loaded if f"{name}.".startswith(tuple(f"{a}." for a in absent))]


def test_the_package_needs_only_the_standard_library() -> None:
    """What the modules import at their top, by the syntax tree; httptools is imported late."""
    files = modules().values()
    assert len(files) > 40
    for file in files:
        for node in ast.parse(file.read_text()).body:
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [str(node.module)]
            for name in names:
                top = name.split(".")[0]
                assert top in sys.stdlib_module_names, f"{file.name} imports {name}"


def test_logging_is_untouched_by_imports() -> None:
    assert logging.basicConfig.__module__ == "logging"
