"""The workflows compute their fan-out and run every suite; their risks are a matter of `check`."""

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from imagematrix.cli import main, parse
from imagematrix.commands.options import selection_of
from imagematrix.matrix.selection import select
from imagematrix.repository.project import Project
from tests.unit.helpers import REPOSITORY
from tests.unit.sessions import calls_of, words_of

WORKFLOWS = sorted((REPOSITORY / ".github/workflows").glob("*.yml"))
PROJECT = Project(REPOSITORY)
FAN_OUT = re.compile(r"\$\{\{ fromJSON\(needs\.(\w+)\.outputs\.(\w+)\) \}\}")
OUTPUT = re.compile(r"\$\{\{ steps\.(\w+)\.outputs\.(\w+) \}\}")

every_workflow = pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)


def jobs_of(path: Path) -> dict[str, dict[str, Any]]:
    jobs: dict[str, dict[str, Any]] = yaml.safe_load(path.read_text())["jobs"]
    return jobs


@every_workflow
def test_no_image_is_named(path: Path) -> None:
    named = [v.name for v in PROJECT.variants if v.name in path.read_text()]
    assert not named, f"{named} would have to be kept up by hand"


@every_workflow
def test_fan_out_is_that_of_the_matrix(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job for each image takes the images from the output of a session before it."""
    jobs = jobs_of(path)
    monkeypatch.chdir(REPOSITORY)
    fanned: list[str] = []
    for name, job in jobs.items():
        images = job.get("strategy", {}).get("matrix", {}).get("image")
        if images is None:
            continue
        source = FAN_OUT.fullmatch(images)
        assert source, f"{images!r} is written, not computed"
        before, output = source.groups()
        assert before in job["needs"]
        match = OUTPUT.fullmatch(jobs[before]["outputs"][output])
        assert match
        (step,) = [step for step in jobs[before]["steps"] if step.get("id") == match[1]]
        ((session, options),) = calls_of(step["run"])
        assert session == "names"

        file = tmp_path / name
        monkeypatch.setenv("GITHUB_OUTPUT", str(file))
        assert main(["names", *options]) == 0
        key, _, value = file.read_text().partition("=")
        chosen = select(PROJECT.variants, selection_of(parse(["names", *options])))
        assert (key, json.loads(value)) == (match[2], [variant.name for variant in chosen])
        fanned += json.loads(value)
    assert len(fanned) == len(set(fanned)), "an image is built by two jobs"


def test_every_image_is_built_somewhere() -> None:
    built: set[str] = set()
    for path in WORKFLOWS:
        for session, options in calls_of(path.read_text()):
            if session == "names":
                chosen = select(PROJECT.variants, selection_of(parse(["names", *options])))
                built |= {variant.name for variant in chosen}
    assert built == {variant.name for variant in PROJECT.variants}


def test_unit_tests_run_on_every_python_from_the_oldest_on() -> None:
    oldest = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    pythons = [
        job["strategy"]["matrix"]["python"]
        for path in WORKFLOWS
        for job in jobs_of(path).values()
        if "python" in job.get("strategy", {}).get("matrix", {})
    ]
    assert [f">={versions[0]}" for versions in pythons] == [oldest["requires-python"]]
    assert pythons[0] == [f"3.{minor}" for minor in range(11, 11 + len(pythons[0]))]


def test_every_suite_runs_somewhere() -> None:
    """Each folder of tests is in a session that a workflow runs."""
    suites = {f"tests/{path.parent.name}" for path in (REPOSITORY / "tests").glob("*/test_*.py")}
    assert suites
    run = {session for path in WORKFLOWS for session, _ in calls_of(path.read_text())}
    missing = suites - set().union(*(words_of(session) for session in run))
    assert not missing, f"no workflow runs {missing}"
