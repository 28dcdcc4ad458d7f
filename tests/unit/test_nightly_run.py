"""The nightly workflow is run by act, with stubs for nox, for other programs and for all actions.

That shows what no look at the file shows: which jobs run when others fail, and what reaches them.
https://nektosact.com
"""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.unit.helpers import REPOSITORY

NIGHTLY = REPOSITORY / ".github/workflows/nightly.yml"
ACT = shutil.which(
    "act", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
)
DOWNLOAD = "actions/download-artifact"
ROOTS, CHILDREN = ["minimal-good", "minimal-bad"], ["good", "bad"]

# Stands for every program and every action: writes down its call, and does what the jobs rely on.
STUB = """\
#!{python}
import json, os, shutil, sys
from pathlib import Path

name, arguments = Path(sys.argv[0]).name, sys.argv[1:]
inputs = json.loads(os.environ.pop("STUB_INPUTS", "{{}}"))
if inputs or name == "action":
    name, *arguments = arguments
image, artifacts = os.environ.get("IMAGE", ""), Path({artifacts!r})
with open({log!r}, "a") as log:
    log.write(json.dumps([name, image, arguments or inputs]) + "\\n")


def output(**values):
    with open(os.environ["GITHUB_OUTPUT"], "a") as file:
        file.writelines(f"{{name}}={{value}}\\n" for name, value in values.items())


session = arguments[1] if name == "nox" else ""
if session == "plan":
    output(**{{name: json.dumps(images) for name, images in {due!r}.items()}})
elif session in ("test_images", "publish") and "bad" in image:
    sys.exit(1)
elif session == "save":
    folder = Path(arguments[arguments.index("--output") + 1])
    folder.mkdir()
    (folder / f"{{image}}.tar.zst").touch()
elif session == "load":
    print(*sorted(path.name for path in Path(arguments[3]).iterdir()))
elif session == "publish":
    output(name=f"ghcr.example/{{image}}", digest="sha256:of-" + image, sbom="spdx.json")
elif session == "catalogue":
    Path("site").mkdir()
elif name == "actions/upload-artifact":
    shutil.copytree(inputs["path"], artifacts / inputs["name"])
elif name == "actions/download-artifact":
    patterns = inputs["pattern"].strip("{{}}").split(",")
    for found in (path for pattern in patterns for path in artifacts.glob(pattern)):
        shutil.copytree(found, inputs["path"], dirs_exist_ok=True)
"""


@dataclass(frozen=True)
class Night:
    """What was called in a run: the name of a program or an action, the image of its job, and its
    arguments or inputs."""

    calls: list[tuple[str, str, Any]]

    def of(self, name: str) -> set[str]:
        """The images for which a session was run or an action was used; "" for a job of none."""
        return {
            image
            for called, image, given in self.calls
            if name == (given[1] if called == "nox" else called)
        }


def run_night(
    folder: Path, roots: list[str], children: list[str], default_branch: str = "main"
) -> Night:
    """Runs the workflow on the branch `main` of a repository that holds nothing else."""
    assert ACT, "act is in the lock of the tools"
    root, programs, log = folder / "repository", folder / "bin", folder / "log"
    (root / ".github/workflows").mkdir(parents=True)
    shutil.copy(NIGHTLY, root / ".github/workflows")
    for command in (["init", "--quiet", "-b", "main"], ["add", "."], ["commit", "--quiet", "-m=x"]):
        identity = ["-c", "user.name=x", "-c", "user.email=x@example.com"]
        subprocess.run(["git", *identity, *command], cwd=root, check=True)
    origin = "https://github.com/someone/images.git"
    subprocess.run(["git", "remote", "add", "origin", origin], cwd=root, check=True)

    due = {"roots": roots, "children": children, "images": [*roots, *children]}
    artifacts = folder / "artifacts"
    values = {"python": sys.executable, "log": str(log), "artifacts": str(artifacts), "due": due}
    programs.mkdir()
    artifacts.mkdir()
    for name in ("nox", "pip", "docker", "gh", "action"):
        (programs / name).write_text(STUB.format(**values))
        (programs / name).chmod(0o755)
    event = {"repository": {"default_branch": default_branch}, "ref": "refs/heads/main"}
    (folder / "event.json").write_text(json.dumps(event))
    command = [ACT, "workflow_dispatch", "--eventpath", str(folder / "event.json")]
    # In no container.
    command += ["--platform", "ubuntu-latest=-self-hosted", "--secret", "GITHUB_TOKEN=x"]
    command += _stubs_of_actions(folder / "actions", programs / "action")
    environ = {"HOME": str(folder), "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"}
    environ["DOCKER_HOST"] = "unix:///nonexistent"
    result = subprocess.run(
        command, cwd=root, env=environ, capture_output=True, text=True, check=False, timeout=300
    )
    assert log.is_file(), result.stdout[-3000:] + result.stderr[-3000:]
    return Night([tuple(json.loads(line)) for line in log.read_text().splitlines()])


def _stubs_of_actions(folder: Path, program: Path) -> list[str]:
    """A stub for each action that the workflow uses; the options that make act take them."""
    inputs: dict[str, set[str]] = {}
    for job in yaml.safe_load(NIGHTLY.read_text())["jobs"].values():
        for step in job["steps"]:
            if "uses" in step:
                inputs.setdefault(step["uses"], set()).update(step.get("with", {}))
    options = []
    for used, names in inputs.items():
        name = used.partition("@")[0]
        step = {
            "shell": "bash",
            "run": f"{program} {name}",
            "env": {"STUB_INPUTS": "${{ toJSON(inputs) }}"},
        }
        action = {
            "name": name,
            "description": "a stub",
            "inputs": {one: {"description": one, "required": False} for one in names},
            "runs": {"using": "composite", "steps": [step]},
        }
        file = folder / name / "action.yml"
        file.parent.mkdir(parents=True)
        file.write_text(yaml.safe_dump(action))
        options.append(f"--local-repository={used}={file.parent}")
    return options


def test_what_fails_stops_nothing_else(tmp_path: Path) -> None:
    night = run_night(tmp_path, ROOTS, CHILDREN)

    assert night.of("test_images") == {*ROOTS, *CHILDREN}
    assert night.of("save") == {"minimal-good", "good"}
    # Both are based on what was built, where it was.
    assert night.of("load") >= set(CHILDREN)
    # What was not built is refused by name, and the others are published.
    assert night.of("publish") == {*ROOTS, *CHILDREN}
    attested = {
        given["subject-digest"] for name, _, given in night.calls if name == "actions/attest"
    }
    assert attested == {"sha256:of-minimal-good", "sha256:of-good"}
    downloads = [given for name, image, given in night.calls if (name, image) == (DOWNLOAD, "good")]
    assert {given["pattern"] for given in downloads} == {"root-*", "{root-*,child-good}"}
    assert {path.name for path in (tmp_path / "artifacts").iterdir()} == {
        "root-minimal-good",
        "child-good",
    }
    for after in ("audit", "catalogue", "actions/deploy-pages", "unit"):
        assert night.of(after) == {""}, after
    # Only a schedule is kept alive.
    assert not night.of("gh")


def test_where_nothing_is_due_nothing_is_published(tmp_path: Path) -> None:
    night = run_night(tmp_path, [], [])

    for session in ("test_images", "load", "publish"):
        assert not night.of(session), session
    # An old image may lack a fix, and the catalogue says what is pending.
    assert night.of("audit") == night.of("actions/deploy-pages") == {""}


def test_a_child_is_built_on_its_published_parent_where_that_is_not_due(tmp_path: Path) -> None:
    night = run_night(tmp_path, [], ["good"])

    (load,) = [given for name, _, given in night.calls if name == "nox" and given[1] == "load"]
    assert load == ["-s", "load", "--", "images", "--remove"], "only to publish"
    assert night.of("pull") == {"good"}
    assert night.of("publish") == {"good"}


def test_another_branch_builds_and_publishes_nothing(tmp_path: Path) -> None:
    night = run_night(tmp_path, ["minimal"], ["good"], default_branch="trunk")

    assert night.of("save") == {"minimal", "good"}
    for session in ("publish", "catalogue", "actions/deploy-pages", "actions/attest"):
        assert not night.of(session), session
