"""Who do workers run as, where the user id has no account in the container?

Platforms start containers under ids that no image knows. ``getpass.getuser()`` fails there, and
what wants to write below the home is told that home is ``/``.
"""

from __future__ import annotations

import contextlib
import os
import pwd
from typing import Dict, Mapping


def complete(environ: Mapping[str, str]) -> Dict[str, str]:
    """The environment with a name and a home that can be written to; what is given stays."""
    result = dict(environ)
    uid = os.getuid()
    try:
        pwd.getpwuid(uid)
    except KeyError:
        name = result.get("LOGNAME") or result.get("USER") or str(uid)
        result.update(USER=name, LOGNAME=name)
        if not os.access(result.get("HOME") or "/", os.W_OK):
            # Seldom needed, and it brings half a megabyte along.
            import tempfile

            # There may be no place at all that can be written to.
            with contextlib.suppress(OSError):
                result["HOME"] = tempfile.mkdtemp(prefix="inference-server-home-")
    return result
