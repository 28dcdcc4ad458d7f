"""Whether a build has nothing to do because nothing changed, told without reading the matrix.

A build notes what it found: the files that make the images, the images of the engine, and what an
index answered. As long as all of that is as noted, the outcome is as well. Most of the time of a
plan that finds nothing to do is to import what plans, which this does without.
"""

import hashlib
import json
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from imagematrix.engine import find_engine
from imagematrix.files import WORK_FOLDER, file_hash, write_atomically
from imagematrix.hostconfig import HostConfig, read_host_config
from imagematrix.indexes import wheel_files, why_unreachable
from imagematrix.results import Outcome, Result, exit_status, results_json, results_table

_RECORD = WORK_FOLDER / "unchanged.json"
# What makes images and their keys: more than is needed costs a plan, less would hide a change.
_FILES = ("matrix.yaml", "requirements.txt")
_FOLDERS = ("base", "frameworks")
_MACHINERY = Path(__file__).parent
# These say how results are told, not what they are.
_TELLING = frozenset({"--json", "--strict"})


@dataclass(frozen=True)
class Note:
    """What a build found.

    `tree` stands for the files, `images` has the ID of each image and base image by its tag in the
    engine, None for one that is absent. Of images that are unavailable, `answers` has what the page
    of an index answered, and `host` stands for the wheels and the indexes of this host.
    """

    tree: str
    images: Mapping[str, str | None]
    answers: Mapping[str, str]
    host: str
    results: Sequence[Result]


def unchanged_build(root: Path, arguments: Sequence[str]) -> int | None:
    """Tells the results of the last build of these arguments where nothing changed since, and
    returns its exit status; None where a plan has to be made."""
    started = time.monotonic()
    # What stands behind `--` is a pattern, whatever it looks like.
    note = None if "--" in arguments else _read(root).get(_selection(arguments))
    if note is None or note.tree != tree_digest(root):
        return None
    engine = find_engine()
    if engine is None or engine.ids(note.images) != note.images:
        return None
    if note.answers:
        host = read_host_config(os.environ, Path.home())
        if note.host != host_digest(host):
            return None
        if any(why_unreachable(url, host.ca_bundle) != why for url, why in note.answers.items()):
            return None
    seconds = time.monotonic() - started
    as_json = "--json" in arguments
    print(results_json(note.results) if as_json else results_table(note.results, seconds))
    return exit_status(note.results, strict="--strict" in arguments)


def take_note(root: Path, arguments: Sequence[str], note: Note) -> None:
    """Keeps what a build found for the next one of these arguments. What it built is fresh then."""
    results = [
        replace(result, outcome=Outcome.FRESH, seconds=0, detail="")
        if result.outcome is Outcome.BUILT
        else result
        for result in note.results
    ]
    notes = {known: old for known, old in _read(root).items() if old.tree == note.tree}
    notes[_selection(arguments)] = replace(note, results=results)
    record = {known: asdict(kept) for known, kept in notes.items()}
    write_atomically(root / _RECORD, json.dumps(record, indent=2) + "\n")


def tree_digest(root: Path) -> str:
    """What stands for the content of all files that make images."""
    digest = hashlib.sha256()
    for path in _files(root):
        try:
            content = file_hash(path)
        except OSError:
            # Who needs it will say so; editors leave links that lead nowhere.
            content = "unreadable"
        digest.update(os.fsencode(f"{path} {content}\n"))
    return digest.hexdigest()


def _files(root: Path) -> Iterable[str]:
    yield from (f"{root}/{name}" for name in _FILES)
    for top in (*(root / folder for folder in _FOLDERS), _MACHINERY):
        for folder, folders, names in os.walk(top):
            folders[:] = sorted(set(folders) - {"__pycache__"})
            yield from (f"{folder}/{name}" for name in sorted(names))


def host_digest(host: HostConfig) -> str:
    """What stands for this host's way to packages: its settings, and the wheels that it holds."""
    found = [(str(path), path.stat()) for path in wheel_files(host)]
    wheels = [(path, told.st_size, told.st_mtime_ns) for path, told in found]
    return hashlib.sha256(repr((host, wheels)).encode()).hexdigest()


def _selection(arguments: Sequence[str]) -> str:
    return json.dumps([argument for argument in arguments if argument not in _TELLING])


def _read(root: Path) -> dict[str, Note]:
    """The notes by what they were selected with; none where the record is of no use."""
    try:
        record = json.loads((root / _RECORD).read_text(encoding="utf-8"))
        return {selection: _note(**told) for selection, told in record.items()}
    except (OSError, ValueError, TypeError, AttributeError, LookupError):
        return {}


def _note(results: Iterable[Mapping[str, Any]], **rest: Any) -> Note:
    told = [Result(**{**row, "outcome": Outcome(row["outcome"])}) for row in results]
    return Note(results=told, **rest)
