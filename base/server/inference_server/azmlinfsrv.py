"""What do the options of the command ``azmlinfsrv`` mean? They become environment variables.

Options and defaults are those of the reference server's command, so the same command lines work.
"""

from __future__ import annotations

import argparse
import os
import sys
from typing import Callable, Dict, List, Mapping, NoReturn, Optional, Sequence

from . import service
from .config import DEFAULT_APP_ROOT, DEFAULT_PORT

USAGE_ERROR = 1


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        # As in the reference.
        self.print_usage(sys.stderr)
        self.exit(USAGE_ERROR, "{}: {}\n".format(self.prog, message))


def _whole_number(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if text.strip().isdigit() and low <= int(text) <= high:
            return int(text)
        message = "{!r} is no whole number from {} to {}"
        raise argparse.ArgumentTypeError(message.format(text, low, high))

    return parse


def _parser() -> argparse.ArgumentParser:
    port = _whole_number(1, 65535)
    parser = _Parser(prog="azmlinfsrv", description="Serve init() and run() of a script over HTTP.")
    parser.add_argument("--entry_script", help="the script: AZUREML_ENTRY_SCRIPT")
    parser.add_argument("--model_dir", help="the folder of the model: AZUREML_MODEL_DIR")
    parser.add_argument(
        "--port", type=port, help="the port: SERVER_PORT, or else {}".format(DEFAULT_PORT)
    )
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
    # The reference serves REST with it, which is all that this server has.
    parser.add_argument("--rest", action="store_true", help=argparse.SUPPRESS)
    return parser


def settings_of(
    arguments: Sequence[str], environ: Mapping[str, str], folder: str
) -> Dict[str, str]:
    """The variables for a command line that was given in ``folder``; errors end the process."""
    options = _parser().parse_args(list(arguments))
    root = _app_root(options.entry_script, environ, folder)
    settings: Dict[str, Optional[str]] = {
        "AML_APP_ROOT": root,
        "AZUREML_MODEL_DIR": options.model_dir,
        "SERVER_PORT": _text(options.port),
        "HEALTH_PORT": _text(options.health_port),
        "WORKER_COUNT": _text(options.worker_count),
        "AML_CORS_ORIGINS": options.access_control_allow_origins,
    }
    if options.entry_script:
        settings["AZUREML_ENTRY_SCRIPT"] = _absolute(options.entry_script, folder)
    if options.config_file:
        settings["AZUREML_CONFIG_FILE"] = _absolute(options.config_file, folder)
    if options.model_dir and root != folder:
        # The script runs in the app root.
        settings["AZUREML_MODEL_DIR"] = _absolute(options.model_dir, folder)
    if options.appinsights_instrumentation_key:
        # The service warns that it is not supported.
        settings["AML_APP_INSIGHTS_KEY"] = options.appinsights_instrumentation_key
        settings["AML_APP_INSIGHTS_ENABLED"] = "true"
    elif "AML_APP_INSIGHTS_ENABLED" not in environ:
        # Scripts read it.
        settings["AML_APP_INSIGHTS_ENABLED"] = "false"
    return {name: value for name, value in settings.items() if value is not None}


def _app_root(script: Optional[str], environ: Mapping[str, str], folder: str) -> str:
    """The app root: ``AML_APP_ROOT``, else the working directory.

    The images set that variable to its default. With a script outside of it, the working directory
    is meant.
    """
    root = environ.get("AML_APP_ROOT") or folder
    if root == DEFAULT_APP_ROOT and script:
        inner = os.path.relpath(_absolute(script, folder), os.path.realpath(root))
        if inner.split(os.sep)[0] == os.pardir:
            return folder
    return root


def _absolute(path: str, folder: str) -> str:
    return os.path.realpath(os.path.join(folder, path))


def _text(value: Optional[int]) -> Optional[str]:
    return None if value is None else str(value)


def warnings(settings: Mapping[str, str], environ: Mapping[str, str]) -> List[str]:
    """A sentence for each option that has no effect."""
    sentences = []
    separate = environ.get("SEPERATE_HEALTH_ENDPOINT", "").lower() == "true"
    if "HEALTH_PORT" in settings and not separate:
        sentences.append("--health_port has no effect without SEPERATE_HEALTH_ENDPOINT=true")
    return sentences


def main() -> NoReturn:
    """Start the service as the command line says."""
    settings = settings_of(sys.argv[1:], os.environ, os.getcwd())
    for warning in warnings(settings, os.environ):
        print("azmlinfsrv: " + warning, file=sys.stderr, flush=True)
    os.environ.update(settings)
    service.main()


if __name__ == "__main__":
    main()
