"""What git, GitHub and pre-commit read of this repository: as their documentation has it."""

import filecmp
import re
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from imagematrix.repository.former import FORMER
from imagematrix.repository.pages import CATALOGUE
from imagematrix.repository.project import Project
from tests.unit.helpers import REPOSITORY
from tests.unit.sessions import sessions

FORMS = [
    path
    for path in sorted((REPOSITORY / ".github/ISSUE_TEMPLATE").iterdir())
    if path.name != "config.yml"
]
NAMING_SESSIONS = [
    ".github/PULL_REQUEST_TEMPLATE.md",
    ".github/dependabot.yml",
    ".gitattributes",
    ".pre-commit-config.yaml",
    *(str(path.relative_to(REPOSITORY)) for path in FORMS),
]


def read(path: str | Path) -> Any:
    return yaml.safe_load((REPOSITORY / path).read_text(encoding="utf-8"))


def git(*arguments: str | Path, cwd: Path, standard_input: str = "") -> str:
    command = ["git", "-c", "user.name=x", "-c", "user.email=x@example.com", *arguments]
    return subprocess.run(
        command, cwd=cwd, input=standard_input, check=True, stdout=subprocess.PIPE, text=True
    ).stdout


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone of the files as they are now, by somebody whose git turns line ends into CRLF."""
    if not (REPOSITORY / ".git").exists():
        pytest.skip("these files came without git")
    origin, clone = (tmp_path_factory.mktemp(name) for name in ("origin", "clone"))
    listed = git("ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=REPOSITORY)
    for name in filter(None, listed.split("\0")):
        if (REPOSITORY / name).is_file():
            (origin / name).parent.mkdir(parents=True, exist_ok=True)
            (origin / name).write_bytes((REPOSITORY / name).read_bytes())
    git("init", "--quiet", cwd=origin)
    git("add", "--all", cwd=origin)
    git("commit", "--quiet", "--message", "all", cwd=origin)
    git("clone", "--quiet", "-c", "core.autocrlf=true", origin, clone, cwd=origin)
    return clone


def test_a_clone_with_other_line_ends_has_the_same_bytes(clone: Path) -> None:
    names = list(filter(None, git("ls-files", "-z", cwd=clone).split("\0")))
    assert len(names) > 300
    _, mismatch, errors = filecmp.cmpfiles(REPOSITORY, clone, names, shallow=False)
    assert (mismatch, errors) == ([], [])
    assert git("status", "--porcelain", cwd=clone) == ""


def test_a_clone_with_other_line_ends_passes_the_check(clone: Path) -> None:
    command = [sys.executable, "-m", "imagematrix", "check"]
    result = subprocess.run(command, cwd=clone, capture_output=True, text=True, check=False)
    # The day decides whether there are warnings.
    said = [line for line in result.stderr.splitlines() if not line.startswith("warning: ")]
    assert (result.returncode, said) == (0, [])


def attributes(clone: Path, attribute: str) -> Mapping[str, str]:
    """The value of an attribute for each file."""
    names = git("ls-files", "-z", cwd=clone)
    asked = ["check-attr", "-z", "--stdin", attribute]
    answers = git(*asked, cwd=clone, standard_input=names).split("\0")
    return dict(zip(answers[::3], answers[2::3], strict=False))


def test_what_is_written_is_marked_as_generated(clone: Path) -> None:
    project = Project(REPOSITORY)
    # In pages that people write, only names of images and a table are.
    pages = {CATALOGUE, FORMER}
    written = {str(path) for path in project.rendered() if path.suffix != ".md" or path in pages}
    written |= {str(variant.lock) for variant in project.variants}
    written |= {"requirements.txt", ".github/requirements.txt", "sizes.json"}
    found = attributes(clone, "linguist-generated")
    assert {name for name, value in found.items() if value == "set"} == written


def test_models_are_left_as_they_are(clone: Path) -> None:
    found = attributes(clone, "text")
    models = {
        name
        for name in found
        if re.search(r"/example[^/]*/", name) and not name.endswith((".json", ".py", ".txt"))
    }
    assert len(models) > 10
    assert {name for name, value in found.items() if value == "unset"} == models


@pytest.mark.parametrize("path", NAMING_SESSIONS)
def test_sessions_exist(path: str) -> None:
    named = set(re.findall(r"nox -s (\w+)", (REPOSITORY / path).read_text(encoding="utf-8")))
    unknown = named - sessions().keys()
    assert not unknown, f"the noxfile has no session {unknown}"


def test_hooks_are_sessions() -> None:
    """https://pre-commit.com/#pre-commit-configyaml---hooks"""
    (repository,) = read(".pre-commit-config.yaml")["repos"]
    assert repository["repo"] == "local"
    tests = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    (nox,) = [pin for pin in tests["optional-dependencies"]["test"] if pin.startswith("nox>")]
    for hook in repository["hooks"]:
        known = {"id", "name", "entry", "language", "additional_dependencies", "pass_filenames"}
        assert hook.keys() - {"types"} == known
        assert hook["entry"] == hook["name"] == f"nox -s {hook['id']}"
        assert (hook["language"], hook["pass_filenames"]) == ("python", False)
        assert hook["additional_dependencies"] == [nox]


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.name)
def test_forms_have_what_github_asks_for(path: Path) -> None:
    """https://docs.github.com/en/communities/using-templates-to-encourage-useful-issues-and-pull-requests/syntax-for-githubs-form-schema"""
    form = read(path)
    assert form.keys() == {"name", "description", "labels", "body"}
    ids = [field["id"] for field in form["body"] if field["type"] != "markdown"]
    assert len(ids) == len(set(ids))
    for field in form["body"]:
        known = {
            "markdown": {"value"},
            "input": {"label", "description"},
            "textarea": {"label", "description", "render"},
            "checkboxes": {"label", "options"},
        }[field["type"]]
        assert field.keys() <= {"type", "id", "attributes", "validations"}
        assert field["attributes"].keys() <= known
        assert known & {"value", "label"} <= field["attributes"].keys()
        assert field.get("validations", {"required": True}) == {"required": True}
        for option in field["attributes"].get("options", []):
            assert option.keys() == {"label"}


def test_the_licence_is_named_where_tools_look_for_it() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    assert project["license-files"] == ["LICENSE"]
    text = (REPOSITORY / "LICENSE").read_text(encoding="utf-8")
    assert text.startswith(f"{project['license']} License\n")
    assert "the contributors\n" in text


def test_the_changelog_has_the_form_that_it_names() -> None:
    """https://keepachangelog.com/en/1.1.0/"""
    text = (REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8")
    releases = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert releases[0] == "Unreleased"
    kinds = ["Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"]
    assert set(re.findall(r"^### (.+)$", text, re.MULTILINE)) <= set(kinds)
