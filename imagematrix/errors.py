"""Errors for people: what is wrong, where, and how to fix it."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePath


@dataclass(frozen=True, order=True)
class Diagnostic:
    """One error at one place of one file.

    `line` and `column` count from 1; 0 means the whole file.
    `where` is the path of the value inside the file (`frameworks.xgboost.releases[0].pins[1]`).
    """

    file: PurePath
    line: int
    column: int
    where: str
    message: str
    hint: str = ""

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}" if self.line else str(self.file)
        parts = [place, *([self.where] if self.where else []), self.message]
        text = ": ".join(parts)
        return f"{text}; {self.hint}" if self.hint else text


class UserError(Exception):
    """An error that the user can fix: shown as its message, never as a traceback.

    `exit_status` is 2 for an invalid request or input, 1 for work that failed.
    """

    exit_status = 2


class WorkError(UserError):
    """The request was valid, but the work failed."""

    exit_status = 1


class InputError(UserError):
    """Every error in the input files, all at once."""

    def __init__(self, diagnostics: list[Diagnostic]) -> None:
        self.diagnostics = sorted(set(diagnostics))
        count = len(self.diagnostics)
        lines = "\n".join(map(str, self.diagnostics))
        super().__init__(f"{lines}\n{count} error{'s' if count != 1 else ''}; nothing was changed")


def exit_status_of(command: Callable[[], int]) -> int:
    """Runs a command, prints the error if it raises one, and returns the exit status.

    1 is for work that failed, 2 for an invalid request, 130 for an interrupt. Errors of other kinds
    are raised again.
    """
    try:
        return command()
    except UserError as error:
        print(error, file=sys.stderr)
        return error.exit_status
    except KeyboardInterrupt:
        print("interrupted; nothing half-built was tagged, run it again to go on", file=sys.stderr)
        return 130
    except Exception as error:
        # Slow to import, and only needed here: an error of docker-py has imported it already.
        import docker.errors

        if isinstance(error, docker.errors.DockerException):
            print(f"the Docker engine refused: {error}", file=sys.stderr)
            return 1
        if isinstance(error, OSError):
            place = f"{error.filename}: " if error.filename else ""
            print(f"{place}{error.strerror or error}", file=sys.stderr)
            return 1
        raise
