"""How does gunicorn carry the application on Pythons that Granian does not support?

Its threaded worker runs in this process, without the arbiter: that one would restart the front,
but knows neither our exit codes nor ``init()``.
"""

from __future__ import annotations

import importlib
import os
import selectors
import socket
import threading
import time
from concurrent import futures
from typing import Any, Dict, Iterable, Tuple

from . import body, exits
from .app import ABORT, Application
from .config import Settings
from .log import Log

CONNECTIONS = 4096
SPARE_THREADS = 32
SWEEP_S = 0.5


class Carrier:
    """gunicorn's threaded worker on one listening socket."""

    def __init__(self, settings: Settings, app: Application, sock: socket.socket, log: Log) -> None:
        try:
            # By name, because the package has no type stubs.
            settings_of: Any = importlib.import_module("gunicorn.config")
            gthread: Any = importlib.import_module("gunicorn.workers.gthread")
        except ImportError as error:
            message = "the HTTP server gunicorn is not installed: {}".format(error)
            raise exits.FatalError(exits.NO_SERVER, message) from None
        config = settings_of.Config()
        slots = settings.worker_count * settings.concurrency
        values = {
            "threads": settings.queue_limit + settings.reader_limit + slots + SPARE_THREADS,
            "worker_connections": CONNECTIONS,
            "keepalive": max(1, int(settings.idle_timeout_s)),
            "graceful_timeout": max(1, int(settings.drain_timeout_s)),
            "limit_request_line": 8190,
        }
        for name, value in values.items():
            config.set(name, value)
        worker_class = _make_worker_class(gthread.ThreadWorker)
        self._worker = worker_class(0, os.getpid(), [sock], None, 0, config, _Logger(log))
        self._worker.attach(app, settings.read_timeout_s)
        self._thread = threading.Thread(target=self._worker.run, name="gunicorn", daemon=True)

    def start(self) -> None:
        """Begin to accept; returns at once."""
        self._thread.start()

    def stop_accepting(self) -> None:
        """Close the port; requests in flight go on."""
        self._worker.stop()


class _Logger:
    """What gunicorn would log is ours to log, or is of interest for debugging only."""

    def __init__(self, log: Log) -> None:
        self._log = log

    def debug(self, message: str, *args: Any, **_kwargs: Any) -> None:
        self._log.debug(message % args if args else message)

    info = warning = debug

    def exception(self, message: str, *args: Any, **_kwargs: Any) -> None:
        import traceback

        self._log.debug("{}\n{}".format(message, traceback.format_exc()))

    error = critical = exception

    def access(self, *_args: Any) -> None:
        """The application writes the access log."""


def _make_worker_class(base: Any) -> Any:
    """The worker class, made late: gunicorn may not be installed at all."""

    class Worker(base):  # type: ignore[misc]
        """``gthread`` with time limits for clients, and without signals and processes."""

        def attach(self, app: Application, read_timeout_s: float) -> None:
            self._app = app
            self._read_timeout_s = read_timeout_s
            self._heads: Dict[int, Tuple[float, socket.socket]] = {}
            self._closing = threading.local()
            self.wsgi = self._respond
            self.tpool = futures.ThreadPoolExecutor(max_workers=self.cfg.threads)
            self.poller = selectors.DefaultSelector()
            self._lock = threading.RLock()
            self._wake_read, self._wake_write = os.pipe()
            self.poller.register(self._wake_read, selectors.EVENT_READ, lambda _: None)
            threading.Thread(target=self._sweep, name="slow-heads", daemon=True).start()

        def stop(self) -> None:
            self.alive = False
            os.write(self._wake_write, b"x")

        def notify(self) -> None:
            """There is no arbiter to be told that we live."""

        def is_parent_alive(self) -> bool:
            return True

        def handle(self, conn: Any) -> Any:
            # A thread reads the head; it must not do so for ever.
            key = threading.get_ident()
            conn.sock.settimeout(self._read_timeout_s)
            self._heads[key] = (time.monotonic() + self._read_timeout_s, conn.sock)
            try:
                return super().handle(conn)
            finally:
                self._heads.pop(key, None)

        def handle_request(self, req: Any, conn: Any) -> Any:
            self._heads.pop(threading.get_ident(), None)
            # From here on the body has its own deadline, and an answer may take long to write.
            conn.sock.settimeout(None)
            self._closing.now = False
            keep = super().handle_request(req, conn)
            if self._closing.now:
                _linger(conn.sock)
                return False
            return keep

        def _respond(self, environ: Dict[str, Any], start_response: Any) -> Iterable[bytes]:
            sock = environ["gunicorn.socket"]
            environ[ABORT] = lambda: sock.shutdown(socket.SHUT_RD)

            def start(status: str, headers: Any) -> Any:
                if ("Connection", "close") in headers:
                    # gunicorn drops the header, and would go on to read an unread body.
                    self._closing.now = True
                    start_response.__self__.force_close()
                return start_response(status, headers)

            return self._app(environ, start)

        def _sweep(self) -> None:
            while self.alive:
                time.sleep(SWEEP_S)
                now = time.monotonic()
                for key, (deadline, sock) in list(self._heads.items()):
                    if now >= deadline and self._heads.pop(key, None) is not None:
                        try:
                            sock.shutdown(socket.SHUT_RDWR)
                        except OSError:
                            continue

    return Worker


def _linger(sock: socket.socket) -> None:
    """Take in some of what the client still sends, so that it sees the answer, not a reset."""
    try:
        sock.shutdown(socket.SHUT_WR)
        sock.settimeout(body.LINGER_S)
        left = body.LINGER_BYTES
        deadline = time.monotonic() + body.LINGER_S
        while left > 0 and time.monotonic() < deadline:
            data = sock.recv(body.CHUNK)
            if not data:
                return
            left -= len(data)
    except OSError:
        return
