"""``AMLRequest`` and ``rawhttp`` under the name that scripts use."""

from inference_server.raw import AMLRequest, rawhttp

__all__ = ["AMLRequest", "rawhttp"]
