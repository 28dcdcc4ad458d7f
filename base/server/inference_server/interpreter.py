"""Which Python runs the app, and how is it started?

No module of the app may replace one of the server or of the standard library, whatever its name is.
"""

from __future__ import annotations

import os
import sys
from typing import List, Mapping, Optional

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def of_the_app(environ: Mapping[str, str]) -> str:
    """This interpreter, or a virtual environment made of it that ``PATH`` names first.

    The service does not need that environment, so it may lack the packages of the image.
    """
    python = _first_on_path("python3", environ.get("PATH", ""))
    if (
        python is not None
        and sys.prefix == sys.base_prefix
        and os.path.isfile(os.path.join(prefix(python), "pyvenv.cfg"))
        and os.path.realpath(python) == os.path.realpath(sys.executable)
    ):
        return python
    return sys.executable


def _first_on_path(name: str, path: str) -> Optional[str]:
    # Like shutil.which, whose module takes half a megabyte.
    for folder in path.split(os.pathsep):
        program = os.path.join(folder, name)
        if folder and os.path.isfile(program) and os.access(program, os.X_OK):
            return program
    return None


def prefix(python: str) -> str:
    """The folder of the environment that an interpreter belongs to."""
    return os.path.dirname(os.path.dirname(python))


def command(python: str, code: str) -> List[str]:
    """A command line that runs the code, in which ``start`` is ``_inference_server_start``.

    ``PYTHONPATH`` and other settings of users still work. Python 3.13 imports a module for ``-c``
    before it runs the code, from the working directory unless ``-P`` is given. The versions that
    have no ``-P`` do not.
    """
    safe = ["-P"] if sys.version_info >= (3, 11) else []
    start = "import sys; sys.path.insert(0, {!r}); import _inference_server_start as start; "
    return [python, *safe, "-c", start.format(ROOT) + code]
