"""What does a ``@rawhttp`` script receive, and what may it return?

The classes have the attributes of Flask's request and response that scoring scripts use, without
Flask. Scripts import them as ``azureml_inference_server_http.api.aml_request`` and so on.
"""

from __future__ import annotations

import codecs
import io
import json
from http.cookies import CookieError, SimpleCookie
from typing import Any, Callable, Dict, Generic, Iterable, Iterator, List, Optional, Tuple, TypeVar
from urllib.parse import parse_qsl, quote

from . import multipart

F = TypeVar("F", bound=Callable[..., Any])
V = TypeVar("V")

_rawHttpRequested = False  # noqa: N816 - the name that the reference package uses


def rawhttp(func: F) -> F:
    """Mark ``run`` as one that takes the whole request."""
    global _rawHttpRequested
    _rawHttpRequested = True
    return func


def _keep_quoted(error: UnicodeError) -> Tuple[str, int]:
    """Bytes that are no UTF-8 stay as they were in the query."""
    assert isinstance(error, UnicodeDecodeError)
    text = "".join("%{:02X}".format(byte) for byte in error.object[error.start : error.end])
    return text, error.end


codecs.register_error("inference_server.keep_quoted", _keep_quoted)


def query_pairs(query: str) -> List[Tuple[str, str]]:
    """The names and values of a query, in order."""
    return parse_qsl(query, keep_blank_values=True, errors="inference_server.keep_quoted")


class MultiDict(Generic[V]):
    """A read-only mapping in which a name may have several values; ``[]`` gives the first."""

    def __init__(self, pairs: Iterable[Tuple[str, V]]) -> None:
        self._values: Dict[str, List[V]] = {}
        for key, value in pairs:
            self._values.setdefault(key, []).append(value)

    def __getitem__(self, key: str) -> V:
        return self._values[key][0]

    def __contains__(self, key: object) -> bool:
        return key in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return "{}({!r})".format(type(self).__name__, self._values)

    def get(self, key: str, default: Any = None, type: Optional[Callable[[V], Any]] = None) -> Any:  # noqa: A002
        """The first value of a name, converted by ``type`` where given."""
        if key not in self._values:
            return default
        value = self._values[key][0]
        if type is None:
            return value
        try:
            return type(value)
        except ValueError:
            return default

    def getlist(self, key: str) -> List[V]:
        """All values of a name."""
        return list(self._values.get(key, []))

    def keys(self) -> Iterable[str]:
        """The names."""
        return self._values.keys()

    def values(self) -> Iterable[V]:
        """The first value of each name."""
        return [values[0] for values in self._values.values()]

    def items(self, multi: bool = False) -> Iterable[Tuple[str, V]]:
        """Pairs of name and first value, or of name and each value."""
        if multi:
            return [(key, value) for key, values in self._values.items() for value in values]
        return [(key, values[0]) for key, values in self._values.items()]

    def to_dict(self, flat: bool = True) -> Dict[str, Any]:
        """A plain dictionary of first values, or of lists."""
        if flat:
            return dict(self.items())
        return {key: list(values) for key, values in self._values.items()}


class Headers:
    """Headers: names in any case, several values per name, in order."""

    def __init__(self, pairs: Iterable[Tuple[str, Any]] = ()) -> None:
        self._pairs: List[Tuple[str, str]] = [(key, str(value)) for key, value in pairs]

    def __getitem__(self, key: str) -> str:
        for name, value in self._pairs:
            if name.lower() == key.lower():
                return value
        raise KeyError(key)

    def __setitem__(self, key: str, value: Any) -> None:
        pairs = []
        done = False
        for name, old in self._pairs:
            if name.lower() != key.lower():
                pairs.append((name, old))
            elif not done:
                pairs.append((key, str(value)))
                done = True
        if not done:
            pairs.append((key, str(value)))
        self._pairs = pairs

    def __delitem__(self, key: str) -> None:
        self._pairs = [pair for pair in self._pairs if pair[0].lower() != key.lower()]

    def __contains__(self, key: object) -> bool:
        return any(name.lower() == str(key).lower() for name, _ in self._pairs)

    def __iter__(self) -> Iterator[Tuple[str, str]]:
        return iter(self._pairs)

    def __len__(self) -> int:
        return len(self._pairs)

    def __repr__(self) -> str:
        return "Headers({!r})".format(self._pairs)

    def add(self, key: str, value: Any) -> None:
        """Add a value to those that a name has."""
        self._pairs.append((key, str(value)))

    add_header = add

    def set(self, key: str, value: Any) -> None:
        """Replace all values of a name."""
        self[key] = value

    def remove(self, key: str) -> None:
        """Drop a name."""
        del self[key]

    def extend(self, other: Any) -> None:
        """Add the pairs of a mapping or of an iterable."""
        for key, value in other.items() if hasattr(other, "items") else other:
            self.add(key, value)

    update = extend

    def setdefault(self, key: str, value: Any) -> str:
        """The value of a name, set first when it is missing."""
        if key not in self:
            self.add(key, value)
        return self[key]

    def get(
        self, key: str, default: Any = None, type: Optional[Callable[[str], Any]] = None
    ) -> Any:  # noqa: A002
        """The first value of a name."""
        if key not in self:
            return default
        if type is None:
            return self[key]
        try:
            return type(self[key])
        except ValueError:
            return default

    def getlist(self, key: str) -> List[str]:
        """All values of a name."""
        return [value for name, value in self._pairs if name.lower() == key.lower()]

    get_all = getlist

    def keys(self) -> List[str]:
        """The names as they were sent."""
        return [name for name, _ in self._pairs]

    def values(self) -> List[str]:
        """The values."""
        return [value for _, value in self._pairs]

    def items(self) -> List[Tuple[str, str]]:
        """The pairs."""
        return list(self._pairs)

    def to_wsgi_list(self) -> List[Tuple[str, str]]:
        """The pairs, under the name that Werkzeug gives them."""
        return list(self._pairs)


class BadRequestError(ValueError):
    """The script asked for JSON and the body holds none: the client's fault, by default a 400."""

    def __init__(self, message: str, code: int = 400) -> None:
        super().__init__(message)
        self.code = code


class AMLRequest:
    """The request, as a ``@rawhttp`` script sees it."""

    def __init__(
        self,
        method: str = "GET",
        path: str = "/score",
        query: str = "",
        headers: Iterable[Tuple[str, str]] = (),
        body: bytes = b"",
        environ: Optional[Dict[str, Any]] = None,
    ) -> None:
        self.method = method
        self.path = path
        self.query_string = query.encode("latin-1", "replace")
        self.headers = Headers(headers)
        self.environ: Dict[str, Any] = environ or {}
        self._body = body
        self._form: Optional[Tuple[MultiDict[str], MultiDict[multipart.UploadedFile]]] = None
        self._args: Optional[MultiDict[str]] = None

    @property
    def data(self) -> bytes:
        """The body."""
        return self._body

    def get_data(
        self, cache: bool = True, as_text: bool = False, parse_form_data: bool = False
    ) -> Any:
        """The body as bytes or as text."""
        return self._body.decode("utf-8", "replace") if as_text else self._body

    @property
    def stream(self) -> io.BytesIO:
        """The body as a file."""
        return io.BytesIO(self._body)

    @property
    def content_type(self) -> Optional[str]:
        """The header ``Content-Type``."""
        value: Optional[str] = self.headers.get("Content-Type")
        return value

    @property
    def content_length(self) -> Optional[int]:
        """The length of the body as the client declared it."""
        value: Optional[int] = self.headers.get("Content-Length", type=int)
        return value

    @property
    def mimetype(self) -> str:
        """The content type without parameters, in lower case."""
        return (self.content_type or "").split(";")[0].strip().lower()

    @property
    def mimetype_params(self) -> Dict[str, str]:
        """The parameters of the content type."""
        return multipart.header_value(self.content_type or "")[1]

    @property
    def is_json(self) -> bool:
        """Whether the content type says JSON."""
        kind = self.mimetype
        return kind == "application/json" or (
            kind.startswith("application/") and kind.endswith("+json")
        )

    def get_json(self, force: bool = False, silent: bool = False, cache: bool = True) -> Any:
        """The body as JSON; a body that holds none is the client's fault, not the script's."""
        if not (force or self.is_json):
            if silent:
                return None
            raise BadRequestError("Expects Content-Type to be application/json", 415)
        try:
            return json.loads(self._body.decode("utf-8"))
        except ValueError as error:
            if silent:
                return None
            raise BadRequestError(
                "The body of the request is not valid JSON: {}".format(error)
            ) from None

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return self.get_json()

    @property
    def args(self) -> MultiDict[str]:
        """The query."""
        if self._args is None:
            self._args = MultiDict(query_pairs(self.query_string.decode("latin-1")))
        return self._args

    def _load_form(self) -> Tuple[MultiDict[str], MultiDict[multipart.UploadedFile]]:
        if self._form is None:
            fields, files = multipart.parse(self.content_type or "", self._body)
            self._form = (MultiDict(fields), MultiDict(files))
        return self._form

    @property
    def form(self) -> MultiDict[str]:
        """The fields of a form."""
        return self._load_form()[0]

    @property
    def files(self) -> MultiDict[multipart.UploadedFile]:
        """The files of a form."""
        return self._load_form()[1]

    @property
    def values(self) -> MultiDict[str]:
        """The query and the fields of a form together."""
        return MultiDict([*self.args.items(multi=True), *self.form.items(multi=True)])

    @property
    def cookies(self) -> Dict[str, str]:
        """The cookies."""
        jar: SimpleCookie = SimpleCookie()
        try:
            jar.load(self.headers.get("Cookie", ""))
        except CookieError:
            return {}
        return {name: morsel.value for name, morsel in jar.items()}

    @property
    def host(self) -> str:
        """The header ``Host``."""
        return str(self.headers.get("Host", "localhost"))

    @property
    def scheme(self) -> str:
        """Always ``http``: TLS ends before this server."""
        return "http"

    @property
    def host_url(self) -> str:
        """Scheme and host."""
        return "http://{}/".format(self.host)

    url_root = root_url = host_url

    @property
    def base_url(self) -> str:
        """The address without the query."""
        return "http://{}{}".format(self.host, quote(self.path))

    @property
    def full_path(self) -> str:
        """The path and the query."""
        return "{}?{}".format(self.path, self.query_string.decode("latin-1"))

    @property
    def url(self) -> str:
        """The whole address."""
        query = self.query_string.decode("latin-1")
        return self.base_url + ("?" + query if query else "")

    @property
    def remote_addr(self) -> Optional[str]:
        """The address of the client."""
        return self.environ.get("REMOTE_ADDR")

    @property
    def user_agent(self) -> str:
        """The header ``User-Agent``."""
        return str(self.headers.get("User-Agent", ""))

    def __repr__(self) -> str:
        return "<AMLRequest {!r} [{}]>".format(self.url, self.method)


class AMLResponse:
    """A response that goes to the client as the script made it."""

    default_mimetype = "text/html; charset=utf-8"

    def __init__(
        self,
        message: Any,
        status_code: int,
        response_headers: Optional[Dict[str, str]] = None,
        json_str: bool = False,
        run_function_failed: bool = False,
    ) -> None:
        given = response_headers or {}
        content_type = self.default_mimetype
        if message is None or json_str:
            content_type = "application/json"
            message = json.dumps({} if message is None else message, allow_nan=False)
        self.status_code = int(status_code)
        self.headers = Headers()
        # The reference drops its own type only for this exact spelling, and only beside raw
        # messages; a type that a script gives always wins here.
        if not any(name.lower() == "content-type" for name in given):
            self.headers.add("Content-Type", content_type)
        self._body = _body_bytes(message)
        self.headers["x-ms-run-function-failed"] = run_function_failed
        for header, value in given.items():
            for item in str(value).split(","):
                self.headers.add(header, item.strip())

    @property
    def data(self) -> bytes:
        """The body."""
        return self._body

    @data.setter
    def data(self, value: Any) -> None:
        self._body = _body_bytes(value)

    def get_data(self, as_text: bool = False) -> Any:
        """The body as bytes or as text."""
        return self._body.decode("utf-8", "replace") if as_text else self._body

    def set_data(self, value: Any) -> None:
        """Replace the body."""
        self._body = _body_bytes(value)

    @property
    def content_type(self) -> Optional[str]:
        """The header ``Content-Type``."""
        value: Optional[str] = self.headers.get("Content-Type")
        return value

    @content_type.setter
    def content_type(self, value: str) -> None:
        self.headers["Content-Type"] = value

    @property
    def mimetype(self) -> str:
        """The content type without parameters."""
        return (self.content_type or "").split(";")[0].strip()

    @mimetype.setter
    def mimetype(self, value: str) -> None:
        self.headers["Content-Type"] = value

    @property
    def status(self) -> str:
        """The status as text."""
        return str(self.status_code)

    def get_json(self, force: bool = False, silent: bool = False) -> Any:
        """The body as JSON."""
        return json.loads(self._body.decode("utf-8"))

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return self.get_json()


def _body_bytes(message: Any) -> bytes:
    if isinstance(message, str):
        return message.encode("utf-8")
    if isinstance(message, (bytes, bytearray, memoryview)):
        return bytes(message)
    if isinstance(message, Iterable):
        return b"".join(_body_bytes(part) for part in message)
    raise TypeError(
        "an AMLResponse takes text, bytes or an iterable of them, not {}; use json_str=True".format(
            type(message).__name__
        )
    )
