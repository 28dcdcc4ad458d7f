"""Texts of a specification with their places, and what is wrong with them."""

import re
from dataclasses import dataclass, replace
from pathlib import PurePath

from imagematrix.errors import Diagnostic, InputError

# In an address: user and password before the host, and the token of a conda channel.
# https://docs.anaconda.com/anacondaorg/user-guide/tasks/work-with-accounts/#creating-access-tokens
_LOGIN = re.compile(r"(?<=://)[^/\s@'\"]+(?=@)|(?<=/t/)[^/\s'\"]+")
_REDACTED = "…"


@dataclass(frozen=True)
class Entry:
    """A text and the place where it is written. Line and column count from 1."""

    text: str
    file: PurePath
    line: int
    column: int

    def __str__(self) -> str:
        return self.text

    def diagnostic(self, message: str, hint: str = "") -> Diagnostic:
        """An error at this place."""
        return Diagnostic(self.file, self.line, self.column, "", message, hint)


class Findings:
    """Collects the errors of several files, and notes: what is ignored, or decided otherwise.

    No message repeats the password of an address.
    """

    def __init__(self) -> None:
        self.errors: list[Diagnostic] = []
        self.notes: list[Diagnostic] = []

    def error(self, diagnostic: Diagnostic) -> None:
        """One more error."""
        self.errors.append(_redacted(diagnostic))

    def take(self, error: InputError) -> None:
        """All errors of a file that cannot be read at all."""
        for diagnostic in error.diagnostics:
            self.error(diagnostic)

    def note(self, diagnostic: Diagnostic) -> None:
        """One more note."""
        self.notes.append(_redacted(diagnostic))

    def raise_errors(self) -> None:
        """Raises InputError if there is any error."""
        if self.errors:
            raise InputError(self.errors)


def has_login(text: str) -> bool:
    """Whether an address in the text has a user name, a password or a token in it."""
    return _LOGIN.search(text) is not None


def without_login(text: str) -> str:
    """The text, with the user names, passwords and tokens of its addresses taken out."""
    return _LOGIN.sub(_REDACTED, text)


def _redacted(diagnostic: Diagnostic) -> Diagnostic:
    return replace(
        diagnostic,
        where=without_login(diagnostic.where),
        message=without_login(diagnostic.message),
        hint=without_login(diagnostic.hint),
    )
