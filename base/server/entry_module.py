"""The entry script under the name that a worker gives it, for the child processes of a script.

What a child gets by ``pickle`` names its module, so that has to be importable there. In the worker
itself the script already is what this name stands for.
"""

import os
import sys
from importlib.machinery import SourceFileLoader

import _inference_server_start  # noqa: F401 - the names that a script imports

__file__ = os.environ.get("INFERENCE_SERVER_SCRIPT", "")
if not __file__:
    raise ImportError("entry_module is the entry script, in a worker and in what it starts only")
SourceFileLoader(__name__, __file__).exec_module(sys.modules[__name__])
