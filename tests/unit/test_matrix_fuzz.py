"""Any mutation of the real matrix is read or reported with its errors; nothing else happens."""

import copy
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from imagematrix.errors import UserError
from imagematrix.matrix.rules import load_matrix
from imagematrix.matrix.variant import expand
from tests.unit.helpers import REPOSITORY

REAL = (REPOSITORY / "matrix.yaml").read_text()
DATA = yaml.safe_load(REAL)
Dumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
ODD: tuple[Any, ...] = (
    None, True, 0, -1, 3.10, 10**30, float("nan"), "", " ", "x" * 3_000, "é\u202e", "../../etc",
    "$(id)", "==", [], {}, [[]], [None], {"a": {}}, {"": ""}, ["3.12", "3.12"], b"\x00\xff",
)  # fmt: skip
FRAGMENTS = (
    "\t", "  ", ": ", "- ", "[", "]", "{", "}", "&a ", "*a", "!!int ", "!x ", "|", ">", "'", '"',
    "#", "%", "@", "`", "---\n", "...\n", "? ", "<<: ", "~", "\x07", "\u2028", "0x", "1:2:3", "\\",
)  # fmt: skip


def change_lines(random_: random.Random) -> str:
    """The text with a few lines deleted, doubled, swapped or replaced."""
    lines = REAL.splitlines(keepends=True)
    for _ in range(random_.randint(1, 4)):
        at, other = random_.randrange(len(lines)), random_.randrange(len(lines))
        match random_.randrange(4):
            case 0:
                del lines[at]
            case 1:
                lines.insert(at, lines[other])
            case 2:
                lines[at], lines[other] = lines[other], lines[at]
            case _:
                lines[at] = lines[other]
    return "".join(lines)


def change_characters(random_: random.Random) -> str:
    """The text with what has a meaning in YAML put in, or a few characters taken out."""
    text = REAL
    for _ in range(random_.randint(1, 3)):
        at = random_.randrange(len(text))
        text = text[:at] + random_.choice(FRAGMENTS) + text[at + random_.randint(0, 3) :]
    return text


def change_nodes(random_: random.Random) -> str:
    """The data with a few values replaced, removed or doubled."""
    data = copy.deepcopy(DATA)
    for _ in range(random_.randint(1, 4)):
        holder, key = random_.choice(places(data))
        match random_.randrange(4):
            case 0:
                del holder[key]
            case 1 if isinstance(holder, list):
                holder.append(holder[key])
            case 1:
                holder[f"{key}x"] = holder[key]
            case 2:
                holder[key] = [holder[key]]
            case _:
                holder[key] = copy.deepcopy(random_.choice(ODD))
        data = data or {"a": 1}
    return yaml.dump(data, Dumper=Dumper, allow_unicode=True)


def places(data: Any) -> list[tuple[Any, Any]]:
    """Every (mapping or list, key) in the data."""
    items: list[tuple[Any, Any]] = []
    if isinstance(data, dict | list):
        for key in list(data) if isinstance(data, dict) else range(len(data)):
            items += [(data, key), *places(data[key])]
    return items


@pytest.mark.parametrize("change", [change_lines, change_characters, change_nodes])
def test_changed_matrix_is_read_or_refused_with_a_place(
    change: Callable[[random.Random], str], tmp_path: Path
) -> None:
    path = tmp_path / "matrix.yaml"
    refused = 0
    for seed in range(150):
        path.write_text(change(random.Random(seed)), encoding="utf-8")
        try:
            assert expand(load_matrix(path)), seed
        except UserError as error:
            refused += 1
            if not str(error).startswith("matrix.yaml"):
                pytest.fail(f"seed {seed}: {error}")
        except Exception as error:
            pytest.fail(f"seed {seed}: {error!r}")
    # A change that does nothing would prove nothing.
    assert refused > 75
