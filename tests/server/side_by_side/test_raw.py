"""The classes of ``@rawhttp`` scripts beside those of the reference: its Flask and its Werkzeug."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from .. import raw_cases, raw_eval
from ..harness import SOURCE, Server
from ..raw_eval import Job
from ..test_raw import FORMS, READ, WRITE, differences
from . import reference
from .cases import FORM, MULTIPART

pytestmark = pytest.mark.reference

ENVIRON = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
VENDOR = Path(__file__).parents[3] / "vendoring" / "vendor.py"


def theirs(environment: Path, jobs: list[Job]) -> list[Any]:
    return raw_eval.evaluate(str(environment / "bin" / "python"), "theirs", jobs, ENVIRON)


@pytest.mark.parametrize("cases", [READ, WRITE, FORMS], ids=["read", "write", "forms"])
def test_values(reference_environment: Path, cases: list[tuple[Job, Any]]) -> None:
    results = theirs(reference_environment, [job for job, _ in cases])
    assert differences(results, cases) == []


def test_intended_differences(reference_environment: Path) -> None:
    cases = [
        (Job(sample, expression, before), value)
        for sample, before, expression, _, value, _ in raw_cases.INTENDED
    ]
    results = theirs(reference_environment, [job for job, _ in cases])
    assert differences(results, cases) == []
    for _, _, expression, ours, value, reason in raw_cases.INTENDED:
        assert ours != value, f"{expression} does not differ: {reason}"


# An object of each class that a script meets, by an expression; the class of a request is asked of
# an instance, because attributes may be set in its constructor.
OBJECTS = {
    "AMLRequest": "request",
    "AMLResponse": "AMLResponse",
    "args": "request.args",
    "copy of args": "request.args.copy()",
    "form": "request.form",
    "files": "request.files",
    "file": 'request.files["image"]',
    "file's headers": 'request.files["image"].headers',
    "values": "request.values",
    "headers": "request.headers",
    "cookies": "request.cookies",
    "user_agent": "request.user_agent",
    "authorization": "request.authorization",
    "accept_mimetypes": "request.accept_mimetypes",
    "accept_languages": "request.accept_languages",
    "accept_charsets": "request.accept_charsets",
    "cache_control": "request.cache_control",
    "if_match": "request.if_match",
    "if_range": "request.if_range",
    "range": "request.range",
    "pragma": "request.pragma",
    "access_route": "request.access_route",
    "response's headers": 'AMLResponse("x", 200).headers',
    "response's cache_control": 'AMLResponse("x", 200).cache_control',
    "response's vary": 'AMLResponse("x", 200).vary',
    "response's content_range": 'AMLResponse("x", 200).content_range',
    "response's content_security_policy": 'AMLResponse("x", 200).content_security_policy',
    "response's stream": 'AMLResponse("x", 200).stream',
}
NAMES = "sorted(name for name in dir({}) if not name.startswith('_'))"


def test_no_public_name_is_missing(reference_environment: Path) -> None:
    sample = raw_cases.FORM._replace(headers=raw_cases.PLAIN.headers + raw_cases.FORM.headers)
    jobs = [Job(sample, NAMES.format(expression)) for expression in OBJECTS.values()]
    environ = {**ENVIRON, "PYTHONPATH": str(SOURCE)}
    missing = {
        f"{kind}.{name}"
        for kind, known, wanted in zip(
            OBJECTS,
            raw_eval.evaluate(sys.executable, "ours", jobs, environ),
            theirs(reference_environment, jobs),
            strict=True,
        )
        for name in set(wanted) - set(known)
    }
    assert missing == set(raw_cases.LEFT_OUT)


INSTALLED = """
import sys
from azureml_inference_server_http.api.aml_request import AMLRequest, rawhttp
from azureml_inference_server_http.api.aml_response import AMLResponse

def init():
    pass

@rawhttp
def run(request):
    action = request.args.get("do")
    if action == "stream":
        return AMLResponse((part for part in ("a", b"b")), 200, {"X-List": "a, b"})
    if action == "file":
        return request.files["image"].read().decode("latin-1")
    ours = [name for name in sys.modules if "_vendor" in name]
    return [type(request).__module__, AMLResponse.__mro__[1].__module__, ours,
            request.get_json(), request.headers["X-Custom"], request.content_length]
"""


def test_where_the_reference_is_installed_its_classes_win(
    reference_environment: Path, tmp_path: Path
) -> None:
    root = tmp_path / "app"
    root.mkdir()
    (root / "main.py").write_text(INSTALLED)
    packages = str(reference.packages(reference_environment))
    with Server(root, {"AZUREML_EXTRA_PYTHON_LIB_PATH": packages}) as server:
        server.await_ready()
        headers = {"Content-Type": "application/json", "X-Custom": "c"}
        answer = server.request("POST", "/score", b'{"a": 1}', headers)
        assert answer.json == ["flask.wrappers", "flask.wrappers", [], {"a": 1}, "c", 8]
        streamed = server.request("POST", "/score?do=stream", b"")
        assert (streamed.status, streamed.body) == (200, b"ab")
        assert streamed.headers["x-list"] == "a, b"
        upload = server.request("POST", "/score?do=file", FORM, MULTIPART)
        assert upload.json == "\x00\r\n\xff--"


def test_the_files_are_those_of_the_wheel() -> None:
    subprocess.run([sys.executable, str(VENDOR), "--check"], check=True)
