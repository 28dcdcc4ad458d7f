"""How is a Python started in which no module of the app is taken for one of ours?"""

from __future__ import annotations

import os
import sys
from typing import List

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def command(code: str) -> List[str]:
    """A command line that runs the code with ``start``, the file beside this package.

    What users set for their Python (``PYTHONPATH`` and the like) still counts. Python 3.13 imports
    a module for ``-c`` itself, before the code: from the working directory, if ``-P`` is not given.
    Older ones without ``-P`` do not.
    """
    safe = ["-P"] if sys.version_info >= (3, 11) else []
    start = "import sys; sys.path.insert(0, {!r}); import _inference_server_start as start; "
    return [sys.executable, *safe, "-c", start.format(ROOT) + code]
