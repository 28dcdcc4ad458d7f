"""Locks: what they hold, and what is no lock."""

from pathlib import PurePath

import pytest
from packaging.version import Version

from imagematrix.errors import InputError
from imagematrix.matrix.lockfile import LockedPackage, parse_lock

A, B = "a" * 64, "b" * 64


def errors_of(text: str) -> list[str]:
    with pytest.raises(InputError) as error:
        parse_lock(text, PurePath("x/requirements.txt"))
    return [str(one) for one in error.value.diagnostics]


def test_lock_gives_version_hashes_and_line_of_each_package() -> None:
    text = (
        "# A comment \\\n"
        f"Typing_Extensions==4.10.0 \\\n    --hash=sha256:{A} \\\n    --hash=sha256:{B}\n"
        "    # via httptools, torch\n"
        f"\ntorch==2.13.0+cpu --hash=sha256:{B}  # from elsewhere\n"
    )

    lock = parse_lock(text, PurePath("requirements.txt"))

    assert lock == {
        "typing-extensions": LockedPackage(
            "typing-extensions", Version("4.10.0"), frozenset({A, B}), 2
        ),
        "torch": LockedPackage("torch", Version("2.13.0+cpu"), frozenset({B}), 7),
    }


def test_last_line_may_be_continued() -> None:
    lock = parse_lock(f"a==1 \\\n --hash=sha256:{A} \\", PurePath("requirements.txt"))

    assert lock["a"].sha256 == {A}


@pytest.mark.parametrize("text", ["", "# nothing\n", "\n \n"])
def test_lock_may_be_empty(text: str) -> None:
    assert parse_lock(text, PurePath("requirements.txt")) == {}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (f"numpy>=2 --hash=sha256:{A}", "numpy is not pinned to one version"),
        (f"numpy --hash=sha256:{A}", "numpy is not pinned to one version"),
        (f"numpy==2,<3 --hash=sha256:{A}", "numpy is not pinned to one version"),
        (f"numpy==2.* --hash=sha256:{A}", "numpy is not pinned to one version"),
        (f"numpy===2 --hash=sha256:{A}", "numpy is not pinned to one version"),
        (
            f"numpy @ https://a.example/n.whl --hash=sha256:{A}",
            "numpy is not pinned to one version",
        ),
        ("numpy==2", "numpy has no sha256 hash"),
        (f"numpy==2 --hash=md5:{A}", "numpy has no sha256 hash"),
        (f"numpy==2 --hash=sha256:{A[1:]}", "numpy has no sha256 hash"),
        (f"numpy==2 --hash=sha256:{A} --hash=sha256:", "numpy has no sha256 hash"),
        (f"numpy==2 --hash=sha256:{A.upper()}", "numpy has no sha256 hash"),
        ("--index-url https://a.example", "no requirement: '--index-url https://a.example'"),
        ("-e /home/me/project", "no requirement: '-e /home/me/project'"),
        ("<html>", "no requirement: '<html>'"),
    ],
)
def test_line_that_is_no_pin_with_a_hash_is_an_error(line: str, message: str) -> None:
    assert errors_of(f"# lock\n{line}\n") == [
        f"x/requirements.txt:2:1: {message}; write the lock with `nox -s lock`"
    ]


def test_errors_of_a_lock_come_together() -> None:
    text = f"a==1 --hash=sha256:{A}\nA==2 \\\n  --hash=sha256:{A}\nb>1\n"

    assert errors_of(text) == [
        "x/requirements.txt:2:1: a stands here twice; write the lock with `nox -s lock`",
        "x/requirements.txt:4:1: b is not pinned to one version; write the lock with `nox -s lock`",
    ]
