"""A scoring server: it serves ``init()`` and ``run()`` of an entry script over HTTP.

The only third-party package is httptools, which parses HTTP. The process that holds the connections
never imports user code. ``docs/architecture.md`` lists the modules.
"""

import sys

__version__ = "1.0.0"

if sys.argv[:1] == ["-m"] and not sys.flags.isolated:
    # Python is about to run a module of this package and has put the working directory first on
    # the path. That may be the folder of an app, whose modules can have any name.
    if not getattr(sys.flags, "safe_path", False):
        del sys.path[0]
    from _inference_server_start import own_path

    sys.path[:] = own_path()
