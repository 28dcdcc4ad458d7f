"""How does the result of ``run()`` become a response?"""

from __future__ import annotations

import re
from typing import Any, Iterator, List, NamedTuple, Optional, Tuple
from urllib.parse import quote

from .. import encoding
from ..encoding import UnserialisableError as UnserialisableError
from ..syntax import TOKEN

_NAME = re.compile(TOKEN + r"\Z")
# What the connection itself says.
_HOP_BY_HOP = {
    "connection",
    "content-length",
    "date",
    "keep-alive",
    "server",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
}
# What a client acts on, or a contract promises: more than one value of it means nothing.
_ONCE = {
    "content-type",
    "x-ms-client-request-id",
    "x-ms-request-id",
    "x-ms-run-fn-exec-ms",
    "x-ms-run-function-failed",
    "x-ms-server-version",
    "x-request-id",
}
# Of the body that such an answer does not have.
_NOT_WITH_304 = {
    "allow",
    "content-encoding",
    "content-language",
    "content-md5",
    "content-range",
    "content-type",
    "last-modified",
}
_ADDRESSES = {"content-location", "location"}
_ASCII = "".join(map(chr, range(0x21, 0x7F)))

Header = Tuple[str, str]


class Output(NamedTuple):
    """What a worker sends back. ``headers`` is None for the common case: 200 and JSON.

    Where ``stream`` is given, the body comes from there and ``body`` is empty. Who takes it calls
    its ``close()`` at the end, or when nobody wants the rest.
    """

    status: int
    headers: Optional[List[Header]]
    body: bytes
    stream: Optional[Stream] = None


class Stream(Iterator[bytes]):
    """The body of a streamed response, as its parts come."""

    def __init__(self, response: Any) -> None:
        self._parts = iter(response.iter_encoded())
        self._response = response

    def __next__(self) -> bytes:
        part = next(self._parts)
        if isinstance(part, (bytes, bytearray, memoryview)):
            return bytes(part)
        raise TypeError("a streamed response yields text or bytes, not {!r}".format(part))

    def close(self) -> None:
        """Close what the parts come from; a generator ends where it is."""
        _close(self._response)


def make(result: Any, nan: str = "refuse") -> Output:
    """Turn what ``run()`` returned into a response.

    ``nan`` says what becomes of NaN and infinity: ``config.NAN_POLICIES``.
    """
    if hasattr(result, "status_code") and hasattr(result, "headers"):
        return _from_response(result)
    if result is None:
        return Output(200, None, b"{}")
    return Output(200, None, encoding.encode(result, nan))


def _from_response(response: Any) -> Output:
    """An AMLResponse of ours, or any response with Flask's interface."""
    status = int(response.status_code)
    if not 200 <= status <= 599:
        raise UnserialisableError("run() returned a response with the status {}".format(status))
    headers = _headers_of(response, status)
    if status in (204, 304):
        body = b""
    elif getattr(response, "is_streamed", False):
        return Output(status, headers, b"", Stream(response))
    else:
        body = bytes(response.get_data())
    _close(response)
    return Output(status, headers, body)


def _close(response: Any) -> None:
    close = getattr(response, "close", None)
    if close is not None:
        close()


def _headers_of(response: Any, status: int) -> List[Header]:
    dropped = _HOP_BY_HOP | _NOT_WITH_304 if status == 304 else _HOP_BY_HOP
    given = []
    for name, value in response.headers.items():
        name, value, key = str(name), str(value), str(name).lower()
        if not _NAME.match(name):
            raise UnserialisableError("run() returned a header with the name {!r}".format(name))
        if key not in dropped:
            value = quote(value, safe=_ASCII) if key in _ADDRESSES else value
            given.append((key, name, _one_line(value)))
    failed = "x-ms-run-function-failed"
    if status >= 500:
        given.append((failed, failed, "True"))
    elif all(key != failed for key, _, _ in given):
        given.append((failed, failed, "False"))
    last = {key: at for at, (key, _, _) in enumerate(given)}
    return [
        (name, value)
        for at, (key, name, value) in enumerate(given)
        if key not in _ONCE or last[key] == at
    ]


def _one_line(value: str) -> str:
    if value.isascii() and value.isprintable():
        return value
    # A line break in a value would let a script's input start a header of its own; what is not
    # ASCII has no agreed meaning in a header and breaks some servers.
    return "".join(c if " " <= c <= "~" or c == "\t" else "?" for c in value)
