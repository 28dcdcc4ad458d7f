"""What it is for."""

import json
import math
from collections.abc import Iterable
from typing import Any

from imagematrix.checks.check import layer, listing
from imagematrix.checks.running import APP_ROOT, RunningImage
from imagematrix.matrix.schema import MINIMAL


@layer(MINIMAL)
def example_is_scored(image: RunningImage) -> None:
    """The example's real model answers over HTTP what was computed without its framework."""
    folder = image.root / image.example
    request = (folder / "request.json").read_bytes()
    expected = json.loads((folder / "response.json").read_bytes())
    assert expected, f"{folder}/response.json expects nothing"
    status, _, body = image.request("/score", request)
    log = image.container.logs(tail=20).decode(errors="replace")
    assert status == 200, f"POST /score gave {status} {body[:300]!r}; the log:\n{log}"
    found = list(differences(json.loads(body), expected, "response"))
    assert not found, f"not as computed another way: {'; '.join(found[:5])}"


def differences(actual: Any, expected: Any, where: str) -> Iterable[str]:
    """What differs, with numbers compared to 1e-5 of their size: models compute in 32 bits."""
    if isinstance(expected, dict) and isinstance(actual, dict) and actual.keys() == expected.keys():
        for key, value in expected.items():
            yield from differences(actual[key], value, f"{where}.{key}")
    elif isinstance(expected, list) and isinstance(actual, list) and len(actual) == len(expected):
        for i, (left, right) in enumerate(zip(actual, expected, strict=True)):
            yield from differences(left, right, f"{where}[{i}]")
    elif isinstance(expected, float) and isinstance(actual, int | float):
        if not math.isclose(actual, expected, rel_tol=1e-5, abs_tol=1e-6):
            yield f"{where} is {actual}, expected {expected}"
    elif actual != expected:
        yield f"{where} is {actual!r}, expected {expected!r}"


@layer(MINIMAL)
def health_check_succeeds(image: RunningImage) -> None:
    """The command of the image's health check ends well while it serves."""
    kind, *command = image.config.get("Healthcheck", {}).get("Test") or ["NONE"]
    assert kind == "CMD", f"the health check is of the kind {kind}"
    status, output = image.container.exec_run(command)
    assert status == 0, f"{' '.join(command)} ended with {status}: {output!r}"


# Where serving may leave something: /tmp, and the folder that the example was put into.
_WRITABLE = ("/tmp", "/var", APP_ROOT)


@layer(MINIMAL)
def serving_writes_nothing(image: RunningImage) -> None:
    """Scoring leaves no bytecode, cache or telemetry behind: it works on a read-only root."""
    example_is_scored(image)
    found = [
        p
        for p in image.written
        if p not in _WRITABLE and not p.startswith(("/tmp/", f"{APP_ROOT}/"))
    ]
    assert not found, f"written while serving: {listing(found)}"
