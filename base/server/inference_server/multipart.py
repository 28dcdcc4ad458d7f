"""Which fields and files are in a form body? (``cgi`` left the standard library with 3.13.)"""

from __future__ import annotations

import io
import re
from typing import Dict, List, Tuple
from urllib.parse import parse_qsl

_PARAMETER = re.compile(r';\s*([\w!#$%&\'*+.^`|~-]+)\s*=\s*("(?:[^"\\]|\\.)*"|[^;]*)')


class UploadedFile:
    """One file of a form, with the attributes that scoring scripts read."""

    def __init__(self, name: str, filename: str, content_type: str, data: bytes) -> None:
        self.name = name
        self.filename = filename
        self.content_type = content_type
        self.mimetype = content_type.split(";")[0].strip().lower()
        self.stream = io.BytesIO(data)

    def read(self, size: int = -1) -> bytes:
        """Read like from a file."""
        return self.stream.read(size)

    def seek(self, position: int, whence: int = 0) -> int:
        """Move like in a file."""
        return self.stream.seek(position, whence)

    def tell(self) -> int:
        """The position, like in a file."""
        return self.stream.tell()

    def save(self, target: str) -> None:
        """Write the content to a file."""
        with open(target, "wb") as file:
            file.write(self.stream.getvalue())

    def __getattr__(self, name: str) -> object:
        # PIL, pandas and others ask for more of the file interface than is spelt out here.
        return getattr(self.__dict__["stream"], name)

    def __iter__(self) -> "io.BytesIO":
        return iter(self.stream)  # type: ignore[return-value]


def header_value(header: str) -> Tuple[str, Dict[str, str]]:
    """Split ``form-data; name="x"`` into its value and its parameters."""
    value, _, rest = header.partition(";")
    parameters = {}
    for match in _PARAMETER.finditer(";" + rest):
        text = match.group(2).strip()
        if text.startswith('"'):
            text = re.sub(r"\\(.)", r"\1", text[1:-1])
        parameters[match.group(1).lower()] = text
    return value.strip().lower(), parameters


def parse(
    content_type: str, body: bytes
) -> Tuple[List[Tuple[str, str]], List[Tuple[str, UploadedFile]]]:
    """The fields and the files of a body; both are empty when it is not a form."""
    kind, parameters = header_value(content_type)
    if kind == "application/x-www-form-urlencoded":
        return parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True), []
    if kind != "multipart/form-data" or "boundary" not in parameters:
        return [], []
    fields: List[Tuple[str, str]] = []
    files: List[Tuple[str, UploadedFile]] = []
    separator = b"\r\n--" + parameters["boundary"].encode("latin-1", "replace")
    for part in (b"\r\n" + body).split(separator)[1:]:
        if part.startswith(b"--"):
            break
        head, found, data = part.partition(b"\r\n\r\n")
        if not found:
            continue
        headers = {}
        for line in head.decode("utf-8", "replace").split("\r\n"):
            key, _, value = line.partition(":")
            headers[key.strip().lower()] = value.strip()
        _, disposition = header_value(headers.get("content-disposition", ""))
        name = disposition.get("name", "")
        if "filename" in disposition:
            file_type = headers.get("content-type", "application/octet-stream")
            files.append((name, UploadedFile(name, disposition["filename"], file_type, data)))
        else:
            fields.append((name, data.decode("utf-8", "replace")))
    return fields, files
