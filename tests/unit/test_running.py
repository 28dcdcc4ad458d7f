"""What the checks ask of a container arrives whole, or is an error."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from imagematrix.checks.running import RunningImage

WHOLE = b"755 d /opt\x00644 f /opt/a b\x00."


def found(*answers: tuple[int, bytes]) -> list[str]:
    """The rows that are found where an engine answers so."""
    rest = list(answers)

    def execute(*_: Any, **__: Any) -> tuple[int, bytes]:
        return rest.pop(0)

    image = SimpleNamespace(container=SimpleNamespace(exec_run=execute))
    return RunningImage._find(cast(RunningImage, image))


def test_a_listing_that_is_cut_is_asked_for_again() -> None:
    assert found((0, WHOLE[:15]), (1, WHOLE), (0, WHOLE)) == ["755 d /opt", "644 f /opt/a b"]


def test_a_listing_that_is_never_whole_is_an_error() -> None:
    with pytest.raises(AssertionError, match="find ended with 0, its output with"):
        found(*[(0, WHOLE[:15])] * 3)
