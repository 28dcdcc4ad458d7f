"""The benchmark measures what it says; how fast that is, is not for a unit test."""

import io
import json
import tarfile
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from benchmarks import builds, matrix, sizes
from benchmarks.runs import Measured, Run, write_page
from imagematrix.repository.sizes import Size
from tests.example_images import example


def test_generated_matrix_goes_through_every_stage(tmp_path: Path) -> None:
    measurement = matrix.measure(tmp_path, 150)

    assert measurement.images == 150
    assert list(measurement.seconds) == [
        "load", "expand", "render", "check", "locks", "contents", "plan"
    ]  # fmt: skip
    assert measurement.microseconds == pytest.approx(measurement.total / 150 * 1e6)


BEFORE = Run("2026-01-01 10:00 UTC", "aaaaaaa", "Docker 26.1")
NOW = Run("2026-02-02 12:00 UTC", "bbbbbbb", "Docker 28.5")
OURS: dict[str, Any] = {
    "cold": 100.0,
    "noop": [2.0, 9.0, 1.0],
    "pin": {"image": "xgboost", "pin": "a==2 → a<2", "seconds": 50.0, "built": {"xgboost": ""}},
    "plan": [4.0],
    "sizes": {
        "xgboost": {"uncompressed": 300e6, "compressed": 90e6, "hidden": 0},
        "minimal": {"uncompressed": 100e6, "compressed": 30e6, "hidden": 1e6},
    },
    "imports": {"xgboost": [1.0]},
    "checks": {"xgboost": {"work": 3.5, "start": 1.0, "loading": 0.5, "layers": 20.0}},
}
PLAIN: dict[str, Any] = {
    "cold": {"minimal": 150.0, "xgboost": 250.0},
    "bake": 200.0,
    "noop": [8.0],
    "sizes": {
        "minimal": {"uncompressed": 200e6, "compressed": 60e6, "hidden": 2e6},
        "xgboost": {"uncompressed": 400e6, "compressed": 120e6, "hidden": 0},
    },
    "imports": {"xgboost": [1.5]},
    "imports without bytecode": {"xgboost": [2.0, 3.0, 4.0]},
    "saved": {"xgboost": {"other": 10, "docs": 60_000, "test suites (`*/tests`)": 20_000_000}},
}


def figures_of(run: Run) -> builds.Figures:
    """Figures of everything, measured in one run."""
    figures = builds.Figures(
        ["minimal", "xgboost"], "2 processors", run, Measured(run), Measured(run)
    )
    for side, found in ((figures.ours, OURS), (figures.plain, PLAIN)):
        for name, value in found.items():
            side.put(name, value)
    return figures


def rows(page: str) -> list[str]:
    """The rows of the tables of a page, without their heads."""
    lines = page.splitlines()
    heads = {line for line, after in pairwise(lines) if after.startswith("|---")}
    return [line for line in lines if line.startswith("| ") and line not in heads]


def test_reports_compare_what_one_run_measured() -> None:
    assert rows(builds.markdown(figures_of(NOW))) == [
        f"| cold build of all, plain one after the other | 100 s | 400 s | 4.00 | {NOW} |",
        f"| cold build of all, plain by bake | 100 s | 200 s | 2.00 | {NOW} |",
        f"| nothing changed | 2.00 s | 8.00 s | 0.25 | {NOW} |",
        f"| one pin changed (a==2 → a<2: builds xgboost) | 50 s | 250 s | 0.20 | {NOW} |",
        f"| `nox -s plan` of 10,000 images | 4.00 s |  |  | {NOW} |",
        "| `xgboost` | 3.50 s | 1.00 s | 0.50 s | 20.00 s |",
    ]
    assert rows(builds.sizes_markdown(figures_of(NOW))) == [
        "| `minimal` | 198 MB | 99 MB | 0.50 | 30 MB | 1.00% |",
        "| `xgboost` | 400 MB | 300 MB | 0.75 | 90 MB | 0.00% |",
        "| sum | 598 MB | 399 MB | 0.67 | 120 MB | |",
        "| `xgboost` | 1.00 s | 3.00 s | 1.50 s | 0.33 |",
        "| `xgboost` | test suites (`*/tests`) | 20.0 MB |",
        "| `xgboost` | docs | 0.1 MB |",
    ]


def test_figures_of_two_runs_make_no_ratio_and_say_when_they_were_measured() -> None:
    """After `--parts cold`: what is not measured again is of the run before."""
    figures = figures_of(BEFORE)
    figures.ours.run = figures.plain.run = NOW
    figures.ours.put("cold", 50.0)
    figures.plain.table("cold").update(minimal=75.0, xgboost=125.0)
    figures.ours.table("sizes").update(OURS["sizes"])  # And the run ended in the plain ones.

    assert rows(builds.markdown(figures))[:5] == [
        f"| cold build of all, plain one after the other | 50 s | 200 s | 4.00 | {NOW} |",
        f"| cold build of all, plain by bake | 50 s | 200 s |  | ours {NOW}; plain {BEFORE} |",
        f"| nothing changed | 2.00 s | 8.00 s | 0.25 | {BEFORE} |",
        "| one pin changed (a==2 → a<2: builds xgboost) | 50 s | 125 s | "
        f" | ours {BEFORE}; plain {NOW} |",
        f"| `nox -s plan` of 10,000 images | 4.00 s |  |  | {BEFORE} |",
    ]
    assert f"Measured: {BEFORE}." in builds.markdown(figures)
    page = builds.sizes_markdown(figures)
    assert rows(page)[0].startswith("| `xgboost` | 1.00 s |")
    assert "Sizes: not measured in one run." in page
    assert f"Imports: measured {BEFORE}." in page


def test_earlier_figures_are_kept_with_their_run_and_never_by_the_row(tmp_path: Path) -> None:
    before = figures_of(BEFORE)
    builds.write(tmp_path, before)

    figures = builds.figures_before(tmp_path, before.images, before.machine, NOW)
    assert builds.markdown(figures) == builds.markdown(before)
    # A run that ends after one image leaves a table of that one, and no sum of it.
    figures.plain.table("cold")["minimal"] = 75.0
    assert figures.plain.values["cold"] == {"minimal": 75.0}
    assert rows(builds.markdown(figures))[0].split(" | ")[1:3] == ["100 s", ""]

    others = builds.figures_before(tmp_path, ["minimal"], before.machine, NOW)
    assert (others.ours.values, others.plain.values) == ({}, {})
    assert rows(builds.markdown(others)) == []


def test_run_of_a_part_leaves_the_page_as_it_is(tmp_path: Path) -> None:
    write_page(tmp_path, "soak", "Mixed load", "all good", {"a": 1}, BEFORE)
    write_page(tmp_path, "soak", "Mixed load", "a part", {}, NOW, partial=True)

    page = (tmp_path / "soak.md").read_text()
    assert page == f"# Mixed load\n\nMeasured {BEFORE}.\n\nall good\n"
    assert json.loads((tmp_path / "soak.json").read_text())["figures"] == {"a": 1}


def test_work_of_checks_is_without_start_and_loading(tmp_path: Path) -> None:
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


def test_files_that_a_layer_replaces_or_removes_are_hidden() -> None:
    first = _layer({"usr/a": b"x" * 600, "usr/gone/b": b"y" * 10})
    second = _layer({"usr/a": b"z", "usr/.wh.gone": b""})
    files: dict[str, int] = {}
    for layer in (first, second):
        sizes.lay_over(files, layer)

    # A header of 512 bytes, and the content in blocks of 512.
    assert files == {"/usr/a": 1024}
    assert sizes.Tree(files, Size(3000, 100), ()).hidden == 3000 - 1024


def test_savings_are_named_by_the_entry_that_makes_them() -> None:
    variant = example()
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
