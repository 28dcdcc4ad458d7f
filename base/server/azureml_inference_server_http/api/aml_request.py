"""``AMLRequest`` and ``rawhttp`` under the name that scripts use."""

import _inference_server_start  # noqa: F401 - finds the next module
from _inference_server.aml.request import AMLRequest, rawhttp

__all__ = ["AMLRequest", "rawhttp"]
