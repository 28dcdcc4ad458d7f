"""Every error of a matrix: its place, its path, its value, and what to do."""

from pathlib import Path, PurePath
from typing import Any

import pytest
import yaml

from imagematrix.errors import Diagnostic, InputError
from imagematrix.matrix import document
from imagematrix.matrix.document import KeyPath, path_text, read_document
from tests.unit.helpers import MATRIX, REPOSITORY, changed, errors_of

CASES = yaml.safe_load((Path(__file__).parent / "matrix_errors.yaml").read_text())


def test_matrix_that_the_cases_change_is_right(tmp_path: Path) -> None:
    assert errors_of(MATRIX, tmp_path) == []


@pytest.mark.parametrize(
    "case", CASES, ids=[case["errors"][0].split(": ", 1)[1][:70] for case in CASES]
)
def test_error_has_its_place_value_and_remedy(case: dict[str, Any], tmp_path: Path) -> None:
    text = changed(MATRIX, (case["old"], case["new"]))

    assert errors_of(text, tmp_path) == case["errors"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('version: "3.4"\n        track: current', 'version: "3.4"'),
        ('version: "3.4"', 'version: "3"'),
        ('version: "3.4"', 'version: "3.4.1"'),
        ('version: "3.4"', 'version: "3.4"\n        package_version: "3.4.1"'),
        ("xgboost-cpu==3.4.1", "xgboost-cpu==3.4.*"),
        ("xgboost-cpu==3.4.1", "xgboost==3.4.1+local"),
        ("xgboost-cpu==3.4.1", "XGBoost_GPU==3.4.1"),
        ("title: XGBoost", "title: XGBoost\n    package: xgboost-cpu"),
    ],
)
def test_version_is_that_of_the_package_s_pin(old: str, new: str, tmp_path: Path) -> None:
    assert errors_of(changed(MATRIX, (old, new)), tmp_path) == []


REAL = read_document(REPOSITORY / "matrix.yaml", PurePath("matrix.yaml"))
VERSIONS = [
    (name, i, "package_version" if "package_version" in release else "version")
    for name, framework in REAL.data["frameworks"].items()
    for i, release in enumerate(framework["releases"])
    if "version" in release
]


@pytest.mark.parametrize(("framework", "release", "key"), VERSIONS)
def test_no_release_of_this_repository_may_have_another_version(
    framework: str, release: int, key: str, tmp_path: Path
) -> None:
    path: KeyPath = ("frameworks", framework, "releases", release)
    line, column = REAL.places[*path, key]
    lines = (REPOSITORY / "matrix.yaml").read_text().splitlines(keepends=True)
    before, after = lines[line - 1][: column - 1], lines[line - 1][column - 1 :]
    typed = f'"{REAL.scalars[*path, key]}"'
    lines[line - 1] = f'{before}"9.9"{after.removeprefix(typed)}'

    (error,) = errors_of("".join(lines), tmp_path)

    assert f"{path_text((*path, 'pins'))}[" in error
    assert error.endswith(f" is not of the {key} 9.9 of this release; change one of them")


def test_errors_of_every_kind_come_together_in_order(tmp_path: Path) -> None:
    text = changed(
        MATRIX,
        ('  trixie: ["3.12"]', '  trixie: ["3.12"]\n  3.10: ["3.10"]'),
        ("title: XGBoost", "titel: XGBoost"),
        ("numpy>=2]", "numpy=>2, numpy>=2, Numpy<3]"),
        ("title: PyTorch", "title: PyTorch\n    title: Torch"),
        ("index: extra", "index: extar"),
        ("sets: [data]", "sets: [data, dota]"),
        ('version: "2.0"', 'version: "2.1"'),
    )

    assert errors_of(text, tmp_path) == [
        "3:3: debian.3.10: '3.10' is unknown; use one of: bookworm, trixie",
        '3:3: debian.3.10: the key 3.10 is not text for YAML; write "3.10" in quotes',
        "25:5: frameworks.xgboost: the key title is missing; add it",
        "25:5: frameworks.xgboost.titel: unknown key titel; did you mean title?",
        "33:36: frameworks.xgboost.releases[0].pins[1]: 'numpy=>2' is no valid requirement;"
        " write numpy>=2",
        "33:56: frameworks.xgboost.releases[0].pins[3]: numpy is pinned twice"
        " (numpy>=2 and Numpy<3); keep one of them",
        "36:5: frameworks.pytorch.title: duplicate key title, first on line 35; keep one of them",
        "40:16: frameworks.pytorch.releases[0].index: index extar is not declared;"
        " did you mean extra?",
        "41:22: frameworks.pytorch.releases[0].sets[1]: set dota is not declared;"
        " did you mean data?",
        "42:16: frameworks.pytorch.releases[0].pins[0]: torch==2.0.0+cpu is not of the version 2.1"
        " of this release; change one of them",
    ]


def test_release_that_cannot_be_read_causes_no_further_errors(tmp_path: Path) -> None:
    """Its image may be what uses a Python, an index or a set, or a parent."""
    text = changed(
        MATRIX,
        ("releases:\n      - track: current", "releases:\n      - track: curent"),
        ('trixie: ["3.12"]', 'trixie: ["3.12", "3.11"]'),
        ("data: [pandas>=3]", "data: [pandas>=3], more: [scipy>=1]"),
    )

    assert errors_of(text, tmp_path) == [
        "19:16: frameworks.minimal.releases[0].track: 'curent' is unknown; did you mean current?"
    ]


def test_errors_beside_a_broken_release_are_reported(tmp_path: Path) -> None:
    text = changed(
        MATRIX,
        ('version: "3.4"\n        track: current', 'version: "3.4"\n        track: curent'),
        ("torch==2.0.0+cpu]", "torch==2.0.0+cpu, pandas<4]"),
    )

    assert errors_of(text, tmp_path) == [
        "29:16: frameworks.xgboost.releases[0].track: 'curent' is unknown; did you mean current?",
        "39:16: frameworks.pytorch.releases[0].sets[0]: pandas is pinned twice"
        " (pandas<4 and pandas>=3 of the set data); keep one of them",
    ]


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        ("frameworks:", "frameworks: [a]\nx:", "15:13: frameworks: must be a mapping of keys"),
        ("indexes:", "indexes: [a]\nx:", "6:10: indexes: must be a mapping of keys"),
        ("debian:", "debian: [a]\nx:", "1:9: debian: must be a mapping of keys"),
        ("tracks:", "tracks: [a]\nx:", "3:9: tracks: must be a mapping of keys"),
        ("\nsets:", "\nsets: [a]\nx:", "5:7: sets: must be a mapping of keys"),
    ],
)
def test_section_of_another_kind_causes_no_further_errors(
    old: str, new: str, error: str, tmp_path: Path
) -> None:
    """Neither what asks for its names, nor what is not asked for without it."""
    found = errors_of(changed(MATRIX, (old, new)), tmp_path)

    assert sorted(found) == sorted(
        [
            next(one for one in found if ": x: unknown key x;" in one),
            f"{error} to values, is a list",
        ]
    )


@pytest.mark.parametrize("value", ["7", "null", "text", "[a]"])
def test_release_that_is_no_mapping_is_one_error(value: str, tmp_path: Path) -> None:
    text = changed(
        MATRIX, ("    releases:\n      - track", f"    releases:\n      - {value}\n      - track")
    )

    shown = {"text": "'text'", "[a]": "a list"}.get(value, value)
    assert errors_of(text, tmp_path) == [
        f"19:9: frameworks.minimal.releases[0]: must be a mapping of keys to values, is {shown}"
    ]


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        (
            "  pytorch:",
            "  another: 7\n  pytorch:",
            "33:12: frameworks.another: must be a mapping of keys to values, is 7",
        ),
        (
            "  pytorch:",
            "  another: {title: Another, releases: 7}\n  pytorch:",
            "33:39: frameworks.another.releases: must be a list, is 7; write [ … ] around it",
        ),
        (
            "package: torch",
            "package: [torch]",
            "35:14: frameworks.pytorch.package: must be text, is a list",
        ),
        (
            'current: {pythons: ["3.12"], accelerators: [cpu], supported_until: 2098-12-31}',
            "current: 7",
            "4:12: tracks.current: must be a mapping of keys to values, is 7",
        ),
    ],
)
def test_value_of_another_kind_is_one_error(old: str, new: str, error: str, tmp_path: Path) -> None:
    assert errors_of(changed(MATRIX, (old, new)), tmp_path) == [error]


def test_parser_in_python_reads_the_same_as_that_in_c(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(yaml, "__with_libyaml__", False)
        loader = document._loader()
    assert loader is yaml.SafeLoader
    monkeypatch.setattr(document, "_Loader", loader)

    assert errors_of(MATRIX, tmp_path) == []
    assert errors_of("[" * 3_000, tmp_path) == ["is nested too deeply"]


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"", "1:1: is empty"),
        (b"# nothing\n", "1:1: is empty"),
        (b"---\n...\n", "2:1: must be a mapping of keys to values, is null"),
        (b"7\n", "1:1: must be a mapping of keys to values, is 7"),
        (b"- a\n- b\n", "1:1: must be a mapping of keys to values, is a list"),
        (b"caf\xe9: 1\n", "is not UTF-8: byte 3 is 0xe9"),
        (b"\xff\xfea\x00", "is not UTF-8: byte 0 is 0xff"),
        (b"a: b: c\n", "1:5: no valid YAML: mapping values are not allowed in this context"),
        (b"a: {b\n", "2:1: no valid YAML: did not find expected ',' or '}'"),
        (b"a: 1\n---\nb: 2\n", "2:1: no valid YAML: but found another document"),
        (b"[" * 100_000, "is nested too deeply"),
        (b"- " * 30_000 + b"a", "is nested too deeply"),
        (b"a: " + b"[" * 2_000 + b"]" * 2_000, "is nested too deeply"),
    ],
    ids=lambda value: None if isinstance(value, bytes) else value,
)
def test_file_that_is_no_matrix_at_all_is_one_error(
    content: bytes, error: str, tmp_path: Path
) -> None:
    assert errors_of(content, tmp_path) == [error]


def test_control_character_is_an_error(tmp_path: Path) -> None:
    (error,) = errors_of(b"a: \x00\n", tmp_path)
    assert error.startswith("no valid YAML: unacceptable character #x0000")


@pytest.mark.parametrize(
    ("what", "error"), [("file", "No such file"), ("folder", "Is a directory")]
)
def test_file_that_cannot_be_read_is_an_error(what: str, error: str, tmp_path: Path) -> None:
    path = tmp_path / "matrix.yaml"
    if what == "folder":
        path.mkdir()

    with pytest.raises(InputError, match=f"^m.yaml: cannot be read: {error}"):
        read_document(path, PurePath("m.yaml"))


def test_byte_order_mark_and_windows_line_ends_are_no_errors(tmp_path: Path) -> None:
    assert errors_of(b"\xef\xbb\xbf" + MATRIX.replace("\n", "\r\n").encode(), tmp_path) == []


def test_aliases_of_too_many_values_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(document, "_MAX_VALUES", 1_000)
    levels = [f"l{n + 1}: &l{n + 1} [{', '.join([f'*l{n}'] * 9)}]" for n in range(12)]

    (error,) = errors_of("\n".join(["l0: &l0 x", *levels]), tmp_path)

    assert error.split(": ")[-1] == "expands to more than 1,000 values"


def test_alias_is_what_its_anchor_holds(tmp_path: Path) -> None:
    text = changed(
        MATRIX,
        ("packages: [torch]", "packages: &packages [torch]"),
        ('requires: [filelock, "sympy>=1"]', "requires: *packages"),
    )
    assert errors_of(text, tmp_path) == []


@pytest.mark.parametrize(
    "number", ["9" * 5_000, "0x" + "f" * 9_000, "1e999999999", "-.inf", ".nan"]
)
def test_number_of_any_size_is_an_error_of_bounded_length(number: str, tmp_path: Path) -> None:
    errors = errors_of(changed(MATRIX, ("title: XGBoost", f"title: {number}")), tmp_path)

    # YAML takes 1e999999999 for text, which makes a title.
    assert len(errors) == (number != "1e999999999")
    assert all(error.startswith("24:12: frameworks.xgboost.title: ") for error in errors)
    assert all(len(error) < 250 for error in errors)


@pytest.mark.parametrize("text", ["\u202e", "\N{ZERO WIDTH SPACE}", "e\N{COMBINING ACUTE ACCENT}"])
def test_other_scripts_are_shown_unchanged(text: str, tmp_path: Path) -> None:
    errors = errors_of(changed(MATRIX, ('trixie: ["3.12"]', f'"{text}": ["3.12"]')), tmp_path)

    assert errors == [f"2:3: debian.{text}: {text!r} is unknown; use one of: bookworm, trixie"]


@pytest.mark.parametrize(
    ("path", "text"),
    [((), ""), (("a",), "a"), (("a", 0, "b"), "a[0].b"), (("a", 1, 2, "c"), "a[1][2].c")],
)
def test_path_is_written_as_people_write_it(path: tuple[str | int, ...], text: str) -> None:
    assert path_text(path) == text


def test_document_knows_the_place_of_every_key_and_value(tmp_path: Path) -> None:
    file = tmp_path / "d.yaml"
    file.write_text("a:\n  b: [x, 3.10]\n")

    read = read_document(file, PurePath("shown.yaml"))

    assert read.data == {"a": {"b": ["x", 3.1]}}
    assert read.places[("a", "b", 1)] == (2, 10)
    assert read.key_places[("a", "b")] == (2, 3)
    assert read.scalars[("a", "b", 1)] == "3.10"
    assert str(read.diagnostic(("a", "zz", 4), "is odd")) == "shown.yaml:2:3: a.zz[4]: is odd"


def test_error_is_reported_once() -> None:
    one = read_error("is odd", line=2)
    assert str(InputError([one, read_error("is odd", line=2), read_error("is bad", line=1)])) == (
        "m.yaml:1:1: is bad\nm.yaml:2:1: is odd\n2 errors; nothing was changed"
    )
    assert str(InputError([one])).endswith("\n1 error; nothing was changed")


def read_error(message: str, line: int) -> Diagnostic:
    return Diagnostic(PurePath("m.yaml"), line, 1, "", message)
