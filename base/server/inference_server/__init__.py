"""A scoring server: it serves ``init()`` and ``run()`` of an entry script over HTTP.

The package needs nothing outside the standard library except httptools, which parses HTTP, and it
never imports the user's code into the process that holds the connections.
"""

__version__ = "1.0.0"
