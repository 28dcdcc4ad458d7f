"""How is the result of ``run()`` written as JSON?

Plain data goes to the encoder of the standard library as it is. Other values are converted: types
of the standard library with one obvious JSON form, and objects that convert to lists (of numpy,
pandas, torch and similar packages). None of these packages is imported here.
"""

from __future__ import annotations

import inspect
import json
import math
import operator
import sys
from typing import Any, Callable, Dict, List, Optional, Tuple


class UnserialisableError(Exception):
    """The result cannot be written as JSON; the message gives the reason, for the log."""


def encode(result: Any, nan: str = "refuse") -> bytes:
    """The JSON text of a result."""
    try:
        return _ENCODERS[nan](result).encode("ascii")
    except (TypeError, ValueError, RecursionError) as error:
        if isinstance(error, RecursionError) or "Circular" in str(error):
            raise UnserialisableError(
                "run() returned an object that is nested too deeply, or that holds itself"
            ) from None
        # Keys that are no text, or NaN that becomes null. This is slow, but rarely needed.
        try:
            return _ENCODERS[nan](_plain(result, nan)).encode("ascii")
        except RecursionError:
            raise UnserialisableError(
                "run() returned an object that is nested too deeply"
            ) from None
        except ValueError as error:
            raise UnserialisableError(
                "run() returned a value that has no JSON form: {}; NaN and infinity have none: "
                "return None or a string instead, or set INFERENCE_SERVER_NAN".format(error)
            ) from None


def _default(value: Any) -> Any:
    """A value that the encoder does not know, in types that are closer to JSON."""
    convert = _converter(value)
    if convert is None:
        raise UnserialisableError(
            "run() returned an object that cannot be written as JSON: Object of type {} is not "
            "JSON serializable; {}".format(type(value).__name__, _hint(value))
        )
    return convert(value)


_ENCODERS: Dict[str, Callable[[Any], str]] = {
    "refuse": json.JSONEncoder(allow_nan=False, default=_default).encode,
    # Strict, too: a failure leads to `_plain`, so results without NaN cost nothing.
    "null": json.JSONEncoder(allow_nan=False, default=_default).encode,
    "literal": json.JSONEncoder(allow_nan=True, default=_default).encode,
}


def _plain(value: Any, nan: str) -> Any:
    """The value as dictionaries, lists, texts and numbers only."""
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        return None if nan == "null" and not math.isfinite(value) else value
    if isinstance(value, dict):
        return {_key(key): _plain(item, nan) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item, nan) for item in value]
    return _plain(_default(value), nan)


def _key(key: Any) -> Any:
    if key is None or isinstance(key, (str, bool, int, float)):
        return key
    convert = _converter(key)
    plain = key if convert is None else convert(key)
    if plain is not None and not isinstance(plain, (str, bool, int, float)):
        raise UnserialisableError(
            "run() returned a dictionary with a key that cannot be written as JSON: keys must be "
            "text or numbers, not {}".format(type(key).__name__)
        )
    return plain


def _sorted(values: Any) -> List[Any]:
    # For the same answer each time, if the values have an order.
    try:
        return sorted(values)
    except TypeError:
        return list(values)


def _number(decimal: Any) -> Any:
    if decimal.is_finite() and decimal == decimal.to_integral_value():
        return int(decimal)
    return float(decimal)


def _values(series: Any) -> List[Any]:
    # NaN means missing, except in a column of floats, where it may be a result.
    if series.dtype.kind != "f":
        series = series.astype(object).where(series.notna(), None)
    return list(series.tolist())


def _records(frame: Any) -> List[Dict[Any, Any]]:
    columns = [_values(frame.iloc[:, number]) for number in range(frame.shape[1])]
    return [dict(zip(frame.columns, row)) for row in zip(*columns)]  # noqa: B905 - Python 3.7


# By module and class, so that nothing is imported: values of these types exist only if their module
# was imported.
_CONVERSIONS: Tuple[Tuple[str, str, Callable[[Any], Any]], ...] = (
    ("builtins", "set", _sorted),
    ("builtins", "frozenset", _sorted),
    ("builtins", "range", list),
    ("collections", "deque", list),
    ("collections.abc", "Mapping", dict),
    ("collections.abc", "KeysView", list),
    ("collections.abc", "ValuesView", list),
    ("enum", "Enum", lambda member: member.value),
    ("datetime", "date", lambda moment: moment.isoformat()),
    ("datetime", "time", lambda moment: moment.isoformat()),
    ("datetime", "timedelta", lambda span: span.total_seconds()),
    ("uuid", "UUID", str),
    ("decimal", "Decimal", _number),
    ("pathlib", "PurePath", str),
    ("pandas", "DataFrame", _records),
    ("pandas", "Series", _values),
    ("pandas.api.extensions", "ExtensionArray", list),
)


def _converter(value: Any) -> Optional[Callable[[Any], Any]]:
    """The function that brings a value closer to JSON; None if there is none."""
    pandas = sys.modules.get("pandas")
    if value is getattr(pandas, "NaT", pandas) or value is getattr(pandas, "NA", pandas):
        return lambda _missing: None
    for module, name, convert in _CONVERSIONS:
        kind = getattr(sys.modules.get(module), name, None)
        if kind is not None and isinstance(value, kind):
            return convert
    if isinstance(value, type):
        return None
    fields = getattr(value, "__dataclass_fields__", None)
    if fields is not None:
        return lambda record: {name: getattr(record, name) for name in fields}
    if callable(getattr(value, "tolist", None)):
        return _to_list
    # TensorFlow's tensors, then pydantic's models.
    for method in ("numpy", "model_dump"):
        if callable(getattr(value, method, None)):
            return operator.methodcaller(method)
    return None


def _to_list(array: Any) -> Any:
    """A numpy array or scalar, a pandas series, a tensor: as a list, or as a plain value."""
    if type(array).__module__ == "numpy" and array.dtype.kind in "Mm":
        # tolist() would turn times of numpy into plain numbers.
        return _without_nat(array.astype("U").tolist())
    plain = array.tolist()
    if type(plain) is type(array):
        raise UnserialisableError("run() returned a {}".format(type(array).__name__))
    return plain


def _without_nat(texts: Any) -> Any:
    if isinstance(texts, list):
        return [_without_nat(text) for text in texts]
    return None if texts == "NaT" else texts


def _hint(value: Any) -> str:
    """What the author of the script can do about a value without a JSON form."""
    if inspect.isawaitable(value) or inspect.isasyncgen(value):
        return "declare run() with `async def`, or await it there"
    if inspect.isgenerator(value):
        return "return a list, or stream with @rawhttp and AMLResponse(generator, 200)"
    if isinstance(value, (bytes, bytearray, memoryview)):
        return "decode it to text, or send bytes with @rawhttp and AMLResponse(bytes, 200, headers)"
    if isinstance(value, complex):
        return "return its real and its imaginary part"
    if inspect.isroutine(value) or inspect.isclass(value) or inspect.ismodule(value):
        return "was it meant to be called?"
    return "convert it to numbers, text, lists or dictionaries first"
