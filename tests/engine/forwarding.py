"""Other ways to an engine and to its BuildKit; nothing leaves loopback."""

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from imagematrix.host.engine import Engine


@contextlib.contextmanager
def forwarding(listening: socket.socket, connect: Callable[[], socket.socket]) -> Iterator[None]:
    """Connects each that comes with what `connect` gives."""

    def serve() -> None:
        while True:
            try:
                near, _ = listening.accept()
            except ssl.SSLError:
                continue  # No certificate.
            except OSError:
                return
            try:
                far = connect()
            except OSError:  # There is nothing behind it, for now.
                near.close()
                continue
            for pair in ((near, far), (far, near)):
                threading.Thread(target=_pump, args=pair, daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield
    finally:
        listening.close()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError, ValueError):
        while data := source.recv(1 << 16):
            sink.sendall(data)
    # What flows the other way may not be over yet; TLS has no half of a connection.
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_RDWR if isinstance(sink, ssl.SSLSocket) else socket.SHUT_WR)


def connection(engine: Engine) -> socket.socket:
    """A connection to the socket of an engine."""
    if engine.endpoint.socket is None:
        pytest.skip("the engine is not on this machine: there is nothing to lead to")
    far = socket.socket(socket.AF_UNIX)
    far.connect(str(engine.endpoint.socket))
    return far


@contextlib.contextmanager
def buildkit(engine: Engine, path: Path) -> Iterator[str]:
    """The BuildKit of an engine at a socket of its own, as the driver `remote` of buildx wants it:
    https://docs.docker.com/build/builders/drivers/remote/"""

    def connect() -> socket.socket:
        far = connection(engine)
        ask = "POST /grpc HTTP/1.1\r\nHost: docker\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
        far.sendall(ask.encode())
        head = b""
        while b"\r\n\r\n" not in head and (more := far.recv(1)):
            head += more
        assert b" 101 " in head, head
        return far

    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen(32)
        with forwarding(listening, connect):
            yield f"unix://{path}"
