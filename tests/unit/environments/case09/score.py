"""Answers what it is asked."""

from typing import Any


def init() -> None:
    """Loads no model."""


def run(data: Any) -> Any:
    """The data itself."""
    return data
