"""A scoring server: it serves ``init()`` and ``run()`` of an entry script over HTTP.

The package needs nothing outside the standard library except httptools, which parses HTTP, and it
never imports the user's code into the process that holds the connections.
"""

import sys

__version__ = "1.0.0"

if sys.argv[:1] == ["-m"] and not sys.flags.isolated:
    # Python is about to run a module of this package, and has put the working directory first on
    # the path: the app's, whose modules may have any name.
    if not getattr(sys.flags, "safe_path", False):
        del sys.path[0]
    from _inference_server_start import own_path

    sys.path[:] = own_path()
