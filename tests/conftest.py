"""What the tests that need an engine share: the engine, and which of them run in one process."""

from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

from imagematrix.errors import UserError
from imagematrix.host.engine import Engine, find_engine

# What each test of these files shares with others is named before the last hyphen of its parameter:
# the container of an image, an unpacked Docker, the clients of a shape.
_BY_PARAMETER = {
    "tests/derived/test_memory.py",
    "tests/images/test_images.py",
    "tests/engine/test_versions.py",
}
# Each pair has one engine, or the images in it that only one of them may make at a time.
TOGETHER = {
    "tests/engine/test_committed.py": "tests/engine/test_failures.py",
    "tests/engine/test_remote.py": "tests/engine/test_registry.py",
    "tests/engine/test_reproduce.py": "tests/engine/test_parents.py",
}


def scope_of(nodeid: str) -> str:
    """What runs in one process, one test after the other, for the node ID of a test: what shares a
    container or an engine; a broken image is by itself, and else it is a file."""
    path, _, test = nodeid.partition("::")
    if path.startswith("tests/broken/"):
        return nodeid
    if path in _BY_PARAMETER:
        return f"{path}::{test.rpartition('-')[0]}"
    return TOGETHER.get(path, path)


# Not by marks and `--dist=loadgroup`: with pytest 9.2 that groups nothing, and says nothing
# (https://github.com/pytest-dev/pytest-xdist/issues/1386).
@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Gives `--dist=loadscope` the scopes of these tests."""
    if config.getoption("dist") != "loadscope":
        return None
    scheduler = LoadScopeScheduling(config, log)
    scheduler._split_scope = scope_of
    return scheduler


@pytest.fixture(scope="session")
def engine() -> Engine:
    """The engine that holds the images."""
    try:
        found = find_engine()
    except UserError as error:
        pytest.fail(str(error))
    if found is None:
        pytest.fail("no Docker engine answers; run `nox -s build` first")
    return found
