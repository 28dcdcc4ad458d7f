"""How does the service start, run and stop? It is the process that holds the port."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import socket
import sys
import threading
import time
from typing import Any, List, Mapping, NoReturn

from . import __version__, config, exit_codes, extra_packages
from .app import Application
from .http.listener import Listener
from .log import Log, LogStream, settle
from .memory import Memory
from .workers.pool import Pool
from .workers.supervisor import Supervisor

NO_IPV6 = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)


def main() -> NoReturn:
    """Serve until a signal or a fatal error; the last line of the log gives the reason."""
    environ = dict(os.environ)
    as_json = environ.get("INFERENCE_SERVER_LOG_FORMAT", "").strip().lower() == "json"
    log = Log("server", as_json)
    if as_json:
        sys.stdout = sys.stderr = LogStream(log)
    try:
        settings = config.load(environ)
        log = Log("server", settings.log_json, settings.log_level)
        Service(settings, environ, log).run()
    except exit_codes.FatalError as fatal:
        log.fatal(fatal.message, fatal.code)
        _exit(fatal.code)
    _exit(exit_codes.OK)


def _exit(code: int) -> NoReturn:
    # Without the shutdown of the interpreter, which would wait for threads that wait for clients.
    settle()
    os._exit(code)


class _StoppedEarlyError(BaseException):
    """A signal came before there was anything to drain."""


def _open(host: str, port: int) -> socket.socket:
    """A socket that listens on an address; "::" includes IPv4, whatever the system's default is."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        if host == "::":
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # Connections inherit it. It detects peers that vanished.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.bind((host, port))
        sock.listen()
        sock.setblocking(False)
    except OSError:
        sock.close()
        raise
    return sock


class Service:
    """The port, the application and the supervisor of the workers."""

    def __init__(self, settings: config.Settings, environ: Mapping[str, str], log: Log) -> None:
        self._settings = settings
        self._environ = environ
        self._log = log
        self._stop = threading.Event()
        self._fatal: List[exit_codes.FatalError] = []
        self._installing = False

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT; raises the ``FatalError`` that ends the service."""
        settings = self._settings
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        self._log.info(
            "inference-server {} on Python {}.{}.{}".format(__version__, *sys.version_info[:3])
        )
        for warning in settings.warnings:
            self._log.warning(warning)
        socks = [self._listen(settings.port)]
        if settings.health_port is not None and settings.health_port != settings.port:
            socks.append(self._listen(settings.health_port))
        loop = asyncio.new_event_loop()
        memory = Memory(settings.body_memory)
        pool = Pool(loop, settings.queue_limit, settings.queue_timeout_s, settings.run_limit_s)
        app = Application(settings, pool, Log("access", settings.log_json), memory)
        pool.report = app.report
        listener = Listener(settings, app, pool, memory, socks, loop, self._log)
        # From here on requests are answered, with 503 until a worker is ready.
        listener.start()
        try:
            self._installing = True
            worker_environ = extra_packages.prepare(settings, self._environ, self._log)
            self._installing = False
        except _StoppedEarlyError:
            self._log.info("stopped")
            return
        supervisor = Supervisor(settings, pool, self._log, worker_environ, app.learn, self._give_up)
        app.restarts = lambda: supervisor.restarts
        supervisor.start()
        self._stop.wait()
        if not self._fatal:
            self._drain(app, listener)
        supervisor.stop()
        if self._fatal:
            raise self._fatal[0]
        self._log.info("stopped")

    def _listen(self, port: int) -> socket.socket:
        configured = self._settings.host
        for host in [configured] if configured else ["::", "0.0.0.0"]:
            try:
                return _open(host, port)
            except OSError as error:
                failure = error
                if error.errno not in NO_IPV6:
                    break
        raise exit_codes.FatalError(
            exit_codes.PORT,
            "port {} on {} cannot be opened: {}".format(port, host, failure.strerror),
        )

    def _drain(self, app: Application, listener: Listener) -> None:
        """Let balancers notice, then let requests in flight finish, both for a limited time."""
        delay = self._settings.shutdown_delay_s
        if delay:
            # Balancers send requests until they see that the service is not ready.
            app.leaving = True
            self._log.info("not ready any more, stopping in {:g} s".format(delay))
            self._stop.clear()
            # A second signal ends the delay.
            self._stop.wait(delay)
        app.draining = True
        listener.stop_accepting()
        limit = self._settings.drain_timeout_s
        self._log.info("stopping: {} requests in flight, {:g} s at most".format(app.active, limit))
        deadline = time.monotonic() + limit
        # A connection ends after its last answer, including those whose body is still to come.
        while listener.open and time.monotonic() < deadline:
            time.sleep(0.02)
        if listener.open:
            self._log.warning("{} connections did not end in time".format(listener.open))

    def _on_signal(self, _number: int, _frame: Any) -> None:
        self._stop.set()
        if self._installing:
            self._installing = False
            # This ends pip, and the wait for it.
            raise _StoppedEarlyError

    def _give_up(self, fatal: exit_codes.FatalError) -> None:
        self._fatal.append(fatal)
        self._stop.set()
