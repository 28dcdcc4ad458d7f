"""Settings that come in files, those that are ignored, and the account that workers run under."""

from __future__ import annotations

import json
import os
import pwd
import sys
from pathlib import Path
from typing import Any

import pytest

from .conftest import Serve
from .harness import SOURCE

sys.path.insert(0, str(SOURCE))

from inference_server import account, config, exit_codes

FINE = "def init(): pass\ndef run(data): return 1\n"


def load(folder: Path, content: str, **environ: str) -> config.Settings:
    (folder / "config.json").write_text(content, encoding="utf-8")
    return config.load({"AML_APP_ROOT": str(folder), **environ})


def test_null_is_no_setting(tmp_path: Path) -> None:
    content = json.dumps(dict.fromkeys(config.CONFIG_FILE_KEYS))
    settings = load(tmp_path, content)
    assert (settings.service_name, settings.scoring_timeout_ms) == ("ML service", 3_600_000)
    assert (settings.debug_port, settings.source_directory) == (None, None)


def test_a_byte_order_mark(tmp_path: Path) -> None:
    assert load(tmp_path, '\ufeff{"SERVICE_NAME": "x"}').service_name == "x"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{", "config.json cannot be read: "),
        ('{"SERVICE_NAME": ["a"]}', "SERVICE_NAME has to be a text or a number"),
        ('{"SCORING_TIMEOUT_MS": "soon"}', "SCORING_TIMEOUT_MS='soon'"),
        ("[" * 100_000, "config.json cannot be read: "),
    ],
)
def test_faults_of_the_file(tmp_path: Path, content: str, reason: str) -> None:
    with pytest.raises(exit_codes.FatalError) as fault:
        load(tmp_path, content)
    assert reason in fault.value.message


IGNORED: list[tuple[str, Any]] = [
    ("AML_APP_INSIGHTS_ENABLED", "true"),
    ("AML_MODEL_DC_STORAGE_ENABLED", "True"),
    ("AML_MDC_STORAGE_ENABLED", "true"),
    ("AML_DBG_MODEL_INFO", "anything"),
    ("AML_DBG_RESOURCE_INFO", "anything"),
    ("GUNICORN_CMD_ARGS", "--threads 4"),
]


def test_what_is_ignored_is_told_at_start(serve: Serve) -> None:
    server = serve(FINE, AZUREML_CONFIG_FILE="/nowhere/config.json", **dict(IGNORED))
    for name, _ in IGNORED:
        line = server.await_log(name)
        assert " W [" in line
        assert "is not supported by this server and ignored: " in line
    server.await_log("AZUREML_CONFIG_FILE=/nowhere/config.json: there is no such file")


def test_what_asks_for_nothing_is_not_told() -> None:
    assert config.load({}).warnings == ()
    given = {"AML_APP_INSIGHTS_ENABLED": "false", "AML_DBG_MODEL_INFO": ""}
    assert config.load(given).warnings == ()
    assert (
        "INFERENCE_SERVER_BODY_MEMORY"
        in config.load({"INFERENCE_SERVER_READER_LIMIT": "5"}).warnings[0]
    )


def test_a_version_of_the_operators_own(serve: Serve) -> None:
    env: dict[str, Any] = {"HTTP_X_MS_SERVER_VERSION": "mine/1"}
    assert serve(FINE, **env).get("/").headers["x-ms-server-version"].startswith("inference-server")
    env["SERVER_VERSION_LOG_RESPONSE_ENABLED"] = "false"
    assert serve(FINE, **env).get("/").headers["x-ms-server-version"] == "mine/1"


LOGGING: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "mine": {
            "()": "azureml_inference_server_http.log_config.AMLLogFormatter",
            "fmt": "%(levelname)s mine %(message)s",
        },
        "theirs": {"class": "azureml_inference_server_http.log_config.AMLLogFormatter"},
    },
    "filters": {
        "root": {"()": "azureml_inference_server_http.log_config.RootAccessFilter"},
    },
    "handlers": {
        "mine": {
            "class": "logging.StreamHandler",
            "stream": "ext://sys.stdout",
            "formatter": "mine",
            "filters": ["root"],
        },
        "own": {"class": "handlers.Own"},
    },
    "loggers": {"azmlinfsrv": {"level": "INFO", "handlers": ["mine"]}},
    "root": {"level": "DEBUG", "handlers": ["mine", "own"]},
}
LOGS = """
    import logging
    def init():
        logging.debug("hello")
        logging.info("GET / HTTP/1.1")
    def run(data): return 1
"""
HANDLER = """
    import logging
    class Own(logging.Handler):
        def emit(self, record): print("own", record.getMessage())
"""


@pytest.mark.parametrize("place", ["main.py", "code/score.py"])
def test_logging_json(serve: Serve, place: str) -> None:
    folder = place.rpartition("/")[0]
    files = {
        place: LOGS,
        f"{folder}/logging.json".lstrip("/"): json.dumps(LOGGING),
        "handlers.py": HANDLER,
    }
    server = serve(None, files=files, AZUREML_ENTRY_SCRIPT=place)
    server.await_log("loaded the logging config")
    assert "\nDEBUG mine hello\n" in server.log
    assert "\nown hello\n" in server.log
    assert "mine GET / HTTP/1.1" not in server.log


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{", "logging.json cannot be read: "),
        ("[]", "logging.json cannot be used: "),
        ("{}", "dictionary doesn't specify a version"),
        (
            '{"version": 1, "handlers": {"a": {"class": "nothing.Here"}}}',
            "No module named 'nothing'",
        ),
    ],
)
def test_a_wrong_logging_json(serve: Serve, content: str, reason: str) -> None:
    server = serve(FINE, files={"logging.json": content}, ready=False)
    assert server.await_exit() == 3
    assert reason in server.last_line


def test_an_account_is_left_alone() -> None:
    given = {"USER": "x", "HOME": "/nowhere"}
    assert account.complete(given) == given


def test_a_user_id_without_an_account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    uid = 54_321
    with pytest.raises(KeyError):
        pwd.getpwuid(uid)
    monkeypatch.setattr(os, "getuid", lambda: uid)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    found = account.complete({"HOME": "/nowhere", "OTHER": "x"})
    assert (found["USER"], found["LOGNAME"], found["OTHER"]) == (str(uid), str(uid), "x")
    assert Path(found["HOME"]).parent == tmp_path
    given = {"HOME": str(tmp_path), "USER": "me", "LOGNAME": "me"}
    assert account.complete(given) == given
