"""What do the front and a worker say to each other? The words; ``wire`` has the frames."""

from __future__ import annotations

import struct
from typing import Dict, List, NamedTuple, Tuple

# In the environment of a worker: its sockets, and the pipe that ends with the front.
SOCKETS = "INFERENCE_SERVER_WORKER_SOCKETS"
LEASH = "INFERENCE_SERVER_WORKER_LEASH"
# What the front sends on that pipe when nobody waits for an answer any more: in which lane of the
# worker, counted from 0, and the number of the request there.
CANCEL = struct.Struct("<IQ")

# What a client is told.
SCRIPT_FAILED = "An unexpected error occurred in scoring script. Check the logs for more info."
TIMED_OUT = "Scoring timeout after {:.0f} ms"
INTERNAL = "An unexpected internal error occurred. Check the logs for more info."

# The request without its body, for a script that gets nothing else.
PLAIN: Tuple[str, str, str, str, Dict[str, str], str] = ("POST", "/score", "", "", {}, "")


class Facts(NamedTuple):
    """What a worker says about the script when ``init()`` is done; the same for all of them."""

    # Whether run() reads headers, gets the whole request, or gets nothing but the body as text.
    needs_headers: bool = True
    is_raw: bool = False
    is_plain: bool = False
    # The documents at /swagger.json by the version asked for, and the versions that there are.
    documents: Dict[str, bytes] = {}  # noqa: RUF012 - nobody writes to it
    supported: List[str] = []  # noqa: RUF012 - nobody writes to it
