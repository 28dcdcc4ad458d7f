"""The workflows hold nothing but set-up and `nox -s …`, may only read, and name no image."""

import ast
import json
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from imagematrix.cli import main, parse
from imagematrix.commands.options import selection_of
from imagematrix.matrix.selection import select
from imagematrix.repository.project import Project
from tests.unit.helpers import REPOSITORY

WORKFLOWS = sorted((REPOSITORY / ".github/workflows").iterdir())
SETUP = {
    re.compile(r"actions/checkout@(v\d+|[0-9a-f]{40})"): {"persist-credentials"},
    re.compile(r"actions/setup-python@(v\d+|[0-9a-f]{40})"): {"python-version"},
}
INSTALL = "pip install nox"
# A session, then plain words, quoted patterns and the image of the fan-out: nothing for a shell.
SESSION = re.compile(
    r"nox -s (?P<session>\w+)"
    r"( --(?P<options>( ([\w./-]+|'[\w.*?-]+'|\$\{\{ matrix\.image \}\}))+))?"
)
FAN_OUT = re.compile(r"\$\{\{ fromJSON\(needs\.(\w+)\.outputs\.(\w+)\) \}\}")

every_workflow = pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)


def nox_sessions() -> dict[str, ast.FunctionDef]:
    """The sessions of the noxfile, by name: the functions that a decorator makes one of."""
    tree = ast.parse((REPOSITORY / "noxfile.py").read_text())
    return {
        node.name: node
        for node in tree.body
        if isinstance(node, ast.FunctionDef)
        and any("session" in ast.unparse(decorator) for decorator in node.decorator_list)
    }


def read(path: Path) -> dict[Any, Any]:
    workflow = yaml.safe_load(path.read_text())
    assert isinstance(workflow, dict)
    return workflow


def jobs_of(path: Path) -> dict[str, dict[str, Any]]:
    jobs: dict[str, dict[str, Any]] = read(path)["jobs"]
    assert jobs
    return jobs


def steps_of(path: Path) -> list[dict[str, Any]]:
    return [step for job in jobs_of(path).values() for step in job["steps"]]


def calls_of(path: Path) -> Iterator[tuple[str, list[str]]]:
    """Each session that a workflow runs, with what stands behind `--`."""
    for step in steps_of(path):
        match = SESSION.fullmatch(step.get("run", ""))
        if match:
            yield match["session"], shlex.split((match["options"] or "").replace("${{", "'${{'"))


def test_there_are_both() -> None:
    assert [path.name for path in WORKFLOWS] == ["nightly.yml", "pull-request.yml"]


@every_workflow
def test_steps_are_set_up_or_sessions(path: Path) -> None:
    for step in steps_of(path):
        if "uses" in step:
            known = [keys for uses, keys in SETUP.items() if uses.fullmatch(step["uses"])]
            assert known, f"{step['uses']} is neither checkout nor setup-python"
            assert step.keys() <= {"uses", "with"}
            assert step.get("with", {}).keys() <= known[0]
        else:
            assert step.keys() <= {"id", "run"}, f"{step} does more than to run"
            run = step["run"]
            assert run == INSTALL or SESSION.fullmatch(run), f"{run!r} is no session"


@every_workflow
def test_each_job_sets_up_and_then_runs_sessions(path: Path) -> None:
    for name, job in jobs_of(path).items():
        steps = [step.get("uses", step.get("run", "")).split("@")[0] for step in job["steps"]]
        assert steps[:3] == ["actions/checkout", "actions/setup-python", INSTALL], name
        assert steps[3:], f"{name} runs no session"
        assert all(step.startswith("nox -s ") for step in steps[3:]), name


@every_workflow
def test_sessions_exist(path: Path) -> None:
    calls = list(calls_of(path))
    assert calls
    unknown = {session for session, _ in calls} - nox_sessions().keys()
    assert not unknown, f"the noxfile has no session {unknown}"


@every_workflow
def test_options_are_those_of_the_commands(path: Path) -> None:
    for session, options in calls_of(path):
        command = "build" if session in ("test", "test_images") else session
        if command in ("build", "examples", "names"):
            parse([command, *options])  # Leaves with an error where one is unknown.


@every_workflow
def test_may_only_read(path: Path) -> None:
    assert read(path)["permissions"] == {"contents": "read"}
    assert not [name for name, job in jobs_of(path).items() if "permissions" in job]
    assert "secrets." not in path.read_text()
    # With this trigger, the code of a stranger would run with the rights of the repository.
    triggers = read(path)[True]  # YAML 1.1 reads the key `on` as a truth value.
    assert "pull_request_target" not in triggers
    assert "workflow_run" not in triggers


@every_workflow
def test_checkout_keeps_no_credentials(path: Path) -> None:
    checkouts = [s for s in steps_of(path) if s.get("uses", "").startswith("actions/checkout")]
    assert checkouts
    assert all(step["with"]["persist-credentials"] is False for step in checkouts)


@every_workflow
def test_jobs_are_bounded(path: Path) -> None:
    assert "group" in read(path)["concurrency"]
    for name, job in jobs_of(path).items():
        known = {"needs", "runs-on", "timeout-minutes", "outputs", "strategy", "steps"}
        assert job.keys() <= known, f"{name} has {job.keys() - known}"
        assert 0 < job["timeout-minutes"] <= 120, name
        if "strategy" in job:
            assert job["strategy"]["fail-fast"] is False, name


@every_workflow
def test_fan_out_is_computed(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = jobs_of(path)
    project = Project(REPOSITORY)
    fans = {name: job["strategy"]["matrix"] for name, job in jobs.items() if "strategy" in job}
    # The one that is no fan of images: the Pythons of the unit tests.
    fans = {name: matrix for name, matrix in fans.items() if matrix.keys() != {"python"}}
    assert fans
    monkeypatch.chdir(REPOSITORY)
    fanned: list[str] = []
    for fan, matrix in fans.items():
        assert matrix.keys() == {"image"}
        source = FAN_OUT.fullmatch(matrix["image"])
        assert source, f"{matrix['image']!r} is written, not computed"
        job, output = source.groups()
        assert job in jobs[fan]["needs"]
        told = re.fullmatch(
            r"\$\{\{ steps\.(\w+)\.outputs\.(\w+) \}\}", jobs[job]["outputs"][output]
        )
        assert told is not None
        (step,) = [step for step in jobs[job]["steps"] if step.get("id") == told[1]]
        call = SESSION.fullmatch(step["run"])
        assert call is not None
        assert call["session"] == "names"
        options = shlex.split(call["options"])
        name = options[options.index("--github-output") + 1]
        assert name == told[2]

        # What the step gives is what the matrix gives.
        file = tmp_path / fan
        monkeypatch.setenv("GITHUB_OUTPUT", str(file))
        assert main(["names", *options]) == 0
        key, _, value = file.read_text().partition("=")
        chosen = select(project.variants, selection_of(parse(["build", *without(options, name)])))
        assert (key, json.loads(value)) == (name, [variant.name for variant in chosen])
        fanned += json.loads(value)
    assert len(fanned) == len(set(fanned)), "an image is built by two jobs"
    if path.name == "nightly.yml":
        assert set(fanned) == {variant.name for variant in project.variants}


def without(options: list[str], output: str) -> list[str]:
    """The options that choose images."""
    return [option for option in options if option not in ("--github-output", output)]


def test_the_unit_tests_run_on_every_python_from_the_oldest_on() -> None:
    job = jobs_of(REPOSITORY / ".github/workflows/pull-request.yml")["unit"]
    pythons = job["strategy"]["matrix"]["python"]
    oldest = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"][
        "requires-python"
    ]
    assert oldest == f">={pythons[0]}"
    assert pythons == [f"3.{minor}" for minor in range(11, 11 + len(pythons))]
    (setup,) = [s for s in job["steps"] if s.get("uses", "").startswith("actions/setup-python")]
    assert setup["with"] == {"python-version": "${{ matrix.python }}"}


@every_workflow
def test_no_image_is_named(path: Path) -> None:
    text = path.read_text()
    named = [v.name for v in Project(REPOSITORY).variants if v.name in text]
    assert not named, f"{named} would have to be kept up by hand"


def test_every_suite_runs_somewhere() -> None:
    """Each folder of tests is in a session that a workflow runs."""
    suites = {
        f"tests/{path.name}"
        for path in (REPOSITORY / "tests").iterdir()
        if list(path.glob("test_*.py"))
    }
    assert len(suites) >= 5
    run = {session for path in WORKFLOWS for session, _ in calls_of(path)}
    missing = suites - set().union(*(suites_of(session) for session in run))
    assert not missing, f"no workflow runs {missing}"


def suites_of(session: str) -> set[str]:
    """The folders of tests that a session names, or a session that it calls."""
    nodes = list(ast.walk(nox_sessions()[session]))
    found = {n.value for n in nodes if isinstance(n, ast.Constant) and isinstance(n.value, str)}
    called = {n.func.id for n in nodes if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)}
    own = {text for text in found if text.startswith("tests/")}
    return own.union(*(suites_of(name) for name in (called & nox_sessions().keys()) - {session}))
