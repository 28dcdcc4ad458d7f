"""Malicious clients: others are still answered, and no answer is an internal error."""

from __future__ import annotations

import contextlib
import random
import re
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import Serve
from .harness import Server
from .hostile import (
    AHEAD,
    DEPTHS,
    SCRIPT,
    Probe,
    exchange,
    faults,
    halves,
    held,
    mutate,
    post,
    reset,
    resident,
    statuses,
)

CLOSE = b"Connection: close"
# Of what is played a second time.
GROWTH_MIB = 4.0


def address(server: Server) -> tuple[str, int]:
    return "127.0.0.1", server.port


def assert_serves(server: Server) -> None:
    """Scoring works, and the health route says the truth about it."""
    health = server.get("/").status
    try:
        scored = server.score(b"after", timeout=3).status
    except TimeoutError:
        scored = 0
    assert (health, scored) == (200, 200), f"/ says {health}, scoring {scored or 'hangs'}"


@pytest.mark.parametrize("kind", AHEAD)
def test_many_requests_ahead_of_one_to_score(serve: Serve, kind: str) -> None:
    """One connection, one piece of bytes: at any depth all is answered and the service goes on."""
    server = serve(SCRIPT)
    for depth in DEPTHS:
        [received] = exchange(address(server), [AHEAD[kind] * depth + post(b"last", CLOSE)])
        try:
            assert_serves(server)
        except AssertionError as error:
            raise AssertionError(f"behind {depth} requests: {error}") from None
        assert len(statuses(received)) == depth + 1, f"behind {depth} requests"
        assert statuses(received)[-1] == 200


def test_a_flood_is_answered_in_order_and_others_are_heard(serve: Serve) -> None:
    """A client that sends ahead has its turn, and so has everybody else."""
    count = 1500
    server = serve(SCRIPT)
    flood = b"".join(
        b"GET / HTTP/1.1\r\nHost: a\r\nx-request-id: %d\r\n%s\r\n"
        % (number, b"Connection: close\r\n" if number == count - 1 else b"")
        for number in range(count)
    )
    with Probe(address(server)) as probe:
        answers = exchange(address(server), [flood] * 40)
    expected = [str(number).encode() for number in range(count)]
    for received in answers:
        assert re.findall(rb"\r\nx-request-id: (\d+)\r\n", received) == expected
    assert probe.seen.healthy, probe.seen
    assert_serves(server)


def test_requests_ahead_whose_heads_are_cut_between_pieces(serve: Serve) -> None:
    """What counts is the size of a head, not that of the pieces that it comes in."""
    server = serve(SCRIPT)
    flood = AHEAD["GET /"] * 10_000
    with socket.create_connection(address(server), timeout=5) as sock:
        for at in range(0, len(flood), 100_001):
            sock.sendall(flood[at : at + 100_001])
            time.sleep(0.05)
        sock.sendall(post(b"last", CLOSE))
        received = b""
        while data := sock.recv(1 << 20):
            received += data
    assert statuses(received) == [200] * 10_001


def test_mutated_requests(serve: Serve) -> None:
    server = serve(SCRIPT)
    chance = random.Random(12)
    resting = []
    with Probe(address(server)) as probe:
        for _ in range(2):
            requests = [mutate(chance) for _ in range(1000)]
            answers = exchange(address(server), requests, half_close=True)
            for request, received in zip(requests, answers, strict=True):
                assert not faults(received), request
            resting.append(resident(server.process.pid))
    assert probe.seen.healthy, probe.seen
    assert_serves(server)
    assert resting[1] - resting[0] < GROWTH_MIB


def test_half_requests_are_held_open(serve: Serve) -> None:
    server = serve(SCRIPT)
    with held(address(server), halves(random.Random(12), 300)), Probe(address(server)) as probe:
        for _ in range(10):
            assert_serves(server)
            time.sleep(0.05)
    assert probe.seen.healthy, probe.seen
    assert_serves(server)


def await_text(path: Path, text: str, limit_s: float = 5.0) -> None:
    """Wait until a file holds a text."""
    deadline = time.monotonic() + limit_s
    while not path.exists() or text not in path.read_text():
        assert time.monotonic() < deadline, f"{text!r} is not in {path.name}"
        time.sleep(0.02)


def closed(sock: socket.socket) -> None:
    sock.close()


LEAVING: dict[str, Callable[[socket.socket], None]] = {"closes": closed, "resets": reset}


@pytest.mark.parametrize("way", LEAVING)
def test_requests_of_clients_that_left_are_not_scored(
    serve: Serve, tmp_path: Path, way: str
) -> None:
    """Forty wait in the queue and leave; nothing of theirs runs."""
    calls = tmp_path / "calls"
    server = serve(SCRIPT, TEST_CALLS=str(calls))
    requests = [post(b"sleep 1.5"), *(post(b"left %d" % number) for number in range(40))]
    with held(address(server), requests) as socks:
        await_text(calls, "sleep 1.5")
        time.sleep(0.3)
        for sock in socks[1:]:
            LEAVING[way](sock)
        time.sleep(0.2)
        assert server.score(b"after").status == 200
    assert calls.read_text().split("\n") == ["sleep 1.5", "after", ""]


def test_who_only_stopped_sending_gets_the_answer(serve: Serve, tmp_path: Path) -> None:
    """The queue is left by those who close, not by those who have said all and listen."""
    calls = tmp_path / "calls"
    server = serve(SCRIPT, TEST_CALLS=str(calls))
    requests = [post(b"sleep 0.5"), *(post(b"listens %d" % number) for number in range(10))]
    with held(address(server), requests) as socks:
        for sock in socks:
            sock.shutdown(socket.SHUT_WR)
        for sock in socks:
            received = b""
            with contextlib.suppress(TimeoutError):
                while data := sock.recv(65536):
                    received += data
            assert statuses(received) == [200]
    assert len(calls.read_text().splitlines()) == 11


def test_a_stream_to_a_client_that_reads_slowly(serve: Serve) -> None:
    """Wherever a pause falls, at the end of an answer too, the worker scores the next request."""
    script = """
        from azureml_inference_server_http.api.aml_response import AMLResponse

        def init():
            pass

        def run(data):
            if data.startswith("stream "):
                return AMLResponse((b"x" * 1000 for _ in range(int(data.split()[1]))), 200)
            return len(data)
    """
    server = serve(script)
    # More than the buffers of the system take; the last read of the service holds more and more.
    for count in range(7000, 7070, 4):
        with held(address(server), [post(b"stream %d" % count, CLOSE)]) as [sock]:
            received = 0
            while data := sock.recv(100_000):
                received += len(data)
                time.sleep(0.002)
        assert received > count * 1000
        try:
            assert_serves(server)
        except AssertionError as error:
            raise AssertionError(f"after a stream of {count} kB: {error}") from None
