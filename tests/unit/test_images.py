"""Which images the matrix gives, and which of them a selection holds."""

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from imagematrix.errors import UserError
from imagematrix.matrix.names import image_name
from imagematrix.matrix.schema import Accelerator, Track
from imagematrix.matrix.selection import Selection, newest, select, with_parents
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
        "frameworks:\n  minimal:\n    title: Python\n    releases:\n",
        """\
frameworks:
  onnxruntime:
    title: ONNX Runtime
    releases:
      - {version: "1.6", track: historical, pins: [onnxruntime==1.6.0]}
  minimal:
    title: Python
    releases:
      - {track: historical, pins: [gunicorn==21]}
""",
    ),
    ('trixie: ["3.12"]', 'trixie: ["3.12"]\n  bookworm: ["3.7"]'),
    ("tracks:\n", 'tracks:\n  historical: {pythons: ["3.7"], accelerators: [cpu]}\n'),
)
OLD_MINIMAL, OLD_ONNX = "minimal-py3.7-inference-cpu", "onnxruntime1.6-py3.7-inference-cpu"


@pytest.mark.parametrize(
    ("framework", "version", "python", "track", "name"),
    [
        ("minimal", None, "3.12", Track.CURRENT, "minimal-py312-inference"),
        ("pytorch", "2.13", "3.12", Track.CURRENT, "pytorch2.13-py312-inference"),
        ("minimal", None, "3.7", Track.HISTORICAL, "minimal-py3.7-inference-cpu"),
        ("tensorflow", "1.15", "3.7", Track.HISTORICAL, "tensorflow1.15-py3.7-inference-cpu"),
        ("pytorch", "1.6", "3.7", Track.HISTORICAL, "pytorch1.6-py3.7-inference-cpu"),
    ],
)
def test_image_has_the_name_that_consumers_know(
    framework: str, version: str | None, python: str, track: Track, name: str
) -> None:
    assert image_name(framework, version, python, Accelerator.CPU, track) == name


def test_variant_holds_all_that_later_stages_need(repository: Repository) -> None:
    variant = repository.variant(XGBOOST)

    assert (variant.parent, variant.suite, variant.suite.glibc) == (MINIMAL, "trixie", "2.41")
    assert variant.pins == ("xgboost-cpu==3.4.1", "numpy>=2")
    assert variant.environment == (("XGBOOST_HOME", "/tmp/xgboost"),)
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


def test_release_has_of_its_track_and_its_sets_what_it_does_not_say(tmp_path: Path) -> None:
    both = ('["3.12"], accelerators: [cpu], ', '["3.12"], accelerators: [cpu, cuda], ')
    variants = variants_of(changed(MATRIX, both), tmp_path)

    pytorch = [variant for variant in variants if variant.framework == "pytorch"]
    assert [(v.track, v.python, v.suite, v.accelerator) for v in pytorch] == [
        (Track.CURRENT, "3.12", "trixie", Accelerator.CPU),
        (Track.CURRENT, "3.12", "trixie", Accelerator.CUDA),
    ]
    assert pytorch[0].pins == ("torch==2.0.0+cpu", "pandas>=3")


@pytest.mark.parametrize(
    ("says", "folder"),
    [
        ("", "example-1.6"),
        ('example: "0.4", ', "example-0.4"),
    ],
)
def test_historical_release_has_an_example_of_its_own(
    says: str, folder: str, tmp_path: Path
) -> None:
    text = changed(changed(MATRIX, *HISTORICAL), ("pins: [onnx", f"{says}pins: [onnx"))
    examples = {variant.name: str(variant.example) for variant in variants_of(text, tmp_path)}

    assert examples[OLD_ONNX] == f"frameworks/onnxruntime/{folder}"
    assert examples[OLD_MINIMAL] == examples[MINIMAL] == "base/example"
    assert examples[XGBOOST] == "frameworks/xgboost/example"


def test_root_is_built_in_the_folder_that_holds_the_server(repository: Repository) -> None:
    variant = repository.variant(MINIMAL)

    assert variant.parent is None
    assert str(variant.context) == "base"
    assert str(variant.dockerfile) == f"base/{MINIMAL}/Dockerfile"
    assert variant.description == "Inference image: Python, Python 3.12, CPU"


def test_declared_wheel_goes_to_the_images_that_pin_it(repository: Repository) -> None:
    variant = repository.variant(PYTORCH)

    assert variant.index is not None
    assert variant.index.url == "https://wheels.example/cpu"
    (wheel,) = variant.wheels
    assert (wheel.name, wheel.version, wheel.sha256) == ("torch", "2.0.0+cpu", "b" * 64)
    assert wheel.requires == ("filelock", "sympy>=1")


def test_parents_come_before_their_children(tmp_path: Path) -> None:
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
def test_selection_holds_these_images(
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
def test_pattern_without_an_image_is_an_error_that_names_the_nearest(
    patterns: list[str], message: str, repository: Repository
) -> None:
    with pytest.raises(UserError) as error:
        select(repository.project.variants, Selection(tuple(patterns)))

    assert str(error.value) == message
    assert error.value.exit_status == 2


def test_selection_without_an_image_is_an_error(repository: Repository) -> None:
    with pytest.raises(UserError, match=r"^the selection holds no image; see `nox -s build"):
        select(repository.project.variants, Selection(track=Track.HISTORICAL))


def test_parents_of_a_selection_are_added_once(tmp_path: Path) -> None:
    variants = variants_of(changed(MATRIX, *HISTORICAL), tmp_path)
    chosen = select(variants, Selection((XGBOOST, PYTORCH, OLD_ONNX)))

    names = [variant.name for variant in with_parents(chosen, variants)]

    assert names == [OLD_MINIMAL, MINIMAL, OLD_ONNX, XGBOOST, PYTORCH]


def test_newest_of_a_kind_is_by_version_and_then_on_the_python_of_most(
    repository: Repository,
) -> None:
    minimal, xgboost = repository.variant(MINIMAL), repository.variant(XGBOOST)
    newer = replace(xgboost, version="3.10")
    variants = [
        minimal,
        replace(minimal, python="3.13"),
        newer,
        replace(newer, python="3.13"),
        xgboost,
    ]

    assert newest(variants, "xgboost") == newer
    assert newest(variants, "minimal") == minimal
    assert newest(variants, "xgboost", Accelerator.CUDA) is None
    assert newest(variants, "xgboost", track=Track.HISTORICAL) is None


def test_images_are_named_by_hand_nowhere() -> None:
    """A new version of a framework is one in the matrix and in what is rendered of it.

    Names in docs follow by rendering; those in tests/unit are of matrices that are made up there.
    """
    variants = Project(REPOSITORY).variants
    names = {variant.name for variant in variants} | {variant.folder.name for variant in variants}
    folders = ("tests", "benchmarks", "base", "examples", "frameworks", "vendoring")
    files = [
        path
        for folder in folders
        for suffix in ("py", "j2")
        for path in (REPOSITORY / folder).rglob(f"*.{suffix}")
        if not path.is_relative_to(REPOSITORY / "tests/unit")
    ]
    assert len(files) > 100
    named = {
        f"{path.relative_to(REPOSITORY)}: {name}"
        for path in files
        for name in names
        if name in path.read_text()
    }
    assert not named, "look them up: tests/example_images.py"


def test_rules_for_current_images_name_no_version() -> None:
    """They are for those of the track, so that they hold for the next release, too."""
    project = Project(REPOSITORY)
    current = {(v.framework, v.version) for v in project.variants if v.track is Track.CURRENT}
    for path in REPOSITORY.glob("frameworks/*/slim.yaml"):
        for rules in yaml.safe_load(path.read_text()).get("only", []):
            named = {(path.parent.name, version) for version in rules.get("versions", [])}
            assert not named & current, path
