"""Tests that share a container or an engine run in one process of two; the others need not."""

from pathlib import Path

from tests.conftest import TOGETHER, scope_of
from tests.unit.helpers import REPOSITORY

IMAGE = "tests/images/test_images.py::test_image"
VERSION = "tests/engine/test_versions.py::test_the_smallest_image_is_built_and_served"


def test_checks_of_an_image_share_its_container() -> None:
    one = scope_of(f"{IMAGE}[minimal-py312-cuda13.0-inference-no_compiler]")
    assert one == scope_of(f"{IMAGE}[minimal-py312-cuda13.0-inference-no_package_cache]")
    assert one != scope_of(f"{IMAGE}[minimal-py312-inference-no_compiler]")


def test_what_shares_an_engine_is_together() -> None:
    for one, other in (("registry", "remote"), ("parents", "reproduce")):
        scopes = {scope_of(f"tests/engine/test_{name}.py::test_a") for name in (one, other)}
        assert len(scopes) == 1
        assert scopes != {scope_of("tests/engine/test_published.py::test_a")}
    assert scope_of(f"{VERSION}[forky-containerd]") == scope_of(f"{VERSION}[forky-overlay2]")
    assert scope_of(f"{VERSION}[forky-containerd]") != scope_of(f"{VERSION}[trixie-containerd]")


def test_broken_images_are_apart() -> None:
    nodeids = [f"tests/broken/test_broken_images.py::test_a[{name}]" for name in ("a-b", "a-c")]
    assert [scope_of(nodeid) for nodeid in nodeids] == nodeids


def test_files_with_a_scope_of_their_own_are_there() -> None:
    for nodeid in (IMAGE, VERSION, *TOGETHER, *TOGETHER.values()):
        assert Path(REPOSITORY, nodeid.partition("::")[0]).is_file()
