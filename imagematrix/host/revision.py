"""Of which repository and commit the files here are: what the labels of an image say of it."""

import subprocess
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Revision:
    """The URL of a repository, and a commit of it (40 hexadecimal digits); each is empty where it
    is not known."""

    source: str = ""
    commit: str = ""


def revision_of(root: Path, environ: Mapping[str, str]) -> Revision:
    """The revision of the files in the folder `root`.

    The commit is known of a clean checkout only: with any change, or a file that git neither holds
    nor ignores, images are of no commit. The URL is `Source` of `[project.urls]` in pyproject.toml,
    without one that of the repository whose workflow of GitHub Actions this runs in. A remote of
    git is not used: it is a setting of this machine, and may hold a password.
    """
    return Revision(_source(root, environ), _clean_commit(root))


def _source(root: Path, environ: Mapping[str, str]) -> str:
    project = root / "pyproject.toml"
    if project.is_file():
        table = tomllib.loads(project.read_text(encoding="utf-8")).get("project", {})
        if source := table.get("urls", {}).get("Source"):
            return str(source)
    # https://docs.github.com/actions/reference/workflows-and-actions/variables
    server, repository = environ.get("GITHUB_SERVER_URL"), environ.get("GITHUB_REPOSITORY")
    return f"{server}/{repository}" if server and repository else ""


def _clean_commit(root: Path) -> str:
    top = _git(root, "rev-parse", "--show-toplevel")
    # A copy inside of another checkout, such as those of `reproduce`, is of none itself.
    if not top or Path(top).resolve() != root.resolve():
        return ""
    changes = _git(root, "status", "--porcelain", "--untracked-files=normal")
    return _git(root, "rev-parse", "HEAD") or "" if changes == "" else ""


def _git(root: Path, *arguments: str) -> str | None:
    """What git prints, without the last line's end; None where it fails or is not installed."""
    command = ["git", "--no-optional-locks", "-C", str(root), *arguments]
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return result.stdout.strip() if result.returncode == 0 else None
