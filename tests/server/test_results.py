"""Which JSON the results of ``run()`` have, and scripts that are written with ``async``."""

from __future__ import annotations

import collections
import dataclasses
import datetime
import decimal
import enum
import json
import math
import pathlib
import sys
import uuid
from types import ModuleType
from typing import Any

import pytest

from .conftest import Serve
from .harness import SOURCE

sys.path.insert(0, str(SOURCE))

from inference_server import config, encoding


class Colour(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    LOW = 1


@dataclasses.dataclass
class Point:
    x: float
    tags: set[str]


class Pair(collections.namedtuple("Pair", "a b")):
    pass


class Array:
    """As numpy's arrays and scalars, torch's tensors and pandas' series have it."""

    def __init__(self, value: Any) -> None:
        self._value = value

    def tolist(self) -> Any:
        return self._value


class Tensor:
    """As TensorFlow's."""

    def numpy(self) -> Any:
        return Array([1.5])


class Model:
    """As pydantic's."""

    def model_dump(self) -> Any:
        return {"when": datetime.date(2026, 1, 2)}


class Opaque:
    pass


FORMS = [
    ({"a": [1, None, True, "é"]}, {"a": [1, None, True, "é"]}),
    (Pair(1, Colour.RED), [1, "red"]),
    ([Colour.RED, Level.LOW], ["red", 1]),
    ({3, 1, 2}, [1, 2, 3]),
    (frozenset("a"), ["a"]),
    (range(3), [0, 1, 2]),
    (collections.deque([1]), [1]),
    (collections.ChainMap({"a": 1}), {"a": 1}),
    ({"a": 1}.keys(), ["a"]),
    ({"a": 1}.values(), [1]),
    (datetime.datetime(2026, 1, 2, 3, 4, 5), "2026-01-02T03:04:05"),
    (datetime.date(2026, 1, 2), "2026-01-02"),
    (datetime.time(1, 2), "01:02:00"),
    (datetime.timedelta(minutes=1.5), 90.0),
    (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
    (decimal.Decimal("1.5"), 1.5),
    (decimal.Decimal("1E+2"), 100),
    (pathlib.PurePosixPath("/a/b"), "/a/b"),
    (Point(1.0, {"b", "a"}), {"x": 1.0, "tags": ["a", "b"]}),
    (Array([[1, 2.5]]), [[1, 2.5]]),
    ({"scores": [Array(1.5)]}, {"scores": [1.5]}),
    (Tensor(), [1.5]),
    (Model(), {"when": "2026-01-02"}),
    ({Array(3): 1, Colour.RED: 2}, {"3": 1, "red": 2}),
    ({datetime.date(2026, 1, 2): Array([1])}, {"2026-01-02": [1]}),
    (collections.OrderedDict([("b", 1), ("a", 2)]), {"b": 1, "a": 2}),
]


@pytest.mark.parametrize(("result", "expected"), FORMS)
@pytest.mark.parametrize("nan", config.NAN_POLICIES)
def test_forms(result: object, expected: object, nan: str) -> None:
    assert json.loads(encoding.encode(result, nan)) == expected


WITHOUT = [
    (b"x", "AMLResponse(bytes, 200, headers)"),
    (1j, "its real and its imaginary part"),
    (Opaque(), "Opaque is not JSON serializable; convert it"),
    (Opaque, "was it meant to be called?"),
    (len, "was it meant to be called?"),
    (math, "was it meant to be called?"),
    ((x for x in "a"), "AMLResponse(generator, 200)"),
    ({(1, 2): 3}, "keys must be text or numbers, not tuple"),
    ({"a": {Opaque(): 1}}, "keys must be text or numbers, not Opaque"),
]


@pytest.mark.parametrize(("result", "hint"), WITHOUT)
def test_one_hint_that_fits(result: object, hint: str) -> None:
    with pytest.raises(encoding.UnserialisableError) as refused:
        encoding.encode(result)
    assert hint in str(refused.value)


def test_a_coroutine_is_explained() -> None:
    async def score() -> None: ...

    coroutine = score()
    with pytest.raises(encoding.UnserialisableError) as refused:
        encoding.encode(coroutine)
    coroutine.close()
    assert "`async def`" in str(refused.value)


def test_what_holds_itself_is_refused() -> None:
    endless: list[Any] = []
    endless.append(endless)
    for result in (endless, {"a": endless}):
        with pytest.raises(encoding.UnserialisableError) as refused:
            encoding.encode(result)
        assert "holds itself" in str(refused.value)


NANS = [
    (math.nan, None, "NaN"),
    ([1.0, math.inf], [1.0, None], "[1.0, Infinity]"),
    ({"a": (math.nan, -math.inf)}, {"a": [None, None]}, '{"a": [NaN, -Infinity]}'),
    ({"a": Array([math.nan])}, {"a": [None]}, '{"a": [NaN]}'),
    ({Array(1): Array(math.nan)}, {"1": None}, '{"1": NaN}'),
    (decimal.Decimal("NaN"), None, "NaN"),
]


@pytest.mark.parametrize(("result", "null", "literal"), NANS)
def test_nan(result: object, null: object, literal: str) -> None:
    with pytest.raises(encoding.UnserialisableError) as refused:
        encoding.encode(result, "refuse")
    assert "INFERENCE_SERVER_NAN" in str(refused.value)
    assert json.loads(encoding.encode(result, "null")) == null
    assert encoding.encode(result, "literal").decode() == literal


def module(name: str) -> ModuleType:
    return pytest.importorskip(name)  # type: ignore[no-any-return]


def test_numpy() -> None:
    np = module("numpy")
    result = {
        "scalar": np.float32(0.5),
        "int": np.int64(3),
        "bool": np.bool_(True),
        "text": np.str_("a"),
        "array": np.arange(4).reshape(2, 2),
        "nothing": np.array([]),
        "objects": np.array([np.int8(1), "a", None], dtype=object),
        "time": np.datetime64("2026-01-02T03:04"),
        "times": np.array(["2026-01-02", "NaT"], dtype="datetime64[ns]"),
        "masked": np.ma.array([1, 2], mask=[True, False]),
        np.int64(7): "key",
    }
    assert json.loads(encoding.encode(result)) == {
        "scalar": 0.5,
        "int": 3,
        "bool": True,
        "text": "a",
        "array": [[0, 1], [2, 3]],
        "nothing": [],
        "objects": [1, "a", None],
        "time": "2026-01-02T03:04",
        "times": ["2026-01-02T00:00:00.000000000", None],
        "masked": [None, 2],
        "7": "key",
    }
    with pytest.raises(encoding.UnserialisableError):
        encoding.encode(np.array([1j]))
    with pytest.raises(encoding.UnserialisableError):
        encoding.encode(np.array([np.nan]))
    assert encoding.encode(np.array([np.nan, 1]), "null") == b"[null, 1.0]"


def test_pandas() -> None:
    pd = module("pandas")
    frame = pd.DataFrame({"x": [1, 2], "y": ["a", None], "z": pd.to_datetime(["2026-01-02", None])})
    assert json.loads(encoding.encode(frame)) == [
        {"x": 1, "y": "a", "z": "2026-01-02T00:00:00"},
        {"x": 2, "y": None, "z": None},
    ]
    assert json.loads(encoding.encode(frame.x)) == [1, 2]
    assert json.loads(encoding.encode(frame.index)) == [0, 1]
    assert json.loads(encoding.encode(frame.z)) == ["2026-01-02T00:00:00", None]
    assert json.loads(encoding.encode(pd.array([1, None], dtype="Int64"))) == [1, None]
    assert json.loads(encoding.encode(pd.Categorical(["a", "b"]))) == ["a", "b"]
    assert json.loads(encoding.encode(frame.groupby("x").size().to_dict())) == {"1": 1, "2": 1}
    assert json.loads(encoding.encode(pd.Timedelta(seconds=90))) == 90.0
    with_nan = pd.DataFrame({"x": [1.5, None]})
    with pytest.raises(encoding.UnserialisableError):
        encoding.encode(with_nan)
    assert json.loads(encoding.encode(with_nan, "null")) == [{"x": 1.5}, {"x": None}]


@pytest.mark.parametrize(("nan", "status", "body"), [("", 500, None), ("null", 200, b"[null]")])
def test_the_setting(serve: Serve, nan: str, status: int, body: bytes | None) -> None:
    script = "def init(): pass\ndef run(data): return [float('nan')]"
    answer = serve(script, INFERENCE_SERVER_NAN=nan).score()
    assert answer.status == status
    assert body is None or answer.body == body


ASYNC = """
    import asyncio, json
    from azureml_inference_server_http.api.aml_response import AMLResponse

    async def init():
        global LOCK, LOOP, READY
        LOOP = asyncio.get_running_loop() if hasattr(asyncio, "get_running_loop") else None
        LOCK = asyncio.Lock()
        READY = LOOP.create_future()
        READY.set_result("ready")

    async def run(data, request_headers):
        given = json.loads(data)
        if given.get("raise"):
            raise ValueError("async")
        if given.get("sleep"):
            try:
                await asyncio.sleep(given["sleep"])
            finally:
                print("left the sleep")
        async with LOCK:
            await asyncio.sleep(0)
            same = asyncio.get_running_loop() is LOOP
            return {"same": same, "ready": await READY, "header": request_headers["X-A"]}
"""
FINE = {"same": True, "ready": "ready", "header": "b"}


@pytest.mark.parametrize("concurrency", ["1", "3"])
def test_async_run_is_awaited_on_one_loop(serve: Serve, concurrency: str) -> None:
    server = serve(ASYNC, INFERENCE_SERVER_CONCURRENCY=concurrency)
    for _ in range(5):
        assert server.score({}, headers={"X-A": "b"}).json == FINE
    answer = server.score({"raise": True}, headers={"X-A": "b"})
    assert (answer.status, answer.headers["x-ms-run-function-failed"]) == (500, "True")
    assert "run() raised ValueError: async" in server.await_log("ValueError")
    assert server.score({}, headers={"X-A": "b"}).json == FINE


def test_an_async_run_has_its_time_limit(serve: Serve) -> None:
    server = serve(ASYNC, SCORING_TIMEOUT_MS="300")
    worker = server.workers()
    for _ in range(2):
        answer = server.score({"sleep": 20}, headers={"X-A": "b"})
        assert (answer.status, answer.seconds < 5) == (500, True)
        assert server.score({}, headers={"X-A": "b"}).json == FINE
    assert server.log.count("left the sleep") == 2
    assert server.workers() == worker


def test_other_async_forms(serve: Serve) -> None:
    script = """
        import asyncio, functools

        def timed(function):
            @functools.wraps(function)
            def wrapper(*args, **kwargs):
                return function(*args, **kwargs)
            return wrapper

        def init():
            global LOOP
            LOOP = asyncio.get_event_loop()

        @timed
        async def run(data):
            return asyncio.get_running_loop() is LOOP
    """
    assert serve(script).score().json is True


@pytest.mark.parametrize("kind", ["def", "async def"])
def test_a_generator_is_refused_at_start(serve: Serve, kind: str) -> None:
    server = serve(f"def init(): pass\n{kind} run(data): yield 1", ready=False)
    assert server.await_exit() == 3
    assert "is a generator, which has no JSON form: return a list, or stream" in server.last_line
