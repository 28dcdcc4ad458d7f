"""``@rawhttp``: the request, the response, and what becomes of it."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import subprocess
import sys
import tracemalloc
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from . import raw_cases, raw_eval
from .conftest import Serve
from .harness import PYTHON, SOURCE, Server
from .raw_eval import Job

sys.path.insert(0, str(SOURCE))

from inference_server.aml.response import AMLResponse
from inference_server.script import inputs, outputs
from inference_server.workers.messages import Call, RefusedError

ENVIRON = {**os.environ, "PYTHONPATH": str(SOURCE)}

READ = [
    (Job(sample, expression), value)
    for sample, expressions in raw_cases.READ
    for expression, value in expressions
]
WRITE = [
    (Job(raw_cases.BARE, expression, before), value)
    for before, expressions in raw_cases.WRITE
    for expression, value in expressions
]
FORMS = [(raw_eval.form(kind, body), value) for kind, body, value in raw_cases.FORMS.values()]
INTENDED = [
    (Job(sample, expression, before), ours)
    for sample, before, expression, ours, _, _ in raw_cases.INTENDED
]


def differences(results: list[Any], cases: list[tuple[Job, Any]]) -> list[str]:
    assert len(results) == len(cases)
    return [
        f"{job.before} {job.expression}: {str(result)[:200]} instead of {str(value)[:200]}"
        for result, (job, value) in zip(results, cases, strict=True)
        if result != value
    ]


@pytest.mark.parametrize("name", ["READ", "WRITE", "FORMS", "INTENDED"])
def test_values(name: str) -> None:
    cases: list[tuple[Job, Any]] = globals()[name]
    results = raw_eval.evaluate(PYTHON, "ours", [job for job, _ in cases], ENVIRON)
    assert differences(results, cases) == []


def test_the_tables_are_large_enough() -> None:
    assert len(READ) > 200
    assert len(WRITE) > 100
    assert len(FORMS) >= 40


# How a request holds its body.


def call(body: bytes = b"", kind: str = "", **headers: str) -> Call:
    names = {name.replace("_", "-").title(): value for name, value in headers.items()}
    if kind:
        names["Content-Type"] = kind
    return Call("POST", "/score", "", kind, names, "127.0.0.1", body)


def test_the_body_is_not_copied() -> None:
    body = b"x" * 1_000_000
    request = inputs.make_request(call(body, "text/plain"))
    assert request.data is body
    assert request.get_data() is body
    assert request.get_data(cache=False, parse_form_data=True) is body
    assert request.stream.read() is body


def test_a_request_is_freed_at_once() -> None:
    gc.disable()
    try:
        request = inputs.make_request(call(b"a=1", raw_cases.URL))
        assert request.form["a"] == "1"
        reference = weakref.ref(request)
        del request
        assert reference() is None
    finally:
        gc.enable()


@pytest.mark.parametrize(
    ("body", "kind", "most"),
    [
        (raw_cases.part('name="a"; filename="x"', bytes(8_000_000)) + raw_cases.END, "", 2.5),
        (raw_cases.part('name="a"; filename="x"', b"\r\n--" * 2_000_000) + raw_cases.END, "", 2.5),
        (raw_cases.part("name=a", b"") * 400_000, "", 0.5),
        (b"a=" + b"%41" * 2_000_000, raw_cases.URL, 8.0),
        (b"&" * 8_000_000, raw_cases.URL, 0.5),
    ],
    ids=["file", "file like boundaries", "parts", "encoded", "fields"],
)
def test_a_form_takes_memory_in_proportion(body: bytes, kind: str, most: float) -> None:
    request = inputs.make_request(call(body, kind or raw_cases.TYPE))
    gc.collect()
    tracemalloc.start()
    try:
        with contextlib.suppress(RefusedError):
            assert request.form or request.files
        assert tracemalloc.get_traced_memory()[1] < most * len(body)
    finally:
        tracemalloc.stop()


def test_a_header_cannot_pass_for_another() -> None:
    call_of = call()._replace(headers={"X_Forwarded_For": "1.2.3.4", "X-Real": "yes"})
    request = inputs.make_request(call_of)
    assert list(request.headers) == [("X-Real", "yes")]
    assert request.access_route == ["127.0.0.1"]


@pytest.mark.parametrize(
    ("body", "kind", "status", "message"),
    [
        (b"{", "application/json", 400, "The body of the request is not valid JSON: "),
        (b"{}", "text/plain", 415, "Expects Content-Type to be application/json"),
    ],
)
def test_json_that_is_none(body: bytes, kind: str, status: int, message: str) -> None:
    request = inputs.make_request(call(body, kind))
    with pytest.raises(RefusedError) as refused:
        request.get_json()
    assert refused.value.status == status
    assert refused.value.message.startswith(message)
    # As Flask's exceptions have it.
    fault: Any = refused.value
    assert (fault.code, fault.description) == (status, refused.value.message)


# What becomes of a response.


def made(message: Any, status: Any = 200, **options: Any) -> outputs.Output:
    return outputs.make(AMLResponse(message, status, **options))


def test_headers_of_a_response() -> None:
    output = made(b"x", response_headers={"content-type": "image/png", "A": "1,2", "Date": "x"})
    assert output.headers == [
        ("x-ms-run-function-failed", "False"),
        ("content-type", "image/png"),
        ("A", "1"),
        ("A", "2"),
    ]
    assert (output.status, output.body, output.stream) == (200, b"x", None)


@pytest.mark.parametrize("name", ["x-request-id", "X-Ms-Request-Id", "X-MS-CLIENT-REQUEST-ID"])
def test_ids_of_a_script_come_once(name: str) -> None:
    response = AMLResponse("x", 200, {name: "first"})
    response.headers.add(name.upper(), "last")
    headers = outputs.make(response).headers or []
    assert [value for key, value in headers if key.lower() == name.lower()] == ["last"]


@pytest.mark.parametrize(
    ("status", "given", "expected"),
    [
        (200, {}, "False"),
        (200, {"run_function_failed": True}, "True"),
        (200, {"response_headers": {"X-MS-Run-Function-Failed": "True"}}, "True"),
        (503, {}, "True"),
        (503, {"response_headers": {"x-ms-run-function-failed": "False"}}, "True"),
    ],
)
def test_whether_the_run_failed_is_always_said(
    status: int, given: dict[str, Any], expected: str
) -> None:
    headers = made("x", status, **given).headers or []
    found = [value for name, value in headers if name.lower() == "x-ms-run-function-failed"]
    assert found == [expected]


def test_response_of_other_frameworks() -> None:
    class Response:
        def __init__(self, status_code: int) -> None:
            self.status_code = status_code
            self.headers = {"Content-Length": "1", "X": "1"}

        def get_data(self) -> bytes:
            return b"y"

    failed = "x-ms-run-function-failed"
    assert outputs.make(Response(200)).headers == [("X", "1"), (failed, "False")]
    output = outputs.make(Response(503))
    assert (output.headers, output.body) == ([("X", "1"), (failed, "True")], b"y")


@pytest.mark.parametrize(
    ("status", "expected"),
    [("404 NOT FOUND", 404), ("404", 404), (599, 599), (204, 204)],
)
def test_statuses(status: Any, expected: int) -> None:
    assert made("x", status).status == expected


@pytest.mark.parametrize("status", ["nonsense", 42, 600, 100, "0 ok"])
def test_statuses_that_cannot_be_sent(status: Any) -> None:
    with pytest.raises(outputs.UnserialisableError):
        made("x", status)


@pytest.mark.parametrize("status", [204, 304])
def test_answers_without_a_body(status: int) -> None:
    assert made("x", status).body == b""
    streamed = made(iter("x"), status)
    assert (streamed.body, streamed.stream) == (b"", None)


def test_an_unchanged_answer_says_nothing_of_a_body() -> None:
    headers = made("x", 304, response_headers={"ETag": '"e"', "Last-Modified": "x"}).headers or []
    assert [name for name, _ in headers] == ["x-ms-run-function-failed", "ETag"]


@pytest.mark.parametrize(
    ("value", "expected"),
    [("/a b", "/a%20b"), ("/é", "/%C3%A9"), ("/a%20b?c=d#e", "/a%20b?c=d#e")],
)
def test_an_address_is_ascii(value: str, expected: str) -> None:
    assert ("Location", expected) in (
        made("", 302, response_headers={"Location": value}).headers or []
    )


class Source:
    """An iterable without a length that knows what became of it."""

    def __init__(self, parts: list[Any]) -> None:
        self.parts = parts
        self.taken = 0
        self.closed = 0

    def __iter__(self) -> Iterator[Any]:
        for part in self.parts:
            self.taken += 1
            yield part

    def close(self) -> None:
        self.closed += 1


def test_a_streamed_response_is_taken_part_by_part() -> None:
    source = Source(["é", b"b", bytearray(b"c")])
    response = AMLResponse(source, 200, {"Content-Type": "text/event-stream"})
    calls: list[str] = []
    response.call_on_close(lambda: calls.append("closed"))
    output = outputs.make(response)
    assert (output.status, output.body, source.taken) == (200, b"", 0)
    assert output.stream is not None
    assert (next(output.stream), source.taken) == (b"\xc3\xa9", 1)
    assert list(output.stream) == [b"b", b"c"]
    assert (source.closed, calls) == (0, [])
    output.stream.close()
    assert (source.closed, calls) == (1, ["closed"])


def test_a_stream_that_is_not_wanted_ends_where_it_is() -> None:
    events = []

    def parts() -> Iterator[str]:
        try:
            yield "a"
            yield "b"
        finally:
            events.append("ended")

    output = outputs.make(AMLResponse(parts(), 200))
    assert output.stream is not None
    assert next(output.stream) == b"a"
    output.stream.close()
    assert events == ["ended"]


def test_a_stream_of_what_is_no_body() -> None:
    stream = made(iter([5])).stream
    assert stream is not None
    with pytest.raises(TypeError, match="yields text or bytes, not 5"):
        next(stream)


@pytest.mark.parametrize("message", ["a", b"a", ["a"], ("a",), [], None])
def test_what_has_a_length_is_not_streamed(message: Any) -> None:
    response = AMLResponse(message, 200)
    calls: list[str] = []
    response.call_on_close(lambda: calls.append("closed"))
    assert outputs.make(response).stream is None
    assert calls == ["closed"]


def test_a_body_that_is_joined_from_one_part_is_not_copied() -> None:
    body = b"x" * 1_000_000
    assert made(body).body is body


# Nothing else loads it.

LOADED = """
import importlib, json, pkgutil, sys
import inference_server
def load(package):
    for found in pkgutil.iter_modules(package.__path__):
        if found.name not in ("aml", "_vendor", "__main__"):
            module = importlib.import_module(package.__name__ + "." + found.name)
            if found.ispkg:
                load(module)
load(inference_server)
assert "inference_server.script.worker" in sys.modules
print(json.dumps([name for name in sys.modules if "_vendor" in name or ".aml" in name]))
"""


def test_nothing_but_aml_loads_it() -> None:
    output = subprocess.run(
        [PYTHON, "-c", LOADED], env=ENVIRON, stdout=subprocess.PIPE, check=True, text=True
    ).stdout
    assert json.loads(output) == []


def test_a_plain_script_does_not_load_it(serve: Serve) -> None:
    script = """
        import sys
        def init(): pass
        def run(data):
            return [name for name in sys.modules if "_vendor" in name or "werkzeug" in name]
    """
    assert serve(script).score().json == []


OF_THE_USER = """
    from azureml_inference_server_http.api.aml_request import AMLRequest, rawhttp
    from azureml_inference_server_http.api.aml_response import AMLResponse
    import codecs, sys, urllib.parse

    BEFORE = {name for name in sys.modules if name.split(".")[0] in
              ("werkzeug", "flask", "markupsafe")}
    import flask, markupsafe, werkzeug

    def init(): pass

    @rawhttp
    def run(request):
        if request.args.get("do") == "theirs":
            return flask.Response()
        try:
            codecs.lookup_error("werkzeug.url_quote")
            handler = True
        except LookupError:
            handler = False
        return {
            "before": sorted(BEFORE),
            "theirs": [flask.NAME, werkzeug.NAME, markupsafe.NAME],
            "ours": type(request.args).__module__,
            "handler": handler,
            "known": "itms-services" in urllib.parse.uses_netloc and sys.version_info < (3, 12),
        }
"""
FLASK = """
    NAME = "my flask"

    class Response:
        status_code = 201
        headers = {"Content-Type": "text/mine"}

        def get_data(self):
            return b"theirs"
"""


def test_packages_of_users_are_their_own(serve: Serve) -> None:
    files = {
        "packages/flask.py": FLASK,
        "packages/werkzeug/__init__.py": 'NAME = "my werkzeug"\n',
        "packages/markupsafe.py": 'NAME = "my markupsafe"\n',
    }
    server = serve(OF_THE_USER, files=files, AZUREML_EXTRA_PYTHON_LIB_PATH="packages")
    assert server.score().json == {
        "before": [],
        "theirs": ["my flask", "my werkzeug", "my markupsafe"],
        "ours": "_inference_server._vendor.werkzeug.datastructures.structures",
        "handler": False,
        "known": False,
    }
    answer = server.request("POST", "/score?do=theirs", b"")
    assert (answer.status, answer.body) == (201, b"theirs")
    assert answer.headers["content-type"] == "text/mine"
    assert answer.headers["x-ms-run-function-failed"] == "False"


def test_taken_from_the_wheel_by_its_script_alone() -> None:
    """What is there is what the script takes; its bytes are compared where there is an index."""
    folder = SOURCE / "inference_server" / "_vendor" / "werkzeug"
    found = {str(path.relative_to(folder)) for path in folder.rglob("*.py")}
    script = Path(__file__).parents[2] / "vendoring" / "vendor.py"
    code = "import json, vendor; print(json.dumps(vendor.MODULES))"
    output = subprocess.run(
        [PYTHON, "-c", code], cwd=script.parent, stdout=subprocess.PIPE, check=True, text=True
    ).stdout
    assert found == {"__init__.py", *(f"{module}.py" for module in json.loads(output))}
    assert (folder / "LICENSE.txt").read_text().startswith("Copyright 2007 Pallets")


@pytest.mark.parametrize(
    ("policy", "body"), [("null", b"[null]"), ("literal", b"[NaN]"), (" NULL ", b"[null]")]
)
def test_the_policy_for_nan_holds_for_responses_too(policy: str, body: bytes) -> None:
    job = Job(
        raw_cases.BARE,
        "response.data",
        'response = AMLResponse([float("nan")], 200, json_str=True)',
    )
    environ = {**ENVIRON, "INFERENCE_SERVER_NAN": policy}
    assert raw_eval.evaluate(PYTHON, "ours", [job], environ) == [body]


# Over HTTP.

SCRIPT = """
    from azureml_inference_server_http.api.aml_request import rawhttp
    from azureml_inference_server_http.api.aml_response import AMLResponse

    def init(): pass

    def parts():
        yield "a"
        yield b"b"

    @rawhttp
    def run(request):
        action = request.args.get("do")
        if action == "form":
            return [len(request.form), sorted(request.files)]
        if action == "id":
            return AMLResponse("x", 200, {request.args["name"]: "mine"})
        if action == "kind":
            data = request.data
            return [type(data).__name__, len(data), data is request.stream.read()]
        if action == "stream":
            return AMLResponse(parts(), 200, {"Content-Type": "text/event-stream"})
        if action == "cookies":
            response = AMLResponse("x", "403 FORBIDDEN")
            response.set_cookie("a", "1")
            response.set_cookie("b", "2")
            return response
        if action == "who":
            return [request.authorization.username, request.user_agent.string,
                    request.access_route[0], request.environ["HTTP_HOST"]]
        if action == "catch":
            try:
                request.get_json()
            except Exception as error:
                return AMLResponse(error.description, error.code)
"""


@pytest.fixture(scope="module")
def server(serve_shared: Serve) -> Server:
    return serve_shared(SCRIPT)


def post(server: Server, action: str, body: bytes = b"", **headers: str) -> Any:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return server.request("POST", f"/score?do={action}", body, names)


@pytest.mark.parametrize("body", ["1000 parts", "1001 parts", "a field above the limit"])
def test_a_form_beyond_the_limits_is_refused(server: Server, body: str) -> None:
    kind, content, value = raw_cases.FORMS[body]
    answer = post(server, "form", content, Content_Type=kind)
    if value == "raises 413":
        assert answer.status == 413
        assert answer.message == "The form has too many fields, or too large ones."
        assert answer.headers["x-ms-run-function-failed"] == "False"
    else:
        assert (answer.status, answer.json) == (200, [1, []])


def test_a_large_body_is_bytes(server: Server) -> None:
    answer = post(server, "kind", b"x" * 1_000_000)
    assert answer.json == ["bytes", 1_000_000, True]


def test_a_streamed_body_arrives(server: Server) -> None:
    answer = post(server, "stream")
    assert (answer.status, answer.body) == (200, b"ab")
    assert answer.headers["content-type"] == "text/event-stream"
    assert answer.headers["x-ms-run-function-failed"] == "False"


def test_cookies_and_status(server: Server) -> None:
    answer = post(server, "cookies")
    assert answer.status == 403
    assert answer.headers["set-cookie"] == "a=1; Path=/, b=2; Path=/"


def test_who_asks(server: Server) -> None:
    answer = post(server, "who", Authorization="Basic dXNlcjpwYXNz", User_Agent="me", Host="h:1")
    assert answer.json == ["user", "me", "127.0.0.1", "h:1"]


def test_a_refusal_can_be_caught(server: Server) -> None:
    answer = post(server, "catch", b"{", Content_Type="application/json")
    assert answer.status == 400
    assert answer.body.startswith(b"The body of the request is not valid JSON: ")


@pytest.mark.parametrize("name", ["X-Request-Id", "x-ms-request-id", "X-MS-Client-Request-Id"])
def test_an_id_of_the_script_is_sent_once(server: Server, name: str) -> None:
    sent = dict.fromkeys(("x-request-id", "x-ms-client-request-id"), "asked")
    answer = server.request("POST", f"/score?do=id&name={name}", b"", sent)
    found = {key: text for key, text in answer.headers.items() if key.endswith("request-id")}
    expected = {"x-request-id": "asked", "x-ms-request-id": "asked"}
    expected["x-ms-client-request-id"] = "asked"
    assert found == {**expected, name.lower(): "mine"}
