"""The entry script under its name in a worker, for the child processes of a script.

Pickled objects name their module, so a child process must be able to import it. In the worker
itself, this name already refers to the script.
"""

import os
import sys
from importlib.machinery import SourceFileLoader

import _inference_server_start  # noqa: F401 - registers the names that scripts import

__file__ = os.environ.get("INFERENCE_SERVER_SCRIPT", "")
if not __file__:
    raise ImportError("entry_module exists in workers and their child processes only")
SourceFileLoader(__name__, __file__).exec_module(sys.modules[__name__])
