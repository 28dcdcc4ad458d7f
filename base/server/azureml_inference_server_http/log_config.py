"""What a ``logging.json`` written for the reference names."""

import logging
import time
from typing import Optional

import _inference_server_start  # noqa: F401 - it knows the next name
from _inference_server.log import TEXT_FORMAT


class RootAccessFilter(logging.Filter):
    """Leaves out the lines of health probes."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is written."""
        return "GET / HTTP/1.1" not in record.getMessage()


class AMLLogFormatter(logging.Formatter):
    """The form of the reference's lines, which is that of ours, with times in UTC."""

    converter = time.gmtime  # type: ignore[assignment] # as Formatter itself declares it

    def __init__(
        self, fmt: str = TEXT_FORMAT, datefmt: Optional[str] = None, style: str = "%"
    ) -> None:
        super().__init__(fmt, datefmt, style)
