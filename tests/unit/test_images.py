"""Which images the matrix gives, and which of them a selection holds."""

from pathlib import Path

import pytest

from imagematrix.errors import UserError
from imagematrix.matrix.schema import Accelerator, Track, image_name
from imagematrix.matrix.selection import Selection, select, with_parents
from imagematrix.matrix.slim import Verb
from imagematrix.repository.project import Project
from tests.unit.helpers import (
    MATRIX,
    MINIMAL,
    PYTORCH,
    REPOSITORY,
    XGBOOST,
    Repository,
    changed,
    variants_of,
)

HISTORICAL = (
    (
        "exclude: []",
        """\
exclude: [{reason: never released, framework: onnxruntime, version: "1.7"}]
""",
    ),
    (
        "frameworks:\n  minimal:\n    title: Python\n    releases:\n",
        """\
frameworks:
  onnxruntime:
    title: ONNX Runtime
    releases:
      - {version: "1.6", track: historical, pythons: ["3.7"], accelerators: [cpu], pins: [numpy>1]}
      - {version: "1.7", track: historical, pythons: ["3.7"], accelerators: [cpu], pins: [numpy>1]}
  minimal:
    title: Python
    releases:
      - {track: historical, pythons: ["3.7"], accelerators: [cpu], pins: [gunicorn==21]}
""",
    ),
    ('"3.12": {suite: trixie}', '"3.12": {suite: trixie}\n  "3.7": {suite: bookworm}'),
)
OLD_MINIMAL, OLD_ONNX = "minimal-py3.7-inference-cpu", "onnxruntime1.6-py3.7-inference-cpu"


def test_the_matrix_of_this_repository_gives_these_images() -> None:
    assert [variant.name for variant in Project(REPOSITORY).variants] == [
        "minimal-py311-inference",
        "minimal-py312-inference",
        "minimal-py313-inference",
        "minimal-py3.7-inference-cpu",
        "minimal-py312-cuda13.0-inference",
        "scikit-learn1.9-py312-inference",
        "scikit-learn0.24.1-py3.7-inference-cpu",
        "xgboost3.4-py312-inference",
        "xgboost3.4-py312-cuda13.3-inference",
        "xgboost0.9-py3.7-inference-cpu",
        "xgboost1.4-py3.7-inference-cpu",
        "lightgbm4.7-py312-inference",
        "onnxruntime1.31-py312-inference",
        "onnxruntime1.31-py312-cuda13.0-inference",
        "onnxruntime1.31-py312-cuda13.0-tensorrt10.14-inference",
        "onnxruntime1.6-py3.7-inference-cpu",
        "onnxruntime0.4-py3.7-inference-cpu",
        "tensorflow2.21-py312-inference",
        "tensorflow2.21-py312-cuda12.5-inference",
        "tensorflow1.15-py3.7-inference-cpu",
        "tensorflow2.4-py3.7-inference-cpu",
        "tensorflow2.4-py3.7-inference-gpu",
        "pytorch2.13-py311-inference",
        "pytorch2.13-py312-inference",
        "pytorch2.13-py312-cuda13.0-inference",
        "pytorch1.6-py3.7-inference-cpu",
        "pytorch1.7-py3.7-inference-cpu",
    ]


@pytest.mark.parametrize(
    ("framework", "version", "python", "track", "name"),
    [
        ("minimal", None, "3.12", Track.CURRENT, "minimal-py312-inference"),
        ("pytorch", "2.13", "3.12", Track.CURRENT, "pytorch2.13-py312-inference"),
        ("minimal", None, "3.7", Track.HISTORICAL, "minimal-py3.7-inference-cpu"),
        ("tensorflow", "1.15", "3.7", Track.HISTORICAL, "tensorflow1.15-py3.7-inference-cpu"),
        (
            "scikit-learn",
            "0.24.1",
            "3.7",
            Track.HISTORICAL,
            "scikit-learn0.24.1-py3.7-inference-cpu",
        ),
    ],
)
def test_an_image_has_the_name_that_consumers_know(
    framework: str, version: str | None, python: str, track: Track, name: str
) -> None:
    assert image_name(framework, version, python, Accelerator.CPU, track) == name


def test_a_variant_holds_all_that_later_stages_need(repository: Repository) -> None:
    variant = repository.variant(XGBOOST)

    assert (variant.parent, variant.suite, variant.suite.glibc) == (MINIMAL, "trixie", "2.41")
    assert variant.pins == ("xgboost-cpu==3.4.1", "numpy>=2")
    assert variant.patterns(Verb.SOURCE) == ("site-packages/pip/*",)
    assert variant.index is None
    assert variant.wheels == ()
    assert variant.description == "Inference image: XGBoost 3.4, Python 3.12, CPU"
    assert str(variant.dockerfile) == f"frameworks/xgboost/{XGBOOST}/Dockerfile"
    assert str(variant.lock) == f"frameworks/xgboost/{XGBOOST}/requirements.txt"
    assert str(variant.slim_file) == f"frameworks/xgboost/{XGBOOST}/slim.txt"
    assert str(variant.context) == f"frameworks/xgboost/{XGBOOST}"
    assert str(variant.template) == "frameworks/Dockerfile.j2"
    assert str(variant.example) == "frameworks/xgboost/example"


def test_a_root_is_built_in_the_folder_that_holds_the_server(repository: Repository) -> None:
    variant = repository.variant(MINIMAL)

    assert variant.parent is None
    assert str(variant.context) == "base"
    assert str(variant.dockerfile) == f"base/{MINIMAL}/Dockerfile"
    assert variant.description == "Inference image: Python, Python 3.12, CPU"


def test_a_declared_wheel_goes_to_the_images_that_pin_it(repository: Repository) -> None:
    variant = repository.variant(PYTORCH)

    assert variant.index is not None
    assert variant.index.url == "https://wheels.example/cpu"
    (wheel,) = variant.wheels
    assert (wheel.name, wheel.version, wheel.sha256) == ("torch", "2.0.0+cpu", "b" * 64)
    assert wheel.requires == ("filelock", "sympy>=1")


def test_parents_come_before_their_children_and_excluded_images_not_at_all(tmp_path: Path) -> None:
    variants = variants_of(changed(MATRIX, *HISTORICAL), tmp_path)

    assert [variant.name for variant in variants] == [
        OLD_MINIMAL,
        MINIMAL,
        OLD_ONNX,
        XGBOOST,
        PYTORCH,
    ]
    assert variants[2].parent == OLD_MINIMAL


@pytest.mark.parametrize(
    ("selection", "names"),
    [
        (Selection(), [MINIMAL, XGBOOST, PYTORCH]),
        (Selection(everything=True), [OLD_MINIMAL, MINIMAL, OLD_ONNX, XGBOOST, PYTORCH]),
        (Selection(track=Track.HISTORICAL), [OLD_MINIMAL, OLD_ONNX]),
        (Selection(track=Track.CURRENT), [MINIMAL, XGBOOST, PYTORCH]),
        (Selection(everything=True, track=Track.HISTORICAL), [OLD_MINIMAL, OLD_ONNX]),
        (Selection(accelerators=(Accelerator.CPU,)), [MINIMAL, XGBOOST, PYTORCH]),
        (Selection((OLD_ONNX,)), [OLD_ONNX]),
        (Selection(("minimal*",)), [OLD_MINIMAL, MINIMAL]),
        (Selection(("minimal*",), track=Track.CURRENT), [MINIMAL]),
        (Selection(("xgboost*", "*py3.7*", "xg*")), [OLD_MINIMAL, OLD_ONNX, XGBOOST]),
        (Selection(("pytorch?.0-py312-*",)), [PYTORCH]),
    ],
)
def test_a_selection_holds_these_images(
    selection: Selection, names: list[str], tmp_path: Path
) -> None:
    variants = variants_of(changed(MATRIX, *HISTORICAL), tmp_path)

    assert [variant.name for variant in select(variants, selection)] == names


@pytest.mark.parametrize(
    ("patterns", "message"),
    [
        (
            ["xgbost3.4-py312-inference"],
            "no image matches 'xgbost3.4-py312-inference'; the nearest names:"
            f" {XGBOOST}, {PYTORCH}, {MINIMAL}",
        ),
        (
            ["minimal*", "*torch", "zzz"],
            f"no image matches '*torch'; the nearest names: {PYTORCH}\n"
            f"no image matches 'zzz'; the nearest names: {MINIMAL}, {XGBOOST}, {PYTORCH}",
        ),
        (
            ["MINIMAL*"],
            f"no image matches 'MINIMAL*'; the nearest names: {MINIMAL}, {XGBOOST}, {PYTORCH}",
        ),
    ],
)
def test_a_pattern_without_an_image_is_an_error_that_names_the_nearest(
    patterns: list[str], message: str, repository: Repository
) -> None:
    with pytest.raises(UserError) as error:
        select(repository.project.variants, Selection(tuple(patterns)))

    assert str(error.value) == message
    assert error.value.exit_status == 2


def test_a_selection_without_an_image_is_an_error(repository: Repository) -> None:
    with pytest.raises(UserError, match=r"^the selection holds no image; see `nox -s build"):
        select(repository.project.variants, Selection(track=Track.HISTORICAL))


def test_the_parents_of_a_selection_are_added_once(tmp_path: Path) -> None:
    variants = variants_of(changed(MATRIX, *HISTORICAL), tmp_path)
    chosen = select(variants, Selection((XGBOOST, PYTORCH, OLD_ONNX)))

    names = [variant.name for variant in with_parents(chosen, variants)]

    assert names == [OLD_MINIMAL, MINIMAL, OLD_ONNX, XGBOOST, PYTORCH]
