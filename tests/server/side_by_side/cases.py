"""The scripts, the requests, and the one table of the differences that are intended."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

TEXT = """
import json, sys, time

def init():
    pass

def run(data):
    try:
        given = json.loads(data)
    except RecursionError:
        raise
    action = given.get("do", "echo")
    if action == "echo":
        return data
    if action == "none":
        return None
    if action == "value":
        return given["value"]
    if action == "text":
        return "h\\u00e9llo"
    if action == "nan":
        return {"value": float("nan")}
    if action == "object":
        return {"value": object()}
    if action == "set":
        return {3}
    if action == "raise":
        raise ValueError("secret")
    if action == "exit":
        sys.exit(7)
    if action == "sleep":
        time.sleep(given["s"])
    return {}
"""

HEADERS = """
def init():
    pass

def run(data, request_headers):
    names = ("Host", "X-Custom", "Content-Type", "Content-Length", "X-Twice")
    found = {name: request_headers.get(name) for name in names}
    return {"data": data, "headers": found, "kinds": type(request_headers).__name__}
"""

RAW = """
import json
from azureml_inference_server_http.api.aml_request import AMLRequest, rawhttp
from azureml_inference_server_http.api.aml_response import AMLResponse

def init():
    pass

@rawhttp
def run(request):
    action = request.args.get("do")
    if action == "image":
        return AMLResponse(b"\\x89PNG", 201, {"Content-Type": "image/png", "X-List": "a, b"})
    if action == "text":
        return AMLResponse("text", 200)
    if action == "json":
        return AMLResponse({"a": [1, None]}, 200, json_str=True)
    if action == "json-typed":
        return AMLResponse({"a": 1}, 200, {"X-Mine": "1"}, json_str=True)
    if action == "none":
        return AMLResponse(None, 204)
    if action == "error":
        return AMLResponse("bad gateway", 502)
    if action == "client":
        return AMLResponse("teapot", 418, run_function_failed=True)
    if action == "raise":
        raise ValueError("secret")
    if action == "object":
        return {"plain": "object"}
    if action == "files":
        names = sorted(request.files.keys())
        file = request.files["image"]
        found = {"filename": file.filename, "type": file.content_type, "size": len(file.read())}
        return {"names": names, "file": found, "form": request.form.to_dict()}
    if action == "form":
        return request.form.to_dict(flat=False)
    if action == "getjson":
        return request.get_json()
    if action == "force":
        return request.get_json(force=True)
    if action == "response":
        return AMLResponse(**json.loads(request.get_data()))
    if action == "stream":
        return AMLResponse((part for part in ("a", b"b")), 200)
    if action == "cookies":
        response = AMLResponse("x", 200)
        response.set_cookie("k", "v w", httponly=True)
        response.delete_cookie("l")
        return response
    if action == "conditional":
        response = AMLResponse("x", 200, {"Last-Modified": "now"})
        response.set_etag("e")
        return response.make_conditional(request)
    if action == "ids":
        names = ("X-Request-Id", "x-ms-request-id", "X-MS-CLIENT-REQUEST-ID")
        return AMLResponse("x", 200, {name: "mine" for name in names})
    if action == "untyped":
        response = AMLResponse("x", 200)
        del response.headers["Content-Type"]
        return response
    if action == "data":
        return {"data": request.data.decode()}
    if action == "who":
        who = request.authorization
        return [who.username, who.password, request.user_agent.string, request.access_route,
                request.origin, request.accept_mimetypes.best, request.environ["HTTP_X_CUSTOM"],
                request.environ["REQUEST_METHOD"], request.environ["CONTENT_LENGTH"]]
    return {
        "method": request.method,
        "data": request.get_data(as_text=True),
        "json": request.get_json(silent=True),
        "path": request.path,
        "full": request.full_path,
        "query": request.query_string.decode(),
        "args": request.args.to_dict(flat=False),
        "type": request.content_type,
        "length": request.content_length,
        "mimetype": request.mimetype,
        "is_json": request.is_json,
        "custom": request.headers.get("x-custom"),
        "cookies": dict(request.cookies),
    }
"""

SCHEMA = """
from inference_schema.parameter_types.standard_py_parameter_type import StandardPythonParameterType
from inference_schema.schema_decorators import input_schema, output_schema

def init():
    pass

@input_schema("numbers", StandardPythonParameterType([1, 2]))
@input_schema("factor", StandardPythonParameterType(2))
@output_schema(StandardPythonParameterType({"sum": 3}))
def run(numbers, factor=10):
    return {"sum": sum(numbers) * factor}
"""

SCRIPTS = {"text": TEXT, "headers": HEADERS, "raw": RAW, "schema": SCHEMA, "cors": TEXT}
ENVIRON: dict[str, dict[str, str]] = {
    "text": {"SCORING_TIMEOUT_MS": "1000", "SERVICE_NAME": "mine", "SERVICE_PATH_PREFIX": "/p/"},
    "headers": {},
    "raw": {},
    "schema": {},
    "cors": {"AML_CORS_ORIGINS": "https://a.example, https://b.example"},
}


@dataclass(frozen=True)
class Case:
    """One request; ``script`` says to which servers it goes."""

    script: str
    name: str
    method: str
    path: str
    body: bytes | None = None
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def id(self) -> str:
        return f"{self.script}: {self.name}"


JSON = {"Content-Type": "application/json"}
LONG = "a" * 101
FORM = (
    b'--b\r\nContent-Disposition: form-data; name="note"\r\n\r\nh\xc3\xa9\r\n'
    b'--b\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n'
    b"Content-Type: image/png\r\n\r\n\x00\r\n\xff--\r\n--b--\r\n"
)
PARTS = b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\n\r\n' * 1001 + b"--b--"
MULTIPART = {"Content-Type": "multipart/form-data; boundary=b"}
URLENCODED = {"Content-Type": "application/x-www-form-urlencoded"}


def text(name: str, method: str, path: str, body: bytes | None = None, **headers: str) -> Case:
    given = {key.replace("_", "-"): value for key, value in headers.items()}
    return Case("text", name, method, path, body, given)


def answer(
    name: str,
    message: object,
    status: object,
    headers: object = None,
    json_str: bool = False,
    failed: bool = False,
) -> Case:
    """A response that a ``@rawhttp`` script makes of just that."""
    given = {
        "message": message,
        "status_code": status,
        "response_headers": headers or {},
        "json_str": json_str,
        "run_function_failed": failed,
    }
    return Case("raw", f"answer, {name}", "POST", "/score?do=response", json.dumps(given).encode())


def act(action: str, extra: bytes = b"") -> bytes:
    return b'{"do": "' + action.encode() + b'"' + extra + b"}"


CASES = [
    text("health", "GET", "/"),
    text("health, HEAD", "HEAD", "/"),
    text("health, query", "GET", "/?a=1"),
    text("health, POST", "POST", "/", b"x"),
    text("health, OPTIONS", "OPTIONS", "/"),
    text("health, DELETE", "DELETE", "/"),
    text("unknown path", "GET", "/nothing"),
    text("unknown path, POST", "POST", "/nothing", b"{}"),
    text("unknown path, slash", "GET", "/score/"),
    text("unknown path, metrics", "GET", "/metrics"),
    text("unknown path, encoded", "GET", "/%73core%2f"),
    text("encoded path", "GET", "/%73core?do=none"),
    text("score, PUT", "PUT", "/score", b"{}"),
    text("score, DELETE", "DELETE", "/score"),
    text("score, PATCH", "PATCH", "/score", b"{}"),
    text("score, HEAD", "HEAD", "/score"),
    text("score, OPTIONS", "OPTIONS", "/score"),
    text("score, odd method", "FETCH", "/score"),
    text("score, echo", "POST", "/score", b'{"a": 1}', Content_Type="application/json"),
    text("score, no type", "POST", "/score", b'{"a": 1}'),
    text("score, text type", "POST", "/score", b'{"a": 1}', Content_Type="text/plain"),
    text(
        "score, form type",
        "POST",
        "/score",
        b'{"a": 1}',
        **{"Content-Type": URLENCODED["Content-Type"]},
    ),
    text("score, multipart type", "POST", "/score", b'{"a": 1}', **MULTIPART),
    text("score, unicode", "POST", "/score", '{"a": "é😀"}'.encode()),
    text("score, spaces", "POST", "/score", b' {"a" :\n1}\n'),
    text("score, empty body", "POST", "/score", b""),
    text("score, not UTF-8", "POST", "/score", b"\xff\xfe{}"),
    text("score, BOM", "POST", "/score", b"\xef\xbb\xbf{}"),
    text("score, not JSON", "POST", "/score", b'{"a": '),
    text("score, JSON of another kind", "POST", "/score", b"[1]"),
    text("score, deep JSON", "POST", "/score", b"[" * 5000 + b"]" * 5000),
    text("score, none", "POST", "/score", act("none")),
    text("score, text", "POST", "/score", act("text")),
    text("score, number", "POST", "/score", act("value", b', "value": 1.50')),
    text("score, list", "POST", "/score", act("value", b', "value": [1, null, true, "x"]')),
    text("score, nested", "POST", "/score", act("value", b', "value": {"b": {"a": [{}]}}')),
    text("score, large number", "POST", "/score", act("value", b', "value": 12345678901234567890')),
    text("score, NaN", "POST", "/score", act("nan")),
    text("score, a set", "POST", "/score", act("set")),
    text("score, no JSON form", "POST", "/score", act("object")),
    text("score, raises", "POST", "/score", act("raise")),
    text("score, exits", "POST", "/score", act("exit")),
    text("score, too slow", "POST", "/score", act("sleep", b', "s": 3')),
    text("query, several values", "GET", "/score?x=1&x=2&y=z"),
    text("query, JSON values", "GET", "/score?a=1&b=[1,2]&c=a&d=null&e=%7B%22f%22%3A1%7D"),
    text("query, empty values", "GET", "/score?a=&b&=c"),
    text("query, encoded", "GET", "/score?a=%C3%A9&b=1+2&c=%2B&d=a;b"),
    text("query, not UTF-8", "GET", "/score?a=%ff"),
    text("query, none", "GET", "/score"),
    text("query, NaN", "GET", "/score?a=NaN"),
    text("swagger", "GET", "/swagger.json"),
    text("swagger, HEAD", "HEAD", "/swagger.json"),
    text("swagger, 2", "GET", "/swagger.json?version=2"),
    text("swagger, 2.0", "GET", "/swagger.json?version=2.0"),
    text("swagger, 3", "GET", "/swagger.json?version=3"),
    text("swagger, 3.0", "GET", "/swagger.json?version=3.0"),
    text("swagger, 3.1", "GET", "/swagger.json?version=3.1"),
    text("swagger, 4", "GET", "/swagger.json?version=4"),
    text("swagger, empty", "GET", "/swagger.json?version="),
    text("swagger, twice", "GET", "/swagger.json?version=3&version=2"),
    text("swagger, POST", "POST", "/swagger.json", b"{}"),
    text("id", "POST", "/score", b"{}", x_request_id="r"),
    text("id, client", "POST", "/score", b"{}", x_ms_client_request_id="c"),
    text("id, legacy", "POST", "/score", b"{}", x_ms_request_id="m"),
    text(
        "id, all",
        "POST",
        "/score",
        b"{}",
        x_request_id="r",
        x_ms_request_id="m",
        x_ms_client_request_id="c",
    ),
    text("id, empty", "POST", "/score", b"{}", x_request_id="", x_ms_client_request_id=""),
    text("id, at the limit", "POST", "/score", b"{}", x_request_id="a" * 100),
    text("id, too long", "POST", "/score", b"{}", x_request_id=LONG),
    text("id, legacy too long", "POST", "/score", b"{}", x_ms_request_id=LONG),
    text("id, client too long", "POST", "/score", b"{}", x_ms_client_request_id=LONG),
    text("id, on health", "GET", "/", x_request_id="r", x_ms_client_request_id="c"),
    text("id, on health, too long", "GET", "/", x_request_id=LONG),
    text("id, on an unknown path", "GET", "/nothing", x_request_id="r"),
    text("id, on a refused method", "PUT", "/score", b"", x_request_id="r"),
    text("id, on a failure", "POST", "/score", act("raise"), x_request_id="r"),
    text("trace id", "POST", "/score", b"{}", TraceId="t"),
    text("origin without CORS", "POST", "/score", b"{}", Origin="https://a.example"),
    Case(
        "headers",
        "post",
        "POST",
        "/score",
        b"x",
        {"X-Custom": "1", "Content-Type": "text/csv", "Host": "h"},
    ),
    Case("headers", "get", "GET", "/score?a=1", None, {"Host": "h"}),
    Case(
        "raw",
        "post",
        "POST",
        "/score?a=1&a=2",
        b'{"x": 1}',
        {**JSON, "X-Custom": "c", "Cookie": "k=v; l=w"},
    ),
    Case("raw", "post, no type", "POST", "/score", b'{"x": 1}'),
    Case(
        "raw",
        "post, charset",
        "POST",
        "/score",
        b"{}",
        {"Content-Type": "Application/JSON; charset=utf-8"},
    ),
    Case("raw", "get", "GET", "/score?a=%C3%A9"),
    Case("raw", "options", "OPTIONS", "/score"),
    Case("raw", "head", "HEAD", "/score"),
    Case("raw", "put", "PUT", "/score", b"{}"),
    Case("raw", "image", "POST", "/score?do=image", b""),
    Case("raw", "text", "POST", "/score?do=text", b""),
    Case("raw", "json", "POST", "/score?do=json", b""),
    Case("raw", "json, header", "POST", "/score?do=json-typed", b""),
    Case("raw", "none", "POST", "/score?do=none", b""),
    Case("raw", "error", "POST", "/score?do=error", b""),
    Case("raw", "client error", "POST", "/score?do=client", b""),
    Case("raw", "raise", "POST", "/score?do=raise", b""),
    Case("raw", "plain object", "POST", "/score?do=object", b""),
    Case("raw", "files", "POST", "/score?do=files", FORM, MULTIPART),
    Case("raw", "form", "POST", "/score?do=form", b"a=1&a=%C3%A9&b=", URLENCODED),
    Case("raw", "get_json", "POST", "/score?do=getjson", b'{"a": 1}', JSON),
    Case("raw", "get_json, broken", "POST", "/score?do=getjson", b'{"a": ', JSON),
    Case(
        "raw",
        "get_json, other type",
        "POST",
        "/score?do=getjson",
        b"{}",
        {"Content-Type": "text/plain"},
    ),
    Case(
        "raw", "get_json, forced", "POST", "/score?do=force", b"[1]", {"Content-Type": "text/plain"}
    ),
    answer("text", "x", 200),
    answer("status of text", "x", "404 NOT FOUND"),
    answer("status of text, number alone", "x", "404"),
    answer("status of text, own reason", "x", "404 Nothing here"),
    answer("status 204 with a body", "x", 204),
    answer("status 304 with a body", "x", 304, {"ETag": "e", "Last-Modified": "l"}),
    answer("unknown status", "x", 299),
    answer("status without a number", "x", "nonsense"),
    answer("status 600", "x", 600),
    answer("none", None, 200, {"X-A": "1"}),
    answer("none, JSON", None, 200, None, True),
    answer("list", ["a", "b"], 200),
    answer("object", {"a": 1, "b": 2}, 200),
    answer("number", 5, 200),
    answer("JSON text", "x", 200, {}, True),
    answer("JSON number", 5, 200, {}, True),
    answer("JSON list", ["é", None, 1.5], 200, {}, True),
    answer("JSON with a type", {}, 200, {"Content-Type": "application/problem+json"}, True),
    answer("type", "x", 200, {"Content-Type": "text/csv"}),
    answer("type in lower case", "x", 200, {"content-type": "text/csv"}),
    answer("several values", "x", 200, {"X-List": "a, b,c"}),
    answer("empty value", "x", 200, {"X-Empty": ""}),
    answer("commas in quotes", "x", 200, {"X-List": 'a="b,c", d'}),
    answer("comma of a date", "x", 200, {"Expires": "Sat, 28 Nov 2026 10:00:00 GMT"}),
    answer("address", "", 302, {"Location": "/é there?a=b"}),
    answer("line break", "x", 200, {"X-A": "a\r\nX-B: c"}),
    answer("failed", "x", 200, {}, False, True),
    answer("failed, 500", "x", 500, {}, False, False),
    answer("failed, by a header", "x", 200, {"x-ms-run-function-failed": "True"}),
    answer("not failed, 500, by a header", "x", 500, {"x-ms-run-function-failed": "False"}),
    Case("raw", "stream", "POST", "/score?do=stream", b""),
    Case("raw", "cookies", "POST", "/score?do=cookies", b""),
    Case("raw", "conditional", "POST", "/score?do=conditional", b""),
    Case(
        "raw", "conditional, equal", "GET", "/score?do=conditional", None, {"If-None-Match": '"e"'}
    ),
    Case("raw", "ids", "POST", "/score?do=ids", b""),
    Case("raw", "untyped", "POST", "/score?do=untyped", b""),
    Case("raw", "data", "POST", "/score?do=data", b"a=1"),
    Case("raw", "data of a form", "POST", "/score?do=data", b"a=1", URLENCODED),
    Case("raw", "form, too many parts", "POST", "/score?do=files", PARTS, MULTIPART),
    Case(
        "raw",
        "who",
        "POST",
        "/score?do=who",
        b"x",
        {
            "Authorization": "Basic dXNlcjpwYXNz",
            "User-Agent": "me",
            "X-Forwarded-For": "10.0.0.1, 10.0.0.2",
            "Origin": "https://a.example",
            "Accept": "text/html;q=0.5, application/json",
            "X-Custom": "c",
        },
    ),
    Case("schema", "post", "POST", "/score", b'{"numbers": [1, 2], "factor": 3}', JSON),
    Case("schema", "default", "POST", "/score", b'{"numbers": [1, 2]}', JSON),
    Case("schema", "further members", "POST", "/score", b'{"numbers": [1], "x": 1}', JSON),
    Case("schema", "get", "GET", "/score?numbers=[1,2]&factor=2"),
    Case("schema", "missing", "POST", "/score", b'{"factor": 3}', JSON),
    Case("schema", "wrong kind", "POST", "/score", b'{"numbers": 1}', JSON),
    Case("schema", "not JSON", "POST", "/score", b"{", JSON),
    Case("schema", "empty", "POST", "/score", b"", JSON),
    Case("schema", "no dictionary", "POST", "/score", b"[1]", JSON),
    Case("schema", "text type", "POST", "/score", b"{}", {"Content-Type": "text/plain"}),
    Case("schema", "no type", "POST", "/score", b"{}"),
    Case(
        "schema",
        "odd JSON type",
        "POST",
        "/score",
        b'{"numbers": []}',
        {"Content-Type": "application/x+json"},
    ),
    Case("schema", "swagger", "GET", "/swagger.json"),
    Case("schema", "swagger 3", "GET", "/swagger.json?version=3"),
    Case("schema", "swagger 3.1", "GET", "/swagger.json?version=3.1"),
    Case("cors", "allowed", "POST", "/score", b"{}", {"Origin": "https://b.example"}),
    Case("cors", "other", "POST", "/score", b"{}", {"Origin": "https://c.example"}),
    Case("cors", "none", "POST", "/score", b"{}"),
    Case("cors", "health", "GET", "/", None, {"Origin": "https://a.example"}),
    Case("cors", "unknown path", "GET", "/nothing", None, {"Origin": "https://a.example"}),
    Case("cors", "failure", "POST", "/score", act("raise"), {"Origin": "https://a.example"}),
    Case(
        "cors",
        "preflight",
        "OPTIONS",
        "/score",
        None,
        {
            "Origin": "https://a.example",
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "content-type",
        },
    ),
]

# Every intended difference: what differs in the answer to which requests, and why.
JSON_ERROR = {"status", "body", "x-ms-run-function-failed"}
IDS = {"x-request-id", "x-ms-request-id"}
ALLOW = {"allow", *IDS}

INTENDED: dict[str, tuple[set[str], str]] = {
    # An unknown path or a refused method is a request like any other: it has an id, which the log
    # shows, and a 405 names the methods that are allowed, as RFC 9110 demands.
    "text: health, POST": (ALLOW, "ids and methods on every refusal"),
    "text: health, DELETE": (ALLOW, "ids and methods on every refusal"),
    "text: score, PUT": (ALLOW, "ids and methods on every refusal"),
    "text: score, DELETE": (ALLOW, "ids and methods on every refusal"),
    "text: score, PATCH": (ALLOW, "ids and methods on every refusal"),
    "text: score, odd method": (ALLOW, "ids and methods on every refusal"),
    "text: swagger, POST": (ALLOW, "ids and methods on every refusal"),
    "text: id, on a refused method": (ALLOW, "ids and methods on every refusal"),
    "raw: put": (ALLOW, "ids and methods on every refusal"),
    "text: unknown path": (IDS, "ids on every refusal"),
    "text: unknown path, POST": (IDS, "ids on every refusal"),
    "text: unknown path, slash": (IDS, "ids on every refusal"),
    "text: unknown path, metrics": (IDS, "ids on every refusal"),
    "text: unknown path, encoded": (IDS, "ids on every refusal"),
    "text: id, on an unknown path": (IDS, "ids on every refusal"),
    "cors: unknown path": (IDS, "ids on every refusal"),
    # The reference hands an empty body to run() when the type is that of a form.
    "text: score, form type": (
        {*JSON_ERROR, "x-ms-run-fn-exec-ms"},
        "a form type does not empty the body",
    ),
    "text: score, multipart type": (
        {*JSON_ERROR, "x-ms-run-fn-exec-ms"},
        "a form type does not empty the body",
    ),
    # A body that the script cannot parse as JSON is the client's fault, not the script's.
    "text: score, empty body": (JSON_ERROR, "malformed JSON is a 400"),
    "text: score, BOM": (JSON_ERROR, "malformed JSON is a 400"),
    "text: score, not JSON": (JSON_ERROR, "malformed JSON is a 400"),
    "text: score, deep JSON": (JSON_ERROR, "JSON nested too deeply is a 400"),
    "raw: get_json, broken": (JSON_ERROR, "malformed JSON is a 400"),
    "raw: get_json, other type": (JSON_ERROR, "a wrong content type is a 415"),
    # A form that was sent is still the body, and one beyond the limits is the client's fault.
    "raw: data of a form": ({"body"}, "a form type does not empty the body"),
    "raw: form, too many parts": (JSON_ERROR, "a form beyond the limits is a 413"),
    # Headers of a script replace the defaults, and are sent once.
    "raw: ids": (IDS, "a script's own ids replace the server's"),
    "raw: answer, JSON with a type": ({"content-type"}, "the script's own type, once"),
    "raw: answer, type in lower case": ({"content-type"}, "the script's own type, once"),
    "raw: answer, failed, by a header": ({"x-ms-run-function-failed"}, "said by the script, once"),
    "raw: answer, commas in quotes": ({"x-list"}, "a comma in quotes ends no value"),
    # The reference finds out when half of the answer is on its way, or lets it pass.
    "raw: answer, status without a number": (
        {"body", "content-type", "x-ms-run-function-failed", *IDS},
        "what cannot be sent is a 500 that the log explains",
    ),
    "raw: answer, number": (
        {"body", "content-type", "x-ms-run-function-failed", *IDS},
        "what cannot be sent is a 500 that the log explains",
    ),
    "raw: answer, status 600": (
        {*JSON_ERROR, "content-type", "x-ms-run-fn-exec-ms"},
        "no answer ends with a status above 599 or below 200",
    ),
    "text: score, NaN": (
        {"status", "body", "x-ms-run-fn-exec-ms"},
        "NaN is no JSON: a 500 that the log explains, not invalid JSON",
    ),
    "text: score, a set": (
        {"status", "body", "x-ms-run-fn-exec-ms"},
        "results that have one obvious JSON form are sent, not refused",
    ),
    # The reference's worker leaves with the script, and its HTTP server answers for it.
    "text: score, exits": (
        {"body", "content-type", "x-ms-run-function-failed", *IDS},
        "sys.exit() in run() is a failure like any other",
    ),
}
# What a setting does there and does not do here.
INTENDED_SETTINGS = {
    "AML_APP_INSIGHTS_ENABLED": "nothing is sent elsewhere; metrics and the log can be collected",
    "AML_MDC_STORAGE_ENABLED": "inputs and results are not collected",
    "GUNICORN_CMD_ARGS": "there is no gunicorn",
    "WORKER_PRELOAD": "init() runs in every worker, not once before they fork: threads, CUDA and "
    "most frameworks do not survive a fork, and a worker that is replaced starts afresh",
}
# What differs in the log and in what scripts may do, as ``test_scripts`` shows it.
INTENDED_FOR_SCRIPTS = {
    "print": "a printed line goes out as it was printed, without time and level before it: what "
    "is printed for machines stays readable by them. INFERENCE_SERVER_LOG_FORMAT=json puts time, "
    "process and level on every line",
    "async": "`async def run` is awaited; the reference answers 500",
    "pools": "pools of processes find the functions of the script; there they cannot be pickled",
}
# On every answer: the names of the servers, and what keeping connections alive changes.
ALWAYS = {
    "connection": "connections are kept alive",
    "keep-alive": "connections are kept alive",
    "date": "the time",
    "server": "the name of the HTTP server",
    "x-ms-server-version": "the name of the server",
    "content-length": "follows from the body",
    "transfer-encoding": "follows from the HTTP server",
}
