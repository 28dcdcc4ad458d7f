"""What do the service and a worker say to each other? The content; ``frames`` has the format.

Metadata of frames are plain tuples, as ``marshal`` needs them. Each class here says what they hold.
"""

from __future__ import annotations

import struct
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

# In the environment of a worker: its sockets, the pipe that ends with the service, and, where the
# log is JSON, what its finished records begin with.
SOCKETS = "INFERENCE_SERVER_WORKER_SOCKETS"
LEASH = "INFERENCE_SERVER_WORKER_LEASH"
MARK = "INFERENCE_SERVER_WORKER_MARK"
# Sent on that pipe when the client of a request has left: the lane of the worker, counted from 0,
# and the number of the request in that lane.
CANCEL = struct.Struct("<IQ")

# Messages for clients.
SCRIPT_FAILED = "An unexpected error occurred in scoring script. Check the logs for more info."
TIMED_OUT = "Scoring timeout after {:.0f} ms"
INTERNAL = "An unexpected internal error occurred. Check the logs for more info."

# What the metadata of an answer begins with: see ``Result``.
FROM_SCRIPT = "headers"
ERROR = "error"

# A call without its body.
CallMeta = Tuple[str, str, str, str, Dict[str, str], str]
# For a script that gets nothing but the body; it is sent as None.
PLAIN: CallMeta = ("POST", "/score", "", "", {}, "")


class Call(NamedTuple):
    """One request to score: the metadata and the body of a ``SCORE``."""

    method: str
    path: str
    query: str
    content_type: str
    headers: Dict[str, str]
    remote_addr: str
    body: bytes

    @classmethod
    def decode(cls, meta: Optional[CallMeta], body: bytes) -> Call:
        """The call that a frame holds."""
        return cls._make((*(meta or PLAIN), body))


class RefusedError(Exception):
    """Raised in a worker for a request that cannot be scored: its client gets this message."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class Result(NamedTuple):
    """The answer to one call: a ``RESULT``, or the ``START`` of one whose body follows in parts.

    ``meta`` is None for status 200 with JSON, ``(FROM_SCRIPT, headers)`` for a response that the
    script made, ``(ERROR, message, run_failed)`` where there is none.
    """

    status: int
    meta: Any
    body: bytes
    ms: float


class ScriptFacts(NamedTuple):
    """What the script is like: the metadata of a ``READY``, the same from all workers."""

    # Whether run() reads headers, gets the whole request, or gets nothing but the body as text.
    needs_headers: bool = True
    is_raw: bool = False
    is_plain: bool = False
    # The documents at /swagger.json by the version in the query, and the versions that there are.
    documents: Dict[str, bytes] = {}  # noqa: RUF012 - never written to
    supported: List[str] = []  # noqa: RUF012 - never written to


class Failure(NamedTuple):
    """Why a worker has not become ready: the metadata of a ``FAILED``."""

    exit_code: int
    message: str
