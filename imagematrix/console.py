"""Output of commands: messages on standard error, tables for standard output."""

import sys
from collections import Counter
from collections.abc import Iterable, Sequence


def say(message: str) -> None:
    """Prints one line to standard error; standard output is kept for results."""
    print(message, file=sys.stderr, flush=True)


def counted(kinds: Iterable[str]) -> str:
    """How often each kind occurs: `1 unavailable, 9 up to date`."""
    return ", ".join(f"{count} {kind}" for kind, count in sorted(Counter(kinds).items()))


def table(rows: Sequence[Sequence[str]], right: Iterable[int] = ()) -> str:
    """Rows as lines with aligned columns; those in `right` are aligned to the right.

    Nothing is truncated, so that names can be copied.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    aligned = dict.fromkeys(right, ">")
    return "\n".join(
        "  ".join(
            f"{cell:{aligned.get(index, '<')}{width}}"
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )
