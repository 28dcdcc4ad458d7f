"""Which exit code does the container leave with, and how is a fatal fault raised?"""

from __future__ import annotations

OK = 0
SCRIPT = 3
DEBUGGER = 94
INSTALL = 95
CONDA = 96
NO_LIB_FOLDER = 97
NO_REQUIREMENTS = 99
NO_SERVER = 100
# Not of the contract: nothing can be served because the port is taken or forbidden.
PORT = 1


class FatalError(Exception):
    """The service cannot start or go on.

    ``message`` becomes the last line of the log, so it has to say what is wrong and where.
    """

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
