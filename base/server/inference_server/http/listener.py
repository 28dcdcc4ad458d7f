"""How are connections accepted? By a thread with an event loop, as long as the service runs."""

from __future__ import annotations

import asyncio
import resource
import socket
import threading
from typing import Any, Dict, List

from ..app import Application
from ..config import Settings
from ..log import Log
from ..memory import Memory
from ..workers.pool import Pool
from .connection import Connections

# As many as Linux takes by default (net.core.somaxconn). Beyond that, a burst of connections costs
# each new client the second after which it asks again.
BACKLOG = 4096
ACCEPTS = 16
# Generous, because idle connections count.
CONNECTIONS = 16384
# For files of the service, and for the pipes and sockets of starting workers.
SPARE_DESCRIPTORS = 256
SWEEP_S = 0.25


class Listener:
    """Listening sockets and their connections."""

    def __init__(
        self,
        settings: Settings,
        app: Application,
        pool: Pool,
        memory: Memory,
        socks: List[socket.socket],
        loop: asyncio.AbstractEventLoop,
        log: Log,
    ) -> None:
        self._loop = loop
        self._app = app
        self._pool = pool
        self._log = log
        self._socks = socks
        self._connections = Connections(settings, app, memory, loop, _most_connections())
        self._servers: List[Any] = []
        self._thread = threading.Thread(target=self._run, name="http", daemon=True)
        loop.set_exception_handler(self._report)

    def start(self) -> None:
        """Begin to accept connections; returns at once."""
        self._thread.start()

    @property
    def open(self) -> int:
        """How many connections there are."""
        return self._connections.open

    def stop_accepting(self) -> None:
        """Close the port and the connections without a request; the others go on."""
        self._loop.call_soon_threadsafe(self._stop)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        for sock in self._socks:
            # asyncio accepts as many as `backlog` in one turn.
            server = self._loop.create_server(self._connections.make, sock=sock, backlog=ACCEPTS)
            self._servers.append(self._loop.run_until_complete(server))
            sock.listen(BACKLOG)
        self._sweep()
        self._loop.run_forever()

    def _stop(self) -> None:
        for server in self._servers:
            server.close()
        self._connections.close_idle()

    def _sweep(self) -> None:
        self._loop.call_later(SWEEP_S, self._sweep)
        self._pool.sweep()
        self._connections.sweep()
        self._app.flush()

    def _report(self, _loop: asyncio.AbstractEventLoop, context: Dict[str, Any]) -> None:
        """Log unexpected errors in callbacks, and refusals of the system."""
        error = context.get("exception")
        self._log.error("{}: {!r}".format(context["message"], error))
        connection = context.get("protocol")
        if connection is not None:
            connection.abort()


def _most_connections() -> int:
    """How many connections the limit of open files allows, after it was raised if possible."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = CONNECTIONS + SPARE_DESCRIPTORS
    if soft != resource.RLIM_INFINITY and soft < wanted:
        raised = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (raised, hard))
        soft = raised
    if soft == resource.RLIM_INFINITY:
        return CONNECTIONS
    return max(1, min(CONNECTIONS, soft - SPARE_DESCRIPTORS))
