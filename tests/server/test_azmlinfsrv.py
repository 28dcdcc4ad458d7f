"""The command `azmlinfsrv`: the options of the reference's, mapped to the environment."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "base" / "server"))

from inference_server import azmlinfsrv

from .harness import PYTHON, Server, free_port

SCRIPT = """
import os, helper
def init(): pass
def run(data):
    names = ("AZUREML_MODEL_DIR", "AML_APP_ROOT", "AML_APP_INSIGHTS_ENABLED")
    return {**{name: os.environ[name] for name in names}, "helper": helper.WHO}
"""


class Started(Server):
    """A server that is started by the command, in the folder of its script."""

    options: tuple[str, ...] = ()

    def command(self) -> list[str]:
        return [PYTHON, "-m", "inference_server.azmlinfsrv", *self.options]


def settings(*arguments: str, **environ: str) -> dict[str, str]:
    return azmlinfsrv.settings_of(arguments, environ, "/home/user/app")


def test_every_option_of_the_reference_has_its_variable() -> None:
    environ = settings(
        *("--entry_script", "src/score.py", "--model_dir", "./models", "--port", "8080"),
        *("--health_port", "8081", "--worker_count", "3", "--config_file", "../config.json"),
        *("--access_control_allow_origins", "a.example, b.example", "--rest"),
        *("--appinsights_instrumentation_key", "key"),
    )
    assert environ == {
        "AML_APP_ROOT": "/home/user/app",
        "AZUREML_ENTRY_SCRIPT": "/home/user/app/src/score.py",
        "AZUREML_MODEL_DIR": "./models",
        "SERVER_PORT": "8080",
        "HEALTH_PORT": "8081",
        "WORKER_COUNT": "3",
        "AZUREML_CONFIG_FILE": "/home/user/config.json",
        "AML_CORS_ORIGINS": "a.example, b.example",
        "AML_APP_INSIGHTS_KEY": "key",
        "AML_APP_INSIGHTS_ENABLED": "true",
    }


def test_what_no_option_names_stays_with_the_environment() -> None:
    environ = {"AML_APP_ROOT": "/app", "AML_APP_INSIGHTS_ENABLED": "true"}
    assert settings(**environ) == {"AML_APP_ROOT": "/app"}
    assert settings() == {"AML_APP_ROOT": "/home/user/app", "AML_APP_INSIGHTS_ENABLED": "false"}


@pytest.mark.parametrize(
    ("given", "script", "root"),
    [
        ("/var/azureml-app", "/var/azureml-app/code/score.py", "/var/azureml-app"),
        # The image sets it for all that runs in it, but the code is where the command was called.
        ("/var/azureml-app", "score.py", "/home/user/app"),
        ("/elsewhere", "score.py", "/elsewhere"),
        ("", "/opt/score.py", "/home/user/app"),
    ],
)
def test_the_app_root(given: str, script: str, root: str) -> None:
    arguments = ("--entry_script", script)
    assert azmlinfsrv.settings_of(arguments, {"AML_APP_ROOT": given}, "/home/user/app")[
        "AML_APP_ROOT"
    ] == (root)


def test_a_model_dir_is_found_from_another_app_root() -> None:
    environ = settings("--model_dir", "models", AML_APP_ROOT="/app")
    assert environ["AZUREML_MODEL_DIR"] == "/home/user/app/models"


def test_a_health_port_without_effect_is_reported() -> None:
    environ = settings("--health_port", "8081")
    assert "no effect without SEPERATE_HEALTH_ENDPOINT" in azmlinfsrv.warnings(environ, {})[0]
    assert azmlinfsrv.warnings(environ, {"SEPERATE_HEALTH_ENDPOINT": "true"}) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--port", "0"), "argument --port: '0' is no whole number from 1 to 65535"),
        (("--worker_count", "many"), "argument --worker_count: 'many' is no whole number from 1"),
        (("--workers", "3"), "unrecognized arguments: --workers 3"),
        (("score.py",), "unrecognized arguments: score.py"),
    ],
)
def test_what_is_wrong_ends_it(
    arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        settings(*arguments)
    assert ended.value.code == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("root", ["", "/var/azureml-app"])
def test_it_serves_the_folder_that_it_is_called_in(tmp_path: Path, root: str) -> None:
    app = tmp_path / "app"
    app.mkdir()
    (app / "score.py").write_text(SCRIPT)
    (app / "helper.py").write_text("WHO = 'beside the script'\n")
    port = free_port()
    Started.options = ("--entry_script", "score.py", "--model_dir", "m", "--port", str(port))
    with Started(app, {"AML_APP_ROOT": root, "SERVER_PORT": "1"}) as server:
        server.port = port
        assert server.await_ready().score().json == {
            "AZUREML_MODEL_DIR": "m",
            "AML_APP_ROOT": str(app),
            "AML_APP_INSIGHTS_ENABLED": "false",
            "helper": "beside the script",
        }


def test_application_insights_is_told_to_be_unsupported(tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text("def init(): pass\ndef run(data): return 1\n")
    Started.options = ("--appinsights_instrumentation_key", "00000000")
    with Started(tmp_path, {}) as server:
        server.await_ready()
        server.await_log("AML_APP_INSIGHTS_ENABLED is not supported by this server and ignored")
