"""The service where it runs: platforms, probes, balancers and rollouts."""

from __future__ import annotations

import http.client
import json
import re
import signal
import socket
import threading
import time
from contextlib import closing
from functools import partial
from typing import Any

import pytest

from .conftest import Serve
from .harness import Server, free_port
from .test_operation import Later

SCRIPT = """
    import json, time

    def init(): pass

    def run(data):
        given = json.loads(data)
        time.sleep(given.get("s", 0))
        return given
"""
SLOW_INIT = "import time\ndef init(): time.sleep(1.5)\ndef run(data): return 1"


@pytest.fixture(scope="module")
def plain(serve_shared: Serve) -> Server:
    return serve_shared(SCRIPT)


def test_liveness_is_apart_from_readiness(serve: Serve) -> None:
    server = serve(SLOW_INIT, ready=False)
    server.await_log("loaded ")
    assert [server.get(path).status for path in ("/livez", "/readyz", "/")] == [200, 503, 503]
    server.await_ready()
    assert [server.get(path).status for path in ("/livez", "/readyz", "/")] == [200, 200, 200]
    assert server.request("HEAD", "/readyz").status == 200
    assert server.request("POST", "/livez").status == 405


def test_a_rollout_loses_no_request(serve: Serve) -> None:
    """Not ready first, while requests are still taken; then what is in flight ends."""
    server = serve(SCRIPT, INFERENCE_SERVER_SHUTDOWN_DELAY="1", INFERENCE_SERVER_DRAIN_TIMEOUT="5")
    slow = Later(lambda: server.score({"s": 2}))
    time.sleep(0.2)
    server.process.send_signal(signal.SIGTERM)
    time.sleep(0.2)
    assert [server.get(path).status for path in ("/", "/readyz", "/livez")] == [503, 503, 200]
    meanwhile = Later(lambda: server.score({"s": 0.1}))
    assert (slow.result().status, meanwhile.result().status) == (200, 200)
    assert server.await_exit() == 0


def test_a_second_signal_ends_the_delay(serve: Serve) -> None:
    server = serve(SCRIPT, INFERENCE_SERVER_SHUTDOWN_DELAY="60")
    server.process.send_signal(signal.SIGTERM)
    server.await_log("not ready any more, stopping in 60 s")
    server.process.send_signal(signal.SIGTERM)
    assert server.await_exit(5) == 0


def test_a_service_of_kubernetes_is_no_port(serve: Serve) -> None:
    port = free_port()
    server = serve(SCRIPT, ready=False, SERVER_PORT="tcp://10.0.0.1:80", PORT=str(port))
    server.port = port
    server.await_ready()
    line = server.await_log("SERVER_PORT=tcp://10.0.0.1:80")
    assert " W " in line
    assert "enableServiceLinks" in line


def test_the_port_of_serverless_platforms_comes_second(serve: Serve) -> None:
    assert serve(SCRIPT, PORT="1").score({}).status == 200


@pytest.mark.parametrize("name", ["SEPERATE_HEALTH_ENDPOINT", "SEPARATE_HEALTH_ENDPOINT"])
def test_a_port_for_health(serve: Serve, name: str) -> None:
    port = free_port()
    environ: dict[str, Any] = {"HEALTH_PORT": str(port), name: "true"}
    server = serve(SCRIPT, **environ)
    assert server.get("/").status == 200
    server.port = port
    assert server.get("/").status == 200


def test_both_families_by_default(serve: Serve) -> None:
    server = serve(SCRIPT, INFERENCE_SERVER_HOST="")
    with closing(socket.socket(socket.AF_INET6)) as sock:
        sock.settimeout(5)
        sock.connect(("::1", server.port))
        sock.sendall(b"GET / HTTP/1.1\r\nHost: [::1]:5001\r\n\r\n")
        assert sock.recv(100).startswith(b"HTTP/1.1 200 ")


def test_an_address_of_one_family_is_asked_in_that_one_alone(serve: Serve) -> None:
    server = serve(SCRIPT, INFERENCE_SERVER_HOST="0.0.0.0")
    with closing(socket.socket(socket.AF_INET6)) as sock, pytest.raises(ConnectionRefusedError):
        sock.connect(("::1", server.port))


def test_the_names_of_other_platforms(serve: Serve) -> None:
    server = serve(SCRIPT, INFERENCE_SERVER_ALIASES="true")
    assert server.get("/ping").status == 200
    assert server.request("POST", "/invocations", {"a": 1}).json == {"a": 1}
    assert serve(SCRIPT).get("/ping").status == 404


def test_traces_are_in_the_log(serve: Serve) -> None:
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    server = serve(SCRIPT)
    server.score({}, headers={"traceparent": trace})
    assert server.await_log("POST /score 200").endswith(" traceparent=" + trace)
    as_json = serve(SCRIPT, INFERENCE_SERVER_LOG_FORMAT="json")
    as_json.score({}, headers={"traceparent": trace})
    record = json.loads(as_json.await_log('"path": "/score"'))
    assert record["traceparent"] == trace


def test_metrics_tell_waits_and_refusals(serve: Serve) -> None:
    server = serve(
        SCRIPT,
        INFERENCE_SERVER_METRICS="true",
        INFERENCE_SERVER_QUEUE_LIMIT="1",
        INFERENCE_SERVER_BODY_LIMIT="1000",
    )
    first = Later(lambda: server.score({"s": 0.6}))
    time.sleep(0.2)
    second = Later(lambda: server.score({}))
    time.sleep(0.2)
    assert server.score({}).status == 503
    assert server.score(b"x" * 2000).status == 413
    assert (first.result().status, second.result().status) == (200, 200)
    page = server.get("/metrics").body.decode()
    assert 'inference_refusals_total{reason="queue_full"} 1\n' in page
    assert 'inference_refusals_total{reason="too_large"} 1\n' in page
    assert 'inference_wait_seconds_bucket{le="0.1"} 1\n' in page
    assert "inference_wait_seconds_count 2\n" in page
    assert "inference_memory_limit_bytes " in page


def test_the_wait_for_a_worker_has_an_end(serve: Serve) -> None:
    server = serve(SCRIPT, INFERENCE_SERVER_QUEUE_TIMEOUT="0.5")
    slow = Later(lambda: server.score({"s": 1.5}))
    time.sleep(0.1)
    waited = server.score({})
    assert (waited.status, waited.headers["retry-after"]) == (503, "1")
    assert waited.message == "The request waited too long for a worker, try again later."
    assert waited.seconds < 1.3
    assert slow.result().status == 200
    assert server.score({}).status == 200


def test_the_client_is_told_the_limit_that_applied(serve: Serve) -> None:
    server = serve(SCRIPT, WORKER_TIMEOUT="1")
    worker = server.workers()
    answer = server.score({"s": 5})
    assert (answer.status, answer.message) == (500, "Scoring timeout after 1000 ms")
    # It reacted to being stopped.
    assert server.workers() == worker


COUNTED = """
    import time
    from pathlib import Path

    def init(): pass

    def run(data):
        with open("runs", "a") as file:
            file.write(data + "\\n")
        try:
            time.sleep(float(data))
        finally:
            with open("runs", "a") as file:
                file.write("end of {}\\n".format(data))
"""


def send(server: Server, body: bytes) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", server.port), timeout=5)
    sock.sendall(
        b"POST /score HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    )
    return sock


def await_metric(server: Server, line: str) -> None:
    """Wait until the page of metrics has a line."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        page = server.get("/metrics").body.decode()
        if line + "\n" in page:
            return
        time.sleep(0.02)
    raise AssertionError(f"{line!r} is not in\n{page}")


def test_nothing_is_scored_for_clients_that_left(serve: Serve) -> None:
    """Those that wait are dropped, and what runs is stopped."""
    server = serve(COUNTED, INFERENCE_SERVER_METRICS="true")
    clients = [send(server, b"30")]
    await_metric(server, "inference_requests_running 1")
    clients += [send(server, b"0.%02d" % number) for number in range(1, 41)]
    await_metric(server, "inference_requests_waiting 40")
    for client in clients[1:]:
        client.close()
    await_metric(server, "inference_requests_waiting 0")
    clients[0].close()
    await_metric(server, "inference_requests_running 0")
    assert server.score(b"0").status == 200
    runs = (server.root / "runs").read_text().splitlines()
    assert runs == ["30", "end of 30", "0", "end of 0"]
    server.await_log("POST /score 200")
    assert server.log.count(" 499 ") == 41
    assert len(re.findall(r"POST /score [0-9]+ ", server.log)) == 42


def test_a_run_may_go_on_for_a_client_that_left(serve: Serve) -> None:
    server = serve(COUNTED, INFERENCE_SERVER_CANCEL="false")
    send(server, b"1").close()
    time.sleep(0.3)
    assert 0.2 < server.score(b"0").seconds < 2
    assert (server.root / "runs").read_text().splitlines()[:2] == ["1", "end of 1"]


def test_a_client_that_only_sends_no_more_is_waited_for(serve: Serve) -> None:
    server = serve(COUNTED)
    with closing(send(server, b"0.5")) as first, closing(send(server, b"0.4")) as second:
        for client in (first, second):
            client.shutdown(socket.SHUT_WR)
        for client in (first, second):
            received = b"".join(iter(partial(client.recv, 65536), b""))
            interim, _, final = received.rpartition(b"HTTP/1.1 200 OK")
            assert set(interim.split(b"\r\n\r\n")) <= {b"HTTP/1.1 100 Continue", b""}
            assert final.endswith(b"{}")


ALARMS = """
    import json, signal, time

    class Own(Exception): pass

    def handler(*_): raise Own()

    def init(): pass

    def run(data):
        given = json.loads(data)
        if given["do"] == "own":
            old = signal.signal(signal.SIGALRM, handler)
            signal.alarm(1)
            try:
                time.sleep(3)
                return "not stopped"
            except Own:
                return "own"
            finally:
                signal.alarm(0)
                signal.signal(signal.SIGALRM, old)
        if given["do"] == "off":
            signal.alarm(0)
            signal.setitimer(signal.ITIMER_REAL, 0)
        time.sleep(given.get("s", 0))
        is_default = signal.getsignal(signal.SIGALRM) is signal.SIG_DFL
        return [signal.getitimer(signal.ITIMER_REAL)[0], is_default]
"""


def test_a_scripts_own_alarm_and_the_time_limit_do_not_meet(serve: Serve) -> None:
    server = serve(ALARMS, SCORING_TIMEOUT_MS="1500")
    untouched = [0.0, True]
    for _ in range(2):
        assert server.score({"do": "own"}).json == "own"
        assert server.score({"do": "sleep"}).json == untouched
        assert server.score({"do": "off", "s": 4}).message == "Scoring timeout after 1500 ms"
        assert server.score({"do": "sleep", "s": 0.9}).json == untouched


IDS = """
    from azureml_inference_server_http.api.aml_request import rawhttp
    from azureml_inference_server_http.api.aml_response import AMLResponse

    def init(): pass

    @rawhttp
    def run(request):
        if request.args.get("cors"):
            given = {"Access-Control-Allow-Origin": "https://own", "x-ms-run-fn-exec-ms": "0"}
            return AMLResponse("x", 200, given)
        if request.args.get("bare"):
            response = AMLResponse("x", 200, {"x-request-id": "mine"})
            del response.headers["Content-Type"]
            return response
        if request.args.get("own"):
            return AMLResponse("x", 200, {
                "X-Request-Id": "mine", "x-ms-request-id": "old", "X-MS-CLIENT-REQUEST-ID": "theirs"
            })
        return AMLResponse("x", 200)
"""


def test_ids_that_a_script_sets_replace_ours(serve: Serve) -> None:
    server = serve(IDS)
    sent = {"x-request-id": "sent", "x-ms-client-request-id": "client"}
    own = server.get("/score?own=1", headers=sent).headers
    names = ("x-request-id", "x-ms-request-id", "x-ms-client-request-id")
    assert [own[name] for name in names] == ["mine", "old", "theirs"]
    assert server.get("/score?bare=1", headers=sent).headers["x-request-id"] == "mine"
    plain = server.get("/score", headers=sent).headers
    assert [plain[name] for name in names] == ["sent", "client", "client"]


def test_no_header_comes_twice(serve: Serve) -> None:
    """Browsers refuse an answer with two origins."""
    server = serve(IDS, AML_CORS_ORIGINS="*")
    headers = server.get("/score?cors=1", headers={"Origin": "https://a"}).headers
    assert headers["access-control-allow-origin"] == "https://own"
    assert float(headers["x-ms-run-fn-exec-ms"]) > 0
    plain = server.get("/score", headers={"Origin": "https://a"}).headers
    assert plain["access-control-allow-origin"] == "*"


@pytest.mark.parametrize(
    ("host", "status"),
    [
        (b"Host: a\r\nHost: a\r\n", 400),
        (b"", 400),
        (b"Host: a b\r\n", 400),
        (b"Host: a/b\r\n", 400),
        (b"Host: user@a\r\n", 400),
        (b"Host: a:b\r\n", 400),
        (b"Host: a, b\r\n", 400),
        (b"Host:\r\n", 200),
        (b"Host: a_b.example:5001\r\n", 200),
        (b"Host: [::1]:5001\r\n", 200),
        (b"Host: xn--bcher-kva.example\r\n", 200),
    ],
)
def test_one_valid_host(plain: Server, host: bytes, status: int) -> None:
    received = plain.raw(b"GET / HTTP/1.1\r\nConnection: close\r\n" + host + b"\r\n", 2)
    assert received.startswith(b"HTTP/1.1 %d " % status)
    assert plain.raw(b"GET / HTTP/1.0\r\n\r\n", 2).startswith(b"HTTP/1.1 200 ")


def test_a_client_in_need_of_room_can_leave(serve: Serve) -> None:
    """A large body waits for room; when its client goes, the next one has its turn."""
    script = "import time\ndef init(): pass\ndef run(d):\n    time.sleep(1)\n    return len(d)"
    server = serve(script, INFERENCE_SERVER_BODY_MEMORY="5000000")
    first = Later(lambda: server.score(b"x" * 2_000_000))
    time.sleep(0.3)
    waiting = send(server, b"y" * 2_000_000)
    last = Later(lambda: server.score(b"z" * 1_900_000))
    time.sleep(0.2)
    waiting.close()
    assert (first.result().json, last.result().json) == (2_000_000, 1_900_000)


def test_requests_behind_health_checks_of_one_client_do_not_hold_up_others(serve: Serve) -> None:
    server = serve(SCRIPT)
    stop = threading.Event()

    def flood() -> None:
        request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 2000
        with closing(socket.create_connection(("127.0.0.1", server.port), timeout=10)) as sock:
            while not stop.is_set():
                sock.sendall(request)
                missing = 2000
                while missing > 0:
                    missing -= sock.recv(1 << 20).count(b"HTTP/1.1 200 ")

    threads = [threading.Thread(target=flood, daemon=True) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)) as probe:
            for _ in range(20):
                probe.request("GET", "/")
                assert probe.getresponse().read() == b"Healthy"
    finally:
        stop.set()
