"""Start-up: the last line of the log and the exit code report every error."""

from __future__ import annotations

import socket
import time
from pathlib import Path
from typing import Any

import pytest

from .conftest import Serve

FINE = "def init(): pass\ndef run(data): return 1\n"

FAULTS = [
    pytest.param(None, {}, 3, "main.py does not exist", id="no script"),
    pytest.param("def run(data): pass", {}, 3, "main.py does not define init()", id="no init"),
    pytest.param("def init(): pass", {}, 3, "main.py does not define run()", id="no run"),
    pytest.param("run = init = 1", {}, 3, "does not define init()", id="init is no function"),
    pytest.param(
        "import missing_thing", {}, 3, "No module named 'missing_thing' (", id="import fails"
    ),
    pytest.param("def init(:", {}, 3, "main.py cannot be imported: SyntaxError", id="syntax"),
    pytest.param(
        "def init(): raise ValueError('no model')\ndef run(data): pass",
        {},
        3,
        "main.py raised ValueError: no model (",
        id="init raises",
    ),
    pytest.param(
        "import sys\ndef init(): sys.exit(0)\ndef run(data): pass",
        {},
        3,
        "main.py raised SystemExit: 0 (",
        id="init exits",
    ),
    pytest.param(
        "import os, signal\ndef init(): os.kill(os.getpid(), signal.SIGKILL)\ndef run(d): pass",
        {},
        3,
        "killed by SIGKILL (was it out of memory?)",
        id="init is killed",
    ),
    pytest.param(
        "import time\ndef init(): time.sleep(60)\ndef run(d): pass",
        {"WORKER_TIMEOUT": "1"},
        3,
        "init() did not end within 1 s (WORKER_TIMEOUT)",
        id="init takes too long",
    ),
    pytest.param(
        "def init(): pass\ndef run(*data): pass", {}, 3, "cannot accept", id="run takes any"
    ),
    pytest.param(
        "def init(): pass\ndef run(): pass", {}, 3, "needs to accept", id="run takes none"
    ),
    pytest.param(FINE, {"AML_APP_ROOT": "/nowhere"}, 3, "/nowhere", id="no app root"),
    pytest.param(
        FINE, {"AZUREML_ENTRY_SCRIPT": "score.py"}, 3, "score.py does not exist", id="other script"
    ),
    pytest.param(
        FINE, {"WORKER_COUNT": "two"}, 3, "WORKER_COUNT='two' (wanted:", id="wrong setting"
    ),
    pytest.param(
        FINE,
        {"AZUREML_EXTRA_PYTHON_LIB_PATH": "libs"},
        97,
        "AZUREML_EXTRA_PYTHON_LIB_PATH=libs: there is no folder",
        id="no library folder",
    ),
    pytest.param(
        FINE,
        {"AZUREML_EXTRA_CONDA_YAML": "env.yml"},
        96,
        "this image has no conda",
        id="conda",
    ),
    pytest.param(
        FINE,
        {"AZUREML_EXTRA_CONDA_YAML_ABS_PATH": "/env.yml"},
        96,
        "AZUREML_EXTRA_REQUIREMENTS_TXT",
        id="conda, absolute",
    ),
    pytest.param(
        FINE,
        {"AZUREML_EXTRA_REQUIREMENTS_TXT": "more.txt"},
        99,
        "AZUREML_EXTRA_REQUIREMENTS_TXT=more.txt: there is no file",
        id="no requirements",
    ),
    pytest.param(
        FINE, {"AZUREML_DEBUG_PORT": "5678"}, 94, "debugpy is not installed", id="no debugger"
    ),
]


@pytest.mark.parametrize(("script", "env", "code", "reason"), FAULTS)
def test_faults(
    serve: Serve, script: str | None, env: dict[str, Any], code: int, reason: str
) -> None:
    server = serve(script, ready=False, **env)
    assert server.await_exit() == code
    assert reason in server.last_line
    assert f"(exit code {code})" in server.last_line


def test_an_install_that_fails(serve: Serve) -> None:
    files = {"more.txt": "./no-such-folder\n"}
    server = serve(FINE, files=files, ready=False, AZUREML_EXTRA_REQUIREMENTS_TXT="more.txt")
    assert server.await_exit(60) == 95
    assert "more.txt cannot be installed: " in server.last_line
    assert "no-such-folder" in server.last_line


def test_a_port_that_is_taken(serve: Serve) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        server = serve(FINE, ready=False, SERVER_PORT=str(sock.getsockname()[1]))
        assert server.await_exit() == 1
        assert "Address already in use" in server.last_line


def test_the_port_answers_503_until_init_is_done(serve: Serve) -> None:
    server = serve("import time\ndef init(): time.sleep(2)\ndef run(d): return 1", ready=False)
    server.await_log("loaded ")
    answer = server.get("/")
    assert (answer.status, answer.headers["retry-after"]) == (503, "1")
    assert server.score().status == 503
    server.await_ready()
    assert server.score().status == 200


def test_extra_packages_come_first(serve: Serve) -> None:
    files = {
        "libs/colorsys.py": "WHO = 'extra'",
        "env.yml": "",
    }
    script = "import colorsys\ndef init(): pass\ndef run(d): return colorsys.WHO"
    env: dict[str, Any] = {
        "AZUREML_EXTRA_PYTHON_LIB_PATH": "libs",
        "AZUREML_EXTRA_CONDA_YAML": "env.yml",
    }
    assert serve(script, files=files, **env).score().json == "extra"


def test_the_script_in_a_folder_of_its_own(serve: Serve) -> None:
    files = {
        "code/score.py": "import helper\ndef init(): pass\ndef run(d): return helper.WHO",
        "source/helper.py": "WHO = 'helper'",
    }
    env: dict[str, Any] = {
        "AZUREML_ENTRY_SCRIPT": "code/score.py",
        "AZUREML_SOURCE_DIRECTORY": "source",
    }
    assert serve(None, files=files, **env).score().json == "helper"


def test_an_absolute_script(serve: Serve, tmp_path: Path) -> None:
    script = tmp_path / "elsewhere.py"
    script.write_text(FINE)
    assert serve("raise ValueError", AZUREML_ENTRY_SCRIPT=str(script)).score().json == 1


def test_extra_requirements(serve: Serve, tmp_path: Path) -> None:
    """A package from a folder: no network is needed. The interpreter of the test is not touched."""
    files = {
        "wheelhouse/pyproject.toml": """
            [build-system]
            requires = []
            build-backend = "backend"
            backend-path = ["."]
            [project]
            name = "extra-thing"
            version = "1.0"
        """,
        "wheelhouse/backend.py": """
            import os, zipfile
            def build_wheel(folder, config_settings=None, metadata_directory=None):
                name = "extra_thing-1.0-py3-none-any.whl"
                info = "extra_thing-1.0.dist-info/"
                with zipfile.ZipFile(os.path.join(folder, name), "w") as wheel:
                    wheel.writestr("extra_thing.py", "WHO = 'installed'\\n")
                    meta = "Metadata-Version: 2.1|Name: extra-thing|Version: 1.0|"
                    kind = "Wheel-Version: 1.0|Generator: x|Root-Is-Purelib: true|"
                    kind += "Tag: py3-none-any|"
                    wheel.writestr(info + "METADATA", meta.replace("|", chr(10)))
                    wheel.writestr(info + "WHEEL", kind.replace("|", chr(10)))
                    wheel.writestr(info + "RECORD", "")
                return name
        """,
        "more.txt": "./wheelhouse\n",
    }
    script = "import extra_thing\ndef init(): pass\ndef run(d): return extra_thing.WHO"
    # pip follows its own settings first: PIP_TARGET keeps the test's interpreter clean.
    target = tmp_path / "target"
    env: dict[str, Any] = {
        "AZUREML_EXTRA_REQUIREMENTS_TXT": "more.txt",
        "PIP_TARGET": str(target),
        "PYTHONPATH": f"{Path(__file__).parents[2] / 'base' / 'server'}:{target}",
    }
    assert serve(script, files=files, **env).score().json == "installed"


def test_sigterm_while_init_runs(serve: Serve) -> None:
    server = serve("import time\ndef init(): time.sleep(60)\ndef run(d): return 1", ready=False)
    server.await_log("loaded ")
    workers = server.workers()
    assert len(workers) == 1
    assert server.stop() == 0
    assert server.workers() == []


def test_a_replaced_worker_whose_init_fails_is_tried_again(serve: Serve, tmp_path: Path) -> None:
    flag = tmp_path / "broken"
    script = f"""
        import os
        def init():
            if os.path.exists({str(flag)!r}):
                os.remove({str(flag)!r})
                raise OSError("the disk is away")
        def run(d):
            open({str(flag)!r}, "w").close()
            os._exit(1)
    """
    server = serve(script)
    assert server.score().status == 500
    server.await_log("a new worker failed, next try in 1 s: init() in")
    server.await_ready()


def test_sigterm_while_packages_are_installed(serve: Serve) -> None:
    backend = """
        import os, time
        time.sleep(60)
    """
    files = {
        "slow/pyproject.toml": """
            [build-system]
            requires = []
            build-backend = "backend"
            backend-path = ["."]
        """,
        "slow/backend.py": backend,
        "more.txt": "./slow\n",
    }
    server = serve(FINE, files=files, ready=False, AZUREML_EXTRA_REQUIREMENTS_TXT="more.txt")
    server.await_log("installing ")
    assert server.get("/").status == 503
    time.sleep(0.5)
    started = time.monotonic()
    assert server.stop() == 0
    assert time.monotonic() - started < 3
