"""A load client on one thread: so many connections, each with one request in flight.

A program of its own, so that it can be pinned to a core: ``load.py PORT CONNECTIONS SECONDS``.
Prints JSON. Standard library only.
"""

from __future__ import annotations

import json
import select
import socket
import sys
import time

BODY = b'{"data": [1, 2, 3]}'
EXPECTED = b'{"sum": 6}'
REQUEST = (
    b"POST /score HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    b"Content-Length: %d\r\n\r\n%s" % (len(BODY), BODY)
)


class Connection:
    """One connection and the state of its request."""

    def __init__(self, port: int) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.send()

    def send(self) -> None:
        self.received = b""
        self.started = time.perf_counter()
        self.sock.sendall(REQUEST)

    def read(self) -> bool | None:
        """True for the expected answer, False for another one, None while it is not complete."""
        try:
            data = self.sock.recv(65536)
        except ConnectionError:
            data = b""
        self.received += data
        if not data:
            return self.received.endswith(EXPECTED)
        if self.received.endswith(EXPECTED):
            return True
        head, found, body = self.received.partition(b"\r\n\r\n")
        if found and not head.startswith(b"HTTP/1.1 200 ") and body:
            return False
        return None

    @property
    def closing(self) -> bool:
        return not self.received or b"connection: close" in self.received.lower()


def measure(port: int, count: int, seconds: float) -> dict[str, float]:
    poll = select.epoll()
    connections: dict[int, Connection] = {}

    def connect() -> None:
        connection = Connection(port)
        connections[connection.sock.fileno()] = connection
        poll.register(connection.sock, select.EPOLLIN)

    for _ in range(count):
        connect()
    taken: list[float] = []
    wrong = 0
    began = time.perf_counter()
    end = began + seconds
    # To wake a processor that sleeps takes a virtual machine longer than a request takes: a single
    # connection is watched without sleep, so that it is the server that is measured.
    wait_s = 0.0 if count == 1 else 1.0
    while time.perf_counter() < end:
        for fd, _ in poll.poll(wait_s):
            connection = connections[fd]
            right = connection.read()
            if right is None:
                continue
            if right:
                taken.append(time.perf_counter() - connection.started)
            else:
                wrong += 1
            if connection.closing:
                poll.unregister(fd)
                connection.sock.close()
                del connections[fd]
                connect()
            else:
                connection.send()
    elapsed = time.perf_counter() - began
    for connection in connections.values():
        connection.sock.close()
    taken.sort()
    return {
        "rps": len(taken) / elapsed,
        "p50_ms": taken[len(taken) // 2] * 1000,
        "p99_ms": taken[int(len(taken) * 0.99)] * 1000,
        "wrong": wrong,
    }


if __name__ == "__main__":
    print(json.dumps(measure(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))))
