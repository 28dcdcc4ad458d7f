"""What a container may use of the machine, and what its libraries make of it."""

import json
from collections.abc import Mapping
from typing import Any

import docker
import pytest

from tests.derived.conftest import Serve
from tests.derived.containers import Service

SCRIPT = """
import os

NAMES = ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "LOKY_MAX_CPU_COUNT")

def init():
    pass

def run(data):
    return [os.environ.get(name) for name in NAMES]
"""
LIMITS = (
    "import json; from inference_server import cgroup;"
    "print(json.dumps([cgroup.cpu_limit(), cgroup.memory_room() < 256 * 2**20]))"
)
HALF: Mapping[str, Any] = {"nano_cpus": 500_000_000, "mem_limit": "256m"}


@pytest.fixture
def two_processors(client: docker.DockerClient) -> None:
    """An engine with one processor has nothing to limit."""
    if client.info()["NCPU"] < 2:
        pytest.skip("the engine has one processor")


@pytest.mark.usefixtures("two_processors")
@pytest.mark.parametrize("namespace", ["private", "host"])
def test_threads_follow_the_limit_of_the_container(serve: Serve, namespace: str) -> None:
    """In a view of control groups of its own, and in the host's."""
    service = serve({"main.py": SCRIPT}, cgroupns=namespace, **HALF).await_ready()
    assert _limits(service) == [0.5, True]
    assert service.score({}).json == ["1", "1", "1"]


@pytest.mark.usefixtures("two_processors")
def test_what_a_user_sets_wins(serve: Serve) -> None:
    service = serve({"main.py": SCRIPT}, {"OMP_NUM_THREADS": "3"}, **HALF).await_ready()
    assert service.score({}).json == ["3", "1", "1"]


@pytest.mark.usefixtures("two_processors")
def test_processors_that_are_named_limit(serve: Serve) -> None:
    service = serve({"main.py": SCRIPT}, cpuset_cpus="0").await_ready()
    assert _limits(service) == [1, False]
    assert service.score({}).json == ["1", "1", "1"]


def test_without_a_limit_the_libraries_decide(serve: Serve) -> None:
    service = serve({"main.py": SCRIPT}).await_ready()
    assert _limits(service) == [None, False]
    assert service.score({}).json == [None, None, None]


def _limits(service: Service) -> Any:
    """What the server sees, read by another process of the container."""
    return json.loads(service.execute("python3", "-c", LIMITS))
