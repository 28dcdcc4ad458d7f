"""How does Granian carry the application?

Granian's own supervisor is made for its own worker processes: it knows neither our exit codes nor
``init()``. So its WSGI engine is used directly, in this process. The engine hands over
``(protocol, environ)``; the protocol takes status, headers and body from whichever thread has
them. So a request that waits for ``run()`` holds no thread, and a request whose body does not
come can be answered while a thread is still stuck in reading it.
"""

from __future__ import annotations

import asyncio
import importlib
import socket
from functools import partial
from typing import Any

from . import exits
from .app import ABORT, Application, too_late
from .config import Settings

# Connections beyond this wait in the kernel. Granian counts idle ones too, so it is generous.
CONNECTIONS = 16384
# Threads for requests that never wait: health, metrics, refusals.
SPARE_THREADS = 16
BUFFER = 64 * 1024


class Carrier:
    """Granian's WSGI engine on one listening socket."""

    def __init__(self, settings: Settings, app: Application, sock: socket.socket) -> None:
        try:
            # By name, because the engine has no usable type stubs.
            engine: Any = importlib.import_module("granian._granian")
            schedulers: Any = importlib.import_module("granian._futures")
            protocols: Any = importlib.import_module("granian.http")
        except ImportError as error:
            message = "the HTTP server granian is not installed: {}".format(error)
            raise exits.FatalError(exits.NO_SERVER, message) from None
        self._app = app
        app.lingers = True
        self._signal = engine.WorkerSignal()
        # The engine closes the descriptor that it gets when it stops to accept.
        holder = engine.SocketHolder(sock.detach(), False, 1024)
        slots = settings.worker_count * settings.concurrency
        threads = settings.reader_limit + slots + SPARE_THREADS
        http = protocols.HTTP1Settings(
            # It also ends idle connections, which wait for the head of a next request.
            header_read_timeout=int(settings.idle_timeout_s * 1000),
            keep_alive=True,
            max_buffer_size=BUFFER,
            pipeline_flush=False,
        )
        tls: Any = (False, None, None, None, "tls1.3", None, [], False)
        self._engine = engine.WSGIWorker(
            1, (None, holder), None, 1, 512, threads, 30, CONNECTIONS, "1", http, None, None,
            *tls, (None, None),
        )  # fmt: skip
        self._loop = asyncio.new_event_loop()
        self._scheduler = schedulers._new_cbscheduler(self._loop, self._handle, impl_asyncio=True)

    def start(self) -> None:
        """Begin to accept; returns at once."""
        self._engine.serve_mtr(self._scheduler, self._loop, self._signal)

    def stop_accepting(self) -> None:
        """Close the port; requests in flight go on."""
        self._signal.set()

    def _handle(self, protocol: Any, environ: Any) -> None:
        environ[ABORT] = partial(_abort, protocol)
        self._app.handle(environ, protocol.response_bytes)


def _abort(protocol: Any) -> None:
    protocol.response_bytes(*too_late())
