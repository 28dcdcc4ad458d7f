"""The benchmark measures what it says; how fast that is, is not for a unit test."""

from pathlib import Path

import pytest

from benchmarks import matrix


def test_a_generated_matrix_is_right_and_goes_through_every_stage(tmp_path: Path) -> None:
    measurement = matrix.measure(tmp_path, 150)

    assert measurement.images == 150
    assert list(measurement.seconds) == [
        "load", "expand", "render", "check", "locks", "contents", "plan"
    ]  # fmt: skip
    assert measurement.microseconds == pytest.approx(measurement.total / 150 * 1e6)
