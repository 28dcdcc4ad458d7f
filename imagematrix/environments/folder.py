"""The folder of an environment: all that `docker build` needs to make its image."""

from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from imagematrix.environments.details import Details, details_text
from imagematrix.files import replace_folder
from imagematrix.matrix.variant import Variant
from imagematrix.repository.dockerfiles import TOOLS_IN_CONTEXT, render_dockerfiles
from imagematrix.repository.slim import render_slim

DETAILS = PurePosixPath("details.json")
SPECIFICATION = PurePosixPath("mutated_conda_dependencies.yml")
IGNORED = "# What the build reads.\n*\n!requirements.txt\n!slim.txt\n!tools\n"


def dockerfile_of(root: Path, variant: Variant) -> str:
    """The text of the Dockerfile of an environment."""
    return render_dockerfiles(root, [variant])[variant.dockerfile]


def environment_folder(
    root: Path, variant: Variant, lock: str, specification: str, details: Details
) -> dict[PurePosixPath, str]:
    """The files of the folder, by their paths in it."""
    return {
        PurePosixPath(variant.dockerfile.name): details["ingredients"]["dockerfile"],
        PurePosixPath(variant.lock.name): lock,
        PurePosixPath(variant.slim_file.name): render_slim(root, [variant])[variant.slim_file],
        PurePosixPath(".dockerignore"): IGNORED,
        SPECIFICATION: specification,
        DETAILS: details_text(details),
        **_tools(root),
    }


def write_folder(folder: Path, files: Mapping[PurePosixPath, str]) -> None:
    """Makes a folder hold these files and nothing else, in one step; one that does is not touched.

    Raises UserError for a folder that holds something else.
    """
    if not _holds(folder, files):
        replace_folder(folder, files, DETAILS)


def _holds(folder: Path, files: Mapping[PurePosixPath, str]) -> bool:
    present = {path for path in folder.rglob("*") if path.is_file()} if folder.is_dir() else set()
    if {folder / path for path in files} != present:
        return False
    return all((folder / path).read_bytes() == text.encode() for path, text in files.items())


def _tools(root: Path) -> dict[PurePosixPath, str]:
    """The files of the tools image."""
    tools = root / "base" / "tools"
    paths = [path for path in (*sorted(tools.glob("bin/*")), tools / "uv.txt") if path.is_file()]
    return {
        TOOLS_IN_CONTEXT / path.relative_to(tools).as_posix(): path.read_text(encoding="utf-8")
        for path in paths
    }
