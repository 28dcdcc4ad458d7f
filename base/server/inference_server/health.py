"""Is the server in this container healthy? For Docker's HEALTHCHECK: exit code 0 or 1."""

from __future__ import annotations

import os
import socket
import sys


def check(port: int, timeout_s: float = 3.0) -> bool:
    """Whether ``GET /`` answers 200. A bare socket: importing ``http.client`` takes longer."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout_s) as sock:
            sock.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            return sock.recv(64).startswith(b"HTTP/1.1 200 ")
    except OSError:
        return False


def main() -> int:
    """The exit code."""
    try:
        return 0 if check(int(os.environ.get("SERVER_PORT") or 5001)) else 1
    except ValueError:
        return 1


if __name__ == "__main__":
    sys.exit(main())
