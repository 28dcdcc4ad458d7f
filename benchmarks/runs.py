"""The runs that measured figures. Pages of benchmarks name them, and never mix two of them."""

import datetime
import json
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
# Files that benchmarks write: their changes do not count as changes of what is measured.
_PAGES = ":(exclude)docs/benchmarks"


@dataclass(frozen=True)
class Run:
    """One run of a benchmark: its start, its commit, and its engine if it uses one."""

    date: str
    commit: str
    engine: str = ""

    @classmethod
    def now(cls, engine: str = "") -> "Run":
        """A run that starts now, of this repository in its present state."""
        date = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
        commit = _git("rev-parse", "--short", "HEAD")
        if commit and _git("status", "--porcelain", "--", ".", _PAGES):
            commit += " with changes"
        return cls(date, commit, engine)

    def __str__(self) -> str:
        commit = f"commit {self.commit}" if self.commit else ""
        return ", ".join(part for part in (self.date, commit, self.engine) if part)


def _git(*arguments: str) -> str:
    """The output of git without the line's end; "" if this is not a clone."""
    command = ["git", "-C", str(REPOSITORY), *arguments]
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return result.stdout.strip() if result.returncode == 0 else ""


@dataclass
class Measured:
    """Figures by name, each with the run that measured it. `run` is the present one."""

    run: Run
    values: dict[str, Any] = field(default_factory=dict)
    runs: dict[str, Run] = field(default_factory=dict)

    def put(self, name: str, value: Any) -> None:
        """Records a figure of this run; it replaces an earlier one."""
        self.values[name], self.runs[name] = value, self.run

    def table(self, name: str) -> dict[str, Any]:
        """An empty table of this run, to be filled row by row; it replaces an earlier one."""
        if self.runs.get(name) != self.run:
            self.put(name, {})
        table: dict[str, Any] = self.values[name]
        return table

    def get(self, name: str) -> Any:
        """A figure of any run; None if there is none."""
        return self.values.get(name)

    def as_json(self) -> dict[str, Any]:
        """The figures as JSON; the inverse of `read`."""
        return {
            name: {"run": asdict(self.runs[name]), "value": value}
            for name, value in self.values.items()
        }

    @classmethod
    def read(cls, run: Run, document: Mapping[str, Any]) -> "Measured":
        """The figures in the JSON of `as_json`, with `run` as the present run."""
        values = {name: entry["value"] for name, entry in document.items()}
        runs = {name: Run(**entry["run"]) for name, entry in document.items()}
        return cls(run, values, runs)


def of_one_run(runs: Iterable[Run | None]) -> bool:
    """Whether all figures are of the same run: figures of different runs make no ratio."""
    return len(set(runs)) == 1 and None not in runs


def write_page(
    folder: Path, stem: str, title: str, text: str, figures: Any, run: Run, partial: bool = False
) -> None:
    """Writes `<stem>.md` and `<stem>.json`, both with the run that measured them.

    Nothing for a run that measured but a part: the page of the last whole run stays.
    """
    if partial:
        print(f"{stem}.md stays as it is: this run measured a part of it")
        return
    page = f"# {title}\n\nMeasured {run}.\n\n{text}\n"
    write_files(folder, stem, page, {"run": asdict(run), "figures": figures})


def write_files(folder: Path, stem: str, page: str, document: Any) -> None:
    """Writes a page, and its figures as JSON beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{stem}.md").write_text(page, encoding="utf-8")
    text = json.dumps(document, indent=2)
    (folder / f"{stem}.json").write_text(f"{text}\n", encoding="utf-8")
