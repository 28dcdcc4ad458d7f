"""A release statement as the predicate of an in-toto statement, and back."""

import json
from typing import Any

import pytest

from imagematrix.errors import WorkError
from imagematrix.release.changelog import changes
from imagematrix.release.statement import from_json, promised, to_json
from tests.unit.statements import STATEMENT, statement

FULL = statement(
    packages={"numpy": "2.5.5"},
    changes=changes(STATEMENT, statement(packages={"numpy": "2.5.5"}, compressed=1)),
    allowed={"pending": "no fix builds yet", "jump numpy": "announced"},
    held="python 3.12.13 → 3.13.1 is another minor version",
    cuda="13.0",
)


@pytest.mark.parametrize("one", [STATEMENT, FULL, statement(previous="", supported_until="")])
def test_statement_is_read_as_it_was_written(one: Any) -> None:
    text = json.dumps(to_json(one))

    assert from_json(json.loads(text)) == one
    assert json.dumps(to_json(one)) == text


def test_predicate_has_the_fields_of_in_toto() -> None:
    predicate = to_json(STATEMENT)

    assert predicate["purl"] == (
        f"pkg:oci/xgboost3.4-py312-inference@sha256:{'a' * 64}?arch=amd64&tag=20261120.v1"
    )
    assert predicate["releaseId"] == STATEMENT.name
    assert predicate["pins"] == list(STATEMENT.pins)


def test_fields_that_are_unknown_are_ignored() -> None:
    assert from_json({**to_json(STATEMENT), "new": 1}) == STATEMENT


def test_promised_packages_have_their_normalized_names() -> None:
    assert promised(STATEMENT) == ("xgboost-cpu", "numpy", "tabulate-lib")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": None}, "name: Input should be a valid string"),
        ({"compressed": "1"}, "compressed: Input should be a valid integer"),
        ({"pins": "numpy"}, "pins: Input should be a valid"),
        ({"packages": {"numpy": 2}}, "packages.numpy: Input should be a valid string"),
        ({"packages": {"numpy": "two"}}, "packages.numpy: 'two' is no version of a package"),
        ({"pins": ["numpy=>2"]}, "pins: ('numpy=>2',) is no list of requirements"),
        ({"changes": [{"kind": "pypi"}]}, "changes[0].name: Field required"),
        (
            {"changes": [{"kind": "size", "name": "compressed", "old": "1", "new": "big"}]},
            "has a size that is no number of bytes",
        ),
        ({"digest": "sha256:abc"}, "digest: 'sha256:abc' is not of the form of sha256: and 64"),
        ({"tag": "latest"}, "tag: 'latest' is no dated tag, such as 20261128.v1"),
        ({"tag": "20261120.v2"}, "purl: is not pkg:oci/xgboost3.4-py312-inference@sha256:a"),
        ({"previous": "x"}, "previous: 'x' is no dated tag"),
        ({"published": "2026-11-20"}, "published: '2026-11-20' is no date and time with its zone"),
        ({"published": "now"}, "published: 'now' is no date and time"),
        ({"python": "3.12"}, "python: '3.12' is no full version of CPython, such as 3.12.14"),
        ({"python": "old"}, "python: 'old' is no full version of CPython"),
        ({"supported_until": "soon"}, "supported_until: 'soon' is no date, such as 2027-10-31"),
        ({"purl": "pkg:oci/other"}, "purl: is not pkg:oci/xgboost3.4-py312-inference@"),
        ({"releaseId": "other"}, "releaseId: is not xgboost3.4-py312-inference, as the other"),
    ],
)
def test_malformed_statement_is_an_error_with_its_place(
    change: dict[str, Any], message: str
) -> None:
    with pytest.raises(WorkError) as raised:
        from_json({**to_json(STATEMENT), **change})

    assert str(raised.value).startswith("malformed release statement: ")
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("data", [None, [], "text", 7, {}, {1: b"x"}, float("nan")])
def test_other_data_is_an_error(data: Any) -> None:
    with pytest.raises(WorkError, match="malformed release statement: "):
        from_json(data)


@pytest.mark.parametrize("key", sorted(to_json(STATEMENT).keys() - {"changes", "allowed", "held"}))
def test_every_field_is_needed(key: str) -> None:
    predicate = to_json(STATEMENT)
    del predicate[key]

    with pytest.raises(WorkError, match=key):
        from_json(predicate)
