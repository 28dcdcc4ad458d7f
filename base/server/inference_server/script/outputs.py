"""How does the result of ``run()`` become a response?"""

from __future__ import annotations

import re
from typing import Any, Iterator, List, NamedTuple, Optional, Tuple
from urllib.parse import quote

from .. import encoding
from ..encoding import UnserialisableError as UnserialisableError
from ..syntax import TOKEN

_NAME = re.compile(TOKEN + r"\Z")
# Headers that the service sets.
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
# Headers that may have only one value, because clients act on them or the contract defines them.
_ONCE = {
    "content-type",
    "x-ms-client-request-id",
    "x-ms-request-id",
    "x-ms-run-fn-exec-ms",
    "x-ms-run-function-failed",
    "x-ms-server-version",
    "x-request-id",
}
# Headers about a body, which a response with status 304 does not have.
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
    """A response. ``headers`` is None in the usual case, status 200 and JSON.

    With a ``stream``, the body comes from there, and ``body`` is empty. The caller has to close it
    at the end, or when the rest is not wanted.
    """

    status: int
    headers: Optional[List[Header]]
    body: bytes
    stream: Optional[Stream] = None


class Stream(Iterator[bytes]):
    """The body of a streamed response, part by part."""

    def __init__(self, response: Any) -> None:
        self._parts = iter(response.iter_encoded())
        self._response = response

    def __next__(self) -> bytes:
        part = next(self._parts)
        if isinstance(part, (bytes, bytearray, memoryview)):
            return bytes(part)
        raise TypeError("a streamed response yields text or bytes, not {!r}".format(part))

    def close(self) -> None:
        """Close the source of the parts; a generator ends where it is."""
        _close(self._response)


def make(result: Any, nan: str = "refuse") -> Output:
    """Turn the result of ``run()`` into a response.

    ``nan`` is one of ``config.NAN_POLICIES``. ``UnserialisableError`` if there is no JSON for it.
    """
    if hasattr(result, "status_code") and hasattr(result, "headers"):
        return _from_response(result)
    if result is None:
        return Output(200, None, b"{}")
    return Output(200, None, encoding.encode(result, nan))


def _from_response(response: Any) -> Output:
    """From an ``AMLResponse``, or any response with Flask's interface."""
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
    headers = []
    for name, value in response.headers.items():
        name, value, key = str(name), str(value), str(name).lower()
        if not _NAME.match(name):
            raise UnserialisableError("run() returned a header with the name {!r}".format(name))
        if key not in dropped:
            value = quote(value, safe=_ASCII) if key in _ADDRESSES else value
            headers.append((key, name, _one_line(value)))
    failed = "x-ms-run-function-failed"
    if status >= 500:
        headers.append((failed, failed, "True"))
    elif all(key != failed for key, _, _ in headers):
        headers.append((failed, failed, "False"))
    last = {key: at for at, (key, _, _) in enumerate(headers)}
    return [
        (name, value)
        for at, (key, name, value) in enumerate(headers)
        if key not in _ONCE or last[key] == at
    ]


def _one_line(value: str) -> str:
    if value.isascii() and value.isprintable():
        return value
    # A line break would let input of a script start another header. Characters outside of ASCII
    # have no defined meaning in headers, and break some clients.
    return "".join(c if " " <= c <= "~" or c == "\t" else "?" for c in value)
