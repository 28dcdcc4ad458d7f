"""Makes one example in its image, and compares it with what is committed.

    python -m examples.make MODULE COMMITTED MADE

MODULE has `MODEL`, the name of the model's file or folder; `ROWS`, the request; `train(path)`,
which writes the model; `weights(path)`, the numbers that the file holds; and
`respond(weights, rows)`, the response, computed without the framework.

Files must be the same byte for byte. Where MODULE says `SAME_BYTES = False`, a model has other
bytes whenever it is written, and must be the same in its weights, every bit of them.

MADE is left with what differs, and standard output says how. The exit status is 0 where nothing
does, and 3 where something does.
"""

from __future__ import annotations

import importlib
import json
import math
import os
import shutil
import sys
from pathlib import Path
from typing import Any, Iterator

DIFFERS = 3
# Models compute in 32 bits.
TOLERANCE = 1e-5


def main(module: str, committed: Path, made: Path) -> int:
    """Makes the example; returns the exit status.

    Raises ValueError where score.py answers otherwise than the oracle.
    """
    train = importlib.import_module(module)
    train.train(made / train.MODEL)
    response = rounded(train.respond(train.weights(made / train.MODEL), train.ROWS))
    for name, body in [("request.json", {"data": train.ROWS}), ("response.json", response)]:
        (made / name).write_text(lines(body), encoding="utf-8")
    names = (train.MODEL, "request.json", "response.json")
    found = {name: compare(committed / name, made / name, train) for name in names}
    # A model that is the same only in its weights is asked as it is committed.
    check_score(committed, made if any(found.values()) else committed)
    for name, how in found.items():
        if how:
            print(f"{name}: {how}")
        elif (made / name).is_dir():
            shutil.rmtree(made / name)
        else:
            (made / name).unlink()
    return DIFFERS if any(found.values()) else 0


def rounded(value: Any) -> Any:
    """A response without the last digits, which the C library of another machine may give
    otherwise."""
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [rounded(item) for item in value]
    return float(f"{value:.12g}") if isinstance(value, float) else value


def lines(body: dict[str, list[Any]]) -> str:
    """JSON with one item a line: short enough to read, and a change shows as a line in a diff."""
    parts = (
        f'  "{key}": [\n    ' + ",\n    ".join(json.dumps(item) for item in items) + "\n  ]"
        for key, items in body.items()
    )
    return "{\n" + ",\n".join(parts) + "\n}\n"


def check_score(committed: Path, folder: Path) -> None:
    """Compares what score.py answers with a model in a folder and the response that lies there."""
    os.environ["AZUREML_MODEL_DIR"] = str(folder)
    sys.path.insert(0, str(committed))
    score = importlib.import_module("score")
    score.init()
    actual = score.run((folder / "request.json").read_text(encoding="utf-8"))
    expected = read_json(folder / "response.json")
    how = next(differences(actual, expected, TOLERANCE), "")
    if how:
        raise ValueError(f"score.py answers otherwise than the oracle: {how}")


def compare(committed: Path, made: Path, train: Any) -> str:
    """How what was made differs from what is committed; nothing where it does not."""
    if not committed.exists():
        return "is not committed"
    if made.name == train.MODEL and not getattr(train, "SAME_BYTES", True):
        read = train.weights
    elif made.read_bytes() == committed.read_bytes():
        return ""
    elif made.suffix == ".json":
        read = read_json
    else:
        read = Path.read_bytes
    try:
        old = read(committed)
    except Exception as error:  # Each framework has its own for a broken file.
        return f"is committed, but cannot be read: {error!r}"
    same = "" if read is train.weights else "has the same values in another form"
    return next(differences(read(made), old), same)


def read_json(path: Path) -> Any:
    """The values that a JSON file holds."""
    return json.loads(path.read_text(encoding="utf-8"))


def differences(new: Any, old: Any, tolerance: float = 0.0, place: str = "") -> Iterator[str]:
    """Where and how two values differ; numbers by more than so much of their size."""
    if hasattr(new, "_asdict"):
        new, old = new._asdict(), old._asdict()
    if isinstance(new, dict) and isinstance(old, dict) and new.keys() == old.keys():
        for key in new:
            yield from differences(new[key], old[key], tolerance, f"{place}.{key}".lstrip("."))
    elif isinstance(new, (list, tuple)) and isinstance(old, (list, tuple)):
        if len(new) != len(old):
            yield f"{place} has {len(new)} items, {len(old)} are committed".lstrip()
        for number, pair in enumerate(zip(new, old)):
            yield from differences(*pair, tolerance, f"{place}[{number}]")
    elif isinstance(new, bytes) and isinstance(old, bytes):
        if new != old:
            same = next((i for i, pair in enumerate(zip(new, old)) if len({*pair}) > 1), "the end")
            yield f"differs from byte {same} on; {len(new)} bytes, {len(old)} are committed"
    elif isinstance(new, float) and isinstance(old, float):
        if not math.isclose(new, old, rel_tol=tolerance, abs_tol=tolerance / 10):
            yield f"{place} is {new!r}, committed {old!r}".lstrip()
    elif new != old:
        yield f"{place} is {new!r}, committed {old!r}".lstrip()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])))
