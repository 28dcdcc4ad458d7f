"""Scripts that start processes, whatever the script is called and wherever it lies."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest

from .conftest import Serve
from .harness import PYTHON, Server

SCRIPT = """
    import asyncio, json, multiprocessing as mp, os, pickle, signal, subprocess, sys
    from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
    from azureml_inference_server_http.api.aml_response import AMLResponse

    class Model:
        def __init__(self, factor): self.factor = factor
        def predict(self, x): return self.factor * x

    def square(x): return x * x
    def handler(_): return str(signal.getsignal(signal.SIGINT))

    def pool(kind):
        with mp.get_context(kind).Pool(2) as pool: return pool.map(square, range(4))
    def spawn(): return pool("spawn")
    def forkserver(): return pool("forkserver")
    def fork(): return pool("fork")
    def executor():
        with ProcessPoolExecutor(2) as pool: return list(pool.map(square, range(4)))
    def executor_spawn():
        with ProcessPoolExecutor(2, mp.get_context("spawn")) as pool:
            return list(pool.map(square, range(4)))
    def threads():
        with ThreadPoolExecutor(2) as pool: return list(pool.map(square, range(4)))
    def loky():
        import joblib
        return joblib.Parallel(n_jobs=2)(joblib.delayed(square)(i) for i in range(4))
    def objects():
        with mp.get_context("spawn").Pool(1) as pool:
            return pool.map(Model(2).predict, range(4))
    def process():
        context = mp.get_context("spawn")
        queue = context.Queue()
        child = context.Process(target=queue.put, args=(square(2),))
        child.start()
        found = queue.get(timeout=20)
        child.join()
        return [found, child.exitcode]
    def manager():
        with mp.Manager() as manager:
            shared = manager.dict()
            shared["a"] = 1
            return dict(shared)
    async def gather(): return await asyncio.gather(*[coroutine(i) for i in range(4)])
    async def coroutine(x): return square(x)
    def aio(): return asyncio.run(gather())
    def interrupted():
        code = "trap 'echo got' INT; kill -INT $$; echo end"
        return subprocess.run(["sh", "-c", code], stdout=subprocess.PIPE).stdout.decode().split()
    def handlers():
        default = str(signal.default_int_handler)
        kinds = [mp.get_context(kind) for kind in ("fork", "spawn")]
        return [str(context.Pool(1).map(handler, [1])[0]) == default for context in kinds]
    def pickles():
        # Made where the script had the other name.
        text = pickle.dumps(Model(3), 0).replace(Model.__module__.encode(), b"entry_module")
        return pickle.loads(text).predict(2)
    def descriptors():
        command = ["ls", "-l", "/proc/self/fd"]
        done = subprocess.run(command, stdout=subprocess.PIPE, close_fds=False)
        return done.stdout.decode().count("socket:")

    def init(): pass
    def run(data): return globals()[json.loads(data)]()
"""
SQUARES = [0, 1, 4, 9]
KINDS: dict[str, Any] = {
    "spawn": SQUARES,
    "forkserver": SQUARES,
    "fork": SQUARES,
    "executor": SQUARES,
    "executor_spawn": SQUARES,
    "threads": SQUARES,
    "objects": [0, 2, 4, 6],
    "process": [4, 0],
    "manager": {"a": 1},
    "aio": SQUARES,
    "interrupted": ["got", "end"],
    "handlers": [True, True],
    "pickles": 6,
}
PLACES = {"the default": "main.py", "named": "score.py", "in a folder": "code/main.py"}


@pytest.fixture(scope="module", params=PLACES)
def server(request: pytest.FixtureRequest, serve_shared: Serve) -> Server:
    place = PLACES[request.param]
    return serve_shared(None, files={place: SCRIPT}, AZUREML_ENTRY_SCRIPT=place)


@pytest.mark.parametrize("kind", KINDS)
def test_processes(server: Server, kind: str) -> None:
    answer = server.score(kind, timeout=30)
    assert answer.status == 200, server.log
    assert answer.json == KINDS[kind]


def test_joblib(server: Server) -> None:
    if subprocess.run([PYTHON, "-c", "import joblib"], check=False).returncode:
        pytest.skip("the interpreter of the server has no joblib")
    assert server.score("loky", timeout=60).json == SQUARES


def test_children_hold_nothing_of_the_worker(server: Server) -> None:
    """Else the service, which waits for the end of a worker, waits for its children too."""
    assert server.score("descriptors").json == 0
