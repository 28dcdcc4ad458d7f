"""What commands print: lines for the person at the terminal, tables for standard output."""

import sys
from collections import Counter
from collections.abc import Iterable, Sequence


def say(message: str) -> None:
    """One line to the person at the terminal; standard output is kept for results."""
    print(message, file=sys.stderr, flush=True)


def counted(kinds: Iterable[str]) -> str:
    """`9 fresh, 1 unavailable`."""
    return ", ".join(f"{count} {kind}" for kind, count in sorted(Counter(kinds).items()))


def table(rows: Sequence[Sequence[str]], right: Iterable[int] = ()) -> str:
    """Rows as lines with aligned columns, some of them to the right. Nothing is cut: names are for
    copying."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    aligned = dict.fromkeys(right, ">")
    return "\n".join(
        "  ".join(
            f"{cell:{aligned.get(index, '<')}{width}}"
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )
