"""How is the head of a response written?"""

from __future__ import annotations

import time
from http import HTTPStatus
from typing import Optional

from ..app import Response

_STATUS_LINES = {
    int(status): "HTTP/1.1 {} {}\r\n".format(int(status), status.phrase) for status in HTTPStatus
}
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]


class _Date:
    """The ``Date`` header; the text of each second is made once."""

    def __init__(self) -> None:
        self._second = 0
        self._line = ""

    def line(self) -> str:
        now = int(time.time())
        if now != self._second:
            # RFC 9110, 5.6.7. strftime would use the locale.
            year, month, day, hour, minute, second, weekday, _, _ = time.gmtime(now)
            self._line = "Date: {}, {:02} {} {:04} {:02}:{:02}:{:02} GMT\r\n".format(
                _DAYS[weekday], day, _MONTHS[month - 1], year, hour, minute, second
            )
            self._second = now
        return self._line


_date = _Date()


def may_have_body(status: int) -> bool:
    """Whether a response with this status may have a body."""
    return status >= 200 and status not in (204, 304)


def encode(
    response: Response, length: Optional[int], chunked: bool, keep: bool, is_http10: bool
) -> bytes:
    """The head of a response as bytes.

    ``length`` is that of the body, None if it is unknown. ``keep``: the connection stays open.
    """
    status, headers, _ = response
    lines = [_STATUS_LINES.get(status) or "HTTP/1.1 {} Unknown\r\n".format(status)]
    lines += ["%s: %s\r\n" % header for header in headers]  # noqa: UP031 - the hot path
    if may_have_body(status):
        if length is not None:
            lines.append("Content-Length: %d\r\n" % length)
        elif chunked:
            lines.append("Transfer-Encoding: chunked\r\n")
    lines.append(_date.line())
    if not keep:
        lines.append("Connection: close\r\n")
    elif is_http10:
        lines.append("Connection: keep-alive\r\n")
    lines.append("\r\n")
    return "".join(lines).encode("latin-1", "replace")
