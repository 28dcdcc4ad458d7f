"""What does an expression on a request or a response give, in one process with one implementation?

``python raw_eval.py ours`` takes what the server makes of a request, ``python raw_eval.py theirs``
Flask's classes, by which the reference hands it over. Jobs come as JSON on standard input, one
``repr()`` for each goes out. It runs under any Python that the server runs under.
"""

from __future__ import annotations

import ast
import importlib
import io
import json
import os
import subprocess
import sys
from typing import Any, Mapping, NamedTuple, Sequence


class Sample(NamedTuple):
    """A request. Names of headers are written as the service passes them on."""

    method: str = "POST"
    query: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""


class Job(NamedTuple):
    """What is asked of a sample; ``before`` makes a ``response``, where one is asked for."""

    sample: Sample
    expression: str
    before: str = ""


def form(content_type: str, body: bytes) -> Job:
    """The fields and files of a form."""
    expression = (
        "[list(request.form.items(multi=True)), [(name, file.name, file.filename, "
        "file.content_type, file.read()) for name, file in request.files.items(multi=True)]]"
    )
    length = ("Content-Length", str(len(body)))
    return Job(Sample("POST", "", (("Content-Type", content_type), length), body), expression)


def evaluate(
    python: str, which: str, jobs: Sequence[Job], environ: Mapping[str, str] = os.environ
) -> list[Any]:
    """The results of all jobs, as literals, of a process of that interpreter."""
    text = json.dumps(
        [
            [*job.sample[:3], job.sample.body.decode("latin-1"), job.expression, job.before]
            for job in jobs
        ]
    )
    done = subprocess.run(
        [python, __file__, which],
        input=text.encode(),
        env=dict(environ),
        stdout=subprocess.PIPE,
        check=True,
    )
    return [ast.literal_eval(line) for line in json.loads(done.stdout)]


def _ours(sample: Sample) -> Any:
    import _inference_server_start  # noqa: F401 - finds the next module
    from _inference_server.script import inputs  # type: ignore[import-not-found]
    from _inference_server.workers import messages  # type: ignore[import-not-found]

    return inputs.make_request(
        messages.Call(
            sample.method,
            "/score",
            sample.query,
            dict(sample.headers).get("Content-Type", ""),
            dict(sample.headers),
            "127.0.0.1",
            sample.body,
        )
    )


def _theirs(sample: Sample) -> Any:
    from flask import Request  # type: ignore[import-not-found] # of the reference only

    environ: dict[str, Any] = {
        "REQUEST_METHOD": sample.method,
        "SCRIPT_NAME": "",
        "PATH_INFO": "/score",
        "QUERY_STRING": sample.query,
        "REMOTE_ADDR": "127.0.0.1",
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(sample.body),
        "wsgi.input_terminated": True,
        "wsgi.multithread": False,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }
    for name, value in sample.headers:
        key = name.upper().replace("-", "_")
        environ[key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else "HTTP_" + key] = value
    return Request(environ)


def _literal(value: Any) -> str:
    text = repr(value)
    try:
        ast.literal_eval(text)
    except ValueError:
        return repr(text)
    except SyntaxError:
        return repr(text)
    return text


def _main() -> None:
    make = {"ours": _ours, "theirs": _theirs}[sys.argv[1]]
    responses = importlib.import_module("azureml_inference_server_http.api.aml_response")

    results = []
    for method, query, headers, body, expression, before in json.load(sys.stdin):
        sample = Sample(method, query, tuple(map(tuple, headers)), body.encode("latin-1"))
        names = {"request": make(sample), "AMLResponse": responses.AMLResponse, "io": io}
        try:
            exec(before, names)
            results.append(_literal(eval(expression, names)))
        except Exception as error:
            code = getattr(error, "code", None)
            results.append(repr(f"raises {code or type(error).__name__}"))
    json.dump(results, sys.stdout)


if __name__ == "__main__":
    _main()
