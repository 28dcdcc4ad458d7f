"""Reading files, what stands for their content, and writing them so that a reader or an interrupt
never sees half of one."""

import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path, PurePath

from imagematrix.errors import Diagnostic, InputError

# Where commands leave their logs, records and staged wheels; git ignores it.
WORK_FOLDER = Path("build")
# More than nearly every file holds; memory for much more would be mapped anew for each of them.
_PART = 1 << 16

# Gives the content of a file.
Reader = Callable[[Path | str], bytes]


def read_bytes(path: Path | str) -> bytes:
    """The content of a file, in a third of the time that pathlib takes: a plan reads thousands."""
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        parts = []
        while part := os.read(file, _PART):
            parts.append(part)
        return b"".join(parts)
    finally:
        os.close(file)


def read_text(path: Path | str, shown_as: PurePath, read: Reader = read_bytes) -> str:
    """The text of a file. Raises InputError, which names `shown_as`, when it cannot be read."""
    try:
        text = read(path).decode("utf-8")
        return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text
    except OSError as error:
        message = f"cannot be read: {error.strerror}"
    except UnicodeDecodeError as error:
        message = f"is not UTF-8: byte {error.start} is {error.object[error.start]:#04x}"
    raise InputError([Diagnostic(shown_as, 0, 0, "", message)])


def file_hash(path: Path | str, read: Reader = read_bytes) -> str:
    """What stands for the content of a file: the start of its sha256."""
    return hashlib.sha256(read(path)).hexdigest()[:16]


def text_hash(text: str) -> str:
    """What stands for a text: that of a file that holds it."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def write_atomically(path: Path, text: str) -> bool:
    """Writes `text` to `path` by way of a temporary file beside it; makes its folders.

    Returns whether anything changed. A file that already holds the text is left alone.
    """
    data = text.encode("utf-8")
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
