"""``AMLResponse`` under the older name that scripts use."""

import _inference_server_start  # noqa: F401 - finds the next module
from _inference_server.aml.response import AMLResponse

__all__ = ["AMLResponse"]
