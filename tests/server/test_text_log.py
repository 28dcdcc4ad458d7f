"""The text log: what clients send cannot look like a line of the server."""

from __future__ import annotations

from .conftest import Serve

FORGED = "2026-01-01 00:00:00,000 C [1] server - forged"


def test_a_message_of_an_exception_cannot_imitate_a_line(serve: Serve) -> None:
    script = "def init(): pass\ndef run(data): raise ValueError(data)"
    server = serve(script)
    breaks = ("\n", "\r", "\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\x1b[2K\r")
    for separator in breaks:
        server.score(f"hello{separator}{FORGED}".encode())
    server.stop()
    lines = server.log.splitlines()
    assert [line for line in lines if FORGED in line]
    assert not [line for line in lines if line.startswith(FORGED)]
    assert "\x1b" not in server.log


def test_a_path_cannot_imitate_a_line(serve: Serve) -> None:
    server = serve("def init(): pass\ndef run(data): return 1")
    for encoded in ("%0a", "%0d", "%e2%80%a8", "%c2%85", "%1b%5b2K%0d", "%e2%80%ae"):
        server.get("/" + encoded + FORGED.replace(" ", "%20"))
    server.stop()
    assert not [line for line in server.log.splitlines() if line.startswith(FORGED)]
    assert "\x1b" not in server.log
    assert "\u202e" not in server.log
