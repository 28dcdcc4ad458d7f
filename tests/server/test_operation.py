"""Operation: limits, time limits, dying workers, stopping, logs, metrics."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .conftest import Serve
from .harness import Answer, Server

SCRIPT = """
    import json, logging, os, sys, threading, time

    INSIDE = 0
    MOST = 0

    def init():
        print("init prints")

    def run(data):
        global INSIDE, MOST
        given = json.loads(data)
        INSIDE += 1
        MOST = max(MOST, INSIDE)
        try:
            return act(given)
        finally:
            INSIDE -= 1

    def act(given):
        action = given.get("do")
        if action == "sleep":
            time.sleep(given["s"])
        elif action == "spin":
            end = time.monotonic() + given["s"]
            while time.monotonic() < end:
                pass
        elif action == "deaf":
            import signal
            signal.pthread_sigmask(signal.SIG_BLOCK, range(1, signal.NSIG))
            time.sleep(given["s"])
        elif action == "die":
            os._exit(9)
        elif action == "segfault":
            import ctypes
            ctypes.string_at(0)
        elif action == "fork":
            # A child that holds on to everything, as process pools do.
            if os.fork() == 0:
                time.sleep(60)
                os._exit(0)
            os._exit(9)
        elif action == "log":
            print("one", given["n"])
            logging.getLogger("mine").info("two %s", given["n"])
            print("three", given["n"], file=sys.stderr)
            logging.warning("four %s", given["n"])
        on_main = threading.current_thread() is threading.main_thread()
        return {"most": MOST, "pid": os.getpid(), "main": on_main}
"""


class Later:
    """A request on a thread of its own."""

    def __init__(self, call: Callable[[], Answer]) -> None:
        self._result: list[Answer | BaseException] = []
        self._call = call
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._result.append(self._call())
        except BaseException as error:
            self._result.append(error)

    def result(self, limit_s: float = 15.0) -> Answer:
        self._thread.join(limit_s)
        assert self._result, "the request hangs"
        result = self._result[0]
        if isinstance(result, BaseException):
            raise result
        return result


def is_alive(pid: int) -> bool:
    """Whether a process is there and is no zombie."""
    try:
        return " Z " not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


def later(server: Server, body: Any, **options: Any) -> Later:
    return Later(lambda: server.score(body, **options))


def test_health_answers_while_run_is_busy_and_many_wait(serve: Serve) -> None:
    server = serve(SCRIPT)
    requests = [later(server, {"do": "sleep", "s": 1})]
    time.sleep(0.1)
    requests += [later(server, {"do": "sleep", "s": 0}) for _ in range(40)]
    time.sleep(0.3)
    taken = sorted(server.get("/").seconds for _ in range(20))
    assert taken[-2] < 0.05, taken
    assert {request.result().status for request in requests} == {200}


def test_health_answers_while_run_spins(serve: Serve) -> None:
    server = serve(SCRIPT)
    request = later(server, {"do": "spin", "s": 1})
    time.sleep(0.1)
    taken = sorted(server.get("/").seconds for _ in range(10))
    assert taken[-2] < 0.1, taken
    assert request.result().status == 200


def test_run_is_called_once_at_a_time_and_on_the_main_thread(serve: Serve) -> None:
    server = serve(SCRIPT)
    requests = [later(server, {"do": "sleep", "s": 0.02}) for _ in range(10)]
    answers = [request.result().json for request in requests]
    assert {answer["main"] for answer in answers} == {True}
    assert max(answer["most"] for answer in answers) == 1


def test_concurrency_is_a_setting(serve: Serve) -> None:
    server = serve(SCRIPT, INFERENCE_SERVER_CONCURRENCY="4")
    requests = [later(server, {"do": "sleep", "s": 0.3}) for _ in range(8)]
    assert max(request.result().json["most"] for request in requests) == 4


def test_worker_count(serve: Serve) -> None:
    server = serve(SCRIPT, WORKER_COUNT="3")
    deadline = time.monotonic() + 10
    while server.log.count("init() took") < 3 and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.1)
    requests = [later(server, {"do": "sleep", "s": 0.4}) for _ in range(3)]
    answers = [request.result() for request in requests]
    assert len({answer.json["pid"] for answer in answers}) == 3
    assert max(answer.seconds for answer in answers) < 1.0


def test_a_full_queue_refuses_cleanly(serve: Serve) -> None:
    server = serve(SCRIPT, INFERENCE_SERVER_QUEUE_LIMIT="2")
    running = later(server, {"do": "sleep", "s": 1})
    time.sleep(0.2)
    waiting = [later(server, {}) for _ in range(2)]
    time.sleep(0.2)
    answer = server.score({})
    assert (answer.status, answer.headers["retry-after"]) == (503, "1")
    assert answer.seconds < 0.3
    assert server.get("/").status == 200
    assert running.result().status == 200
    assert [request.result().status for request in waiting] == [200, 200]


@pytest.mark.parametrize("action", ["sleep", "spin"])
def test_the_time_limit_stops_run_and_keeps_the_worker(serve: Serve, action: str) -> None:
    server = serve(SCRIPT, SCORING_TIMEOUT_MS="300")
    before = server.score({}).json["pid"]
    answer = server.score({"do": action, "s": 10})
    assert (answer.status, answer.message) == (500, "Scoring timeout after 300 ms")
    assert answer.headers["x-ms-run-function-failed"] == "True"
    assert answer.seconds < 1.0
    assert server.score({}).json["pid"] == before


@pytest.mark.parametrize("idle_s", [0.0, 0.9])
def test_the_time_limit_counts_from_the_start_of_each_run(serve: Serve, idle_s: float) -> None:
    server = serve(SCRIPT, SCORING_TIMEOUT_MS="700")
    assert server.score({}).status == 200
    time.sleep(0.4)
    # This one ends in time, although not within the limit from the start of the first.
    assert server.score({"do": "sleep", "s": 0.5}).status == 200
    time.sleep(idle_s)
    answer = server.score({"do": "sleep", "s": 10})
    assert answer.message == "Scoring timeout after 700 ms"
    assert 0.65 < answer.seconds < 1.4


def test_the_time_limit_replaces_a_worker_that_does_not_react(serve: Serve) -> None:
    server = serve(SCRIPT, SCORING_TIMEOUT_MS="300")
    before = server.score({}).json["pid"]
    answer = server.score({"do": "deaf", "s": 30})
    assert (answer.status, answer.message) == (500, "Scoring timeout after 300 ms")
    assert answer.seconds < 2.5
    server.await_ready()
    assert server.score({}).json["pid"] != before
    assert before not in server.workers()


def test_the_time_limit_holds_for_concurrent_runs(serve: Serve) -> None:
    server = serve(SCRIPT, SCORING_TIMEOUT_MS="300", INFERENCE_SERVER_CONCURRENCY="3")
    requests = [later(server, {"do": "deaf", "s": 30}) for _ in range(3)]
    assert {request.result(5).status for request in requests} == {500}
    server.await_ready()
    assert server.score({}).status == 200


@pytest.mark.parametrize("action", ["die", "segfault", "fork"])
def test_a_dying_worker_is_replaced_and_its_request_gets_an_error(
    serve: Serve, action: str
) -> None:
    server = serve(SCRIPT)
    dying = later(server, {"do": action})
    answer = dying.result(5)
    assert answer.status == 500
    assert answer.message.startswith("An unexpected error occurred in scoring script.")
    server.await_log("is replaced: ")
    server.await_ready()
    assert server.score({}).status == 200
    assert len(server.workers()) == 1


def test_a_killed_worker_loses_one_request_only(serve: Serve) -> None:
    server = serve(SCRIPT)
    [worker] = server.workers()
    running = later(server, {"do": "sleep", "s": 5})
    time.sleep(0.2)
    os.kill(worker, signal.SIGKILL)
    assert running.result(5).status == 500
    server.await_log("killed by SIGKILL")
    server.await_ready()
    assert server.score({}).status == 200


def test_sigterm_drains(serve: Serve) -> None:
    server = serve(SCRIPT)
    running = later(server, {"do": "sleep", "s": 1})
    time.sleep(0.2)
    workers = server.workers()
    server.process.send_signal(signal.SIGTERM)
    time.sleep(0.3)
    with pytest.raises(OSError, match=r"refused|reset"):
        server.get("/")
    assert running.result().status == 200
    assert server.await_exit() == 0
    assert "stopped" in server.last_line
    assert not any(is_alive(worker) for worker in workers)


def test_draining_is_bounded(serve: Serve) -> None:
    server = serve(SCRIPT, INFERENCE_SERVER_DRAIN_TIMEOUT="0.5")
    running = later(server, {"do": "sleep", "s": 30})
    time.sleep(0.2)
    started = time.monotonic()
    assert server.stop() == 0
    assert time.monotonic() - started < 4
    try:
        assert running.result(5).status == 500
    except OSError:
        """A closed connection is a clean end too."""


def test_no_worker_survives_the_front(serve: Serve) -> None:
    server = serve(SCRIPT, WORKER_COUNT="2")
    server.await_log("init() took")
    workers = server.workers()
    server.process.kill()
    server.process.wait()
    deadline = time.monotonic() + 5
    while any(is_alive(worker) for worker in workers):
        assert time.monotonic() < deadline, "a worker is left over"
        time.sleep(0.05)


def test_body_limit(serve: Serve) -> None:
    server = serve(SCRIPT, INFERENCE_SERVER_BODY_LIMIT="1000")
    assert server.score(b'{"a": "' + b"x" * 900 + b'"}').status == 200
    answer = server.score(b"x" * 1001)
    assert (answer.status, answer.message) == (
        413,
        "The body of the request is above the limit of 1000 bytes.",
    )
    head = b"POST /score HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999\r\n\r\n"
    assert server.raw(head, 2).startswith(b"HTTP/1.1 413 ")
    chunked = b"POST /score HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert server.raw(chunked + b"400\r\n" + b"x" * 1024 + b"\r\n0\r\n\r\n", 2).startswith(
        b"HTTP/1.1 413 "
    )
    assert server.score({}).status == 200


@pytest.mark.parametrize("length", [b"-1", b"abc", b"1, 2", b"9" * 30])
def test_lengths_that_are_none(plain: Server, length: bytes) -> None:
    received = plain.raw(
        b"POST /score HTTP/1.1\r\nHost: a\r\nContent-Length: " + length + b"\r\n\r\n{}", 1
    )
    assert received[:12] in (b"HTTP/1.1 400", b"HTTP/1.1 413", b"HTTP/1.0 400", b"")
    assert b"Traceback" not in received


@pytest.fixture(scope="module")
def plain(serve_shared: Serve) -> Server:
    return serve_shared(SCRIPT)


@pytest.mark.parametrize(
    "data",
    [
        b"\x00\x01\x02\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST /score HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX-Big: " + b"x" * 300_000 + b"\r\n\r\n",
        b"GET /" + b"x" * 300_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 5000 + b"\r\n",
    ],
    ids=["binary", "short", "version", "chunks", "header", "path", "headers"],
)
def test_broken_requests(plain: Server, data: bytes) -> None:
    received = plain.raw(data, 1)
    assert received == b"" or received.split(b" ")[1][:1] == b"4", received[:200]
    assert b"Traceback" not in received
    assert plain.get("/").status == 200


def test_half_sent_bodies_time_out_and_block_no_client(serve: Serve) -> None:
    server = serve(SCRIPT, INFERENCE_SERVER_READ_TIMEOUT="1.5")
    head = b"POST /score HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n{"
    clients = []
    for _ in range(64):
        client = socket.create_connection(("127.0.0.1", server.port), timeout=10)
        client.sendall(head)
        clients.append(client)
    time.sleep(0.3)
    taken = sorted(server.get("/").seconds for _ in range(20))
    assert taken[-2] < 0.05, taken
    assert server.score({}).status == 200
    for client in clients:
        assert client.recv(100).startswith(b"HTTP/1.1 408 ")
    # The server ends these connections itself; the clients do nothing.
    for client in clients:
        try:
            while client.recv(65536):
                pass
        except ConnectionError:
            pass
        client.close()


def test_half_sent_heads_time_out(serve: Serve) -> None:
    env: dict[str, Any] = {
        "INFERENCE_SERVER_IDLE_TIMEOUT": "1",
        "INFERENCE_SERVER_READ_TIMEOUT": "1",
    }
    server = serve(SCRIPT, **env)
    started = time.monotonic()
    received = server.raw(b"POST /score HT", 8)
    assert time.monotonic() - started < 5
    assert not received.startswith(b"HTTP/1.1 200")


def test_a_client_that_breaks_off(serve: Serve) -> None:
    server = serve(SCRIPT)
    for _ in range(3):
        with socket.create_connection(("127.0.0.1", server.port), timeout=5) as client:
            client.sendall(b"POST /score HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n{")
    running = later(server, {"do": "sleep", "s": 0.2})
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as client:
        body = b'{"do": "sleep", "s": 0.2}'
        head = b"POST /score HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body)
        client.sendall(head + body)
    assert running.result().status == 200
    assert server.score({}).status == 200


def test_a_large_body_and_a_large_result(serve: Serve) -> None:
    server = serve("def init(): pass\ndef run(data): return data")
    text = "x" * 5_000_000
    answer = server.score(text.encode())
    assert (answer.status, answer.json == text) == (200, True)


def test_output_of_the_script_arrives_in_order(serve: Serve) -> None:
    server = serve(SCRIPT)
    for number in range(3):
        server.score({"do": "log", "n": number}, headers={"x-request-id": f"id-{number}"})
        server.await_log(f"id=id-{number}")
    lines = server.log.splitlines()
    start = next(index for index, line in enumerate(lines) if line == "one 0")
    for number in range(3):
        block = lines[start + 5 * number : start + 5 * number + 5]
        assert block[0] == f"one {number}"
        assert block[1].endswith(f"mine - two {number}")
        assert block[2] == f"three {number}"
        assert block[3].endswith(f"root - four {number}")
        assert " POST /score 200 " in block[4]
        assert block[4].endswith(f"id=id-{number}")


def test_a_script_may_configure_logging_itself(serve: Serve) -> None:
    script = """
        import logging
        logging.basicConfig(format="MINE %(message)s", level=logging.DEBUG)
        def init(): logging.debug("hello")
        def run(d): return 1
    """
    assert "\nMINE hello\n" in serve(script).log


def test_log_as_json_lines(serve: Serve) -> None:
    server = serve(SCRIPT, INFERENCE_SERVER_LOG_FORMAT="json")
    server.score({"do": "log", "n": 1}, headers={"x-request-id": "abc"})
    server.await_log('"abc"')
    # What a worker writes comes by a pipe of its own.
    server.await_log("four 1")
    records = [json.loads(line) for line in server.log.splitlines()]
    messages = [record["message"] for record in records]
    for text in ("init prints", "one 1", "two 1", "three 1", "four 1"):
        assert text in messages
    request = next(record for record in records if record.get("path") == "/score")
    assert (request["status"], request["request_id"]) == (200, "abc")
    assert request["logger"] == "access"
    assert request["ms"] >= request["run_ms"] >= 0


def test_bodies_are_logged_only_when_asked_for(serve: Serve) -> None:
    server = serve(SCRIPT)
    server.score({"word": "confidential"})
    server.score(b"confidential")
    assert "confidential" not in server.log
    asked = serve(SCRIPT, INFERENCE_SERVER_LOG_BODY="true")
    asked.score({"word": "confidential"})
    assert asked.await_log("confidential")


def test_a_client_cannot_forge_log_lines(plain: Server) -> None:
    plain.get("/forged%0a2026-01-01%20fake")
    plain.await_log("/forged\\n2026-01-01 fake")


def test_a_log_that_is_not_read_delays_no_request(tmp_path: Path) -> None:
    root = tmp_path / "app"
    root.mkdir()
    (root / "main.py").write_text("def init(): pass\ndef run(data): return data")
    log = tmp_path / "log"
    os.mkfifo(log)
    # Opened for both, or else opening would wait for the other end.
    reader = os.open(log, os.O_RDWR | os.O_NONBLOCK)
    with Server(root, {}, log) as server:
        read_until(reader, b" ready: ")
        for number in range(1500):
            assert server.get(f"/{number}").status == 404
        written = read_until(reader, b" GET /1499 404 ")
    os.close(reader)
    assert [int(n) for n in re.findall(rb" GET /(\d+) 404 ", written)] == list(range(1500))


def read_until(pipe: int, text: bytes) -> bytes:
    """What is written into a pipe that does not block, up to a text."""
    written = b""
    deadline = time.monotonic() + 10
    while text not in written:
        assert time.monotonic() < deadline, written[-1000:]
        try:
            written += os.read(pipe, 1 << 20)
        except BlockingIOError:
            time.sleep(0.02)
    return written


def test_metrics(serve: Serve) -> None:
    server = serve(SCRIPT, INFERENCE_SERVER_METRICS="true")
    for _ in range(3):
        server.score({})
    server.score(b"\xff")
    server.get("/other")
    page = server.get("/metrics").body.decode()
    assert 'inference_requests_total{method="POST",path="/score",status="200"} 3\n' in page
    assert 'inference_requests_total{method="POST",path="/score",status="400"} 1\n' in page
    assert 'inference_requests_total{method="GET",path="other",status="404"} 1\n' in page
    assert "inference_score_seconds_count 4\n" in page
    assert "inference_ready 1\n" in page


def test_many_clients_at_once_get_their_own_answers(serve: Serve) -> None:
    server = serve("import json\ndef init(): pass\ndef run(d): return json.loads(d)['n'] * 2")
    wrong: list[object] = []

    def client(start: int) -> None:
        import http.client

        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=15)
        for number in range(start, start + 50):
            connection.request("POST", "/score", json.dumps({"n": number}))
            response = connection.getresponse()
            body = response.read()
            if response.status != 200 or json.loads(body) != number * 2:
                wrong.append((number, response.status, body))
        connection.close()

    threads = [threading.Thread(target=client, args=(n * 1000,)) for n in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_worker_that_dies_under_load_costs_one_request(serve: Serve) -> None:
    """Requests in one batch do not share the fate of the one that kills the worker."""
    server = serve(SCRIPT)
    statuses: list[int] = []

    def client(deadly: bool) -> None:
        for number in range(30):
            body = {"do": "die"} if deadly and number == 15 else {}
            statuses.append(server.score(body).status)

    threads = [threading.Thread(target=client, args=(n == 0,)) for n in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses.count(500) == 1
    assert set(statuses) <= {200, 500, 503}


def test_large_headers_and_results_in_a_crowd(serve: Serve) -> None:
    """A batch must not fill a socket that is not read."""
    script = """
        def init(): pass
        def run(data, request_headers):
            return request_headers["X-Big"] + "y" * 300_000
    """
    server = serve(script)
    sent = {"x-big": "x" * 7000}
    requests = [Later(lambda: server.score(b"", headers=sent)) for _ in range(60)]
    answers = [request.result() for request in requests]
    assert {answer.status for answer in answers} == {200}
    assert {len(answer.json) for answer in answers} == {307_000}


def test_large_bodies_together_are_bounded(serve: Serve) -> None:
    script = """
        import time
        def init(): pass
        def run(data):
            time.sleep(0.8)
            return len(data)
    """
    server = serve(script, INFERENCE_SERVER_BODY_MEMORY="8000000")
    started = time.monotonic()
    first = Later(lambda: server.score(b"x" * 3_000_000))
    time.sleep(0.3)
    # Large ones wait for room, small ones go on, and what could never fit is refused.
    second = Later(lambda: server.score(b"x" * 2_900_000))
    small = Later(lambda: server.score(b"x" * 1000))
    refused = server.raw(b"POST /score HTTP/1.1\r\nHost: a\r\nContent-Length: 5000000\r\n\r\n", 2)
    assert refused.startswith(b"HTTP/1.1 413 ")
    assert (first.result().json, small.result().json) == (3_000_000, 1000)
    assert second.result().json == 2_900_000
    # The second was let in when the first was scored.
    assert time.monotonic() - started > 1.6
    assert server.score(b"x" * 2_000_000).json == 2_000_000


def test_a_client_that_sends_too_much_sees_the_answer(serve: Serve) -> None:
    """It sends first and listens later, as most clients do."""
    server = serve(SCRIPT, INFERENCE_SERVER_BODY_LIMIT="1000000")
    for _ in range(10):
        assert server.score(b"x" * 12_000_000).status == 413
    assert server.score({}).status == 200


def test_a_refusal_before_the_body_announces_the_end_of_the_connection(serve: Serve) -> None:
    server = serve("import time\ndef init(): time.sleep(3)\ndef run(d): return 1", ready=False)
    server.await_log("loaded ")
    answer = server.score(b"x" * 100)
    assert (answer.status, answer.headers["connection"]) == (503, "close")
