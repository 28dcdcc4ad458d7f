"""What can go wrong, in words for the person who has to mend it."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePath


@dataclass(frozen=True, order=True)
class Diagnostic:
    """One thing that is wrong at one place of one file.

    `line` and `column` count from 1; 0 stands for the file as a whole.
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
    """A fault that the user can mend: shown as its message, never as a traceback.

    `exit_status` is 2 for a request or an input that is wrong, 1 for work that failed.
    """

    exit_status = 2


class WorkError(UserError):
    """The request was right, but what it asked for failed."""

    exit_status = 1


class InputError(UserError):
    """Everything that is wrong with the input files, all at once."""

    def __init__(self, diagnostics: list[Diagnostic]) -> None:
        self.diagnostics = sorted(set(diagnostics))
        count = len(self.diagnostics)
        lines = "\n".join(map(str, self.diagnostics))
        super().__init__(f"{lines}\n{count} error{'s' if count != 1 else ''}; nothing was changed")


def exit_status_of(command: Callable[[], int]) -> int:
    """That of a command, after what it raised is told: 1 for work that failed, 2 for a request that
    is wrong, 130 for an interrupt."""
    try:
        return command()
    except UserError as error:
        print(error, file=sys.stderr)
        return error.exit_status
    except KeyboardInterrupt:
        print("interrupted; nothing half-built was tagged, run it again to go on", file=sys.stderr)
        return 130
    except Exception as error:
        # What was raised by it has imported it; nothing else needs it.
        import docker.errors

        if isinstance(error, docker.errors.DockerException):
            print(f"the Docker engine refused: {error}", file=sys.stderr)
            return 1
        if isinstance(error, OSError):
            place = f"{error.filename}: " if error.filename else ""
            print(f"{place}{error.strerror or error}", file=sys.stderr)
            return 1
        raise
