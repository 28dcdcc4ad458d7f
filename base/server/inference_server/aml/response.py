"""What may a ``@rawhttp`` script return? Flask's response, made from the vendored Werkzeug.

Scripts import it as ``azureml_inference_server_http.api.aml_response``. Nothing else imports this
module: see ``request``.
"""

from __future__ import annotations

import os
import re
from typing import Any, List, Mapping, Optional

from .. import encoding
from .._vendor.werkzeug.wrappers import Response

# The service has checked this setting. It is read here because the script makes its responses
# itself, in run().
NAN = os.environ.get("INFERENCE_SERVER_NAN", "").strip().lower() or "refuse"
# Commas inside quotes, and the one of a date: they separate no values.
_NO_SEPARATOR = re.compile(r'"(?:[^"\\]|\\.)*"|(?<=[a-z]{2}), \d\d[ -][A-Z][a-z]{2}[ -]\d\d')


class AMLResponse(Response):
    """A response that is sent to the client as the script made it."""

    default_mimetype = "text/html"

    def __init__(
        self,
        message: Any,
        status_code: Any,
        response_headers: Optional[Mapping[str, Any]] = None,
        json_str: bool = False,
        run_function_failed: bool = False,
    ) -> None:
        mimetype = None
        if message is None or json_str:
            mimetype = "application/json"
            message = encoding.encode({} if message is None else message, NAN)
        elif isinstance(message, memoryview):
            message = bytes(message)
        elif not (hasattr(message, "__iter__") or hasattr(message, "__getitem__")):
            text = "an AMLResponse takes text, bytes or an iterable of them, not {}: see json_str"
            raise TypeError(text.format(type(message).__name__))
        super().__init__(message, status_code, mimetype=mimetype)
        self.headers["x-ms-run-function-failed"] = run_function_failed
        headers = response_headers or {}
        # Headers of the script replace the defaults.
        for name in headers:
            self.headers.remove(name)
        for name, value in headers.items():
            for item in _items(str(value)):
                self.headers.add(name, item)


def _items(value: str) -> List[str]:
    """The values of a header, which are sent one by one: the text between the commas."""
    kept = _NO_SEPARATOR.sub(lambda match: match.group().replace(",", "\0"), value)
    return [item.strip().replace("\0", ",") for item in kept.split(",")]
