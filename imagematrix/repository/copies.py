"""Copies of the repository as other people may have it, for builds that must come out the same."""

import os
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from imagematrix.files import WORK_FOLDER


@dataclass(frozen=True)
class Checkout:
    """How a copy is made: with which umask, of which time its files are (each of another second,
    from this one on), and whether they are written in the order of their names or backwards."""

    umask: int
    time: int
    reverse: bool

    def __str__(self) -> str:
        order = "backwards" if self.reverse else "by name"
        date = datetime.fromtimestamp(self.time, UTC).date()
        return f"umask {self.umask:04o}, files of {date}, written {order}"


# 2001-09-09 and 2033-05-18.
CHECKOUTS = (Checkout(0o022, 1_000_000_000, False), Checkout(0o077, 2_000_000_000, True))


def copy_repository(root: Path, to: Path, checkout: Checkout) -> None:
    """Copies the files of the repository at `root`, as they are now, to a folder that is made new.

    Left out is what git does not hold: what is hidden at the top, the work folder, bytecode.
    """
    shutil.rmtree(to, ignore_errors=True)
    tops = (p for p in root.iterdir() if p.name[0] != "." and p.name != WORK_FOLDER.name)
    found = (path for top in tops for path in (top, *top.rglob("*")))
    files = sorted(path for path in found if path.is_file() and "__pycache__" not in path.parts)
    to.mkdir(parents=True)
    for path in reversed(files) if checkout.reverse else files:
        copy = to / path.relative_to(root)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
        executable = path.stat().st_mode & 0o100
        copy.chmod((0o777 if executable else 0o666) & ~checkout.umask)
    # Writing a file changes the time of its folder.
    for seconds, path in enumerate(sorted(to.rglob("*"), reverse=True), checkout.time):
        if path.is_dir():
            path.chmod(0o777 & ~checkout.umask)
        os.utime(path, (seconds, seconds))
