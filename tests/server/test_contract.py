"""The interface that consumers rely on: routes, status codes, headers, bodies."""

from __future__ import annotations

import re
from typing import Any

import pytest

from .conftest import Serve
from .harness import Server

UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}\Z")
FAILED = "An unexpected error occurred in scoring script. Check the logs for more info."
INTERNAL = "An unexpected internal error occurred. Check the logs for more info."

TEXT_SCRIPT = """
    import json, os, sys

    READY = False

    def init():
        global READY
        READY = True

    def run(data):
        given = json.loads(data)
        action = given.get("do", "echo")
        if action == "echo":
            return {"ready": READY, "data": data}
        if action == "none":
            return None
        if action == "text":
            return "héllo"
        if action == "list":
            return [1, 2.5, True, None]
        if action == "nan":
            return {"value": float("nan")}
        if action == "object":
            return {"value": object()}
        if action == "deep":
            deep = []
            for _ in range(100_000):
                deep = [deep]
            return deep
        if action == "raise":
            raise ValueError("secret detail")
        if action == "exit":
            sys.exit(7)
        if action == "where":
            return {"cwd": os.getcwd(), "model": os.environ.get("AZUREML_MODEL_DIR")}
"""


@pytest.fixture(scope="module")
def server(serve_shared: Serve) -> Server:
    return serve_shared(TEXT_SCRIPT, AZUREML_MODEL_DIR="/models/a")


def test_health(server: Server) -> None:
    answer = server.get("/")
    assert (answer.status, answer.body) == (200, b"Healthy")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"


def test_health_with_head(server: Server) -> None:
    answer = server.request("HEAD", "/")
    assert (answer.status, answer.body) == (200, b"")


def test_score_gets_the_body_as_text_after_init(server: Server) -> None:
    answer = server.score(b'{"do": "echo",  "a": "\xc3\xa9"}')
    assert answer.status == 200
    assert answer.json == {"ready": True, "data": '{"do": "echo",  "a": "é"}'}
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-ms-run-function-failed"] == "False"
    assert re.fullmatch(r"\d+\.\d{3}", answer.headers["x-ms-run-fn-exec-ms"])
    assert answer.headers["x-ms-server-version"].startswith("inference-server/")


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("x=1&x=2&y=z", {"x": [1, 2], "y": "z"}),
        ("a=1&b=[1,2]&c=a&d=null", {"a": 1, "b": [1, 2], "c": "a", "d": None}),
        ("a=&b=%C3%A9&c=1+2", {"a": "", "b": "é", "c": "1 2"}),
        ("", {}),
    ],
)
def test_get_scores_the_query(server: Server, query: str, expected: Any) -> None:
    import json

    answer = server.get(f"/score?{query}")
    assert answer.status == 200
    assert json.loads(answer.json["data"]) == expected


@pytest.mark.parametrize(
    ("action", "body"),
    [("none", b"{}"), ("text", b'"h\\u00e9llo"'), ("list", b"[1, 2.5, true, null]")],
)
def test_results(server: Server, action: str, body: bytes) -> None:
    answer = server.score({"do": action})
    assert (answer.status, answer.body) == (200, body)


@pytest.mark.parametrize(
    ("action", "logged"),
    [
        ("nan", "run() returned a value that has no JSON form"),
        ("object", "Object of type object is not JSON serializable"),
        ("deep", "run() returned an object that is nested too deeply"),
    ],
)
def test_results_that_have_no_json_form(server: Server, action: str, logged: str) -> None:
    answer = server.score({"do": action})
    assert (answer.status, answer.message) == (500, INTERNAL)
    assert server.await_log(logged)


@pytest.mark.parametrize("action", ["raise", "exit"])
def test_a_failing_run_hides_its_reason_from_the_client(server: Server, action: str) -> None:
    answer = server.score({"do": action})
    assert (answer.status, answer.message) == (500, FAILED)
    assert answer.headers["x-ms-run-function-failed"] == "True"
    assert b"secret" not in answer.body
    server.await_log(
        "run() raised " + {"raise": "ValueError: secret detail", "exit": "SystemExit"}[action]
    )


def test_environment_of_the_script(server: Server) -> None:
    assert server.score({"do": "where"}).json == {"cwd": str(server.root), "model": "/models/a"}


def test_options(server: Server) -> None:
    answer = server.request("OPTIONS", "/score")
    assert (answer.status, answer.body) == (200, b"")


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "TRACE"])
def test_other_methods(server: Server, method: str) -> None:
    answer = server.request(method, "/score")
    assert answer.status == 405
    assert answer.message == "The method is not allowed for the requested URL."
    assert "POST" in answer.headers["allow"]


def test_post_to_health(server: Server) -> None:
    answer = server.request("POST", "/", b"x")
    assert (answer.status, answer.message) == (
        405,
        "The method is not allowed for the requested URL.",
    )


@pytest.mark.parametrize("path", ["/nothing", "/score/", "/metrics", "/%ff", "//", "/..%2f"])
def test_unknown_paths(server: Server, path: str) -> None:
    answer = server.get(path)
    assert answer.status == 404
    assert answer.message.startswith("The requested URL was not found on the server.")


def test_ids_are_made(server: Server) -> None:
    headers = server.score().headers
    assert UUID.match(headers["x-request-id"])
    assert headers["x-ms-request-id"] == headers["x-request-id"]
    assert "x-ms-client-request-id" not in headers


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        ({"x-request-id": "r"}, ("r", "r", None)),
        ({"x-request-id": "r", "x-ms-client-request-id": "c"}, ("r", "c", "c")),
        ({"x-request-id": "r", "x-ms-request-id": "m"}, ("r", "m", "m")),
        (
            {"x-request-id": "r", "x-ms-request-id": "m", "x-ms-client-request-id": "c"},
            ("r", "m", "c"),
        ),
    ],
)
def test_ids_are_echoed(
    server: Server, sent: dict[str, str], expected: tuple[str, str, str | None]
) -> None:
    headers = server.score(headers=sent).headers
    names = ("x-request-id", "x-ms-request-id", "x-ms-client-request-id")
    assert tuple(headers.get(name) for name in names) == expected


@pytest.mark.parametrize("name", ["x-request-id", "x-ms-request-id", "x-ms-client-request-id"])
def test_ids_that_are_too_long(server: Server, name: str) -> None:
    assert server.score(headers={name: "a" * 100}).status == 200
    answer = server.score(headers={name: "a" * 101})
    assert answer.status == 431
    assert answer.message.endswith("must not exceed 100 characters")


def test_a_body_that_is_not_utf8(server: Server) -> None:
    answer = server.score(b"\xff\xfe")
    assert answer.status == 400
    assert answer.message.startswith("Input cannot be decoded as UTF-8: ")


def test_a_body_that_is_not_json_is_the_fault_of_the_client(server: Server) -> None:
    answer = server.score(b'{"do": ')
    assert answer.status == 400
    assert answer.message.startswith("The body of the request is not valid JSON: Expecting value")


def test_input_nested_too_deeply(server: Server) -> None:
    answer = server.score(b"[" * 200_000 + b"]" * 200_000)
    assert (answer.status, answer.message) == (400, "The body of the request is nested too deeply.")
    assert server.score({"do": "none"}).status == 200


@pytest.mark.parametrize(
    "kind", ["application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/plain"]
)
def test_the_content_type_does_not_change_the_body(server: Server, kind: str) -> None:
    answer = server.score(b'{"do": "echo"}', headers={"Content-Type": kind})
    assert answer.json["data"] == '{"do": "echo"}'


def test_chunked_body(server: Server) -> None:
    received = server.raw(
        b"POST /score HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n"
        b'8\r\n{"do": "\r\n6\r\nnone"}\r\n0\r\n\r\n'
    )
    assert received.startswith(b"HTTP/1.1 200 ")
    assert received.endswith(b"{}") or received.endswith(b"0\r\n\r\n")


def test_connections_are_kept_alive(server: Server) -> None:
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    for _ in range(3):
        connection.request("POST", "/score", b'{"do": "none"}')
        response = connection.getresponse()
        assert (response.status, response.read()) == (200, b"{}")
        assert connection.sock is not None, "the server closed the connection"
    connection.close()


@pytest.mark.parametrize(
    ("version", "field", "value"),
    [
        (None, "swagger", "2.0"),
        ("2", "swagger", "2.0"),
        ("2.0", "swagger", "2.0"),
        ("3", "openapi", "3.0.3"),
        ("3.0", "openapi", "3.0.3"),
        ("3.1", "openapi", "3.1.0"),
    ],
)
def test_swagger(server: Server, version: str | None, field: str, value: str) -> None:
    answer = server.get("/swagger.json" + (f"?version={version}" if version else ""))
    assert (answer.status, answer.json[field]) == (200, value)
    assert set(answer.json["paths"]) == {"/", "/score", "/swagger.json"}


def test_swagger_of_another_version(server: Server) -> None:
    answer = server.get("/swagger.json?version=4")
    assert (answer.status, answer.message) == (
        404,
        "Swagger version [4] is not valid. Supported versions: [2, 3, 3.1].",
    )


def test_request_headers(serve: Serve) -> None:
    script = """
        def init(): pass
        def run(data, request_headers):
            names = ("X-Custom", "Content-Type", "Host")
            return {name: request_headers.get(name) for name in names}
    """
    server = serve(script)
    answer = server.score(b"x", headers={"x-custom": "1", "content-type": "text/csv", "host": "h"})
    assert answer.json == {"X-Custom": "1", "Content-Type": "text/csv", "Host": "h"}


RAW_SCRIPT = """
    from {request} import AMLRequest, rawhttp
    from {response} import AMLResponse

    def init(): pass

    @rawhttp
    def run(request):
        assert isinstance(request, AMLRequest)
        action = request.args.get("do")
        if action == "image":
            return AMLResponse(b"\\x89PNG", 201, {{"Content-Type": "image/png", "X-List": "a, b"}})
        if action == "file":
            file = request.files["image"]
            return {{"name": file.filename, "size": len(file.read()), "note": request.form["note"]}}
        if action == "error":
            return AMLResponse("bad gateway", 502)
        if action == "json":
            return AMLResponse({{"a": 1}}, 200, json_str=True)
        if action == "getjson":
            return request.get_json()
        if action == "break":
            return AMLResponse("x", 200, {{"X-Bad": "a\\r\\nX-Injected: 1"}})
        if action == "status":
            return AMLResponse("x", 42)
        return {{
            "method": request.method,
            "data": request.get_data(as_text=True),
            "json": request.get_json(silent=True),
            "path": request.full_path,
            "header": request.headers.get("x-custom"),
        }}
"""
NEW_PATHS = {
    "request": "azureml_inference_server_http.api.aml_request",
    "response": "azureml_inference_server_http.api.aml_response",
}
OLD_PATHS = {
    "request": "azureml.contrib.services.aml_request",
    "response": "azureml.contrib.services.aml_response",
}


@pytest.fixture(scope="module")
def raw_server(serve_shared: Serve) -> Server:
    return serve_shared(RAW_SCRIPT.format(**NEW_PATHS))


def test_raw_request(raw_server: Server) -> None:
    headers = {"Content-Type": "application/json", "X-Custom": "c"}
    answer = raw_server.request("POST", "/score?a=1", b'{"x": 1}', headers)
    assert answer.json == {
        "method": "POST",
        "data": '{"x": 1}',
        "json": {"x": 1},
        "path": "/score?a=1",
        "header": "c",
    }


@pytest.mark.parametrize("method", ["GET", "OPTIONS"])
def test_raw_methods(raw_server: Server, method: str) -> None:
    assert raw_server.request(method, "/score").json["method"] == method


def test_raw_response(raw_server: Server) -> None:
    answer = raw_server.request("POST", "/score?do=image", b"")
    assert (answer.status, answer.body) == (201, b"\x89PNG")
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["x-list"] == "a, b"
    assert "x-ms-run-fn-exec-ms" in answer.headers


def test_raw_upload(raw_server: Server) -> None:
    body = (
        b'--b\r\nContent-Disposition: form-data; name="note"\r\n\r\nhi\r\n'
        b'--b\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n'
        b"Content-Type: image/png\r\n\r\n\x00\r\n\x01\r\n--b--\r\n"
    )
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    answer = raw_server.request("POST", "/score?do=file", body, headers)
    assert answer.json == {"name": "a.png", "size": 4, "note": "hi"}


def test_raw_server_error(raw_server: Server) -> None:
    answer = raw_server.request("POST", "/score?do=error", b"")
    assert (answer.status, answer.body) == (502, b"bad gateway")
    assert answer.headers["x-ms-run-function-failed"] == "True"


def test_raw_json_response(raw_server: Server) -> None:
    answer = raw_server.request("POST", "/score?do=json", b"")
    assert (answer.json, answer.headers["content-type"]) == ({"a": 1}, "application/json")


def test_raw_json_that_is_none(raw_server: Server) -> None:
    headers = {"Content-Type": "application/json"}
    assert raw_server.request("POST", "/score?do=getjson", b"{x", headers).status == 400


def test_raw_response_cannot_inject_headers(raw_server: Server) -> None:
    answer = raw_server.request("POST", "/score?do=break", b"")
    assert answer.status == 500
    assert "x-injected" not in answer.headers
    assert raw_server.await_log("Header values must not contain newline characters")


def test_raw_response_with_an_impossible_status(raw_server: Server) -> None:
    assert raw_server.request("POST", "/score?do=status", b"").status == 500


def test_older_import_paths(serve: Serve) -> None:
    server = serve(RAW_SCRIPT.format(**OLD_PATHS))
    assert server.request("POST", "/score?do=json", b"").json == {"a": 1}


def test_swagger_files_of_the_app_override(serve: Serve) -> None:
    script = "def init(): pass\ndef run(data): pass\n"
    files = {"swagger.json": '{"mine": 2}', "swagger3.json": '{"mine": 3}'}
    server = serve(script, files=files)
    assert server.get("/swagger.json").json == {"mine": 2}
    assert server.get("/swagger.json?version=3").json == {"mine": 3}
    assert server.get("/swagger.json?version=3.1").json["openapi"] == "3.1.0"


def test_cors(serve: Serve) -> None:
    script = "def init(): pass\ndef run(data): return 1\n"
    server = serve(script, AML_CORS_ORIGINS="https://a.example, https://b.example")
    answer = server.score(headers={"Origin": "https://b.example"})
    assert answer.headers["access-control-allow-origin"] == "https://b.example"
    answer = server.score(headers={"Origin": "https://c.example"})
    assert "access-control-allow-origin" not in answer.headers
