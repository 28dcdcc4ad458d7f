"""The classes that a ``logging.json`` for the reference server names."""

import logging
import time
from typing import Optional

import _inference_server_start  # noqa: F401 - finds the next module
from _inference_server.log import TEXT_FORMAT


class RootAccessFilter(logging.Filter):
    """Drops the lines of health probes."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is written."""
        return "GET / HTTP/1.1" not in record.getMessage()


class AMLLogFormatter(logging.Formatter):
    """The line format of the reference, which this server shares, with times in UTC."""

    converter = time.gmtime  # type: ignore[assignment] # as Formatter itself declares it

    def __init__(
        self, fmt: str = TEXT_FORMAT, datefmt: Optional[str] = None, style: str = "%"
    ) -> None:
        super().__init__(fmt, datefmt, style)
