"""How much CPU and memory may this container use? The kernel's control groups say so."""

from __future__ import annotations

import os
from typing import Dict, Iterator, List, Mapping, Optional, Tuple

# A variable that is set for one library only is read from OMP_NUM_THREADS where it is not:
# OpenBLAS, MKL, BLIS and NumExpr do so. These others look at the processors of the machine.
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "TF_NUM_INTRAOP_THREADS",
    "TF_NUM_INTEROP_THREADS",
    "LOKY_MAX_CPU_COUNT",
    "PYTHON_CPU_COUNT",
)


def cpu_limit(root: str = "/") -> Optional[float]:
    """How many processors' time this process may use, or None where it may use all of them.

    The smallest of the quotas of its control group and of those above it, and of the processors
    that it may run on. ``root`` is the folder that holds ``proc`` and ``sys``, for tests.
    """
    limits: List[float] = []
    for folder in _folders("cpu", root):
        limits += _quota(folder)
    allowed = len(os.sched_getaffinity(0))
    if allowed < (_processors() or allowed):
        limits.append(float(allowed))
    return min(limits) if limits else None


def memory_room(root: str = "/") -> Optional[int]:
    """How many more bytes this container may hold now, without what it can give up: files' pages.

    Where no limit holds, what the machine has to spare; None where it does not say.
    """
    rooms: List[int] = []
    for folder in _folders("memory", root):
        for limit_file, used_file in (
            ("memory.max", "memory.current"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes"),
        ):
            limit = _words(os.path.join(folder, limit_file))
            used = _words(os.path.join(folder, used_file))
            if limit and used and limit[0].isdigit() and int(limit[0]) < 2**60:
                stat = dict(_pairs(os.path.join(folder, "memory.stat")))
                # The older kind's own numbers leave the groups below out; those totals do not.
                files = sum(
                    stat.get("total_" + name, stat.get(name, 0))
                    for name in ("inactive_file", "active_file")
                )
                rooms.append(int(limit[0]) - int(used[0]) + files)
    spare = dict(_pairs(os.path.join(root, "proc/meminfo"))).get("MemAvailable:")
    if spare is not None:
        rooms.append(spare * 1024)
    return max(0, min(rooms)) if rooms else None


def thread_environment(
    environ: Mapping[str, str], workers: int, limit: Optional[float] = None
) -> Dict[str, str]:
    """What tells numerical libraries how many threads to start in each of ``workers`` processes.

    Each gets its share of ``limit``, a number of processors (None: all of the machine's), rounded
    down, and one at least. What ``environ`` sets already is left out, as is everything where the
    libraries' own default, a thread for each processor, is right.
    """
    processors = _processors() or 1
    share = max(1, int((limit or processors) / workers))
    if share >= processors:
        return {}
    return {name: str(share) for name in THREAD_VARIABLES if not environ.get(name)}


def _processors() -> Optional[int]:
    # os.cpu_count() would tell PYTHON_CPU_COUNT instead, where that is set.
    try:
        return os.sysconf("SC_NPROCESSORS_ONLN")
    except (OSError, ValueError):
        return None


def _quota(folder: str) -> Iterator[float]:
    """The processors' time that a control group's quota leaves: ``max 100000`` is no limit."""
    newer = _words(os.path.join(folder, "cpu.max"))
    older = _words(os.path.join(folder, "cpu.cfs_quota_us")) + _words(
        os.path.join(folder, "cpu.cfs_period_us")
    )
    for words in (newer, older):
        if len(words) == 2 and all(word.isdigit() and int(word) for word in words):
            yield int(words[0]) / int(words[1])


def _folders(controller: str, root: str) -> Iterator[str]:
    """The folder of this process's control group for a controller, and those above it.

    Of both kinds of control groups, as both may be mounted. A container mostly sees its own group
    as the top of the tree; where it shares the host's view, its path leads there.
    """
    paths = dict(_paths(os.path.join(root, "proc/self/cgroup")))
    for kind, options, top, mount in _mounts(os.path.join(root, "proc/self/mountinfo")):
        if kind == "cgroup2":
            path = paths.get("")
        elif kind == "cgroup" and controller in options:
            path = paths.get(controller)
        else:
            continue
        if path is None:
            continue
        base = os.path.join(root, mount.lstrip("/"))
        inner = _below(path, top)
        folder = os.path.join(base, inner) if inner else base
        # A path may lead out of what is mounted here: then the top is the nearest that is seen.
        while folder.startswith(base.rstrip("/") + "/"):
            yield folder
            folder = os.path.dirname(folder)
        yield base


def _below(path: str, top: str) -> str:
    """A control group's path from the folder on that is mounted; "" where it is not below that."""
    parts = [part for part in path.split("/") if part]
    tops = [part for part in top.split("/") if part]
    if ".." in parts or parts[: len(tops)] != tops:
        return ""
    return "/".join(parts[len(tops) :])


def _paths(file: str) -> Iterator[Tuple[str, str]]:
    """Of each controller the path of this process's group; "" is the newer kind's only tree."""
    for line in _lines(file):
        fields = line.split(":", 2)
        if len(fields) == 3:
            for name in fields[1].split(","):
                yield name, fields[2]


def _mounts(file: str) -> Iterator[Tuple[str, List[str], str, str]]:
    """Of each file system that is mounted its kind, its options, what of it, and where."""
    for line in _lines(file):
        left, _, right = line.partition(" - ")
        fields, kinds = left.split(" "), right.split(" ")
        if len(fields) > 4 and len(kinds) > 2:
            yield kinds[0], kinds[2].split(","), fields[3], fields[4]


def _pairs(file: str) -> Iterator[Tuple[str, int]]:
    for line in _lines(file):
        words = line.split()
        if len(words) > 1 and words[1].isdigit():
            yield words[0], int(words[1])


def _words(file: str) -> List[str]:
    return " ".join(_lines(file)).split()


def _lines(file: str) -> List[str]:
    try:
        with open(file, encoding="utf-8", errors="replace") as opened:
            return opened.read().splitlines()
    except OSError:
        return []
