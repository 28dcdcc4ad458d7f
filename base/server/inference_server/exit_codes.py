"""Which exit code does the container end with, and which error is raised for it?"""

from __future__ import annotations

OK = 0
SCRIPT = 3
DEBUGGER = 94
INSTALL = 95
CONDA = 96
NO_LIB_FOLDER = 97
NO_REQUIREMENTS = 99
NO_SERVER = 100
# Not part of the contract: the port is taken or forbidden.
PORT = 1


class FatalError(Exception):
    """The service cannot start or go on.

    ``message`` becomes the last line of the log, so it has to name the error and its place.
    """

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
