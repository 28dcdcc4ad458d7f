"""docs/where-did-it-go.md: each name that people know, and what takes its place."""

from dataclasses import replace

import pytest

from imagematrix.matrix.schema import Accelerator, Track
from imagematrix.matrix.variant import Variant
from imagematrix.repository.former import CUSTOM_BASES, FORMER, HISTORICAL, where_it_went
from imagematrix.repository.project import Project
from tests.unit.helpers import REPOSITORY, Repository

ROWS = [former.name for former in (*HISTORICAL, *CUSTOM_BASES)]
# The table of 2021, and the custom bases of before.
KNOWN = {
    "tensorflow1.15-py3.7-inference-cpu",
    "pytorch1.6-py3.7-inference-cpu",
    "xgboost0.9-py3.7-inference-cpu",
    "scikit-learn0.24.1-py3.7-inference-cpu",
    "tensorflow2.4-py3.7-inference-cpu",
    "pytorch1.7-py3.7-inference-cpu",
    "xgboost1.4-py3.7-inference-cpu",
    "onnxruntime1.6-py3.7-inference-cpu",
    "tensorflow2.4-py3.7-inference-gpu",
    "minimal-py3.7-inference-cpu",
    "ubuntu-miniconda",
    "onnxruntime:v0.4.0",
    "onnxruntime:v0.4.0-cuda10.0-cudnn7",
    "onnxruntime:v0.4.0-tensorrt19.03",
}


@pytest.fixture(scope="module")
def variants() -> tuple[Variant, ...]:
    return Project(REPOSITORY).variants


def rows_of(page: str) -> dict[str, list[str]]:
    """The cells of each row, by the name in the first one."""
    rows = [line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith("| `")]
    return {first.strip("`"): cells for first, *cells in rows}


def test_every_name_has_one_row(variants: tuple[Variant, ...]) -> None:
    assert len(ROWS) == len(set(ROWS))
    assert rows_of(where_it_went(variants)).keys() == set(ROWS) >= KNOWN


def test_every_historical_image_is_a_former_name(variants: tuple[Variant, ...]) -> None:
    historical = {variant.name for variant in variants if variant.track is Track.HISTORICAL}
    assert historical <= {former.name for former in HISTORICAL}


def test_each_row_leads_to_images_of_the_matrix(variants: tuple[Variant, ...]) -> None:
    """And to a successor on the same hardware; what has no equal says why."""
    by_name = {variant.name: variant for variant in variants}
    rows = rows_of(where_it_went(variants))
    for former in (*HISTORICAL, *CUSTOM_BASES):
        same, current, *note = rows[former.name]
        successor = by_name[current.strip("`")]
        assert (successor.track, successor.accelerator) == (Track.CURRENT, former.accelerator)
        assert former.preferred or successor.framework == former.framework
        if same == "under this name":
            assert by_name[former.name].framework == former.framework
        elif same != "none":
            assert by_name[same.strip("`")].track is Track.HISTORICAL
        else:
            assert note, f"{former.name} has no image with the same content, and no reason"


def test_conda_is_preferred_where_an_image_has_it(variants: tuple[Variant, ...]) -> None:
    minimal = next(variant for variant in variants if variant.name == "minimal-py312-inference")
    without = [variant for variant in variants if "conda" not in variant.name]
    conda = replace(minimal, name="minimal-py312-conda-inference")

    assert rows_of(where_it_went(without))["ubuntu-miniconda"][1] == "`minimal-py312-inference`"
    assert rows_of(where_it_went([*without, conda]))["ubuntu-miniconda"][1] == f"`{conda.name}`"


def test_an_image_that_is_gone_is_in_no_row(variants: tuple[Variant, ...]) -> None:
    gone = "onnxruntime1.6-py3.7-inference-cpu"
    left = [v for v in variants if v.name != gone and v.accelerator is not Accelerator.TENSORRT]
    rows = rows_of(where_it_went(left))
    assert rows[gone][:2] == ["none", "`onnxruntime1.31-py312-inference`"]
    assert rows["onnxruntime:v0.4.0-tensorrt19.03"][:2] == ["none", "none"]


def test_check_notices_a_stale_page(repository: Repository) -> None:
    assert not repository.problems()
    repository.change(str(FORMER), ("# Where did it go?\n", "# Where is it?\n"))
    (problem,) = repository.problems()
    assert problem == f"{FORMER}:2:1: differs from what the matrix gives; run `nox -s render`"
