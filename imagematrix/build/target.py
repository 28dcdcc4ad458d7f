"""Builds one target that is no image of the matrix, with the same builder, log and messages."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from imagematrix.build.progress import BuildLog
from imagematrix.build.run import LOG, bake, explain
from imagematrix.errors import WorkError
from imagematrix.files import WORK_FOLDER
from imagematrix.host.buildx import Builder
from imagematrix.host.engine import Engine


def build_targets(
    root: Path,
    engine: Engine,
    builder: Builder,
    definition: Mapping[str, Any],
    variables: Mapping[str, str],
    *,
    no_cache: bool = False,
) -> None:
    """Builds the targets of a bake file; `variables` are environment variables with its secrets.

    Raises WorkError with the step that failed and the end of its output.
    """
    progress = BuildLog(definition["target"])
    options = ["--no-cache"] if no_cache else []
    (root / WORK_FOLDER).mkdir(exist_ok=True)
    with (root / LOG).open("w", encoding="utf-8") as log:
        status = bake(root, engine, builder, definition, options, variables, progress, log)
    if status == 0:
        return
    failures = progress.failures()
    if failures:
        raise WorkError("\n".join(explain(failure) for failure in failures))
    why = f" ({progress.last_error})" if progress.last_error else ""
    raise WorkError(f"the build ended without a step that failed{why}; see {LOG}")
