"""The benchmark measures what it says; how fast that is, is not for a unit test."""

import io
import json
import tarfile
from dataclasses import asdict
from pathlib import Path

import pytest

from benchmarks import builds, matrix, sizes
from imagematrix.repository.project import Project
from imagematrix.repository.sizes import Size

ROOT = Path(__file__).resolve().parents[2]


def test_a_generated_matrix_is_right_and_goes_through_every_stage(tmp_path: Path) -> None:
    measurement = matrix.measure(tmp_path, 150)

    assert measurement.images == 150
    assert list(measurement.seconds) == [
        "load", "expand", "render", "check", "locks", "contents", "plan"
    ]  # fmt: skip
    assert measurement.microseconds == pytest.approx(measurement.total / 150 * 1e6)


FIGURES = builds.Figures(
    ["minimal", "xgboost"],
    "2 processors",
    "2026-01-01",
    ours={
        "cold": 100.0,
        "noop": [2.0, 9.0, 1.0],
        "pin": {"image": "xgboost", "pin": "a==2 → a<2", "seconds": 50.0, "built": {"xgboost": ""}},
        "plan": [4.0],
        "sizes": {
            "minimal": {"uncompressed": 100e6, "compressed": 30e6, "hidden": 1e6},
            "xgboost": {"uncompressed": 300e6, "compressed": 90e6, "hidden": 0},
        },
        "imports": {"xgboost": [1.0]},
        "checks": {"xgboost": {"work": 3.5, "start": 1.0, "loading": 0.5, "layers": 20.0}},
    },
    plain={
        "cold": {"minimal": 150.0, "xgboost": 250.0},
        "bake": 200.0,
        "noop": [8.0],
        "sizes": {
            "minimal": {"uncompressed": 200e6, "compressed": 60e6, "hidden": 2e6},
            "xgboost": {"uncompressed": 400e6, "compressed": 120e6, "hidden": 0},
        },
        "imports": {"xgboost": [1.5]},
        "imports without bytecode": {"xgboost": [2.0, 3.0, 4.0]},
    },
    saved={"xgboost": {"test suites (`*/tests`)": 20_000_000, "other": 10}},
)


def test_the_report_has_the_ratio_of_each_measure() -> None:
    rows = [line for line in builds.markdown(FIGURES).splitlines() if line.startswith("| ")][1:]

    assert rows == [
        "| cold build of all, plain one after the other | 100 s | 400 s | 4.00 |",
        "| cold build of all, plain by bake | 100 s | 200 s | 2.00 |",
        "| nothing changed | 2.00 s | 8.00 s | 0.25 |",
        "| one pin changed (a==2 → a<2: builds xgboost) | 50 s | 250 s | 0.20 |",
        "| `nox -s plan` of 10,000 images | 4.00 s |  |  |",
        "| image | work | start | loading | new layers |",
        "| `xgboost` | 3.50 s | 1.00 s | 0.50 s | 20.00 s |",
    ]


def test_the_report_on_sizes_compares_each_image_and_the_sum() -> None:
    rows = [row for row in builds.sizes_markdown(FIGURES).splitlines() if row.startswith("| ")]

    assert [row for row in rows if "| image" not in row and "| import" not in row] == [
        "| `minimal` | 198 MB | 99 MB | 0.50 | 30 MB | 1.00% |",
        "| `xgboost` | 400 MB | 300 MB | 0.75 | 90 MB | 0.00% |",
        "| sum | 598 MB | 399 MB | 0.67 | 120 MB | |",
        "| `xgboost` | 1.00 s | 3.00 s | 1.50 s | 0.33 |",
        "| `xgboost` | test suites (`*/tests`) | 20.0 MB |",
    ]


def test_the_reports_have_the_order_of_the_matrix_and_the_largest_saving_first() -> None:
    """Also where their figures were read from a file, which has them by name."""
    figures = builds.Figures(
        ["scikit-learn", "lightgbm"],
        "2 processors",
        "2026-01-01",
        ours={"imports": {"lightgbm": [3.0], "scikit-learn": [4.0]}},
        plain={
            side: {"lightgbm": [3.0], "scikit-learn": [4.0]}
            for side in ("imports", "imports without bytecode")
        },
        saved={
            "lightgbm": {"a": 60_000},
            "scikit-learn": {"a": 60_000, "b": 90_000},
        },
    )

    rows = builds.sizes_markdown(figures).splitlines()
    imports = [row.split()[1] for row in rows if " s | " in row]
    assert imports == ["`scikit-learn`", "`lightgbm`"]
    assert rows[-3:] == [
        "| `scikit-learn` | b | 0.1 MB |",
        "| `scikit-learn` | a | 0.1 MB |",
        "| `lightgbm` | a | 0.1 MB |",
    ]


def test_the_report_leaves_out_what_was_not_measured() -> None:
    empty = builds.Figures(["minimal"], "2 processors", "2026-01-01")

    assert builds.markdown(empty).rstrip().endswith("|---|---:|---:|---:|")


def test_parts_that_are_not_measured_again_are_kept(tmp_path: Path) -> None:
    (tmp_path / "builds.json").write_text(json.dumps(asdict(FIGURES)))
    kept = builds.figures_before(tmp_path, FIGURES.images, FIGURES.machine)
    others = builds.figures_before(tmp_path, ["minimal"], FIGURES.machine)

    assert (kept.ours, kept.plain) == (FIGURES.ours, FIGURES.plain)
    assert (others.ours, others.plain) == ({}, {})


def test_the_work_of_checks_is_without_start_and_loading(tmp_path: Path) -> None:
    report = tmp_path / "checks.xml"
    report.write_text(
        """<testsuites><testsuite><properties>
        <property name="minimal start" value="1.5"/><property name="minimal loading" value="0.25"/>
        </properties>
        <testcase name="test_image[minimal-first_check]" time="2.0">
          <properties><property name="check" value="first_check"/></properties></testcase>
        <testcase name="test_image[minimal-second_check]" time="1.0"/>
        <testcase name="test_image[xgb-1-first_check]" time="1.0"/>
        </testsuite></testsuites>"""
    )

    assert builds.check_seconds(report) == {
        "minimal": {"work": 1.25, "start": 1.5, "loading": 0.25},
        "xgb-1": {"work": 1.0},
    }


def test_what_a_layer_replaces_or_removes_is_hidden() -> None:
    first = _layer({"usr/a": b"x" * 600, "usr/gone/b": b"y" * 10})
    second = _layer({"usr/a": b"z", "usr/.wh.gone": b""})
    files: dict[str, int] = {}
    for layer in (first, second):
        sizes.lay_over(files, layer)

    # A header of 512 bytes, and the content in blocks of 512.
    assert files == {"/usr/a": 1024}
    assert sizes.Tree(files, Size(3000, 100), ()).hidden == 3000 - 1024


def test_savings_are_named_by_the_entry_that_makes_them() -> None:
    variant = next(v for v in Project(ROOT).variants if v.name == "minimal-py312-inference")
    site = "/usr/local/lib/python3.12/site-packages"
    plain = {
        f"{site}/numpy/tests/test_a.py": 100,
        f"{site}/pip/__pycache__/a.cpython-312.pyc": 20,
        "/usr/local/lib/python3.12/lib2to3/a/__pycache__/b.cpython-312.pyc": 4,
        f"{site}/numpy/core.py": 7,
        "/usr/sbin/mkfs": 3,
        "/usr/share/b": 2,
        "/usr/local/lib/python3.12/test/support/a.py": 8,
        "/usr/local/lib/python3.12/this.py": 1,
    }
    ours = {f"{site}/numpy/core.py": 5}

    saved = sizes.savings(
        variant,
        sizes.Tree(plain, Size(0, 0), ()),
        sizes.Tree(ours, Size(0, 0), ("/usr/sbin/mkfs*",)),
    )

    assert saved == {
        "test suites (`site-packages/*/tests`)": 100,
        "bytecode: pip": 20,
        "the interpreter's own test suite (`test`)": 8,
        "bytecode: translator from Python 2": 4,
        "left out of Debian's packages": 3,
        "other packages": 2,
        "other of Debian": 2,
        "CPython": 1,
    }


def _layer(files: dict[str, bytes]) -> tarfile.TarFile:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    data.seek(0)
    return tarfile.open(fileobj=data)
