"""A build that has nothing to do: seen without a plan, and never where something changed."""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from imagematrix import cli, unchanged
from imagematrix.availability import Supply
from imagematrix.bake import BuildEnvironment
from imagematrix.bases import Bases, BaseSource
from imagematrix.buildx import Builder
from imagematrix.files import WORK_FOLDER
from imagematrix.results import Outcome, Result
from imagematrix.unchanged import Note, host_digest, take_note, tree_digest, unchanged_build
from tests.unit.helpers import MINIMAL, REPOSITORY, XGBOOST, Repository, host_config

INDEX = "https://wheels.example/cpu/torch/"
RECORD = WORK_FOLDER / "unchanged.json"
FRESH = Result(MINIMAL, Outcome.FRESH, 105.0, 0, "")
UNAVAILABLE = Result(XGBOOST, Outcome.UNAVAILABLE, None, 0, "nobody has it")


@dataclass
class World:
    """What a build finds outside of the repository."""

    machinery: Path
    images: dict[str, str] = field(default_factory=lambda: {"a:latest": "sha256:a"})
    answers: dict[str, str] = field(default_factory=dict)
    host: Any = field(default_factory=host_config)
    engine: bool = True

    def ids(self, tags: list[str]) -> dict[str, str | None]:
        """As an engine tells them."""
        return {tag: self.images.get(tag) for tag in tags}


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    world = World(tmp_path / "machinery")
    world.machinery.mkdir()
    monkeypatch.setattr(unchanged, "_MACHINERY", world.machinery)
    monkeypatch.setattr(unchanged, "find_engine", lambda: world if world.engine else None)
    monkeypatch.setattr(unchanged, "read_host_config", lambda *_: world.host)
    monkeypatch.setattr(unchanged, "why_unreachable", lambda url, _: world.answers[url])
    return world


def built(repository: Repository, *results: Result, **parts: Any) -> Note:
    """Notes a build of everything that found what is there now."""
    tree = tree_digest(repository.root)
    told: dict[str, Any] = {
        "images": {"a:latest": "sha256:a", "official:1": None}, "answers": {}, "host": "",
    }  # fmt: skip
    note = Note(tree=tree, results=results or (FRESH,), **{**told, **parts})
    take_note(repository.root, [], note)
    return note


def test_what_is_as_it_was_is_told_again(
    repository: Repository, world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    built(repository, Result(MINIMAL, Outcome.BUILT, 105.4, 12.0, "no such image yet"))

    assert unchanged_build(repository.root, []) == 0
    table = capsys.readouterr().out.splitlines()
    assert table[:2] == [
        "image                      size  time  what happened",
        f"{MINIMAL}  105 MB        fresh",
    ]
    assert table[2].startswith("1 fresh in 0.")

    assert unchanged_build(repository.root, ["--json"]) == 0
    row = {"name": MINIMAL, "outcome": "fresh", "megabytes": 105.4, "seconds": 0, "detail": ""}
    assert json.loads(capsys.readouterr().out) == [row]


def test_an_unavailable_image_is_one_as_long_as_its_index_answers_the_same(
    repository: Repository, world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "wheels").mkdir()
    world.host = host_config(wheel_folders=(tmp_path / "wheels",))
    world.answers[INDEX] = "answers 404 Not Found"
    built(repository, FRESH, UNAVAILABLE, answers=dict(world.answers), host=host_digest(world.host))

    assert unchanged_build(repository.root, []) == 0
    assert "1 fresh, 1 unavailable in" in capsys.readouterr().out
    assert unchanged_build(repository.root, ["--strict"]) == 1

    world.answers[INDEX] = ""
    assert unchanged_build(repository.root, []) is None
    world.answers[INDEX] = "answers 404 Not Found"
    (tmp_path / "wheels" / "torch-1-py3-none-any.whl").write_bytes(b"a wheel")
    assert unchanged_build(repository.root, []) is None


def _edit(path: str) -> Callable[[Repository, World], None]:
    def edit(repository: Repository, _: World) -> None:
        assert (repository.root / path).is_file()
        repository.put(path, "something else")

    return edit


CHANGES: dict[str, Callable[[Repository, World], object]] = {
    "the matrix": _edit("matrix.yaml"),
    "a template": _edit("frameworks/Dockerfile.j2"),
    "the server": _edit("base/server/app.py"),
    "a new file": lambda repository, _: repository.put("base/server/new.py", "pass\n"),
    "the tools": lambda repository, _: repository.put("requirements.txt", "jinja2==4\n"),
    "a lock": _edit(f"frameworks/xgboost/{XGBOOST}/requirements.txt"),
    "the machinery": lambda _, world: (world.machinery / "render.py").write_text("pass"),
    "a file that is gone": lambda repository, _: (repository.root / "base/Dockerfile.j2").unlink(),
    "another image": lambda _, world: world.images.update({"a:latest": "sha256:b"}),
    "an image that is gone": lambda _, world: world.images.clear(),
    "an official base": lambda _, world: world.images.update({"official:1": "sha256:c"}),
    "no engine": lambda _, world: setattr(world, "engine", False),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_what_changed_needs_a_plan(
    change: Callable[[Repository, World], object],
    repository: Repository,
    world: World,
    capsys: pytest.CaptureFixture[str],
) -> None:
    built(repository)
    assert unchanged_build(repository.root, []) == 0
    capsys.readouterr()

    change(repository, world)

    assert unchanged_build(repository.root, []) is None
    assert capsys.readouterr().out == ""


def test_another_selection_needs_a_plan_of_its_own(repository: Repository, world: World) -> None:
    built(repository)
    take_note(repository.root, ["a*", "--json"], built(repository))

    assert unchanged_build(repository.root, ["a*"]) == 0
    assert unchanged_build(repository.root, ["b*"]) is None
    assert unchanged_build(repository.root, ["--force"]) is None


def test_notes_of_other_files_are_forgotten(repository: Repository, world: World) -> None:
    take_note(repository.root, ["a*"], built(repository))
    repository.put("base/server/app.py", "something else")
    built(repository)

    assert list(json.loads((repository.root / RECORD).read_text())) == ["[]"]


@pytest.mark.parametrize(
    "record",
    [
        "",
        "[]",
        "{}",
        "\0",
        '{"[]": {}}',
        '{"[]": {"results": [{}]}}',
        '{"[]": {"results": [{"outcome": "new"}]}}',
    ],
)
def test_a_record_that_says_nothing_is_as_none(
    record: str, repository: Repository, world: World
) -> None:
    assert unchanged_build(repository.root, []) is None
    repository.put(str(RECORD), record)

    assert unchanged_build(repository.root, []) is None
    built(repository)
    assert unchanged_build(repository.root, []) == 0


def test_what_stands_behind_two_dashes_is_no_option(repository: Repository, world: World) -> None:
    take_note(repository.root, ["--"], built(repository))

    assert unchanged_build(repository.root, ["--", "--json"]) is None


def test_any_name_of_a_file_is_read(repository: Repository) -> None:
    before = tree_digest(repository.root)
    (repository.root / "base" / os.fsdecode(b"\xff")).write_bytes(b"")
    assert tree_digest(repository.root) != before


def prepared(repository: Repository, world: World, **parts: Any) -> cli._Prepared:
    """What a build of the first two images has before it begins: the one is fresh, the other not,
    on stand-ins for the base images of which one has its official name here as well."""
    first, second = repository.project.variants[:2]
    ids = {"debian:trixie-slim": "sha256:d", "python:3.12-slim-trixie": "sha256:p"}
    world.images = {"debian:trixie-slim": "sha256:o"}
    told: dict[str, Any] = {
        "engine": world,
        "builder": Builder(),
        "bases": Bases(BaseSource.BOOTSTRAP, {name: f"bootstrap/{name}" for name in ids}, ids),
        "host": world.host,
        "supplies": {},
        "steps": [SimpleNamespace(variant=first), SimpleNamespace(variant=second)],
        "environment": BuildEnvironment(), "variables": {},
        "present": {first.name: {"Id": "sha256:a"}},
    }  # fmt: skip
    return cli._Prepared(**{**told, **parts})


def test_a_build_finds_its_images_its_bases_and_their_official_names(
    repository: Repository, world: World
) -> None:
    found = cli._note_before(prepared(repository, world), "tree")

    assert found == Note(
        tree="tree",
        images={
            "bootstrap/debian:trixie-slim": "sha256:d",
            "bootstrap/python:3.12-slim-trixie": "sha256:p",
            "debian:trixie-slim": "sha256:o",
            "python:3.12-slim-trixie": None,
            f"{MINIMAL}:latest": "sha256:a",
            f"{XGBOOST}:latest": None,
        },
        answers={},
        host="",
        results=(),
    )


def test_a_build_finds_what_an_index_answered(repository: Repository, world: World) -> None:
    supplies = {MINIMAL: Supply(), XGBOOST: Supply(unavailable="…", asked=(INDEX, "answers 404"))}
    found = cli._note_before(prepared(repository, world, supplies=supplies), "tree")

    assert found is not None
    assert (found.answers, found.host) == ({INDEX: "answers 404"}, host_digest(world.host))


def test_a_base_image_that_may_come_is_looked_for_again(
    repository: Repository, world: World
) -> None:
    bases = Bases(BaseSource.REGISTRY, {}, {}, {"nvidia/cuda:11": "no route"})
    assert cli._note_before(prepared(repository, world, bases=bases), "tree") is None


@pytest.mark.parametrize(
    ("outcomes", "noted"),
    [
        ([Outcome.FRESH, Outcome.BUILT], True),
        ([Outcome.FRESH, Outcome.UNAVAILABLE], True),
        ([Outcome.BUILT, Outcome.FAILED], False),
    ],
)
def test_a_build_that_failed_is_tried_again(
    outcomes: list[Outcome], noted: bool, repository: Repository, world: World
) -> None:
    before = prepared(repository, world)
    found = cli._note_before(before, tree_digest(repository.root))
    assert found is not None
    names = [step.variant.name for step in before.steps]
    results = [
        Result(name, outcome, 1.0, 0, "") for name, outcome in zip(names, outcomes, strict=True)
    ]
    world.images |= {
        "bootstrap/debian:trixie-slim": "sha256:d",
        "bootstrap/python:3.12-slim-trixie": "sha256:p",
        f"{MINIMAL}:latest": "sha256:a",
    }
    if Outcome.BUILT in outcomes:
        world.images[f"{names[outcomes.index(Outcome.BUILT)]}:latest"] = "sha256:new"

    options = argparse.Namespace(given=[])
    cli._note_after(repository.project, options, before.engine, found, results)

    assert unchanged_build(repository.root, []) == (0 if noted else None)


@pytest.mark.parametrize("option", ["--force", "--pull"])
def test_what_is_asked_for_anew_is_never_told_from_a_note(
    option: str, repository: Repository, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = prepared(repository, world)
    monkeypatch.chdir(repository.root)
    monkeypatch.setattr(cli, "_prepare", lambda *_: before)
    monkeypatch.setattr(cli, "_require_disk", lambda *_: None)
    monkeypatch.setattr(cli, "_free_megabytes", lambda _: None)
    monkeypatch.setattr(cli, "run_build", lambda *_, **__: (FRESH,))

    assert cli.main(["build", option]) == 0
    assert not (repository.root / RECORD).exists()
    assert cli.main(["build"]) == 0
    assert list(json.loads((repository.root / RECORD).read_text())) == ["[]"]


def test_a_note_that_cannot_be_written_takes_nothing_from_the_build(
    repository: Repository, world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    before = prepared(repository, world)
    (repository.root / WORK_FOLDER).write_text("no folder")
    options = argparse.Namespace(given=[])

    found = cli._note_before(before, "")
    assert found is not None
    cli._note_after(repository.project, options, before.engine, found, [FRESH])

    assert capsys.readouterr().err.startswith("The next build looks at everything again: ")


def test_what_does_not_make_images_is_no_part_of_the_files(repository: Repository) -> None:
    before = tree_digest(repository.root)
    (repository.root / "base" / ".#lock").symlink_to("nowhere")
    linked = tree_digest(repository.root)
    repository.put("base/server/__pycache__/app.cpython-311.pyc", "bytecode")
    repository.put("README.md", "something else")

    assert tree_digest(repository.root) == linked != before


def test_what_plans_is_not_imported_to_see_that_nothing_changed() -> None:
    loaded = subprocess.run(
        [sys.executable, "-c", "import sys, imagematrix.unchanged; print(*sys.modules)"],
        cwd=REPOSITORY, env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    assert "imagematrix.engine" in loaded
    assert not {"pydantic", "yaml", "jinja2", "docker", "http.client"} & set(loaded)
