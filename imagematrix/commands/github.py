"""What commands say to GitHub Actions: the outputs of a step, and the summary of a run.

https://docs.github.com/actions/reference/workflows-and-actions/workflow-commands
"""

import contextlib
import io
import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TextIO

from imagematrix.errors import UserError


def set_output(name: str, value: str | Sequence[str]) -> None:
    """Sets an output of this step; a sequence becomes a JSON list, for a matrix of jobs.

    Raises UserError outside of GitHub Actions.
    """
    text = value if isinstance(value, str) else json.dumps(list(value))
    _append("GITHUB_OUTPUT", "--github-output", f"{name}={text}\n")


@contextlib.contextmanager
def summarized(title: str) -> Iterator[None]:
    """Adds what the block prints on standard output to the summary of this run, under a title.

    If the block raises a UserError, its message is added, too. Raises UserError outside of GitHub
    Actions, at once.
    """
    _append("GITHUB_STEP_SUMMARY", "--summary", "")
    copy = _Copy(sys.stdout)
    problem = ""
    try:
        with contextlib.redirect_stdout(copy):
            yield
    except UserError as error:
        problem = str(error)
        raise
    finally:
        text = f"{copy.getvalue()}{problem}".strip() or "nothing"
        _append("GITHUB_STEP_SUMMARY", "--summary", f"### {title}\n\n```text\n{text}\n```\n\n")


class _Copy(io.StringIO):
    """Text that is also printed to another stream."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream

    def write(self, text: str) -> int:
        """Writes to both."""
        self._stream.write(text)
        return super().write(text)


def _append(variable: str, option: str, text: str) -> None:
    path = os.environ.get(variable)
    if path is None:
        raise UserError(f"{option} is for GitHub Actions, which sets {variable}")
    with Path(path).open("a", encoding="utf-8") as file:
        file.write(text)
