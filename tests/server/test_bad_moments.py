"""Clients, workers and the service itself that stop, leave or crash at a bad moment."""

from __future__ import annotations

import http.client
import signal
import socket
import time
from contextlib import ExitStack, closing
from functools import partial

import pytest

from .conftest import Serve
from .test_operation import Later
from .test_places import await_metric, send
from .test_streaming import SCRIPT as STREAMS
from .test_streaming import connect, streamed

SCRIPT = """
    import os, time

    class Unspeakable(Exception):
        def __str__(self):
            raise ValueError("nobody can say this")

    def init(): pass

    def run(data):
        with open("runs", "a") as file:
            file.write("{} bytes\\n".format(len(data)))
        word, _, number = data[:100].partition(" ")
        if word == "sleep":
            time.sleep(float(number.split()[0]))
        elif word == "die":
            time.sleep(0.4)
            os._exit(9)
        elif word == "answer":
            return "y" * int(number)
        elif word == "unspeakable":
            raise Unspeakable
        return len(data)
"""


@pytest.mark.parametrize("concurrency", ["1", "2"])
def test_a_stream_that_never_rests_ends_in_time(serve: Serve, concurrency: str) -> None:
    server = serve(STREAMS, SCORING_TIMEOUT_MS="1000", INFERENCE_SERVER_CONCURRENCY=concurrency)
    with ExitStack() as stack:
        for number in range(int(concurrency)):
            query = f"endless=1&notes=%22notes{number}%22"
            response = stack.enter_context(streamed(server, query))
            started = time.monotonic()
            with pytest.raises(http.client.IncompleteRead):
                response.read(2**40)
            assert time.monotonic() - started < 6
    assert server.get("/score?count=1").status == 200


def test_a_client_that_reads_steadily_gets_all_however_long_it_takes(serve: Serve) -> None:
    server = serve(
        SCRIPT, INFERENCE_SERVER_BODY_MEMORY="200000000", INFERENCE_SERVER_IDLE_TIMEOUT="1"
    )
    with closing(socket.create_connection(("127.0.0.1", server.port), timeout=10)) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        sock.sendall(
            b"POST /score HTTP/1.1\r\nHost: a\r\nContent-Length: 15\r\n\r\nanswer 20000000"
        )
        size = 0
        while size < 20_000_000:
            data = sock.recv(200_000)
            assert data, f"cut off after {size} bytes"
            size += len(data)
            time.sleep(0.025)


def test_an_announcement_is_no_body(serve: Serve) -> None:
    """The time for a body counts what has come of it, not what was promised."""
    server = serve(
        SCRIPT, INFERENCE_SERVER_BODY_MEMORY="100000000", INFERENCE_SERVER_READ_TIMEOUT="1"
    )
    with closing(socket.create_connection(("127.0.0.1", server.port), timeout=6)) as sock:
        sock.sendall(b"POST /score HTTP/1.1\r\nHost: a\r\nContent-Length: 40000000\r\n\r\n")
        waiting = Later(lambda: server.score(b"x" * 20_000_000))
        assert sock.recv(1000).startswith(b"HTTP/1.1 408 ")
    assert waiting.result().json == 20_000_000


def test_those_that_wait_survive_the_only_worker(serve: Serve) -> None:
    server = serve(SCRIPT, INFERENCE_SERVER_METRICS="true")
    dying = Later(lambda: server.score(b"die"))
    await_metric(server, "inference_requests_running 1")
    waiting = [Later(lambda: server.score(b"x")) for _ in range(3)]
    await_metric(server, "inference_requests_waiting 3")
    assert dying.result().status == 500
    assert [request.result().status for request in waiting] == [200, 200, 200]


def test_an_answer_on_its_way_ends_before_the_service(serve: Serve) -> None:
    server = serve(
        SCRIPT, INFERENCE_SERVER_BODY_MEMORY="200000000", INFERENCE_SERVER_DRAIN_TIMEOUT="10"
    )
    with closing(socket.create_connection(("127.0.0.1", server.port), timeout=10)) as sock:
        sock.sendall(
            b"POST /score HTTP/1.1\r\nHost: a\r\nContent-Length: 15\r\n\r\nanswer 30000000"
        )
        server.await_log("POST /score 200")
        server.process.send_signal(signal.SIGTERM)
        size = 0
        while data := sock.recv(1 << 20):
            size += len(data)
            time.sleep(0.02)
    assert size > 30_000_000
    assert server.await_exit() == 0


def test_a_body_on_its_way_is_answered_by_a_service_that_ends(serve: Serve) -> None:
    server = serve(SCRIPT)
    with closing(socket.create_connection(("127.0.0.1", server.port), timeout=10)) as sock:
        sock.sendall(b"POST /score HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf ")
        time.sleep(0.2)
        server.process.send_signal(signal.SIGTERM)
        server.await_log("stopping: ")
        sock.sendall(b"a body")
        assert sock.recv(1000).startswith(b"HTTP/1.1 503 ")
    assert server.await_exit(3) == 0


def test_an_idle_service_stops_at_once(serve: Serve) -> None:
    server = serve(SCRIPT)
    with closing(socket.create_connection(("127.0.0.1", server.port), timeout=10)):
        time.sleep(0.1)
        started = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - started < 2


@pytest.mark.parametrize("size", [2_000_000, 40_000_000])
def test_a_client_that_leaves_behind_its_body_is_not_scored(serve: Serve, size: int) -> None:
    server = serve(SCRIPT, INFERENCE_SERVER_METRICS="true")
    send(server, b"sleep 8 " + b"x" * size).close()
    server.await_log(" 499 ")
    await_metric(server, "inference_requests_running 0")
    assert server.score(b"x").seconds < 4


def test_half_bodies_lock_no_client_out(serve: Serve) -> None:
    server = serve(SCRIPT, INFERENCE_SERVER_BODY_MEMORY="1000000")
    with ExitStack() as stack:
        for _ in range(100):
            sock = socket.create_connection(("127.0.0.1", server.port), timeout=5)
            stack.enter_context(closing(sock))
            sock.sendall(b"POST /score HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n")
        for _ in range(20):
            assert server.get("/").status == 200


@pytest.mark.parametrize("concurrency", ["1", "2"])
def test_an_exception_that_cannot_be_told(serve: Serve, concurrency: str) -> None:
    server = serve(SCRIPT, INFERENCE_SERVER_CONCURRENCY=concurrency)
    workers = server.workers()
    for _ in range(4):
        answer = server.score(b"unspeakable")
        assert (answer.status, answer.seconds < 3) == (500, True)
    server.await_log("run() raised Unspeakable")
    assert server.workers() == workers


def test_head_keeps_the_connection_and_the_requests_behind_it(serve: Serve) -> None:
    server = serve(STREAMS)
    for query in ("large=3000000", "endless=1"):
        with closing(connect(server, query, method="HEAD")) as sock:
            sock.sendall(b"GET /nothing HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            received = b"".join(iter(partial(sock.recv, 65536), b""))
        assert received.count(b"HTTP/1.1 ") == 2, query
        assert b"HTTP/1.1 404 " in received


def test_a_stream_broken_off_is_seen_with_http_1_0_too(serve: Serve) -> None:
    server = serve(STREAMS)
    with closing(connect(server, "fail=2&pause=0.1", "1.0")) as sock:
        time.sleep(1)
        with pytest.raises(ConnectionResetError):
            list(iter(partial(sock.recv, 65536), b""))


def test_a_client_that_sends_first_sees_why_it_was_refused(serve: Serve) -> None:
    """It waited for room for its body, in vain."""
    server = serve(
        SCRIPT, INFERENCE_SERVER_BODY_MEMORY="100000000", INFERENCE_SERVER_QUEUE_TIMEOUT="1"
    )
    first = Later(lambda: server.score(b"sleep 3 " + b"x" * 40_000_000))
    time.sleep(0.5)
    assert server.score(b"x" * 40_000_000).status == 503
    assert first.result().status == 200


def test_a_worker_that_ends_as_soon_as_it_is_ready_is_not_started_for_ever(serve: Serve) -> None:
    script = """
        import os, threading, time

        def init():
            def end():
                time.sleep(0.1)
                os._exit(7)
            threading.Thread(target=end, daemon=True).start()

        def run(data): return 1
    """
    server = serve(script, ready=False)
    time.sleep(3)
    started = server.log.count("loaded ")
    assert 1 <= started <= 4
    server.await_log("the worker ended as soon as it was ready: it exited with code 7")
