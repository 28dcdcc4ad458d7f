"""Is the server in this container healthy? For Docker's HEALTHCHECK: exit code 0 or 1."""

from __future__ import annotations

import os
import socket
import sys
from typing import Tuple

from . import config, exit_codes

# Where to ask a server that listens on all addresses of a family. If it listens on both families,
# either will do, but a container may have only one.
LOOPBACKS = {"0.0.0.0": ("127.0.0.1",), "::": ("::1", "127.0.0.1"), "": ("::1", "127.0.0.1")}


def addresses(host: str) -> Tuple[str, ...]:
    """Where to ask a server that listens on ``host``."""
    return LOOPBACKS.get(host, (host,))


def check(host: str, port: int, timeout_s: float = 3.0) -> bool:
    """Whether ``GET /`` answers 200. A bare socket: importing ``http.client`` takes longer."""
    return any(_is_healthy(address, port, timeout_s) for address in addresses(host))


def _is_healthy(address: str, port: int, timeout_s: float) -> bool:
    try:
        with socket.create_connection((address, port), timeout_s) as sock:
            sock.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            return sock.recv(64).startswith(b"HTTP/1.1 200 ")
    except OSError:
        return False


def main() -> int:
    """The exit code."""
    try:
        settings = config.load(os.environ)
    except exit_codes.FatalError:
        # The server does not start either, and logs the reason.
        return 1
    return 0 if check(settings.host or "", settings.port) else 1


if __name__ == "__main__":
    sys.exit(main())
