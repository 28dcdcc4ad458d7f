"""A registry behind a front that talks TLS and fails where a test wants it to; on loopback."""

import re
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPSConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.engine.registries import SecureRegistry

# What is between two hops only, or is set here.
_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "date", "server"}


@dataclass
class Fault:
    """What happens to requests of a method whose path a pattern matches.

    With `status`, they get that answer; with `drop`, none; `act` is called first in any case. The
    first `skip` of them pass, then `times` of them do not. `after` lets the registry do what is
    asked before: only its answer is lost.
    """

    method: str
    path: str
    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    body: str = '{"errors": [{"code": "DENIED", "message": "requested access is denied"}]}'
    drop: bool = False
    act: Callable[[], None] | None = None
    skip: int = 0
    times: int = 1
    after: bool = False
    seen: int = 0


@dataclass
class Front:
    """The front: `host` is its host:port, `requests` is what came, as method and path."""

    host: str
    faults: list[Fault] = field(default_factory=list)
    requests: list[tuple[str, str]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def fault(self, method: str, path: str) -> Fault | None:
        """The fault that a request meets."""
        with self.lock:
            self.requests.append((method, path))
            for fault in self.faults:
                if fault.method == method and re.search(fault.path, path):
                    fault.seen += 1
                    if fault.skip < fault.seen <= fault.skip + fault.times:
                        return fault
        return None


@contextmanager
def front(behind: SecureRegistry) -> Iterator[Front]:
    """A front of a registry, with its certificate; it asks for the same password."""
    trusted = ssl.create_default_context(cafile=behind.ca)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            """Nothing."""

        def _answer(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            if self.command != "HEAD":
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def _forward(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
            connection = HTTPSConnection(behind.host, context=trusted)
            try:
                given = {k: v for k, v in self.headers.items() if k.lower() not in _HOP_BY_HOP}
                connection.request(self.command, self.path, body, given)
                answer = connection.getresponse()
                kept = {k: v for k, v in answer.getheaders() if k.lower() not in _HOP_BY_HOP}
                content = answer.read()
                if self.command == "HEAD" and (size := answer.getheader("Content-Length")):
                    kept["Content-Length"] = size
                return answer.status, kept, content
            finally:
                connection.close()

        def _serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            fault = found.fault(self.command, self.path)
            if fault is None:
                self._answer(*self._forward(body))
                return
            if fault.after:
                self._forward(body)
            if fault.act is not None:
                fault.act()
            if fault.status:
                kind = {"Content-Type": "application/json"}
                self._answer(fault.status, {**kind, **fault.headers}, fault.body.encode())
            elif fault.drop:
                self.close_connection = True
                self.connection.close()
            else:
                self._answer(*self._forward(body))

        do_GET = do_HEAD = do_PUT = do_POST = do_PATCH = do_DELETE = _serve  # noqa: N815  # Of http.server.

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(behind.certificate, behind.key)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.daemon_threads = True
    found = Front(f"127.0.0.1:{server.server_port}")
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield found
    finally:
        server.shutdown()
        server.server_close()
