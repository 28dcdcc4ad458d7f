"""How does a request become the arguments of ``run()``?"""

from __future__ import annotations

import codecs
import inspect
import io
import json
import sys
from typing import Any, Dict, List, Tuple
from urllib.parse import parse_qsl

from ..workers.messages import Call, RefusedError


def _loads(text: Any) -> Any:
    try:
        return json.loads(text)
    except RecursionError:
        raise RefusedError(400, "The input is nested too deeply.") from None


def _keep_quoted(error: UnicodeError) -> Tuple[str, int]:
    """Keep bytes that are no UTF-8 quoted, as they were in the query."""
    assert isinstance(error, UnicodeDecodeError)
    text = "".join("%{:02X}".format(byte) for byte in error.object[error.start : error.end])
    return text, error.end


codecs.register_error("inference_server.keep_quoted", _keep_quoted)


def query_parameters(query: str) -> Dict[str, Any]:
    """``x=1&x=2&y=z`` as ``{"x": [1, 2], "y": "z"}``. Values that are valid JSON are parsed."""
    values: Dict[str, List[Any]] = {}
    pairs = parse_qsl(query, keep_blank_values=True, errors="inference_server.keep_quoted")
    for key, value in pairs:
        try:
            parsed = _loads(value)
        except ValueError:
            parsed = value
        values.setdefault(key, []).append(parsed)
    return {key: one[0] if len(one) == 1 else one for key, one in values.items()}


class TextInput:
    """``run(data)`` without a decorator: the body as text, or the query as JSON text."""

    def __init__(self, parameter: str) -> None:
        self._parameter = parameter

    def __call__(self, call: Call) -> Dict[str, Any]:
        if call.method == "POST":
            try:
                return {self._parameter: str(call.body, "utf-8")}
            except UnicodeDecodeError as error:
                message = "Input cannot be decoded as UTF-8: {}".format(error)
                raise RefusedError(400, message) from None
        return {self._parameter: json.dumps(query_parameters(call.query))}


class RawInput:
    """``@rawhttp``: the request object."""

    def __init__(self, parameter: str) -> None:
        self._parameter = parameter

    def __call__(self, call: Call) -> Dict[str, Any]:
        return {self._parameter: make_request(call)}


class SchemaInput:
    """``@input_schema``: the members of a JSON object, one per parameter."""

    def __init__(self, parameters: List[inspect.Parameter]) -> None:
        self._parameters = parameters

    def __call__(self, call: Call) -> Dict[str, Any]:
        if call.method != "POST":
            return self._pick(query_parameters(call.query))
        kind = call.content_type.split(";")[0].strip().lower()
        if kind != "application/json" and not (
            kind.startswith("application/") and kind.endswith("+json")
        ):
            raise RefusedError(415, "Expects Content-Type to be application/json")
        try:
            content = _loads(call.body)
        except UnicodeDecodeError as error:
            raise RefusedError(400, "Input cannot be decoded as UTF-8: {}".format(error)) from None
        except ValueError as error:
            if not call.body:
                raise RefusedError(
                    400, "POST body is empty. Expecting a JSON dictionary."
                ) from None
            message = "POST body could not be decoded as JSON: {}".format(error)
            raise RefusedError(400, message) from None
        if not isinstance(content, dict):
            raise RefusedError(400, "POST body should be a JSON dictionary.")
        return self._pick(content)

    def _pick(self, content: Dict[str, Any]) -> Dict[str, Any]:
        picked = {}
        for parameter in self._parameters:
            value = content.get(parameter.name, parameter.default)
            if value is inspect.Parameter.empty:
                message = "A value is not provided for the {!r} parameter.".format(parameter.name)
                raise RefusedError(400, message)
            picked[parameter.name] = value
        return picked


def make_request(call: Call) -> Any:
    """The request object for ``@rawhttp``; Flask's if the script uses the reference package."""
    environ = _environ(call)
    if raw_module_of_reference() is not None:
        from flask import Request  # type: ignore[import-not-found, unused-ignore]

        return Request(environ)
    from ..aml.request import AMLRequest

    return AMLRequest(environ)


def _environ(call: Call) -> Dict[str, Any]:
    """The request as a WSGI environment, with all variables that scripts may read."""
    host = call.headers.get("Host", "localhost")
    environ: Dict[str, Any] = {
        "REQUEST_METHOD": call.method,
        "SCRIPT_NAME": "",
        "PATH_INFO": call.path,
        "QUERY_STRING": call.query,
        "REMOTE_ADDR": call.remote_addr,
        "SERVER_NAME": host.split(":")[0],
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(call.body),
        "wsgi.input_terminated": True,
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": False,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }
    for name, value in call.headers.items():
        # A name with an underscore could be taken for the one with a hyphen.
        if "_" not in name:
            environ["HTTP_" + name.upper().replace("-", "_")] = value
    for name in ("CONTENT_TYPE", "CONTENT_LENGTH"):
        if "HTTP_" + name in environ:
            environ[name] = environ.pop("HTTP_" + name)
    return environ


def raw_requested() -> bool:
    """Whether the script used ``@rawhttp``, of this server or of the reference package."""
    # Looked up and not imported: the module is large, and only scripts that use it import it.
    module = sys.modules.get(__package__.rpartition(".")[0] + ".aml.request")
    return getattr(module, "_rawHttpRequested", False) or raw_module_of_reference() is not None


def raw_module_of_reference() -> Any:
    """The module of an installed reference package, if the script used its ``@rawhttp``."""
    module = sys.modules.get("azureml_inference_server_http.api.aml_request")
    return module if getattr(module, "_rawHttpRequested", False) else None
