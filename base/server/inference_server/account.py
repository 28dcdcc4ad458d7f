"""Which user name and home do workers have, if their user id has no account in the container?

Platforms start containers under ids that no image knows. There ``getpass.getuser()`` fails, and the
home is ``/``, which is not writable.
"""

from __future__ import annotations

import contextlib
import os
import pwd
from typing import Dict, Mapping


def complete(environ: Mapping[str, str]) -> Dict[str, str]:
    """The environment with a user name and a writable home; variables that are set stay."""
    result = dict(environ)
    uid = os.getuid()
    try:
        pwd.getpwuid(uid)
    except KeyError:
        name = result.get("LOGNAME") or result.get("USER") or str(uid)
        result.update(USER=name, LOGNAME=name)
        if not os.access(result.get("HOME") or "/", os.W_OK):
            # Seldom needed, and its import takes half a megabyte.
            import tempfile

            # There may be no writable folder at all.
            with contextlib.suppress(OSError):
                result["HOME"] = tempfile.mkdtemp(prefix="inference-server-home-")
    return result
