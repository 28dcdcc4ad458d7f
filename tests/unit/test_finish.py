"""The program that finishes what an image installs: it removes, strips and compiles by rules."""

import importlib.util
import os
import py_compile
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.unit.helpers import REPOSITORY

PROGRAM = REPOSITORY / "base" / "tools" / "bin" / "finish.py"


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("finish", PROGRAM)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """The library of an interpreter, with modules and what serving does not need."""
    library = tmp_path / "python3.x"
    for name in (
        "json/tool.py",
        "test/regrtest.py",
        "site-packages/numpy/core.py",
        "site-packages/numpy/tests/test_core.py",
        "site-packages/numpy/core.pyi",
        "site-packages/scipy/deep/er/tests/test_x.py",
        "site-packages/pip/main.py",
    ):
        path = library / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x = 1\n")
    (library / "link.py").symlink_to("json/tool.py")
    (library / "site-packages" / "broken.py").write_text("this is no Python\n")
    return library


def finish(library: Path, tmp_path: Path, rules: str, *folders: Path) -> set[str]:
    """Runs the program on a library; returns the files that are there then."""
    (tmp_path / "slim.txt").write_text(rules)
    module = load()
    vars(module)["LIBRARY"] = str(library)
    module.main(str(tmp_path / "slim.txt"), *map(str, folders))
    return {p.relative_to(library).as_posix() for p in library.rglob("*") if not p.is_dir()}


def compiled(files: set[str]) -> set[str]:
    return {str(Path(f).parent.parent / Path(f).name.split(".")[0]) for f in files if "pyc" in f}


def test_patterns_match_below_any_folder_and_a_folder_goes_as_a_whole(
    library: Path, tmp_path: Path
) -> None:
    rules = "remove test  # of Python\nremove site-packages/*/tests\nremove *.pyi\n"

    files = finish(library, tmp_path, rules)

    assert {f for f in files if f.endswith((".py", ".pyi"))} == {
        "json/tool.py",
        "link.py",
        "site-packages/numpy/core.py",
        "site-packages/pip/main.py",
        "site-packages/broken.py",
    }


def test_what_is_left_gets_bytecode_but_for_source_rules_links_and_what_does_not_compile(
    library: Path, tmp_path: Path
) -> None:
    server = tmp_path / "server"
    server.mkdir()
    (server / "app.py").write_text("x = 1\n")

    files = finish(library, tmp_path, "remove */tests\nremove test\nsource site-packages/pip/*\n",
                   server)  # fmt: skip

    assert compiled(files) == {"json/tool", "site-packages/numpy/core"}
    assert len(list((server / "__pycache__").iterdir())) == 1


def test_a_source_that_changes_is_what_runs(library: Path, tmp_path: Path) -> None:
    finish(library, tmp_path, "")
    module = library / "json" / "tool.py"
    times = module.stat()
    module.write_text("x = 2\n")
    os.utime(module, ns=(times.st_atime_ns, times.st_mtime_ns))

    command = [sys.executable, "-B", "-c", "import tool; print(tool.x)"]
    result = subprocess.run(command, cwd=module.parent, capture_output=True, text=True, check=True)

    assert result.stdout == "2\n"


def test_bytecode_that_is_there_stays(library: Path, tmp_path: Path) -> None:
    """That of the parent, for one: another time would copy it into the layer of a child."""
    module = library / "json" / "tool.py"
    there = Path(py_compile.compile(str(module), doraise=True) or "")
    before = (there.read_bytes(), there.stat().st_mtime_ns)

    finish(library, tmp_path, "")

    assert (there.read_bytes(), there.stat().st_mtime_ns) == before


def test_the_same_files_give_the_same_bytecode(library: Path, tmp_path: Path) -> None:
    def run() -> dict[str, bytes]:
        files = finish(library, tmp_path, "")
        found = {f: (library / f).read_bytes() for f in files if f.endswith(".pyc")}
        for name in found:
            (library / name).unlink()
        return found

    for number in range(40):
        text = f"a = {{'x', 'y', 'z{number}'}}\ndef f(b): return b in {{'p', 'q', 'r'}}\n"
        (library / f"module{number}.py").write_text(text)

    assert run() == run()


@pytest.mark.parametrize("rule", ["delete x", "remove", "remove a b"])
def test_a_rule_that_is_none_fails_the_build(rule: str, library: Path, tmp_path: Path) -> None:
    with pytest.raises((KeyError, ValueError)):
        finish(library, tmp_path, f"{rule}\n")
