"""Which Python runs what belongs to the app, and how is it started?

No module of the app may be taken for one of ours, whatever it is called.
"""

from __future__ import annotations

import os
import sys
from typing import List, Mapping

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def of_the_app(environ: Mapping[str, str]) -> str:
    """This interpreter, or a virtual environment made of it that ``PATH`` names first.

    The front needs nothing of it: an environment without the packages of the image will do.
    """
    # Not above: workers need this module, and not that one.
    import shutil

    found = shutil.which("python3", path=environ.get("PATH"))
    if (
        found is not None
        and sys.prefix == sys.base_prefix
        and os.path.isfile(os.path.join(prefix(found), "pyvenv.cfg"))
        and os.path.realpath(found) == os.path.realpath(sys.executable)
    ):
        return found
    return sys.executable


def prefix(python: str) -> str:
    """The folder of the environment that an interpreter belongs to."""
    return os.path.dirname(os.path.dirname(python))


def command(python: str, code: str) -> List[str]:
    """A command line that runs the code with ``start``, the file beside this package.

    What users set for their Python (``PYTHONPATH`` and the like) still counts. Python 3.13 imports
    a module for ``-c`` itself, before the code: from the working directory, if ``-P`` is not given.
    Older ones without ``-P`` do not.
    """
    safe = ["-P"] if sys.version_info >= (3, 11) else []
    start = "import sys; sys.path.insert(0, {!r}); import _inference_server_start as start; "
    return [python, *safe, "-c", start.format(ROOT) + code]
