"""What does a ``@rawhttp`` script receive? Flask's request, made from the vendored Werkzeug.

Scripts import it as ``azureml_inference_server_http.api.aml_request``. Only those scripts may cause
an import of this module: it takes a twentieth of a second and 8 MB.
"""

from __future__ import annotations

import io
from typing import Any, Callable, Dict, List, NoReturn, Optional, Tuple, TypeVar
from urllib.parse import unquote_to_bytes

from .._vendor.werkzeug.exceptions import HTTPException, RequestEntityTooLarge
from .._vendor.werkzeug.formparser import FormDataParser
from .._vendor.werkzeug.wrappers import Request
from ..workers.messages import RefusedError

F = TypeVar("F", bound=Callable[..., Any])

# A field of a form takes about 200 bytes of memory, and as little as one in the body.
MOST_FIELDS = 100_000
# The standard library needs up to 80 times the memory of what it unquotes at a time.
UNQUOTED_AT_A_TIME = 65536

_rawHttpRequested = False  # noqa: N816 - the name that the reference package uses


def rawhttp(func: F) -> F:
    """Mark ``run`` as one that takes the whole request."""
    global _rawHttpRequested
    _rawHttpRequested = True
    return func


class RequestRefusedError(RefusedError, HTTPException):
    """The script reads JSON or a form, but the body of the request is none."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(code, message)
        self.code = code


class FormParser(FormDataParser):
    """Reads forms in memory that is proportional to the body."""

    def _parse_urlencoded(
        self, stream: Any, mimetype: str, content_length: Optional[int], options: Any
    ) -> Tuple[Any, Any, Any]:
        body = stream.read()
        if body.count(b"&") >= MOST_FIELDS:
            raise RequestEntityTooLarge
        items = []
        for field in body.split(b"&"):
            if field:
                name, _, value = field.partition(b"=")
                items.append((_unquote(name), _unquote(value)))
        return stream, self.cls(items), self.cls()


def _unquote(quoted: bytes) -> str:
    text = str(quoted.replace(b"+", b" "), "utf-8")
    if "%" not in text:
        return text
    quoted, pieces, at = text.encode("utf-8"), [], 0
    while at < len(quoted):
        end = at + UNQUOTED_AT_A_TIME
        # Not in the middle of `%41`.
        cut = quoted.rfind(b"%", end - 2, end)
        end = cut if cut > 0 and end < len(quoted) else end
        pieces.append(unquote_to_bytes(quoted[at:end]))
        at = end
    return str(b"".join(pieces), "utf-8", "inference_server.werkzeug.url_quote")


class AMLRequest(Request):
    """The request that a ``@rawhttp`` script gets, made from a WSGI environment.

    Unlike in Flask, the body can be read any number of times, as data and as a form.
    """

    form_data_parser_class = FormParser
    # What Flask says about the route.
    endpoint = "main.handle_score"
    blueprint = "main"
    url_rule = None
    routing_exception = None
    view_args: Optional[Dict[str, Any]] = None

    def __init__(self, environ: Dict[str, Any]) -> None:
        # The environment gets no reference to the request: without that cycle, a request and its
        # body are freed at once.
        super().__init__(environ, populate_request=False)
        # The object in the stream, without a copy. It stays when a form was read.
        self._cached_data: bytes = environ["wsgi.input"].getvalue()
        self.view_args = {}

    @property
    def blueprints(self) -> List[str]:
        """The names in ``blueprint``, the innermost first."""
        return [self.blueprint]

    def _get_current_object(self) -> AMLRequest:
        """Itself. In Flask, scripts get a proxy that has this method."""
        return self

    def on_json_loading_failed(self, e: Optional[ValueError]) -> NoReturn:
        """Blame the client, not the script, for a body that is no JSON."""
        if e is None:
            raise RequestRefusedError(415, "Expects Content-Type to be application/json")
        message = "The body of the request is not valid JSON: {}".format(e)
        raise RequestRefusedError(400, message) from None

    def _load_form_data(self) -> None:
        try:
            super()._load_form_data()
        except RequestEntityTooLarge:
            message = "The form has too many fields, or too large ones."
            raise RequestRefusedError(413, message) from None

    def _get_file_stream(self, *_: Any, **__: Any) -> io.BytesIO:
        # The body is in memory anyway, and a container may have no folder to write to.
        return io.BytesIO()
