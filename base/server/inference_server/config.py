"""Which settings does the operator give? The environment becomes one frozen ``Settings``."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Mapping, Optional, Tuple, TypeVar

from . import __version__, exit_codes

T = TypeVar("T")

DEFAULT_APP_ROOT = "/var/azureml-app"
DEFAULT_PORT = 5001
CONFIG_FILE_KEYS = (
    "AZUREML_SOURCE_DIRECTORY",
    "AZUREML_ENTRY_SCRIPT",
    "SERVICE_NAME",
    "SERVICE_PATH_PREFIX",
    "SERVICE_VERSION",
    "SCORING_TIMEOUT_MS",
    "AZUREML_LOG_LEVEL",
    "AML_CORS_ORIGINS",
    "AZUREML_MODEL_DIR",
    "AZUREML_DEBUG_PORT",
)
# Settings of the reference that this server does not support: the value that enables something
# there (None: any value), and the consequence for the warning.
IGNORED: Tuple[Tuple[str, Optional[str], str], ...] = (
    ("AML_APP_INSIGHTS_ENABLED", "true", "requests are not sent to Application Insights"),
    ("AML_MODEL_DC_STORAGE_ENABLED", "true", "inputs and results are not collected"),
    # The spelling that the reference reads.
    ("AML_MDC_STORAGE_ENABLED", "true", "inputs and results are not collected"),
    ("AML_DBG_MODEL_INFO", None, "there is no debugging of models"),
    ("AML_DBG_RESOURCE_INFO", None, "there is no debugging of resources"),
    ("GUNICORN_CMD_ARGS", None, "there is no gunicorn; see the settings in docs/scoring-server.md"),
    (
        "INFERENCE_SERVER_READER_LIMIT",
        None,
        "received bytes are limited by INFERENCE_SERVER_BODY_MEMORY",
    ),
)
# NaN and infinity, which JSON does not have, become: an error that the log explains, null, or the
# words that Python and the reference write and that strict parsers refuse.
NAN_POLICIES = ("refuse", "null", "literal")
LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


@dataclass(frozen=True)
class Settings:
    """Everything that the environment decides, checked once at start."""

    app_root: str
    entry_script: str
    source_directory: Optional[str]
    model_dir: Optional[str]
    # None: all addresses, of both families.
    host: Optional[str]
    port: int
    health_port: Optional[int]
    aliases: bool
    cancel: bool
    worker_count: int
    worker_timeout_s: float
    concurrency: int
    scoring_timeout_ms: int
    queue_limit: int
    queue_timeout_s: float
    body_limit: int
    body_memory: Optional[int]
    read_timeout_s: float
    idle_timeout_s: float
    shutdown_delay_s: float
    drain_timeout_s: float
    log_level: str
    log_json: bool
    access_log: bool
    log_body: bool
    metrics: bool
    nan: str
    server_version: str
    service_name: str
    service_version: str
    service_path_prefix: str
    cors_origins: Tuple[str, ...]
    debug_port: Optional[int]
    # Sentences for the log about settings that have no effect.
    warnings: Tuple[str, ...]

    @property
    def run_limit_s(self) -> float:
        """How long ``run()`` may take: the shorter of the two limits in seconds."""
        scoring_s = self.scoring_timeout_ms / 1000.0
        return min(scoring_s, self.worker_timeout_s or scoring_s)

    @property
    def script_path(self) -> str:
        """The entry script as an absolute path."""
        return os.path.join(self.app_root, self.entry_script)


def load(environ: Mapping[str, str]) -> Settings:
    """Read and check all settings; every wrong value is reported in one error."""
    read = _Reader({**_config_file(environ), **environ})
    app_root = read.text("AML_APP_ROOT", DEFAULT_APP_ROOT)
    # As in the reference: the operator's version is sent where that of the server is not.
    server_version = read.text("HTTP_X_MS_SERVER_VERSION", "")
    if read.flag("SERVER_VERSION_LOG_RESPONSE_ENABLED", True):
        server_version = "inference-server/" + __version__
    origins = read.text("AML_CORS_ORIGINS", "").split(",")
    # Under both spellings: the first is the reference's.
    separate_health = read.flag("SEPERATE_HEALTH_ENDPOINT", False) or read.flag(
        "SEPARATE_HEALTH_ENDPOINT", False
    )
    worker_timeout_s = read.seconds("WORKER_TIMEOUT", 300.0)
    worker_count = read.number("WORKER_COUNT", 1, 1, 1024)
    if read.flag("WORKER_PRELOAD", False):
        message = "WORKER_PRELOAD has no effect: each of {} workers runs init() itself"
        read.warnings.append(message.format(worker_count))
    settings = Settings(
        app_root=os.path.abspath(app_root),
        entry_script=read.text("AZUREML_ENTRY_SCRIPT", "main.py"),
        source_directory=read.optional("AZUREML_SOURCE_DIRECTORY"),
        model_dir=read.optional("AZUREML_MODEL_DIR"),
        host=read.optional("INFERENCE_SERVER_HOST"),
        port=read.port("SERVER_PORT") or read.port("PORT") or DEFAULT_PORT,
        health_port=read.port("HEALTH_PORT") or 5000 if separate_health else None,
        cancel=read.flag("INFERENCE_SERVER_CANCEL", True),
        aliases=read.flag("INFERENCE_SERVER_ALIASES", False),
        worker_count=worker_count,
        worker_timeout_s=worker_timeout_s,
        concurrency=read.number("INFERENCE_SERVER_CONCURRENCY", 1, 1, 256),
        scoring_timeout_ms=read.number("SCORING_TIMEOUT_MS", 3600 * 1000, 1, 10**10),
        queue_limit=read.number("INFERENCE_SERVER_QUEUE_LIMIT", 512, 0, 4096),
        queue_timeout_s=read.seconds(
            "INFERENCE_SERVER_QUEUE_TIMEOUT", worker_timeout_s or 300.0, positive=True
        ),
        body_limit=read.number("INFERENCE_SERVER_BODY_LIMIT", 100 * 1024 * 1024, 0, 2**40),
        body_memory=read.optional_number("INFERENCE_SERVER_BODY_MEMORY", 2**18, 2**50),
        read_timeout_s=read.seconds("INFERENCE_SERVER_READ_TIMEOUT", 30.0, positive=True),
        idle_timeout_s=read.seconds("INFERENCE_SERVER_IDLE_TIMEOUT", 75.0, positive=True),
        shutdown_delay_s=read.seconds("INFERENCE_SERVER_SHUTDOWN_DELAY", 0.0),
        drain_timeout_s=read.seconds("INFERENCE_SERVER_DRAIN_TIMEOUT", 8.0),
        log_level=read.choice("AZUREML_LOG_LEVEL", "INFO", LOG_LEVELS, fold=str.upper),
        log_json=read.choice("INFERENCE_SERVER_LOG_FORMAT", "text", ("text", "json")) == "json",
        access_log=read.flag("INFERENCE_SERVER_ACCESS_LOG", True),
        log_body=read.flag("INFERENCE_SERVER_LOG_BODY", False),
        metrics=read.flag("INFERENCE_SERVER_METRICS", False),
        nan=read.choice("INFERENCE_SERVER_NAN", "refuse", NAN_POLICIES),
        server_version=server_version,
        service_name=read.text("SERVICE_NAME", "ML service"),
        service_version=read.text("SERVICE_VERSION", "1.0"),
        service_path_prefix=read.text("SERVICE_PATH_PREFIX", ""),
        cors_origins=tuple(origin.strip() for origin in origins if origin.strip()),
        debug_port=read.port("AZUREML_DEBUG_PORT"),
        warnings=(*_ignored(environ), *read.warnings),
    )
    read.check()
    return settings


def _ignored(environ: Mapping[str, str]) -> List[str]:
    """A sentence for each setting that is given and has no effect."""
    sentences = []
    for name, value, consequence in IGNORED:
        given = environ.get(name, "")
        if given and value in (None, given.strip().lower()):
            sentences.append(
                "{} is not supported by this server and ignored: {}".format(name, consequence)
            )
    explicit = environ.get("AZUREML_CONFIG_FILE")
    if explicit and not _holds_something(explicit):
        sentences.append(
            "AZUREML_CONFIG_FILE={}: there is no such file, or it is empty".format(explicit)
        )
    return sentences


def logging_file(settings: Settings) -> Optional[str]:
    """A configuration of Python's ``logging`` that comes with the app."""
    for folder in (settings.app_root, os.path.dirname(settings.script_path)):
        path = os.path.join(folder, "logging.json")
        if os.path.isfile(path):
            return path
    return None


def read_json(path: str) -> Any:
    """The content of a JSON file of settings; ``FatalError`` if it cannot be read."""
    try:
        with open(path, encoding="utf-8-sig") as file:
            return json.load(file)
    except (OSError, ValueError, RecursionError) as error:
        raise exit_codes.FatalError(
            exit_codes.SCRIPT, "the config file {} cannot be read: {}".format(path, error)
        ) from None


def _holds_something(path: str) -> bool:
    return os.path.isfile(path) and os.path.getsize(path) > 0


def _config_file(environ: Mapping[str, str]) -> Dict[str, str]:
    """The settings in a ``config.json``, if there is one; ``null`` means not set.

    Other keys are ignored: models often have a ``config.json`` of their own.
    """
    app_root = environ.get("AML_APP_ROOT") or DEFAULT_APP_ROOT
    script = os.path.join(app_root, environ.get("AZUREML_ENTRY_SCRIPT", ""))
    for place in (
        environ.get("AZUREML_CONFIG_FILE"),
        os.path.join(app_root, "config.json"),
        os.path.join(os.path.dirname(script), "config.json"),
    ):
        if place and _holds_something(place):
            content = read_json(place)
            if not isinstance(content, dict):
                return {}
            return {
                key: _text(place, key, content[key])
                for key in CONFIG_FILE_KEYS
                if content.get(key) is not None
            }
    return {}


def _text(place: str, key: str, value: Any) -> str:
    if isinstance(value, (dict, list)):
        message = "the config file {} cannot be used: {} has to be a text or a number"
        raise exit_codes.FatalError(exit_codes.SCRIPT, message.format(place, key))
    return str(value)


class _Reader:
    """Reads values of the environment and collects their errors."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ: Mapping[str, str] = environ
        self._errors: Dict[str, str] = {}
        self.warnings: List[str] = []

    def check(self) -> None:
        if self._errors:
            errors = "; ".join("{}={}".format(*item) for item in sorted(self._errors.items()))
            raise exit_codes.FatalError(
                exit_codes.SCRIPT, "wrong settings in the environment: " + errors
            )

    def optional(self, name: str) -> Optional[str]:
        return self._environ.get(name) or None

    def text(self, name: str, default: str) -> str:
        return self._environ.get(name) or default

    def number(self, name: str, default: int, low: int, high: int) -> int:
        wanted = "a whole number from {} to {}".format(low, high)
        return self._parse(name, default, int, lambda value: low <= value <= high, wanted)

    def seconds(self, name: str, default: float, positive: bool = False) -> float:
        wanted = "a number of seconds above 0" if positive else "a number of seconds, 0 or more"
        return self._parse(
            name,
            default,
            float,
            lambda value: 0 < value < 1e9 or (value == 0 and not positive),
            wanted,
        )

    def optional_number(self, name: str, low: int, high: int) -> Optional[int]:
        return self.number(name, low, low, high) if self.optional(name) else None

    def port(self, name: str) -> Optional[int]:
        # Kubernetes sets variables for each Service of a namespace: SERVER_PORT is the address of
        # one that is called "server".
        if self._environ.get(name, "").startswith(("tcp://", "udp://", "sctp://")):
            self.warnings.append(
                "{}={} is the address of a Service of Kubernetes and ignored; "
                "enableServiceLinks: false keeps such variables out".format(
                    name, self._environ[name]
                )
            )
            return None
        return self.optional_number(name, 1, 65535)

    def flag(self, name: str, default: bool) -> bool:
        # In the reference all but "true" means no. Here "1" and "yes" work too, and other values
        # are an error.
        known = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
        value = (self.optional(name) or str(default)).strip().lower()
        if value not in known:
            self._errors[name] = "{!r} (wanted: true or false)".format(value)
        return known.get(value, default)

    def choice(
        self,
        name: str,
        default: str,
        choices: Tuple[str, ...],
        fold: Callable[[str], str] = str.lower,
    ) -> str:
        value = fold((self.optional(name) or default).strip())
        if value not in choices:
            self._errors[name] = "{!r} (wanted: one of {})".format(value, ", ".join(choices))
        return value

    def _parse(
        self,
        name: str,
        default: T,
        convert: Callable[[str], T],
        holds: Callable[[T], bool],
        wanted: str,
    ) -> T:
        raw = self.optional(name)
        if raw is None:
            return default
        try:
            value = convert(raw)
            if holds(value):
                return value
        except ValueError:
            pass
        self._errors[name] = "{!r} (wanted: {})".format(raw, wanted)
        return default
