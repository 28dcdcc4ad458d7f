"""What do the options of the command ``azmlinfsrv`` mean? They become the environment of a service.

Options and defaults are those of the reference server's command, so that what starts that one
starts this one.
"""

from __future__ import annotations

import argparse
import os
import sys
from typing import Callable, Dict, List, Mapping, NoReturn, Optional, Sequence

from . import service
from .config import DEFAULT_APP_ROOT

USAGE_ERROR = 1


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        # The exit code of the reference.
        self.print_usage(sys.stderr)
        self.exit(USAGE_ERROR, "{}: {}\n".format(self.prog, message))


def _whole_number(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if text.strip().isdigit() and low <= int(text) <= high:
            return int(text)
        wanted = "{!r} is no whole number from {} to {}"
        raise argparse.ArgumentTypeError(wanted.format(text, low, high))

    return parse


def _parser() -> argparse.ArgumentParser:
    port = _whole_number(1, 65535)
    parser = _Parser(prog="azmlinfsrv", description="Serve init() and run() of a script over HTTP.")
    parser.add_argument("--entry_script", help="the script: AZUREML_ENTRY_SCRIPT")
    parser.add_argument("--model_dir", help="the folder of the model: AZUREML_MODEL_DIR")
    parser.add_argument("--port", type=port, help="the port: SERVER_PORT, or else 5001")
    parser.add_argument(
        "--health_port",
        type=port,
        help="a port for GET / alone, where SEPERATE_HEALTH_ENDPOINT is true: HEALTH_PORT",
    )
    parser.add_argument(
        "--worker_count", type=_whole_number(1, 1024), help="processes that score: WORKER_COUNT"
    )
    parser.add_argument(
        "--access_control_allow_origins",
        help="origins that browsers may call from, with commas between: AML_CORS_ORIGINS",
    )
    parser.add_argument("--config_file", help="a file of settings: AZUREML_CONFIG_FILE")
    parser.add_argument(
        "--appinsights_instrumentation_key",
        help="not supported: this server sends nothing to Application Insights",
    )
    # What the reference speaks with it is all that this server speaks.
    parser.add_argument("--rest", action="store_true", help=argparse.SUPPRESS)
    return parser


def settings_of(
    arguments: Sequence[str], environ: Mapping[str, str], folder: str
) -> Dict[str, str]:
    """The variables that stand for a command line, called in ``folder``; what is wrong ends it."""
    options = _parser().parse_args(list(arguments))
    root = _app_root(options.entry_script, environ, folder)
    found: Dict[str, Optional[str]] = {
        "AML_APP_ROOT": root,
        "AZUREML_MODEL_DIR": options.model_dir,
        "SERVER_PORT": _text(options.port),
        "HEALTH_PORT": _text(options.health_port),
        "WORKER_COUNT": _text(options.worker_count),
        "AML_CORS_ORIGINS": options.access_control_allow_origins,
    }
    if options.entry_script:
        found["AZUREML_ENTRY_SCRIPT"] = _absolute(options.entry_script, folder)
    if options.config_file:
        found["AZUREML_CONFIG_FILE"] = _absolute(options.config_file, folder)
    if options.model_dir and root != folder:
        # The script runs in the app root.
        found["AZUREML_MODEL_DIR"] = _absolute(options.model_dir, folder)
    if options.appinsights_instrumentation_key:
        # The server says that it is not supported.
        found["AML_APP_INSIGHTS_KEY"] = options.appinsights_instrumentation_key
        found["AML_APP_INSIGHTS_ENABLED"] = "true"
    elif "AML_APP_INSIGHTS_ENABLED" not in environ:
        # Scripts read it.
        found["AML_APP_INSIGHTS_ENABLED"] = "false"
    return {name: value for name, value in found.items() if value is not None}


def _app_root(script: Optional[str], environ: Mapping[str, str], folder: str) -> str:
    """The app root: the working directory, where no other one was asked for.

    The images set the default for all that runs in them; a script that is not below it was meant
    with the folder that the command was called in.
    """
    told = environ.get("AML_APP_ROOT") or folder
    if told == DEFAULT_APP_ROOT and script:
        inner = os.path.relpath(_absolute(script, folder), os.path.realpath(told))
        if inner.split(os.sep)[0] == os.pardir:
            return folder
    return told


def _absolute(path: str, folder: str) -> str:
    return os.path.realpath(os.path.join(folder, path))


def _text(value: Optional[int]) -> Optional[str]:
    return None if value is None else str(value)


def warnings(settings: Mapping[str, str], environ: Mapping[str, str]) -> List[str]:
    """What was asked for and has no effect."""
    told = []
    separate = environ.get("SEPERATE_HEALTH_ENDPOINT", "").lower() == "true"
    if "HEALTH_PORT" in settings and not separate:
        told.append("--health_port has no effect without SEPERATE_HEALTH_ENDPOINT=true")
    return told


def main() -> NoReturn:
    """Start the service as the command line says."""
    settings = settings_of(sys.argv[1:], os.environ, os.getcwd())
    for warning in warnings(settings, os.environ):
        print("azmlinfsrv: " + warning, file=sys.stderr, flush=True)
    os.environ.update(settings)
    service.main()


if __name__ == "__main__":
    main()
