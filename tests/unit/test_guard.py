"""Where `latest` may move, and what is said where it may not."""

from typing import Any

import pytest

from imagematrix.errors import UserError
from imagematrix.release.guard import accepted, allowed, held, jumps
from tests.unit.statements import STATEMENT, statement

NAME = "give the image a new name, by a release of its own in matrix.yaml"


@pytest.mark.parametrize(
    "new",
    [
        {},
        {"packages": {"numpy": "2.5.5"}},
        {"packages": {"numpy": "2.10.0"}},
        {"packages": {"xgboost-cpu": "3.5.0rc1"}},
        {"packages": {"xgboost-cpu": "3.4.1+cpu"}},
        {"packages": {"tabulate-lib": "0.9.10"}},
        {"packages": {"numpy": "2.5.4.post1"}},
        # No promise: a resolution may take an older one, or another line, or do without.
        {"packages": {"scipy": "1.18.0"}},
        {"packages": {"scipy": "2.0.0"}},
        {"packages": {"scipy": None}},
        {"packages": {"new-one": "1.0"}},
        {"debian": {"zlib1g": "1:1.2.13-1", "openssl": None}},
        {"pins": (*STATEMENT.pins, "scipy>=1"), "packages": {"scipy": "1.19.1"}},
        {"pins": (*STATEMENT.pins, "pandas==3.1.1"), "packages": {"pandas": "3.1.1"}},
        {"python": "3.12.14"},
        {"python": "3.12.13"},
        {"tag": STATEMENT.tag},
        {"tag": "20261120.v10"},
        {"base": "debian:forky-slim@sha256:1", "supported_until": "2027-01-01"},
    ],
)
def test_latest_moves(new: dict[str, Any]) -> None:
    assert jumps(STATEMENT, statement(**new)) == ()


@pytest.mark.parametrize(
    ("new", "why", "hint"),
    [
        ({"python": "3.13.1"}, "python 3.12.13 → 3.13.1 is another minor version", NAME),
        ({"python": "3.11.15"}, "python 3.12.13 → 3.11.15 is another minor version", NAME),
        ({"python": "3.12.9"}, "python 3.12.13 → 3.12.9 goes back", "publish the newer one"),
        ({"cuda": "13.0"}, "cuda none → 13.0 is in the name of the image", NAME),
        ({"packages": {"numpy": "3.0.0"}}, "numpy 2.5.4 → 3.0.0 is another major version", NAME),
        ({"packages": {"numpy": "1!2.5.4"}}, "numpy 2.5.4 → 1!2.5.4 is another", NAME),
        ({"packages": {"numpy": "1.26.4"}}, "numpy 2.5.4 → 1.26.4 is another major version", NAME),
        ({"packages": {"numpy": "2.5.3"}}, "numpy 2.5.4 → 2.5.3 goes back", "publish the newer"),
        ({"packages": {"numpy": "2.5.4rc1"}}, "numpy 2.5.4 → 2.5.4rc1 goes back", "publish"),
        ({"packages": {"numpy": None}}, "numpy 2.5.4 is gone", NAME),
        ({"packages": {"numpy": "what"}}, "numpy 2.5.4 → what cannot be compared", NAME),
        (
            {"packages": {"tabulate-lib": "0.10.0"}},
            "tabulate-lib 0.9.3 → 0.10.0 is another minor version",
            NAME,
        ),
        (
            {"packages": {"tabulate-lib": "1.0"}},
            "tabulate-lib 0.9.3 → 1.0 is another major version",
            NAME,
        ),
        (
            {"pins": ("xgboost-cpu==3.4.1", "Tabulate_Lib==0.9")},
            "numpy 2.5.4 is no longer promised",
            "pin it in matrix.yaml again",
        ),
        ({"tag": "20261119.v9"}, "tag 20261120.v1 → 20261119.v9 goes back", "publish it under"),
    ],
)
def test_latest_stays_and_it_is_said_what_to_do(new: dict[str, Any], why: str, hint: str) -> None:
    (found,) = jumps(STATEMENT, statement(**new))

    assert str(found).startswith(why)
    assert f"; {hint}" in str(found)
    assert str(found).endswith(f'or accept it with --accept-jump {found.name}="reason"')


def test_the_local_part_of_a_version_is_no_step_back() -> None:
    """It is that of a build: torch 2.13.0+cpu is torch 2.13.0."""
    built = statement(tag=STATEMENT.tag, packages={"xgboost-cpu": "3.4.1+cpu"})

    assert jumps(built, statement(packages={"xgboost-cpu": "3.4.1"})) == ()
    assert jumps(built, statement(packages={"xgboost-cpu": "3.4.1+build2"})) == ()
    (back,) = jumps(built, statement(packages={"xgboost-cpu": "3.4.0+cpu"}))
    assert back.why == "3.4.1+cpu → 3.4.0+cpu goes back"


def test_another_cuda_is_a_jump() -> None:
    with_cuda = statement(tag=STATEMENT.tag, cuda="12.5")
    for cuda in ("", "13.0", "12.6"):
        assert [jump.name for jump in jumps(with_cuda, statement(cuda=cuda))] == ["cuda"]
    assert jumps(with_cuda, statement(cuda="12.5")) == ()


def test_a_package_that_a_new_promise_adds_goes_on_from_what_it_was() -> None:
    promised = statement(pins=(*STATEMENT.pins, "scipy>=2"), packages={"scipy": "2.0"})
    assert [jump.name for jump in jumps(STATEMENT, promised)] == ["scipy"]


def test_accepted_jumps_are_recorded_and_all_others_hold_latest() -> None:
    new = statement(packages={"numpy": "3.0", "xgboost-cpu": None}, python="3.13.1")
    found = jumps(STATEMENT, new)
    reasons = accepted(["numpy=all clients = ready", "scipy = not needed"])

    assert [jump.name for jump in found] == ["python", "xgboost-cpu", "numpy"]
    assert held(found, reasons) == (
        "python 3.12.13 → 3.13.1 is another minor version; xgboost-cpu 3.4.1 is gone"
    )
    assert allowed(found, reasons) == {"jump numpy": "all clients = ready"}
    everything = {jump.name: "known" for jump in found}
    assert held(found, everything) == ""
    assert held((), {}) == ""


@pytest.mark.parametrize("text", ["numpy", "numpy=", "=reason", "numpy= ", ""])
def test_an_accepted_jump_has_a_name_and_a_reason(text: str) -> None:
    with pytest.raises(UserError, match=r'write --accept-jump NAME="reason"'):
        accepted([text])
    with pytest.raises(UserError, match="numpy is given twice"):
        accepted(["numpy=a", "numpy=b"])
