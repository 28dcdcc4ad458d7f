"""The results of a build, as a table or JSON."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum

from imagematrix.console import counted, table


class Outcome(StrEnum):
    """What a build did with an image."""

    BUILT = "built"
    UP_TO_DATE = "up to date"
    FAILED = "failed"
    UNAVAILABLE = "unavailable"


@dataclass(frozen=True)
class Result:
    """The result of one image. `megabytes` is its uncompressed size, None if there is no image."""

    name: str
    outcome: Outcome
    megabytes: float | None
    seconds: float
    detail: str


def exit_status(results: Iterable[Result], *, strict: bool) -> int:
    """The exit status: 1 if an image failed, or with `strict` if one is unavailable."""
    outcomes = {result.outcome for result in results}
    failures = {Outcome.FAILED, Outcome.UNAVAILABLE} if strict else {Outcome.FAILED}
    return 1 if outcomes & failures else 0


def results_json(results: Iterable[Result]) -> str:
    """The results as JSON."""
    return json.dumps([asdict(result) for result in results], indent=2)


def results_table(results: Sequence[Result], seconds: float) -> str:
    """The results as a table, and the time in all."""
    rows = [("image", "size", "time", "result")]
    for result in results:
        size = f"{result.megabytes:,.0f} MB" if result.megabytes is not None else ""
        spent = f"{result.seconds:.0f} s" if result.outcome is Outcome.BUILT else ""
        detail = f"{result.outcome}: {result.detail}" if result.detail else str(result.outcome)
        rows.append((result.name, size, spent, detail))
    outcomes = counted(result.outcome for result in results)
    return f"{table(rows, right=(1, 2))}\n{outcomes} in {seconds:.1f} s"
