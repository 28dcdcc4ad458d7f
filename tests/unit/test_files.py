"""Files are written whole or not at all."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from imagematrix.files import write_atomically


@pytest.fixture
def _usual_umask() -> Iterator[None]:
    before = os.umask(0o027)
    yield
    os.umask(before)


def test_new_file_is_written_with_its_folders(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "file"

    assert write_atomically(path, "größe\n")
    assert path.read_bytes() == "größe\n".encode()


def test_unchanged_file_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomically(path, "text\n")
    os.utime(path, ns=(1, 1))

    assert not write_atomically(path, "text\n")
    assert path.stat().st_mtime_ns == 1
    assert write_atomically(path, "other\n")
    assert path.read_text() == "other\n"


@pytest.mark.usefixtures("_usual_umask")
def test_file_has_the_permissions_that_the_umask_gives(tmp_path: Path) -> None:
    write_atomically(tmp_path / "file", "text")

    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("failure", [OSError("disk full"), KeyboardInterrupt()])
def test_failure_leaves_the_old_file_and_nothing_else(
    failure: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    def fail(*_: object) -> None:
        raise failure

    monkeypatch.setattr(Path, "replace", fail)

    with pytest.raises(type(failure)):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]
