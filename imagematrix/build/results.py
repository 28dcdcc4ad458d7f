"""What became of the images of a build, and how it is told."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum

from imagematrix.console import counted, table


class Outcome(StrEnum):
    """What became of an image."""

    BUILT = "built"
    FRESH = "fresh"
    FAILED = "failed"
    UNAVAILABLE = "unavailable"


@dataclass(frozen=True)
class Result:
    """One image of a build. `megabytes` is its uncompressed size, None where there is no image."""

    name: str
    outcome: Outcome
    megabytes: float | None
    seconds: float
    detail: str


def exit_status(results: Iterable[Result], *, strict: bool) -> int:
    """That of the command: 1 for a failure, which for `strict` an unavailable image is as well."""
    outcomes = {result.outcome for result in results}
    failures = {Outcome.FAILED, Outcome.UNAVAILABLE} if strict else {Outcome.FAILED}
    return 1 if outcomes & failures else 0


def results_json(results: Iterable[Result]) -> str:
    """The results for a program."""
    return json.dumps([asdict(result) for result in results], indent=2)


def results_table(results: Sequence[Result], seconds: float) -> str:
    """The results for a person, and how long they took in all."""
    rows = [("image", "size", "time", "what happened")]
    for result in results:
        size = f"{result.megabytes:,.0f} MB" if result.megabytes is not None else ""
        spent = f"{result.seconds:.0f} s" if result.outcome is Outcome.BUILT else ""
        detail = f"{result.outcome}: {result.detail}" if result.detail else str(result.outcome)
        rows.append((result.name, size, spent, detail))
    outcomes = counted(result.outcome for result in results)
    return f"{table(rows, right=(1, 2))}\n{outcomes} in {seconds:.1f} s"
