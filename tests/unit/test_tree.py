"""Files that do not agree with the matrix are errors, each with the command that fixes it."""

import shutil
from collections.abc import Callable

import pytest

from tests.unit.helpers import MINIMAL, PACKAGES, PYTORCH, XGBOOST, Repository, lock_text

XGBOOST_HOME = f"frameworks/xgboost/{XGBOOST}"
LOCK = f"{XGBOOST_HOME}/requirements.txt"
DOCKERFILE = f"{XGBOOST_HOME}/Dockerfile"
SLIM = f"{XGBOOST_HOME}/slim.txt"


def test_a_tree_that_the_matrix_gives_has_no_faults(repository: Repository) -> None:
    assert repository.problems() == []


def remove(path: str) -> Callable[[Repository], None]:
    return lambda repository: (repository.root / path).unlink()


def write(path: str, text: str) -> Callable[[Repository], None]:
    return lambda repository: repository.put(path, text)


def write_bytes(path: str, data: bytes) -> Callable[[Repository], None]:
    def change(repository: Repository) -> None:
        (repository.root / path).write_bytes(data)

    return change


def append(path: str, text: str) -> Callable[[Repository], None]:
    return lambda repository: repository.put(path, (repository.root / path).read_text() + text)


@pytest.mark.parametrize(
    ("change", "problems"),
    [
        (remove(DOCKERFILE), [f"{DOCKERFILE}: is missing; run `nox -s render`"]),
        (
            append(DOCKERFILE, "RUN true\n"),
            [f"{DOCKERFILE}:7:1: differs from what the matrix gives; run `nox -s render`"],
        ),
        (remove(SLIM), [f"{SLIM}: is missing; run `nox -s render`"]),
        (
            append(SLIM, "remove site-packages/numpy/doc\n"),
            [f"{SLIM}:5:1: differs from what the matrix gives; run `nox -s render`"],
        ),
        (
            write("base/slim.schema.json", ""),
            ["base/slim.schema.json:1:1: differs from what the matrix gives; run `nox -s render`"],
        ),
        (
            write("frameworks/slim.schema.json", "{}\n"),
            [
                "frameworks/slim.schema.json:1:1: differs from what the matrix gives;"
                " run `nox -s render`"
            ],
        ),
        (remove("base/slim.yaml"), ["base/slim.yaml: cannot be read: No such file or directory"]),
        (
            write("frameworks/xgboost/slim.yaml", "remvoe: {}\n"),
            ["frameworks/xgboost/slim.yaml:1:1: remvoe: unknown key remvoe; did you mean remove?"],
        ),
        (
            remove("frameworks/xgboost/slim.yaml"),
            [f"{SLIM}:1:1: differs from what the matrix gives; run `nox -s render`"],
        ),
        (
            write(DOCKERFILE, ""),
            [f"{DOCKERFILE}:1:1: differs from what the matrix gives; run `nox -s render`"],
        ),
        (
            write_bytes(DOCKERFILE, b"\xff"),
            [f"{DOCKERFILE}:1:1: differs from what the matrix gives; run `nox -s render`"],
        ),
        (
            write("README.md", "<!-- images -->\n<!-- /images -->\n"),
            ["README.md:2:1: differs from what the matrix gives; run `nox -s render`"],
        ),
        (
            write("README.md", "# Nothing\n"),
            [
                "README.md: the marks <!-- images --> … <!-- /images --> are missing;"
                " the table of images stands there"
            ],
        ),
        (write_bytes("README.md", b"\xff"), ["README.md: is not UTF-8: byte 0 is 0xff"]),
        (
            remove(LOCK),
            [
                f"matrix.yaml:28:9: frameworks.xgboost.releases[0]: {XGBOOST} has no lock;"
                f" run `nox -s lock -- {XGBOOST}`"
            ],
        ),
        (write_bytes(LOCK, b"a\xff"), [f"{LOCK}: is not UTF-8: byte 1 is 0xff"]),
        (
            write(LOCK, "numpy\n"),
            [f"{LOCK}:1:1: numpy is not pinned to one version; write the lock with `nox -s lock`"],
        ),
        (
            write(LOCK, lock_text(["httptools==2.0", "numpy==1.9", "xgboost-cpu==3.4.1"])),
            [
                "matrix.yaml:32:36: frameworks.xgboost.releases[0].pins[1]: promises numpy>=2,"
                f" but {LOCK} holds 1.9 (line 4); run `nox -s lock -- {XGBOOST}`"
            ],
        ),
        (
            write(LOCK, lock_text(["httptools==2.0", "xgboost-cpu==3.4.1"])),
            [
                "matrix.yaml:32:36: frameworks.xgboost.releases[0].pins[1]: promises numpy>=2,"
                f" but {LOCK} holds nothing of that name; run `nox -s lock -- {XGBOOST}`"
            ],
        ),
        (
            write(LOCK, lock_text(["httptools==2.0", "numpy==2.2rc1", "xgboost-cpu==3.4.1"])),
            [],
        ),
        (
            write(LOCK, lock_text(["httptools==2.1", *PACKAGES[XGBOOST][1:]])),
            [
                f"{LOCK}:2:1: {MINIMAL} brings httptools 2.0, but this lock holds 2.1;"
                f" run `nox -s lock -- {XGBOOST}`"
            ],
        ),
        (
            write(LOCK, lock_text(PACKAGES[XGBOOST][1:])),
            [
                f"{LOCK}: {MINIMAL} brings httptools 2.0, but this lock lacks it;"
                f" run `nox -s lock -- {XGBOOST}`"
            ],
        ),
        (
            write(
                "sizes.json",
                '{"tolerance_percent": 2, "images": {"old-image": {"unmeasured": "so"}}}',
            ),
            [
                "sizes.json: names images that are not in the matrix: old-image;"
                " run `nox -s budget -- --update`"
            ],
        ),
    ],
)
def test_a_file_that_is_missing_stale_or_wrong_is_an_error(
    change: Callable[[Repository], None], problems: list[str], repository: Repository
) -> None:
    change(repository)

    assert repository.problems() == problems


def test_missing_folder_is_reported_by_its_files(repository: Repository) -> None:
    shutil.rmtree(repository.root / XGBOOST_HOME)

    assert repository.problems() == [
        f"{DOCKERFILE}: is missing; run `nox -s render`",
        f"{SLIM}: is missing; run `nox -s render`",
        f"matrix.yaml:28:9: frameworks.xgboost.releases[0]: {XGBOOST} has no lock;"
        f" run `nox -s lock -- {XGBOOST}`",
    ]


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "{",
        '{"a": "x"}',
        "7",
        '{"tolerance_percent": 2}',
        '{"tolerance_percent": 2, "images": {"a": {"uncompressed": 1}}}',
        '{"tolerance_percent": 2, "images": {"a": 1.0}}',
    ],
)
def test_sizes_that_are_no_table_are_an_error(text: str, repository: Repository) -> None:
    repository.put("sizes.json", text)

    # The table of the README shows them.
    (problem,) = repository.problems()
    assert problem.startswith("sizes.json: is no record of sizes (")
    assert problem.endswith("; remove it, and run `nox -s budget -- --update`")


@pytest.mark.parametrize(
    ("path", "text", "orphan", "how"),
    [
        ("frameworks/xgboost/old-image/Dockerfile", "# Rendered by `nox -s render`.\n",
         "frameworks/xgboost/old-image", "with `nox -s render`"),
        ("base/old-image/requirements.txt", "# Written by `nox -s lock`.\n",
         "base/old-image", "with `nox -s render`"),
        ("frameworks/mine/Dockerfile", "FROM scratch\n", "frameworks/mine", "by hand"),
        ("frameworks/mine/Dockerfile.j2", "FROM scratch\n", "frameworks/mine", "by hand"),
        ("frameworks/xgboost/notes.txt", "x", "frameworks/xgboost/notes.txt", "by hand"),
        (f"{XGBOOST_HOME}/patch.diff", "x", f"{XGBOOST_HOME}/patch.diff", "by hand"),
        ("base/other.j2", "x", "base/other.j2", "by hand"),
        ("examples/mine/train.py", "x", "examples/mine", "by hand"),
        ("frameworks/xgboost/Dockerfile.j2", "x", "frameworks/xgboost/Dockerfile.j2",
         "by hand"),
    ],
)  # fmt: skip
def test_what_belongs_to_no_image_is_an_error(
    path: str, text: str, orphan: str, how: str, repository: Repository
) -> None:
    repository.put(path, text)

    assert repository.problems() == [
        f"{orphan}: belongs to no image of the matrix; remove it {how}, or declare its image"
    ]


@pytest.mark.parametrize(
    "path",
    [
        "base/.dockerignore",
        "base/__pycache__/x.pyc",
        "base/example/score.py",
        "frameworks/xgboost/example/score.py",
        "frameworks/xgboost/.swp",
        "examples/data.py",
        "examples/xgboost/train_0_9.py",
    ],
)
def test_templates_examples_and_hidden_files_are_no_orphans(
    path: str, repository: Repository
) -> None:
    repository.put(path, "x")

    assert repository.problems() == []


def test_all_faults_are_reported_at_once_and_in_order(repository: Repository) -> None:
    remove(DOCKERFILE)(repository)
    remove(f"frameworks/pytorch/{PYTORCH}/requirements.txt")(repository)
    write("README.md", "")(repository)
    write("base/notes.txt", "")(repository)
    record = '{"tolerance_percent": 2, "images": {"old": {"unmeasured": "so"}}}'
    write("sizes.json", record)(repository)

    problems = [problem.split(": ")[0] for problem in repository.problems()]

    assert problems == [
        "README.md",
        "base/notes.txt",
        DOCKERFILE,
        "matrix.yaml:37:9",
        "sizes.json",
    ]


@pytest.mark.parametrize(
    "path",
    [
        "base/example/score.py",
        "base/example/request.json",
        "base/example/response.json",
        "examples/minimal/train.py",
    ],
)
def test_an_example_that_lacks_a_file_is_named(repository: Repository, path: str) -> None:
    (repository.root / path).unlink()
    assert repository.problems() == [
        f"{path}: is missing; docs/add-an-image.md says what an example is"
    ]


def test_a_readme_that_is_stale_keeps_nothing_from_being_built(repository: Repository) -> None:
    repository.put("README.md", "<!-- images -->\n<!-- /images -->\n")
    assert len(repository.problems()) == 1
    repository.project.check_buildable()
