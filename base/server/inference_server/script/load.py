"""What does the entry script define, and how is its ``run()`` called?"""

from __future__ import annotations

import contextlib
import importlib.util
import inspect
import os
import sys
import traceback
from types import ModuleType
from typing import Any, Callable, Dict, List, NamedTuple

from .. import exit_codes, interpreter
from ..config import Settings, logging_file, read_json
from ..log import Log
from ..workers.messages import Call
from .inputs import RawInput, SchemaInput, TextInput, raw_requested

ENTRY_MODULE = "entry_module"
# The path of the script, for `entry_module` in child processes.
SCRIPT = "INFERENCE_SERVER_SCRIPT"

Parse = Callable[[Call], Dict[str, Any]]


class Script(NamedTuple):
    """A loaded entry script."""

    path: str
    init: Callable[[], Any]
    run: Callable[..., Any]
    # run() as the script defines it; `run` waits for the result if this is a coroutine function.
    written: Callable[..., Any]
    parse: Parse
    wants_headers: bool
    # Whether run() reads headers; if not, the service does not send them to the worker.
    needs_headers: bool
    description: str


def load(settings: Settings, log: Log) -> Script:
    """Import and analyse the script; ``FatalError`` names its error and the place."""
    path = settings.script_path
    if not os.path.isdir(settings.app_root):
        raise _fault("the app root {} is not a folder".format(settings.app_root))
    if not os.path.isfile(path):
        raise _fault(
            "the entry script {} does not exist; {} holds: {}".format(
                path, settings.app_root, _listing(settings.app_root)
            )
        )
    _extend_path(settings)
    _configure_logging(settings, log)
    module = _import(settings, log)
    for name in ("init", "run"):
        if not callable(getattr(module, name, None)):
            raise _fault("the entry script {} does not define {}()".format(path, name))
    run = module.run
    # A generated driver script wraps the real one in `driver_module`. Its init() is needed, but its
    # run() passes the arguments of a decorated run() incorrectly.
    driver = getattr(module, "driver_module", None)
    if isinstance(driver, ModuleType) and hasattr(driver, "run"):
        run = driver.run
    return _analyse(settings, module.init, run)


def _fault(message: str) -> exit_codes.FatalError:
    return exit_codes.FatalError(exit_codes.SCRIPT, message)


def _listing(folder: str) -> str:
    names = sorted(os.listdir(folder))
    return ", ".join(names[:20]) + (", …" if len(names) > 20 else "") if names else "nothing"


def _extend_path(settings: Settings) -> None:
    # As in the reference, the app comes after installed packages; this server comes last.
    places = [settings.app_root]
    if settings.source_directory:
        places.append(os.path.join(settings.app_root, settings.source_directory))
    places.append(interpreter.ROOT)
    sys.path += [place for place in places if place not in sys.path]


def _configure_logging(settings: Settings, log: Log) -> None:
    path = logging_file(settings)
    if path is None:
        return
    import logging.config

    try:
        logging.config.dictConfig(read_json(path))
    except (ValueError, TypeError, AttributeError, KeyError, ImportError, OSError) as error:
        message = "the logging config {} cannot be used: {}".format(path, error)
        if error.__cause__ is not None:
            message += ": {}".format(error.__cause__)
        raise _fault(message) from None
    log.info("loaded the logging config {}".format(path))


def _import(settings: Settings, log: Log) -> Any:
    path = settings.script_path
    # Other modules can import the default script as `main`; any other script has its name in the
    # reference. Child processes find `main` on the path, and the file `entry_module` beside this
    # package.
    default = os.path.join(settings.app_root, "main.py")
    name = "main" if os.path.normpath(path) == default else ENTRY_MODULE
    os.environ[SCRIPT] = path
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise _fault("the entry script {} is not a Python file".format(path))
    module = importlib.util.module_from_spec(spec)
    # Pickles of classes of the script may use either name.
    sys.modules[ENTRY_MODULE] = sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        log.error("the entry script {} cannot be imported:\n{}".format(path, trace(error)))
        raise _fault(
            "the entry script {} cannot be imported: {}".format(path, describe(error))
        ) from None
    return module


def describe(error: BaseException) -> str:
    """An exception and the place where it was raised, in one line."""
    text = type(error).__name__
    # str() of an exception of a script may raise.
    with contextlib.suppress(Exception):
        message = str(error)
        if message:
            text = "{}: {}".format(text, message)
    text = " ".join(text.split())
    if isinstance(error, SyntaxError):
        return text
    frames = traceback.extract_tb(error.__traceback__)
    if not frames:
        return text
    return "{} ({}:{})".format(text, frames[-1].filename, frames[-1].lineno)


def trace(error: BaseException) -> str:
    """The traceback of an exception, without the first frames, which are of this server."""
    here = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        name = frame.tb_frame.f_code.co_filename
        if not (name.startswith(here) or name.startswith("<frozen importlib")):
            break
        frame = frame.tb_next
    return "".join(traceback.format_exception(type(error), error, frame)).rstrip()


def _analyse(settings: Settings, init: Callable[[], Any], run: Callable[..., Any]) -> Script:
    path = settings.script_path
    if inspect.isgeneratorfunction(run) or inspect.isasyncgenfunction(run):
        raise _fault(
            "run() in {} is a generator, which has no JSON form: return a list, or stream with "
            "@rawhttp and AMLResponse(generator, 200)".format(path)
        )
    parameters = list(inspect.signature(run).parameters.values())
    allowed = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    if any(parameter.kind not in allowed for parameter in parameters):
        raise _fault(
            "run() in {} cannot accept positional-only arguments, *args, or **kwargs".format(path)
        )
    wants_headers = any(parameter.name == "request_headers" for parameter in parameters)
    data: List[inspect.Parameter] = [p for p in parameters if p.name != "request_headers"]
    if not data:
        raise _fault("run() in {} needs to accept an argument for input data".format(path))
    is_raw = raw_requested()
    schemas = sys.modules.get("inference_schema.schema_util")
    decorated = schemas is not None and schemas.is_schema_decorated(run)
    if is_raw and decorated:
        raise _fault(
            "run() in {} cannot be decorated with both @rawhttp and @input_schema".format(path)
        )
    parse: Parse
    if is_raw:
        parse, description = RawInput(data[0].name), "@rawhttp: run() gets the request object"
    elif decorated:
        names = ", ".join(parameter.name for parameter in data)
        parse, description = SchemaInput(data), "@input_schema: run() gets " + names
    else:
        parse, description = TextInput(data[0].name), "run() gets the body as text"
    blocking_init, blocking_run = _without_await(settings, init, run)
    needs_headers = wants_headers or is_raw
    return Script(
        path, blocking_init, blocking_run, run, parse, wants_headers, needs_headers, description
    )


def _without_await(settings: Settings, *functions: Callable[..., Any]) -> List[Callable[..., Any]]:
    # Only scripts that need asyncio load it.
    if not any(inspect.iscoroutinefunction(inspect.unwrap(function)) for function in functions):
        return list(functions)
    from .coroutines import Coroutines

    loop = Coroutines(settings.concurrency > 1)
    return [loop.blocking(function) for function in functions]
