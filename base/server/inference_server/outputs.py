"""How does the result of ``run()`` become a response?"""

from __future__ import annotations

import re
from typing import Any, List, NamedTuple, Optional, Tuple

from . import encoding
from .encoding import UnserialisableError as UnserialisableError

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")
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
Header = Tuple[str, str]


class Output(NamedTuple):
    """What a worker sends back. ``headers`` is None for the common case: 200 and JSON."""

    status: int
    headers: Optional[List[Header]]
    body: bytes


def make(result: Any, nan: str = "refuse") -> Output:
    """Turn what ``run()`` returned into a response.

    ``nan`` says what becomes of NaN and infinity: ``encoding.NAN_POLICIES``.
    """
    if hasattr(result, "status_code") and hasattr(result, "headers"):
        return _from_response(result)
    if result is None:
        return Output(200, None, b"{}")
    return Output(200, None, encoding.encode(result, nan))


def _from_response(response: Any) -> Output:
    """An AMLResponse of ours, or any response with Flask's interface."""
    headers = [(str(name), _one_line(str(value))) for name, value in response.headers.items()]
    status = int(response.status_code)
    if not 200 <= status <= 599:
        raise UnserialisableError("run() returned a response with the status {}".format(status))
    for name, _ in headers:
        if not _NAME.match(name):
            raise UnserialisableError("run() returned a header with the name {!r}".format(name))
    if status >= 500:
        headers = [pair for pair in headers if pair[0].lower() != "x-ms-run-function-failed"]
        headers.append(("x-ms-run-function-failed", "True"))
    body = bytes(response.get_data())
    return Output(status, [pair for pair in headers if pair[0].lower() not in _HOP_BY_HOP], body)


def _one_line(value: str) -> str:
    # A line break in a value would let a script's input start a header of its own; what is not
    # ASCII has no agreed meaning in a header and breaks some servers.
    return "".join(c if " " <= c <= "~" or c == "\t" else "?" for c in value)
