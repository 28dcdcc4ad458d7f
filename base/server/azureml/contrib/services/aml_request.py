"""``AMLRequest`` and ``rawhttp`` under the older name that scripts use."""

import _inference_server_start  # noqa: F401 - it knows the next name
from _inference_server.aml.request import AMLRequest, rawhttp

__all__ = ["AMLRequest", "rawhttp"]
