"""Reading, hashing and atomically writing files."""

import hashlib
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path, PurePath, PurePosixPath

from imagematrix.errors import Diagnostic, InputError, UserError

# Where commands leave their logs, records and staged wheels; git ignores it.
WORK_FOLDER = Path("build")

# Returns the content of a file.
Reader = Callable[[Path | str], bytes]


def read_bytes(path: Path | str) -> bytes:
    """The content of a file."""
    return Path(path).read_bytes()


def read_text(path: Path | str, shown_as: PurePath, read: Reader = read_bytes) -> str:
    """The text of a file, with LF line ends.

    Raises InputError, which names the file as `shown_as`, where it cannot be read.
    """
    try:
        text = read(path).decode("utf-8")
        return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text
    except OSError as error:
        message = f"cannot be read: {error.strerror}"
    except UnicodeDecodeError as error:
        message = f"is not UTF-8: byte {error.start} is {error.object[error.start]:#04x}"
    raise InputError([Diagnostic(shown_as, 0, 0, "", message)])


def file_hash(path: Path | str, read: Reader = read_bytes) -> str:
    """A short hash of a file's content: 16 hex digits of the SHA-256."""
    return hashlib.sha256(read(path)).hexdigest()[:16]


def text_hash(text: str) -> str:
    """A short hash of a text, equal to that of a file that holds it."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def write_atomically(path: Path, text: str) -> bool:
    """Writes `text` to `path` through a temporary file beside it; creates missing folders.

    Returns whether the content changed. A file that already has this content is not touched.
    """
    return write_bytes_atomically(path, text.encode("utf-8"))


def write_bytes_atomically(path: Path, data: bytes) -> bool:
    """Writes bytes as `write_atomically` writes a text."""
    if path.is_file() and path.read_bytes() == data:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        umask = os.umask(0)
        os.umask(umask)
        Path(temporary).chmod(0o666 & ~umask)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return True


def replace_folder(folder: Path, files: Mapping[PurePosixPath, str], marker: PurePosixPath) -> None:
    """Makes `folder` hold these files and nothing else: a new folder is written beside it, and then
    takes its place. Creates missing parents.

    A text that starts with `#!` becomes a program. `marker` is one of the files. Raises UserError
    for a folder that has others and not this one: something else is in it.
    """
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise UserError(f"{folder} is no folder; nothing was written")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / marker).is_file():
        raise UserError(
            f"{folder} holds other files, and no {marker}; nothing was written. Name a folder that"
            " is new or empty"
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Beside it, on the same file system. The second one is for what was there.
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as work:
        new, old = Path(work, "new"), Path(work, "old")
        new.mkdir()
        for path, text in files.items():
            target = new / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(text.encode("utf-8"))
            if text.startswith("#!"):
                target.chmod(0o755)
        if folder.exists():
            folder.replace(old)
        try:
            new.replace(folder)
        except BaseException:
            if old.exists():
                old.replace(folder)
            raise
