"""Ways in which clients make a server hold memory, played against a container with a limit.

``tests/derived/test_memory.py`` plays the short ones, ``benchmarks/server/memory.py`` all of them.
"""

import contextlib
import random
import resource
import socket
import textwrap
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.client import HTTPException
from itertools import pairwise
from pathlib import Path

import docker
from docker.types import Mount

from tests.derived.containers import Service, started
from tests.server.hostile import (
    Address,
    Probe,
    Seen,
    allow_descriptors,
    exchange,
    held,
    post,
    statuses,
)

SERVER = Path(__file__).parents[2] / "base" / "server"
MEGABYTE = 1_000_000
HEALTH_S = 1.0
# A service that is so much larger after a shape has to show that it reuses that memory: when the
# shape is repeated, it soon grows by no more than the second figure.
KEPT_MIB = 16.0
GROWTH_MIB = 4.0
AGAIN = 4
# An answer can be requested in any size, at once or without end.
SCRIPT = textwrap.dedent(
    """
    import time
    from azureml_inference_server_http.api.aml_response import AMLResponse

    def init():
        pass

    def endless():
        while True:
            yield b"x" * 65536

    def run(data):
        words = data[:50].split()
        if words[:1] == ["sleep"]:
            time.sleep(float(words[1]))
        if words[:1] == ["answer"]:
            return AMLResponse("x" * int(words[1]), 200)
        if words[:1] == ["endless"]:
            return AMLResponse(endless(), 200)
        return len(data)
    """
)

Act = Callable[[Address], Counter[str]]


@dataclass(frozen=True)
class Shape:
    """What clients do, and what they may be answered beside 200, 413 and 503."""

    name: str
    act: Act
    refusals: tuple[int, ...] = ()
    # The containers, by MB, in which nothing is to be refused.
    fits: tuple[int, ...] = ()
    short: bool = False
    # Whether all of the clients are answered; else they leave before.
    answered: bool = True

    def wrong(self, answers: Counter[str], limit_mb: int) -> list[str]:
        """What is wrong with the answers."""
        allowed = {200, 413, 503, *self.refusals} if limit_mb not in self.fits else {200}
        if not self.answered:
            answers = +Counter({**answers, "none": 0})
        expected = {str(status) for status in allowed}
        return [f"{count} x {each}" for each, count in answers.items() if each not in expected]


def _counted(received: list[bytes]) -> Counter[str]:
    """The statuses, and how many connections had none."""
    answers: Counter[str] = Counter()
    for each in received:
        found = statuses(each)
        answers.update(str(status) for status in found)
        answers["none"] += not found
    return +answers


def bodies(size_mb: int, clients: int) -> Act:
    """Bodies with their length."""

    def act(address: Address) -> Counter[str]:
        request = post(b"x" * (size_mb * MEGABYTE), b"Connection: close")
        return _counted(exchange(address, [request] * clients, patience_s=40))

    return act


def chunks(chunk: bytes, wire_mb: int, head: bytes = b"", end: bytes = b"0\r\n\r\n") -> Act:
    """A body in chunks, or what passes for one."""

    def act(address: Address) -> Counter[str]:
        count = wire_mb * MEGABYTE // len(chunk)
        request = b"POST /score HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
        request += b"Transfer-Encoding: chunked\r\n\r\n" + head + chunk * count + end
        return _counted(exchange(address, [request], patience_s=40))

    return act


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def large_heads(count: int, bytes_each: int, headers: int) -> Act:
    """Heads just below the limits, each before a body that comes later; in three waves, because
    what is left in pieces of the first is no place for the second."""

    def act(address: Address) -> Counter[str]:
        size = bytes_each // headers - 12
        lines = [b"X-%04d: " % number + b"v" * size for number in range(headers - 3)]
        request = post(b"body", b"Connection: close", *lines)
        answers: Counter[str] = Counter()
        for _ in range(3):
            with held(address, [request[:-3]] * count) as socks:
                time.sleep(1)
                answers += _finish(socks, request[-3:])
        return answers

    return act


def _finish(socks: list[socket.socket], rest: bytes, patience_s: float = 20) -> Counter[str]:
    """Send the rest of each request, and read."""
    for sock in socks:
        with contextlib.suppress(OSError):
            sock.sendall(rest)
    end = time.monotonic() + patience_s
    received = []
    for sock in socks:
        data = b""
        sock.settimeout(max(0.05, end - time.monotonic()))
        with contextlib.suppress(OSError):
            while part := sock.recv(1 << 16):
                data += part
        received.append(data)
    return _counted(received)


def ahead(clients: int, requests: int, size: int) -> Act:
    """Many requests behind a slow one, on each connection."""

    def act(address: Address) -> Counter[str]:
        data = post(b"sleep 0.2") + post(b"x" * size) * requests + post(b"", b"Connection: close")
        return _counted(exchange(address, [data] * clients, patience_s=40))

    return act


def idle(count: int) -> Act:
    """Connections without a request, as many as this user may open."""

    def act(address: Address) -> Counter[str]:
        allow_descriptors()
        most = min(count, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 200)
        with held(address, [b""] * most):
            time.sleep(3)
        return Counter()

    return act


def declared(count: int, size_mb: int) -> Act:
    """Large bodies that are announced and do not come."""

    def act(address: Address) -> Counter[str]:
        head = b"POST /score HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\nbegun"
        with held(address, [head % (size_mb * MEGABYTE)] * count) as socks:
            time.sleep(2)
            return _seen(socks)

    return act


def _seen(socks: list[socket.socket]) -> Counter[str]:
    """What has come so far."""
    received = []
    for sock in socks:
        sock.setblocking(False)
        data = b""
        with contextlib.suppress(OSError):
            data = sock.recv(1 << 16)
        received.append(data)
    return _counted(received)


def unread(what: bytes, clients: int, seconds: float, read_each_s: float = 0) -> Act:
    """Large answers that are requested and not read, or slowly."""

    def act(address: Address) -> Counter[str]:
        requests = [post(what)] * clients
        with held(address, requests) as socks:
            received = [b""] * clients
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                time.sleep(read_each_s or seconds)
                for number, sock in enumerate(socks):
                    sock.setblocking(False)
                    with contextlib.suppress(OSError):
                        received[number] += sock.recv(1 << 16)
            return _counted(received)

    return act


def mixed(seconds: float) -> Act:
    """Small requests of good clients beside bodies of 30 MB."""

    def act(address: Address) -> Counter[str]:
        chance = random.Random(12)
        answers: Counter[str] = Counter()
        large = post(b"x" * 30 * MEGABYTE, b"Connection: close")
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            small = [post(b"x" * chance.randrange(1000), b"Connection: close")] * 20
            answers += _counted(exchange(address, [*small, large, large], patience_s=20))
        return answers

    return act


_ILLEGAL = (400, 408, 431)
SHAPES = [
    *(
        Shape(
            f"body of {size} MB, {clients} client{'s' * (clients > 1)}",
            bodies(size, clients),
            fits={(20, 1): (128, 256, 512), (60, 1): (256, 512), (90, 1): (256, 512)}.get(
                (size, clients), ()
            ),
            short=(size, clients) in ((20, 1), (90, 1), (90, 6)),
        )
        for size in (20, 60, 90)
        for clients in (1, 6, 20)
    ),
    Shape("63 MB in chunks of 2 bytes", chunks(chunk(b"xx"), 63), short=True),
    Shape("63 MB in chunks of 1 byte", chunks(chunk(b"x"), 63)),
    Shape("63 MB in chunks of 64 KB", chunks(chunk(b"x" * 65536), 63)),
    Shape(
        "an extension of a chunk without an end",
        chunks(b"e" * 65536, 100, head=b"1;", end=b""),
        _ILLEGAL,
        short=True,
    ),
    Shape(
        "a trailer without an end",
        chunks(b"t" * 65536, 100, head=b"0\r\nX-T: ", end=b""),
        _ILLEGAL,
        short=True,
    ),
    Shape(
        "trailers without an end",
        chunks(b"X-T: 1\r\n", 100, head=b"0\r\n", end=b""),
        _ILLEGAL,
        short=True,
    ),
    Shape(
        "3 x 1,000 heads of 60 KB in 100 lines", large_heads(1000, 60_000, 100), (408,), short=True
    ),
    Shape("4 x 20 MB of requests behind a slow one", ahead(4, 20_000, 900), short=True),
    Shape("40 x 2 bodies of 15 MB behind a slow one", ahead(40, 2, 15 * MEGABYTE)),
    Shape("20,000 idle connections", idle(20_000), answered=False),
    Shape("3,000 idle connections", idle(3_000), answered=False, short=True),
    Shape(
        "1,000 bodies of 90 MB announced, not sent",
        declared(1000, 90),
        (408,),
        answered=False,
        short=True,
    ),
    Shape(
        "10 answers of 25 MB, not read",
        unread(b"answer 25000000", 10, 4),
        answered=False,
        short=True,
    ),
    Shape(
        "10 answers of 25 MB, read slowly",
        unread(b"answer 25000000", 10, 5, 0.1),
        answered=False,
    ),
    Shape("a stream without an end, not read", unread(b"endless", 1, 5), short=True),
    Shape("small requests beside bodies of 30 MB", mixed(6)),
]

# Of a container, in one command: its peak memory, how many of its processes the kernel killed, and
# the memory of the service now and at most. The service is the child of the first process, tini.
_MEASURE = r"""
cd /sys/fs/cgroup
cat memory.peak memory/memory.max_usage_in_bytes 2>/dev/null | head -1
cat memory.events memory/memory.oom_control 2>/dev/null | grep '^oom_kill '
for status in /proc/[0-9]*/status; do
  if grep -q '^PPid:.1$' $status; then grep -E '^(Pid|VmRSS|VmHWM):' $status; break; fi
done
"""


@dataclass(frozen=True)
class Memory:
    """Of a container, in MiB but for the number of killed processes."""

    peak: float
    killed: int
    service_pid: int
    resident: float
    most: float


def measure(service: Service) -> Memory:
    words = service.execute("sh", "-c", _MEASURE).split()
    fields = dict(pairwise(words))
    return Memory(
        int(words[0]) / 2**20,
        int(fields["oom_kill"]),
        int(fields["Pid:"]),
        int(fields["VmRSS:"]) / 1024,
        int(fields["VmHWM:"]) / 1024,
    )


@dataclass(frozen=True)
class Outcome:
    """What came of a shape in a container with a limit."""

    shape: str
    limit_mb: int
    answers: Counter[str]
    health: Seen
    peak_mib: float
    service_most_mib: float
    service_grew_mib: float
    wrong: list[str]


@contextlib.contextmanager
def limited(client: docker.DockerClient, image: str, limit_mb: int) -> Iterator[Service]:
    """A container with so much memory that serves with the server of this tree."""
    tree = Mount("/opt/inference-server", str(SERVER), type="bind", read_only=True)
    limit = f"{limit_mb}m"
    with started(
        client,
        image,
        {"main.py": SCRIPT},
        {},
        mounts=[tree],
        mem_limit=limit,
        memswap_limit=limit,
    ) as service:
        yield service.await_ready()


def play(client: docker.DockerClient, image: str, shape: Shape, limit_mb: int) -> Outcome:
    """Play a shape in a container of its own."""
    with limited(client, image, limit_mb) as service:
        address = _address(service)
        before = measure(service)
        with Probe(address, HEALTH_S) as probe:
            answers = _played(shape, address)
        health = probe.seen
        wrong = shape.wrong(answers, limit_mb)
        if not health.healthy or health.worst_ms > HEALTH_S * 1000:
            wrong.append(f"health: {health}")
        scores = _scores(service)
        service.container.reload()
        state = service.container.attrs["State"]
        if state["OOMKilled"]:
            wrong.append("the kernel ran out of the container's memory")
        if state["Status"] != "running":
            wrong.append(f"the container ended with {state['ExitCode']}")
            return Outcome(shape.name, limit_mb, answers, health, limit_mb, 0, 0, wrong)
        if not scores:
            wrong.append("scoring does not work afterwards")
        after = measure(service)
        if after.killed > before.killed:
            wrong.append(f"the kernel ended {after.killed - before.killed} processes")
        if after.service_pid != before.service_pid:
            wrong.append("the service was restarted")
        grew = after.resident - before.resident
        if grew > KEPT_MIB:
            wrong += _grows_on(shape, address, service, after.resident)
        most = after.most - before.resident
        return Outcome(shape.name, limit_mb, answers, health, after.peak, most, grew, wrong)


def _played(shape: Shape, address: Address) -> Counter[str]:
    """The answers; a container that has ended takes no connections."""
    try:
        return shape.act(address)
    except OSError as error:
        return Counter({type(error).__name__: 1})


def _address(service: Service) -> Address:
    """Past the engine's proxy where that can be: it would be measured too."""
    service.container.reload()
    network = service.container.attrs["NetworkSettings"]
    addresses = [each["IPAddress"] for each in network.get("Networks", {}).values()]
    for address in addresses:
        with contextlib.suppress(OSError), socket.create_connection((address, 5001), timeout=1):
            return address, 5001
    return "127.0.0.1", service.port


def _scores(service: Service, patience_s: float = 15) -> bool:
    """Whether a small request is scored, at the latest after a while."""
    end = time.monotonic() + patience_s
    while time.monotonic() < end:
        with contextlib.suppress(OSError, HTTPException):
            if service.score("x", timeout=5).status == 200:
                return True
        service.container.reload()
        if service.container.status != "running":
            break
        time.sleep(0.2)
    return False


def _grows_on(shape: Shape, address: Address, service: Service, resident_mib: float) -> list[str]:
    """The error of a service that was so large after the first time, if it keeps growing."""
    sizes = [resident_mib]
    for _ in range(AGAIN):
        _played(shape, address)
        if not _scores(service):
            return ["scoring does not work after another time"]
        sizes.append(measure(service).resident)
        if sizes[-1] - sizes[-2] <= GROWTH_MIB:
            return []
    return ["the service grows each time: " + ", ".join(f"{size:.0f}" for size in sizes) + " MiB"]
