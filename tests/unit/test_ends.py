"""Until when images are supported: errors and warnings of a given day."""

import csv
from datetime import date
from pathlib import Path

import pytest

from imagematrix.errors import InputError
from imagematrix.matrix.ends import (
    debian_differences,
    read_ends,
    support_errors,
    support_warnings,
)
from imagematrix.matrix.rules import load_matrix
from imagematrix.matrix.schema import Suite, Track
from imagematrix.matrix.selection import successor
from imagematrix.matrix.variant import expand
from imagematrix.repository.project import Project
from tests.unit.helpers import (
    ENDS,
    MATRIX,
    MINIMAL,
    PYTORCH,
    REPOSITORY,
    XGBOOST,
    Repository,
    changed,
)

TODAY = date(2026, 11, 28)
# As distro-info-data has it.
DEBIAN = Path(__file__).parent / "debian.csv"
UNTIL = "supported_until: 2098-12-31"


def errors(folder: Path, *, matrix: str = MATRIX, ends: str = ENDS, today: date) -> list[str]:
    (folder / "matrix.yaml").write_text(matrix)
    (folder / "ends-of-life.yaml").write_text(ends)
    found = support_errors(load_matrix(folder / "matrix.yaml"), read_ends(folder), today)
    return [str(one) for one in found]


def warnings(folder: Path, today: date, matrix: str = MATRIX) -> list[str]:
    (folder / "matrix.yaml").write_text(matrix)
    return [str(one) for one in support_warnings(load_matrix(folder / "matrix.yaml"), today)]


@pytest.mark.parametrize(
    ("day", "is_error", "warned"),
    [
        (date(2098, 10, 1), False, ""),
        (date(2098, 10, 2), False, "ends in 90 days"),
        (date(2098, 12, 30), False, "ends in 1 day;"),
        (date(2098, 12, 31), False, "ends today"),
        (date(2099, 1, 1), True, ""),
    ],
)
def test_the_past_is_an_error_and_90_days_ahead_a_warning(
    day: date, is_error: bool, warned: str, tmp_path: Path
) -> None:
    images = f"{MINIMAL}, {XGBOOST}, {PYTORCH}"
    place = "matrix.yaml:4:70: tracks.current.supported_until: "
    what = "retire or extend: remove the release, or set a later date"

    assert errors(tmp_path, today=day) == (
        [f"{place}the support of {images} ended on 2098-12-31; {what}"] if is_error else []
    )
    (warning,) = warnings(tmp_path, day) or [""]
    assert warned in warning
    assert bool(warning) == bool(warned)
    assert not warning or warning.startswith(f"{place}the support of {images} ends ")


def test_the_date_of_a_release_overrides_that_of_its_track(tmp_path: Path) -> None:
    own = "pins: [xgboost-cpu==3.4.1, numpy>=2]"
    text = changed(MATRIX, (own, f"supported_until: 2050-01-31\n        {own}"))

    (error,) = errors(tmp_path, matrix=text, today=date(2060, 1, 1))
    (warning,) = warnings(tmp_path, date(2050, 1, 1), text)
    variants = {variant.name: variant for variant in expand(load_matrix(tmp_path / "matrix.yaml"))}

    assert error.startswith(
        "matrix.yaml:32:26: frameworks.xgboost.releases[0].supported_until: the support of"
        f" {XGBOOST} ended on 2050-01-31"
    )
    assert f"the support of {XGBOOST} ends in 30 days" in warning
    assert variants[XGBOOST].supported_until == date(2050, 1, 31)
    assert variants[PYTORCH].supported_until == date(2098, 12, 31)


@pytest.mark.parametrize(
    ("ends", "message"),
    [
        (
            ('"3.12": 2098-12-31', '"3.12": 2098-12-30'),
            "2098-12-31 is after Python 3.12 ends (2098-12-30)",
        ),
        (("lts: 2098-12-31", "lts: 2097-06-30"), "2098-12-31 is after Debian trixie ends"),
        (
            ("debian:", "frameworks: {xgboost: {'3.4': 2030-01-01}}\ndebian:"),
            f"2098-12-31 is after XGBoost 3.4 ends (2030-01-01); support {XGBOOST} until 2030",
        ),
    ],
)
def test_no_image_is_supported_for_longer_than_what_it_is_made_of(
    ends: tuple[str, str], message: str, tmp_path: Path
) -> None:
    (error,) = errors(tmp_path, ends=changed(ENDS, ends), today=TODAY)

    assert error.startswith(f"matrix.yaml:4:70: tracks.current.supported_until: {message}")


@pytest.mark.parametrize(
    "ends",
    [
        ("full: 2098-12-31", "full: 2020-01-01"),
        ('"3.11": 2098-12-31', '"3.11": 2020-01-01'),
        ("debian:", "frameworks: {xgboost: {'3.3': 2020-01-01}}\ndebian:"),
    ],
)
def test_the_ends_of_other_things_do_not_matter(ends: tuple[str, str], tmp_path: Path) -> None:
    assert errors(tmp_path, ends=changed(ENDS, ends), today=TODAY) == []


def test_no_image_is_supported_for_longer_than_its_parent(tmp_path: Path) -> None:
    own = "pins: [httptools==2.0]"
    text = changed(MATRIX, (own, f"supported_until: 2098-12-30\n        {own}"))

    (error,) = errors(tmp_path, matrix=text, today=TODAY)

    assert f"2098-12-31 is after the support of {MINIMAL} ends (2098-12-30)" in error
    assert f"support {XGBOOST}, {PYTORCH} until 2098-12-30 at most" in error


def test_what_the_table_lacks_is_an_error(tmp_path: Path) -> None:
    text = "as_of: 2026-11-28\npython: {}\ndebian: {}\n"

    assert errors(tmp_path, ends=text, today=TODAY) == [
        "ends-of-life.yaml:2:1: python: has no end of Python 3.12; add it from"
        " https://devguide.python.org/versions/",
        "ends-of-life.yaml:3:1: debian: has no end of Debian trixie; add it from debian.csv in"
        " distro-info-data",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "ends-of-life.yaml: cannot be read: No such file or directory"),
        ("", "ends-of-life.yaml:1:1: is empty"),
        ("a: [", "ends-of-life.yaml:2:1: no valid YAML"),
        ("as_of: soon\npython: {}\ndebian: {}", "1:8: as_of: soon is no date, such as 2027-10-31"),
        ("as_of: 2026-11-28\ndebian: {}", "ends-of-life.yaml:1:1: the key python is missing"),
        (
            "as_of: 2026-11-28\npython: {}\ndebian: {trixi: {}}",
            "ends-of-life.yaml:3:10: debian.trixi: 'trixi' is unknown; did you mean trixie?",
        ),
        (
            "as_of: 2026-11-28\npython: {}\npython: {}\ndebian: {}",
            "ends-of-life.yaml:3:1: python: duplicate key python",
        ),
    ],
)
def test_table_that_is_wrong_is_an_error_of_check(
    text: str | None, message: str, repository: Repository
) -> None:
    if text is None:
        (repository.root / "ends-of-life.yaml").unlink()
    else:
        repository.put("ends-of-life.yaml", text)

    assert any(message in problem for problem in repository.problems())
    with pytest.raises(InputError):
        read_ends(repository.root)


def test_historical_images_have_no_date(tmp_path: Path) -> None:
    text = changed(
        MATRIX,
        ("tracks:\n", 'tracks:\n  historical: {pythons: ["3.12"], accelerators: [cpu]}\n'),
        ('version: "3.4"\n        track: current', 'version: "3.4"\n        track: historical'),
        (
            "    releases:\n      - track: current",
            "    releases:\n      - {track: historical, pins: [a==1]}\n      - track: current",
        ),
    )
    (tmp_path / "matrix.yaml").write_text(text)
    variants = expand(load_matrix(tmp_path / "matrix.yaml"))

    dated = {variant.track for variant in variants if variant.supported_until is not None}
    assert dated == {Track.CURRENT}
    assert {variant.track for variant in variants} == set(Track)
    assert errors(tmp_path, matrix=text, today=date(2098, 1, 1)) == []

    for old in ("track: historical\n", "{track: historical, "):
        new = old.replace("historical", "historical\n        supported_until: 2030-01-01")
        new = new.replace("\n        ", ", ") if "{" in old else new
        with pytest.raises(InputError, match=r"supported_until: historical images are unsupp.*; r"):
            errors(tmp_path, matrix=changed(text, (old, new)), today=TODAY)


def test_date_of_support_changes_no_file_but_the_table_of_images(repository: Repository) -> None:
    before = repository.files()
    contents = repository.project.contents(repository.project.variants, {})
    repository.change("matrix.yaml", ("2098-12-31", "2050-01-31"))
    repository.render()

    after = repository.files()
    changed_files = {name for name in after if before.get(name) != after[name]}
    assert changed_files == {"matrix.yaml", "docs/images.md"}
    assert "| 2050-01-31 |" in after["docs/images.md"].decode()
    now = repository.project.contents(repository.project.variants, {})
    assert {n: c.labels for n, c in now.items()} == {n: c.labels for n, c in contents.items()}


def test_dates_of_debian_are_those_of_distro_info_data() -> None:
    ends = read_ends(REPOSITORY)
    text = "\n".join(DEBIAN.read_text().splitlines()[1:])
    rows = {row["series"] for row in csv.DictReader(text.splitlines())}

    assert rows == set(ends.spec.debian) == set(Suite)
    assert list(debian_differences(ends, text)) == []


def test_another_date_of_debian_is_a_difference(tmp_path: Path) -> None:
    (tmp_path / "ends-of-life.yaml").write_text(ENDS)
    text = "series,eol,eol-lts\ntrixie,2098-12-31,2030-06-30\nbookworm,2020-01-01\nsid\n"

    (found,) = debian_differences(read_ends(tmp_path), text)

    assert str(found) == (
        "ends-of-life.yaml:3:42: debian.trixie.lts: is 2098-12-31, but 2030-06-30 in"
        " distro-info-data; take over the date of the newer one"
    )


def test_dates_of_this_repository_can_be_kept() -> None:
    """On the day of its table: what a later day says is a matter of `check`."""
    project, ends = Project(REPOSITORY), read_ends(REPOSITORY)

    assert list(support_errors(project.matrix, ends, ends.spec.as_of)) == []
    assert all(
        (v.supported_until is None) == (v.track is Track.HISTORICAL) for v in project.variants
    )


def test_successor_of_a_historical_image_is_the_newest_current_one_of_its_kind() -> None:
    variants = Project(REPOSITORY).variants
    by_name = {variant.name: variant for variant in variants}
    for variant in variants:
        found = successor(variant, variants)
        if variant.track is Track.CURRENT:
            assert found is None
        else:
            assert found is not None
            assert (found.framework, found.accelerator) == (variant.framework, variant.accelerator)
            assert found.track is Track.CURRENT
    gone = [v for v in variants if v.framework != "xgboost" or v.track is Track.HISTORICAL]
    assert successor(by_name["xgboost0.9-py3.7-inference-cpu"], gone) is None
