"""A scoring server: it serves ``init()`` and ``run()`` of an entry script over HTTP.

The package needs nothing outside the standard library except the HTTP server that carries it
(Granian, or gunicorn on old Pythons), and it never imports the user's code into the process that
holds the connections.
"""

__version__ = "1.0.0"
