"""``AMLRequest`` and ``rawhttp`` under the older name that scripts use."""

from inference_server.raw import AMLRequest, rawhttp

__all__ = ["AMLRequest", "rawhttp"]
