"""The workflows compute their fan-out and run every suite; their risks are a matter of `check`."""

import json
import re
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


def fan_out_of(jobs: dict[str, dict[str, Any]], job: dict[str, Any]) -> tuple[str, str, list[str]]:
    """The session that says for which images a job runs, its output, and its options."""
    images = job["strategy"]["matrix"]["image"]
    source = FAN_OUT.fullmatch(images)
    assert source, f"{images!r} is written, not computed"
    before, output = source.groups()
    assert before in job["needs"]
    match = OUTPUT.fullmatch(jobs[before]["outputs"][output])
    assert match
    (step,) = [step for step in jobs[before]["steps"] if step.get("id") == match[1]]
    ((session, options),) = calls_of(step["run"])
    return session, match[2], options


@every_workflow
def test_fan_out_is_that_of_the_matrix(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job for each image takes the images from the output of a session before it."""
    jobs = jobs_of(path)
    monkeypatch.chdir(REPOSITORY)
    fanned: list[str] = []
    for name, job in jobs.items():
        if "image" not in job.get("strategy", {}).get("matrix", {}):
            continue
        session, output, options = fan_out_of(jobs, job)
        if session == "plan":
            assert "--github-output" in options
            # Only these two build: the others are for images with a parent, which comes first.
            wanted = {"root": "roots", "child": "children"}
            builds = "test_images" in sessions_of(job)
            assert output == (wanted[name] if builds else "images")
            continue
        assert session == "names"
        file = tmp_path / name
        monkeypatch.setenv("GITHUB_OUTPUT", str(file))
        assert main(["names", *options]) == 0
        key, _, value = file.read_text().partition("=")
        chosen = select(PROJECT.variants, selection_of(parse(["names", *options])))
        assert (key, json.loads(value)) == (output, [variant.name for variant in chosen])
        fanned += json.loads(value)
    assert len(fanned) == len(set(fanned)), "an image is built by two jobs"


def test_every_image_is_built_somewhere() -> None:
    built: set[str] = set()
    for path in WORKFLOWS:
        for session, options in calls_of(path.read_text()):
            if session in ("names", "plan"):
                chosen = select(PROJECT.variants, selection_of(parse([session, *options])))
                built |= {variant.name for variant in chosen}
    assert built == {variant.name for variant in PROJECT.variants}


# --- what a workflow may do -----------------------------------------------------------------------

SET_UP = "pip install --require-hashes --requirement .github/requirements.txt"
# What cannot be run elsewhere: log-in, and calls of GitHub.
OF_GITHUB = ('echo "$TOKEN" | docker login ghcr.io ', "gh release create ")
# The jobs that may write, and what.
WRITING = {
    ("nightly", "publish"): {"packages", "id-token", "attestations"},
    ("nightly", "pages"): {"pages", "id-token"},
    ("nightly", "keep-alive"): {"actions"},
    ("release", "release"): {"contents"},
}


def every_job() -> Iterator[tuple[Path, str, dict[str, Any]]]:
    for path in WORKFLOWS:
        for name, job in jobs_of(path).items():
            yield path, name, job


def triggers_of(path: Path) -> set[str]:
    # YAML 1.1 reads the key `on` as true.
    return set(yaml.safe_load(path.read_text())[True])


def sessions_of(job: dict[str, Any]) -> set[str]:
    runs = [step["run"] for step in job["steps"] if "run" in step]
    return {session for run in runs for session, _ in calls_of(run)}


def test_every_step_runs_a_session() -> None:
    """So that it runs on the machine of a developer, too."""
    others = set()
    for path, name, job in every_job():
        for step in job["steps"]:
            run = step.get("run", "")
            if run and not re.fullmatch(r"nox -s [^;&|>\n]+", run) and run != SET_UP:
                others.add((path.stem, name, run.split("\n")[0]))
    of_github = {one for one in others if one[2].startswith(OF_GITHUB)}
    assert others - of_github == {one for one in others if one[:2] == ("nightly", "keep-alive")}
    assert ("nightly", "publish") in {one[:2] for one in of_github}


def test_actions_are_of_one_release_each_by_its_hash() -> None:
    used: dict[str, set[str]] = {}
    for path in WORKFLOWS:
        for line in path.read_text().splitlines():
            if "uses:" in line:
                match = re.fullmatch(r"\s+- uses: ([\w/-]+)@([0-9a-f]{40} # v\d+\.\d+\.\d+)", line)
                assert match, line
                used.setdefault(match[1], set()).add(match[2])
    assert used
    assert {action: len(releases) for action, releases in used.items()} == dict.fromkeys(used, 1)


def test_a_job_may_write_only_what_it_is_for() -> None:
    found = {}
    for path, name, job in every_job():
        whole = yaml.safe_load(path.read_text())["permissions"]
        permissions = job.get("permissions", whole)
        assert "read" in permissions.values() or "write" in permissions.values(), (path, name)
        written = {scope for scope, access in permissions.items() if access == "write"}
        assert set(permissions.values()) <= {"read", "write"}
        assert "write" not in whole.values()
        if written:
            found[path.stem, name] = written
    assert found == WRITING


def test_a_job_that_may_write_runs_nothing_of_an_image() -> None:
    for path, name, job in every_job():
        if (path.stem, name) in WRITING:
            assert sessions_of(job) <= {"load", "pull", "publish"}
            if "nox" not in str(job["steps"]):
                assert "actions/checkout" not in str(job["steps"])


def test_pull_requests_get_no_secret_and_publish_nothing() -> None:
    """The token of the run can read only; forks have it, too."""
    for path in WORKFLOWS:
        assert "secrets." not in path.read_text()
        assert not triggers_of(path) & {"pull_request_target", "workflow_run", "issue_comment"}
        if "pull_request" in triggers_of(path):
            calls = [call for call in calls_of(path.read_text()) if call[0] == "publish"]
            assert calls
            assert all("--dry-run" in options for _, options in calls)
            assert not [one for one in WRITING if one[0] == path.stem]


def test_only_the_default_branch_publishes() -> None:
    for name in ("publish", "catalogue"):
        condition = jobs_of(REPOSITORY / ".github/workflows/nightly.yml")[name]["if"]
        assert "github.ref_name == github.event.repository.default_branch" in condition


def test_an_image_that_fails_does_not_stop_the_others() -> None:
    for path, name, job in every_job():
        assert job["timeout-minutes"] <= 120, (path, name)
        assert job.get("strategy", {"fail-fast": False})["fail-fast"] is False, (path, name)
    jobs = jobs_of(REPOSITORY / ".github/workflows/nightly.yml")
    after = {"root", "child", "publish"}
    waiting = [job for job in jobs.values() if after & set(job.get("needs", []))]
    assert len(waiting) == 4
    assert all("!cancelled()" in job["if"] for job in waiting)


def test_every_schedule_is_kept_alive() -> None:
    (step,) = jobs_of(REPOSITORY / ".github/workflows/nightly.yml")["keep-alive"]["steps"]
    scheduled = {path.name for path in WORKFLOWS if "schedule" in triggers_of(path)}
    assert set(re.findall(r"[\w-]+\.yml", step["run"])) == scheduled


def test_every_run_for_images_adds_to_the_summary() -> None:
    for path, name, job in every_job():
        runs = " ".join(step.get("run", "") for step in job["steps"])
        for session in ("plan", "publish", "audit"):
            assert f"nox -s {session} " not in runs or "--summary" in runs, (path, name)


# --- what is run ----------------------------------------------------------------------------------


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
