"""Any text is read, or refused with its errors; nothing else happens."""

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imagematrix.environments.matchspec import parse_match_spec
from imagematrix.environments.specification import content_of, mutated_specification, name_of
from imagematrix.errors import InputError
from tests.unit.specifications import conda, decisions, deployment, environment, texts

# The machine may be busy, and a failure is to come back.
PATIENT = settings(
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
CASES = Path(__file__).parent / "environments"
TEXTS = {path.name: path.read_text(encoding="utf-8") for path in sorted(CASES.rglob("*.*"))}
OTHERS = {"infenv.yml": TEXTS["infenv.yml"], "r.txt": "six\n-r r.txt\n-r ../x\n"}
WORDS = (
    "python numpy =1.2 == >=3,<4 :: - -r -e --hash= sha256: @ git+https:// https://a:b@c/ [ ] { } :"
    " # ' \" \\ / . .. | * ! & % ; , ~ ${A} conda-forge pip: defaults FROM <<EOF r.txt null true"
    " 1e999 999999999999999999999"
)
PIECES = st.sampled_from(
    [*WORDS.split(), " ", "\t", "\n", "\r\n", "\x00", "\u2028", "\ud800", "🎈"]
)
RUBBISH = st.lists(PIECES | st.text(max_size=4), max_size=12).map("".join)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | RUBBISH
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(RUBBISH, inner, max_size=4),
    max_leaves=12,
)


def changed(text: str) -> st.SearchStrategy[str]:
    """The text with a part of it replaced by rubbish."""

    def change(at: int, length: int, rubbish: str) -> str:
        return text[:at] + rubbish + text[at + length :]

    return st.builds(change, st.integers(0, len(text)), st.integers(0, 20), RUBBISH)


def read(reader: Callable[..., Any], *arguments: Any) -> None:
    """Reads, and asks for all that can be asked of what was read."""
    refused: InputError | None = None
    try:
        found = reader(*arguments)
    except InputError as error:
        refused = error
    if refused is not None:
        assert all(diagnostic.message for diagnostic in refused.diagnostics)
        assert "a:b@c" not in str(refused)
        return
    found = getattr(found, "environment", found)
    if found is not None:
        assert name_of(found).startswith("azureml_")
        yaml.safe_load(mutated_specification(found))


@pytest.mark.parametrize("case", [name for name in TEXTS if name.endswith(".yml")])
@settings(PATIENT, max_examples=60)
@given(data=st.data())
def test_changed_conda_specification(case: str, data: st.DataObject) -> None:
    decided = decisions(channels={"defaults": ("conda-forge",)})
    read(environment, data.draw(changed(TEXTS[case])), "env.yml", OTHERS, decided)


@settings(PATIENT, max_examples=200)
@given(st.lists(RUBBISH, max_size=6).map("\n".join))
def test_any_requirements(text: str) -> None:
    read(environment, text, "requirements.txt", OTHERS)


@settings(PATIENT, max_examples=150)
@given(changed(TEXTS["inferenceconfig.json"]))
def test_changed_inference_configuration(text: str) -> None:
    read(deployment, text, OTHERS)


KEYS = "name channels dependencies prefix variables platforms python docker environment entryScript"
KEYS += " condaFile baseImage baseImageRegistry address extraDockerfileSteps condaDependencies"
NAMED = st.dictionaries(st.sampled_from(KEYS.split()), VALUES, max_size=5)


@settings(PATIENT, max_examples=150)
@given(NAMED, NAMED, NAMED)
def test_any_values(outer: dict[str, Any], inner: dict[str, Any], docker: dict[str, Any]) -> None:
    nested = {"environment": {"python": {"condaDependencies": inner}, "docker": docker}}
    read(deployment, json.dumps({"entryScript": "score.py", **nested, **outer}), OTHERS)
    with contextlib.suppress(yaml.YAMLError, UnicodeEncodeError):
        read(environment, yaml.safe_dump({"dependencies": ["six"], **inner}), "env.yml", OTHERS)


@settings(PATIENT, max_examples=150)
@given(RUBBISH, RUBBISH)
def test_any_script_and_steps(script: str, steps: str) -> None:
    text = '{"entryScript": "score.py", "extraDockerfileSteps": "steps"}'
    read(deployment, text, {"score.py": script, "steps": steps})


SPEC_WORDS = "numpy a:: = == >= < != ~= 1.2 2 3.* * , | py37_0 [ ] ( ) version= ' build= x -1 _ #"
SPEC_PIECES = st.sampled_from([*SPEC_WORDS.split(), " "]) | st.text(max_size=2)


@settings(PATIENT, max_examples=400)
@given(st.lists(SPEC_PIECES, min_size=1, max_size=8).map("".join))
def test_normal_form_of_a_match_spec_is_a_match_spec(text: str) -> None:
    try:
        spec = parse_match_spec(text)
    except ValueError:
        return
    assert str(parse_match_spec(str(spec))) == str(spec)


NAMES = st.sampled_from(["numpy", "six", "joblib", "pandas"])


@settings(PATIENT, max_examples=60)
@given(st.lists(NAMES, unique=True, min_size=1), st.randoms(use_true_random=False))
def test_order_of_packages_does_not_change_the_name(names: list[str], random: Any) -> None:
    other = list(names)
    random.shuffle(other)
    first, second = environment(conda(*names)), environment(conda(*other))
    assert content_of(first) == content_of(second)
    assert texts(environment(mutated_specification(first)).conda)[1:] == names
