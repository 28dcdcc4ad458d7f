"""How much CPU and memory may this container use? The limits of the kernel's control groups."""

from __future__ import annotations

import os
from typing import Dict, Iterator, List, Mapping, Optional, Tuple

# OpenBLAS, MKL, BLIS and NumExpr fall back to OMP_NUM_THREADS where their own variable is not set.
# The libraries of the other variables would count the processors of the machine.
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "TF_NUM_INTRAOP_THREADS",
    "TF_NUM_INTEROP_THREADS",
    "LOKY_MAX_CPU_COUNT",
    "PYTHON_CPU_COUNT",
)


def cpu_limit(root: str = "/") -> Optional[float]:
    """How many processors this process may use (a quota can be a fraction), or None for all.

    The smallest quota of its control group and of the groups above it, or the number of processors
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
    """How many more bytes this container may use now; cached pages of files count as free.

    Without a limit, the memory that the machine has available; None if that is not known either.
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
                # In version 1, only the totals include the groups below.
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
    """Variables for how many threads numerical libraries start in each of ``workers`` processes.

    Each process gets its share of ``limit``, a number of processors (None: all), rounded down, but
    at least one. Variables that ``environ`` sets are left out. The result is empty where the
    libraries' default, one thread per processor, is right.
    """
    processors = _processors() or 1
    share = max(1, int((limit or processors) / workers))
    if share >= processors:
        return {}
    return {name: str(share) for name in THREAD_VARIABLES if not environ.get(name)}


def _processors() -> Optional[int]:
    # os.cpu_count() returns PYTHON_CPU_COUNT where that is set.
    try:
        return os.sysconf("SC_NPROCESSORS_ONLN")
    except (OSError, ValueError):
        return None


def _quota(folder: str) -> Iterator[float]:
    """The quota of a control group in processors; none for ``max 100000``."""
    newer = _words(os.path.join(folder, "cpu.max"))
    older = _words(os.path.join(folder, "cpu.cfs_quota_us")) + _words(
        os.path.join(folder, "cpu.cfs_period_us")
    )
    for words in (newer, older):
        if len(words) == 2 and all(word.isdigit() and int(word) for word in words):
            yield int(words[0]) / int(words[1])


def _folders(controller: str, root: str) -> Iterator[str]:
    """The folder of this process's control group for a controller, and the folders above it.

    Both versions of control groups are looked up, as both may be mounted. A container usually sees
    its own group as the top of the tree; if it shares the view of the host, its path leads there.
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
        # A path may lead out of the mounted tree. Then the top is the nearest folder.
        while folder.startswith(base.rstrip("/") + "/"):
            yield folder
            folder = os.path.dirname(folder)
        yield base


def _below(path: str, top: str) -> str:
    """The path of a control group relative to the mounted one; "" if it is not below that."""
    parts = [part for part in path.split("/") if part]
    tops = [part for part in top.split("/") if part]
    if ".." in parts or parts[: len(tops)] != tops:
        return ""
    return "/".join(parts[len(tops) :])


def _paths(file: str) -> Iterator[Tuple[str, str]]:
    """Controllers and the path of this process's group; "" is the only tree of version 2."""
    for line in _lines(file):
        fields = line.split(":", 2)
        if len(fields) == 3:
            for name in fields[1].split(","):
                yield name, fields[2]


def _mounts(file: str) -> Iterator[Tuple[str, List[str], str, str]]:
    """Kind, options, root and mount point of each mounted file system."""
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
