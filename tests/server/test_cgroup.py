"""What the server reads of the limits of its container, in folders that look like the kernel's."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "base" / "server"))

from inference_server import cgroup, config, extra_packages, log

OWN = "/docker/1f2e"
NEWER = "31 23 0:28 {top} /sys/fs/cgroup ro,nosuid - cgroup2 cgroup rw\n"
OLDER = (
    "30 23 0:27 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n"
    "31 30 0:28 {top} /sys/fs/cgroup/cpu,cpuacct ro,nosuid - cgroup cgroup rw,cpu,cpuacct\n"
    "32 30 0:29 {top} /sys/fs/cgroup/memory ro master:9 - cgroup cgroup rw,memory\n"
)


@pytest.fixture(autouse=True)
def eight_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sysconf", {"SC_NPROCESSORS_ONLN": 8}.__getitem__)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(8)))


def write(root: Path, own: str, mounts: str, files: dict[str, str]) -> str:
    contents = {"proc/self/cgroup": own, "proc/self/mountinfo": mounts, **files}
    for name, text in contents.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return str(root)


def test_limits_of_a_container_that_sees_only_its_own_group(tmp_path: Path) -> None:
    files = {
        "sys/fs/cgroup/cpu.max": "150000 100000\n",
        "sys/fs/cgroup/memory.max": "134217728\n",
        "sys/fs/cgroup/memory.current": "60000000\n",
        # What files' pages take can be given up.
        "sys/fs/cgroup/memory.stat": (
            "anon 40000000\ninactive_file 15000000\nactive_file 5000000\n"
        ),
    }
    root = write(tmp_path, "0::/\n", NEWER.format(top="/"), files)
    assert (cgroup.cpu_limit(root), cgroup.memory_room(root)) == (1.5, 128 * 2**20 - 40_000_000)


def test_the_smallest_limit_on_the_way_up_holds(tmp_path: Path) -> None:
    files = {
        "sys/fs/cgroup/pods/cpu.max": "50000 100000\n",
        "sys/fs/cgroup/pods/memory.max": "max\n",
        "sys/fs/cgroup/pods/one/cpu.max": "200000 100000\n",
        "sys/fs/cgroup/pods/one/memory.max": "1000000\n",
        "sys/fs/cgroup/pods/one/memory.current": "800000\n",
        "sys/fs/cgroup/pods/one/app/cpu.max": "max 100000\n",
        "sys/fs/cgroup/pods/one/app/memory.max": "2000000\n",
        "sys/fs/cgroup/pods/one/app/memory.current": "700000\n",
        "sys/fs/cgroup/pods/other/cpu.max": "10000 100000\n",
    }
    root = write(tmp_path, "0::/pods/one/app\n", NEWER.format(top="/"), files)
    assert (cgroup.cpu_limit(root), cgroup.memory_room(root)) == (0.5, 200_000)


@pytest.mark.parametrize(("top", "inner"), [(OWN, ""), ("/", OWN), ("/docker", "/1f2e")])
def test_limits_of_the_older_groups(tmp_path: Path, top: str, inner: str) -> None:
    """In a view of its own, and in the host's."""
    cpu, memory = f"sys/fs/cgroup/cpu,cpuacct{inner}", f"sys/fs/cgroup/memory{inner}"
    files = {
        f"{cpu}/cpu.cfs_quota_us": "50000\n",
        f"{cpu}/cpu.cfs_period_us": "100000\n",
        f"{memory}/memory.limit_in_bytes": "268435456\n",
        f"{memory}/memory.usage_in_bytes": "100000000\n",
        # Its own numbers leave out the groups below it.
        f"{memory}/memory.stat": "inactive_file 1\ntotal_inactive_file 30000000\n",
    }
    own = f"9:name=systemd:{OWN}\n4:memory:{OWN}\n1:cpu,cpuacct:{OWN}\n0::{OWN}\n"
    root = write(tmp_path, own, OLDER.format(top=top), files)
    assert (cgroup.cpu_limit(root), cgroup.memory_room(root)) == (0.5, 256 * 2**20 - 70_000_000)


def test_no_limit_is_none(tmp_path: Path) -> None:
    newer = {"sys/fs/cgroup/cpu.max": "max 100000\n", "sys/fs/cgroup/memory.max": "max\n"}
    older = {
        "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "-1\n",
        "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
        "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
        "sys/fs/cgroup/memory/memory.usage_in_bytes": "100000000\n",
    }
    own = "4:memory:/\n1:cpu,cpuacct:/\n0::/\n"
    both = OLDER.format(top="/") + NEWER.format(top="/")
    root = write(tmp_path, own, both, {**newer, **older})
    assert (cgroup.cpu_limit(root), cgroup.memory_room(root)) == (None, None)


@pytest.mark.parametrize(
    ("current", "room"), [(400_000, 489 * 1024), (990_000, 10_000), (2**30, 0)]
)
def test_the_room_is_what_both_the_limit_and_the_machine_leave(
    tmp_path: Path, current: int, room: int
) -> None:
    files = {
        "sys/fs/cgroup/memory.max": "1000000\n",
        "sys/fs/cgroup/memory.current": f"{current}\n",
        "proc/meminfo": "MemTotal: 9000000 kB\nMemAvailable: 489 kB\n",
    }
    root = write(tmp_path, "0::/\n", NEWER.format(top="/"), files)
    assert cgroup.memory_room(root) == room


@pytest.mark.parametrize("own", ["", "nonsense\n", "0::/../..\n", "0::/elsewhere\n"])
def test_what_cannot_be_read_is_no_limit(tmp_path: Path, own: str) -> None:
    root = write(tmp_path, own, "nonsense\n" + NEWER.format(top="/docker/1f2e"), {})
    assert (cgroup.cpu_limit(root), cgroup.memory_room(root)) == (None, None)
    assert cgroup.memory_room(str(tmp_path / "none")) is None


def test_a_group_outside_of_what_is_mounted_has_the_limits_of_the_top(tmp_path: Path) -> None:
    files = {
        "sys/fs/cgroup/memory.max": "1000000\n",
        "sys/fs/cgroup/memory.current": "400000\n",
    }
    root = write(tmp_path, "0::/../other\n", NEWER.format(top="/"), files)
    assert cgroup.memory_room(root) == 600_000


def test_processors_that_are_not_allowed_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {2, 3})
    files = {"sys/fs/cgroup/cpu.max": "400000 100000\n"}
    assert cgroup.cpu_limit(write(tmp_path, "0::/\n", NEWER.format(top="/"), files)) == 2


@pytest.mark.parametrize(
    ("limit", "workers", "threads"),
    [(0.5, 1, 1), (1.0, 1, 1), (2.9, 1, 2), (4.0, 2, 2), (4.0, 3, 1), (None, 2, 4), (None, 99, 1)],
)
def test_workers_share_the_processors(limit: float | None, workers: int, threads: int) -> None:
    variables = cgroup.thread_environment({}, workers, limit)
    assert {"OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "LOKY_MAX_CPU_COUNT"} <= variables.keys()
    assert set(variables.values()) == {str(threads)}


@pytest.mark.parametrize("limit", [None, 8.0, 64.0])
def test_the_default_of_the_libraries_stays_where_it_is_right(limit: float | None) -> None:
    assert cgroup.thread_environment({}, 1, limit) == {}


def test_what_a_user_sets_wins() -> None:
    variables = cgroup.thread_environment({"OMP_NUM_THREADS": "3", "NUMBA_NUM_THREADS": ""}, 1, 1.0)
    assert "OMP_NUM_THREADS" not in variables
    assert variables["NUMBA_NUM_THREADS"] == "1"


def test_workers_are_told_how_many_threads_to_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cgroup, "cpu_limit", lambda: 4.0)
    environ = {"WORKER_COUNT": "2", "TF_NUM_INTEROP_THREADS": "7"}
    variables = extra_packages.prepare(config.load(environ), environ, log.Log("server", False))
    assert (variables["OMP_NUM_THREADS"], variables["TF_NUM_INTEROP_THREADS"]) == ("2", "7")
