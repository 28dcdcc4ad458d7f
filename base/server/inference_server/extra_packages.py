"""Which packages are added to those of the image when the container starts?"""

from __future__ import annotations

import functools
import os
import site
import subprocess
import sys
import sysconfig
from typing import Dict, List, Mapping

from . import account, cgroup, exit_codes, interpreter
from .config import Settings
from .log import LONGEST_LINE, Log

LIB_PATH = "AZUREML_EXTRA_PYTHON_LIB_PATH"
CONDA = "AZUREML_EXTRA_CONDA_YAML"
CONDA_ABSOLUTE = "AZUREML_EXTRA_CONDA_YAML_ABS_PATH"
REQUIREMENTS = "AZUREML_EXTRA_REQUIREMENTS_TXT"

# pip runs in the folder of the file, because relative paths in the file start there. But modules of
# that folder, or on PYTHONPATH, must not replace those of pip or of the standard library.
PIP = (
    "sys.path[:] = start.own_path(); "
    "import runpy; runpy.run_module('pip', run_name='__main__', alter_sys=True)"
)


def prepare(settings: Settings, environ: Mapping[str, str], log: Log) -> Dict[str, str]:
    """Add the packages; returns the environment of the workers. The first variable set decides."""
    base = os.path.dirname(settings.script_path)
    result = account.complete(environ)
    result.update(cgroup.thread_environment(environ, settings.worker_count, cgroup.cpu_limit()))
    if environ.get(LIB_PATH):
        folder = os.path.join(base, environ[LIB_PATH])
        if not os.path.isdir(folder):
            raise exit_codes.FatalError(
                exit_codes.NO_LIB_FOLDER,
                "{}={}: there is no folder {}".format(LIB_PATH, environ[LIB_PATH], folder),
            )
        _first_on_path(result, folder)
        log.info("packages in {} come first on the path".format(folder))
    elif environ.get(CONDA) or environ.get(CONDA_ABSOLUTE):
        name = CONDA if environ.get(CONDA) else CONDA_ABSOLUTE
        raise exit_codes.FatalError(
            exit_codes.CONDA,
            "{}={}: this image has no conda. List the packages in a requirements file and set {}, "
            "or build an image FROM this one".format(name, environ[name], REQUIREMENTS),
        )
    elif environ.get(REQUIREMENTS):
        path = os.path.join(base, environ[REQUIREMENTS])
        if not os.path.isfile(path):
            raise exit_codes.FatalError(
                exit_codes.NO_REQUIREMENTS,
                "{}={}: there is no file {}".format(REQUIREMENTS, environ[REQUIREMENTS], path),
            )
        _install(path, result, log)
    return result


def _first_on_path(environ: Dict[str, str], folder: str) -> None:
    rest = environ.get("PYTHONPATH")
    environ["PYTHONPATH"] = folder + os.pathsep + rest if rest else folder


def _install(path: str, environ: Dict[str, str], log: Log) -> None:
    python = interpreter.of_the_app(environ)
    command = interpreter.command(sys.executable, PIP)
    if python != sys.executable:
        # A virtual environment may have no pip of its own.
        command += ["--python", python]
    command += ["install", "--no-input", "--no-cache-dir"]
    command += ["--disable-pip-version-check", "--no-warn-script-location", "--progress-bar", "off"]
    command += [*_target(python, environ, log), "-r", path]
    log.info("installing {}".format(path))
    process = subprocess.Popen(
        command,
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=os.path.dirname(path),
    )
    assert process.stdout is not None
    read = functools.partial(process.stdout.readline, LONGEST_LINE)
    # Error messages of pip, for the line that explains the exit.
    errors: List[str] = []
    try:
        for raw in iter(read, b""):
            line = raw.decode("utf-8", "backslashreplace").rstrip()
            if log.json:
                log.record("INFO", line, logger="pip", pid=process.pid)
            else:
                log.line(line)
            if line.startswith("ERROR:"):
                errors.append(line[len("ERROR:") :].strip())
        process.wait()
    finally:
        # The service may be stopped while pip runs.
        if process.poll() is None:
            process.kill()
    if process.returncode != 0:
        reason = errors[-1] if errors else "pip exited with code {}".format(process.returncode)
        raise exit_codes.FatalError(
            exit_codes.INSTALL,
            "{}: the packages in {} cannot be installed: {}".format(REQUIREMENTS, path, reason),
        )
    log.info("installed {}".format(path))


def _target(python: str, environ: Dict[str, str], log: Log) -> List[str]:
    """pip's option for the target: none beside the installed packages, else a temporary folder.

    The latter is for other user ids and read-only roots. As a user base, it lets pip see what is
    installed already; virtual environments have no user base.
    """
    in_environment = python != sys.executable or sys.prefix != sys.base_prefix
    base = interpreter.prefix(python) if in_environment else sys.base_prefix
    packages = sysconfig.get_paths(vars={"base": base, "platbase": base})["purelib"]
    if os.access(packages, os.W_OK):
        return []
    # Seldom needed, and its import takes much memory.
    import tempfile

    folder = tempfile.mkdtemp(prefix="inference-server-extra-")
    if os.statvfs(folder).f_flag & os.ST_NOEXEC:
        log.warning(
            "{} is mounted noexec: packages with compiled modules cannot be loaded from there; "
            "with Docker, use --tmpfs /tmp:exec".format(os.path.dirname(folder))
        )
    if not in_environment and site.ENABLE_USER_SITE is not None:
        _append_the_user_site(folder)
        environ["PYTHONUSERBASE"] = folder
        environ.pop("PYTHONNOUSERSITE", None)
        return ["--user"]
    _first_on_path(environ, folder)
    return ["--target", folder]


def _append_the_user_site(base: str) -> None:
    """Put the packages that the user of a derived image has installed after the new base."""
    packages = sysconfig.get_path("purelib", "posix_user", {"userbase": base})
    os.makedirs(packages)
    with open(os.path.join(packages, "image-user.pth"), "w", encoding="utf-8") as file:
        file.write(site.getusersitepackages() + "\n")
