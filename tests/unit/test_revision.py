"""The commit and the repository that the labels of an image say it is of."""

import subprocess
from pathlib import Path

import pytest

from imagematrix.host.revision import Revision, revision_of

ACTIONS = {"GITHUB_SERVER_URL": "https://github.example", "GITHUB_REPOSITORY": "someone/images"}


def git(folder: Path, *arguments: str) -> str:
    command = ["git", "-c", "user.name=x", "-c", "user.email=x@example.com", *arguments]
    result = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
    return result.stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A clean checkout, in a folder of its own; it ignores `build`."""
    root = tmp_path / "checkout"
    root.mkdir()
    git(root, "init", "--quiet")
    git(root, "remote", "add", "origin", "https://user:word@git.example/images")
    (root / ".gitignore").write_text("/build/\n")
    git(root, "add", ".")
    git(root, "commit", "--quiet", "--message=x")
    return root


def test_a_clean_checkout_is_of_its_commit(checkout: Path) -> None:
    (checkout / "build").mkdir()
    (checkout / "build" / "log").touch()

    assert revision_of(checkout, {}) == Revision("", git(checkout, "rev-parse", "HEAD"))


def test_a_changed_checkout_is_of_no_commit(checkout: Path) -> None:
    (checkout / ".gitignore").write_text("/build/\n/other/\n")
    assert revision_of(checkout, {}).commit == ""
    git(checkout, "checkout", ".gitignore")
    assert revision_of(checkout, {}).commit
    (checkout / "new").touch()
    # Whatever this person has set for `git status`.
    git(checkout, "config", "status.showUntrackedFiles", "no")
    assert revision_of(checkout, {}).commit == ""


def test_a_copy_inside_of_a_checkout_is_of_no_commit(checkout: Path) -> None:
    copy = checkout / "build" / "copy"
    copy.mkdir(parents=True)
    assert revision_of(copy, {}).commit == ""


def test_without_git_no_commit_is_known(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert revision_of(tmp_path, {}).commit == ""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert revision_of(checkout, {}).commit == ""


def test_the_url_is_a_fact_of_the_project_else_that_of_the_workflow(checkout: Path) -> None:
    assert revision_of(checkout, ACTIONS).source == "https://github.example/someone/images"
    assert revision_of(checkout, {"GITHUB_REPOSITORY": "someone/images"}).source == ""
    project = checkout / "pyproject.toml"
    project.write_text('[project]\nname = "x"\n')
    assert revision_of(checkout, {}).source == ""
    project.write_text('[project.urls]\nSource = "https://git.example/images"\n')
    assert revision_of(checkout, ACTIONS).source == "https://git.example/images"
