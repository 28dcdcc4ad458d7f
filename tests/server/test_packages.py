"""The server beside packages that users install."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import Serve
from .harness import SOURCE

SERVICES = "from azureml.contrib.services.aml_request import rawhttp"


def run_with(site: Path, code: str) -> str:
    """Run code with a folder of packages before the server, which comes last on the path."""
    setup = f"import sys; sys.path += [{str(site)!r}, {str(SOURCE)!r}]\n"
    done = subprocess.run(
        [sys.executable, "-c", setup + code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_a_namespace_package_of_the_same_name_works(tmp_path: Path) -> None:
    write(tmp_path / "azureml/core.py", "WHO = 'real'")
    code = f"import azureml.core; {SERVICES}; print(azureml.core.WHO, rawhttp.__module__)"
    assert run_with(tmp_path, code) == "real _inference_server.aml.request"


def test_an_extending_package_of_the_same_name_works(tmp_path: Path) -> None:
    extend = "__path__ = __import__('pkgutil').extend_path(__path__, __name__)\n"
    write(tmp_path / "azureml/__init__.py", extend)
    write(tmp_path / "azureml/core.py", "WHO = 'real'")
    code = f"import azureml.core; {SERVICES}; print(azureml.core.WHO, rawhttp.__module__)"
    assert run_with(tmp_path, code) == "real _inference_server.aml.request"


def test_the_reference_package_wins(tmp_path: Path) -> None:
    write(tmp_path / "azureml_inference_server_http/__init__.py", "WHO = 'real'")
    code = "import azureml_inference_server_http as m; print(m.WHO)"
    assert run_with(tmp_path, code) == "real"


SCHEMA_SCRIPT = """
    from inference_schema.parameter_types.standard_py_parameter_type import (
        StandardPythonParameterType,
    )
    from inference_schema.schema_decorators import input_schema, output_schema

    def init(): pass

    @input_schema("numbers", StandardPythonParameterType([1, 2]))
    @input_schema("factor", StandardPythonParameterType(2))
    @output_schema(StandardPythonParameterType({"sum": 3}))
    def run(numbers, factor=10):
        return {"sum": sum(numbers) * factor}
"""


def test_schema_decorators(serve: Serve) -> None:
    pytest.importorskip("inference_schema")
    server = serve(SCHEMA_SCRIPT)
    kind = {"Content-Type": "application/json"}
    assert server.score({"numbers": [1, 2], "factor": 3}, headers=kind).json == {"sum": 9}
    assert server.score({"numbers": [1, 2]}, headers=kind).json == {"sum": 30}
    assert server.get("/score?numbers=[1,2]&factor=2").json == {"sum": 6}
    assert server.score({"factor": 3}, headers=kind).status == 400
    assert server.score(b"{", headers=kind).status == 400
    assert server.score({"numbers": [1]}, headers={"Content-Type": "text/plain"}).status == 415
    document = server.get("/swagger.json").json
    properties = document["definitions"]["ServiceInput"]["properties"]
    assert properties["numbers"]["items"]["type"] == "integer"
    document = server.get("/swagger.json?version=3.1").json
    output = document["components"]["schemas"]["ServiceOutput"]
    assert output["example"] == {"sum": 3}
