"""Plans against published images, saved in a file or in a registry; no engine is used."""

import json
from pathlib import Path
from typing import Any

import pytest

from imagematrix import cli
from imagematrix.build import prepare
from imagematrix.errors import UserError
from imagematrix.host import published
from imagematrix.host.published import published_images, registry_of
from imagematrix.host.supply import Supply
from imagematrix.plan.content import Present
from tests.unit.helpers import MINIMAL, PYTORCH, XGBOOST, Repository

MISSING = "no such image yet"


@pytest.fixture(autouse=True)
def _no_engine(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(repository.root)
    monkeypatch.setattr(prepare, "ensure_engine", lambda: pytest.fail("the engine was used"))
    supplies = {name: Supply() for name in (MINIMAL, XGBOOST, PYTORCH)}
    monkeypatch.setattr(prepare, "resolve_supplies", lambda *_: supplies)


def plan(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[dict[str, Any]]:
    assert cli.main(["plan", "--json", *arguments]) == 0
    rows: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    return rows


def reasons(rows: list[dict[str, Any]]) -> dict[str, list[str]]:
    return {row["image"]: row["reasons"] for row in rows if row["action"] == "build"}


@pytest.fixture
def noted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """The present plan of the repository, as a file."""
    path = tmp_path / "published.json"
    path.write_text("[]")
    path.write_text(json.dumps(plan(capsys, "--against", str(path))))
    return str(path)


def test_images_of_a_saved_plan_are_up_to_date(
    noted: str, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = plan(capsys, "--against", noted)

    assert {row["image"]: row["action"] for row in rows} == {
        MINIMAL: "up to date",
        XGBOOST: "up to date",
        PYTORCH: "up to date",
    }


def test_changes_since_a_saved_plan_are_reported(
    noted: str, repository: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    lock = str(repository.variant(XGBOOST).lock)
    repository.change(lock, ("numpy==2.1", "numpy==2.2"))
    rows = json.loads(Path(noted).read_text())
    Path(noted).write_text(json.dumps([row for row in rows if row["image"] != PYTORCH]))

    found = reasons(plan(capsys, "--against", noted))

    assert found == {XGBOOST: ["lock: numpy 2.1 → 2.2"], PYTORCH: [MISSING]}


def test_published_child_of_another_parent_is_rebuilt(
    noted: str, capsys: pytest.CaptureFixture[str]
) -> None:
    layers = {MINIMAL: ["new"], XGBOOST: ["old", "own"], PYTORCH: ["new", "own"]}
    rows = [{**row, "layers": layers[row["image"]]} for row in json.loads(Path(noted).read_text())]
    Path(noted).write_text(json.dumps(rows))

    again = plan(capsys, "--against", noted)

    assert reasons(again) == {XGBOOST: [f"its parent {MINIMAL} was rebuilt"]}
    assert [row["layers"] for row in again] == [["new"], None, ["new", "own"]]


def test_what_was_unavailable_was_not_published(noted: str) -> None:
    rows = json.loads(Path(noted).read_text())
    rows[1]["action"] = "unavailable"
    Path(noted).write_text(json.dumps(rows))

    assert published_images(noted, [MINIMAL, XGBOOST], None).keys() == {MINIMAL}


@pytest.mark.parametrize("text", ["", "{}", "[1]", "{}x", '[{"image": "a"}]', '{"a": {}}',
    '[{"image": "a", "action": "up to date", "labels": []}]',
    '[{"image": "a", "action": "up to date", "labels": {"b": 1}}]',
    '[{"image": "a", "action": "up to date", "labels": {}, "layers": [1]}]',
    '[{"image": "a", "action": "up to date", "labels": {}, "layers": 1}]'])  # fmt: skip
def test_a_file_of_another_form_is_an_error(text: str, tmp_path: Path) -> None:
    path = tmp_path / "published.json"
    path.write_text(text)

    with pytest.raises(UserError, match=r"has no labels of images; write it with `nox"):
        published_images(str(path), ["a"], None)


@pytest.mark.parametrize(
    ("against", "host", "namespace"),
    [
        ("ghcr.io/me", "ghcr.io", "me"),
        ("127.0.0.1:5000/team/images", "127.0.0.1:5000", "team/images"),
        ("localhost/me", "localhost", "me"),
    ],
)
def test_namespace_of_a_registry_is_requested_for_each_image(
    against: str, host: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    class Registry:
        def __init__(self, *arguments: object) -> None:
            assert arguments == (host, None)

        def image(self, repository: str, tag: str) -> Present | None:
            asked.append((repository, tag))
            return Present({"of": repository}) if repository.endswith("a") else None

    monkeypatch.setattr(published, "Registry", Registry)

    assert published_images(against, ["a", "b"], None) == {"a": Present({"of": f"{namespace}/a"})}
    assert sorted(asked) == [(f"{namespace}/a", "latest"), (f"{namespace}/b", "latest")]


@pytest.mark.parametrize("against", ["published.json", "folder/published.json", "ghcr.io", "/x/y"])
def test_anything_else_is_a_wrong_request(against: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["plan", "--against", against]) == 2
    assert capsys.readouterr().err.startswith(f"{against} is neither a file nor host/namespace of")


def test_upper_case_in_a_namespace_is_lowered_with_a_word(
    capsys: pytest.CaptureFixture[str],
) -> None:
    registry, namespace = registry_of("GHCR.io/MyOrg/Images", None)

    assert (registry.host, namespace) == ("ghcr.io", "myorg/images")
    assert "ghcr.io/myorg/images is used" in capsys.readouterr().err.lower()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("ghcr.io", "it has no namespace"),
        ("ghcr.io/", "it has no namespace"),
        ("https://ghcr.io/me", "leave out what is before the host"),
        ("me", "me is no host of a registry; Docker Hub's is docker.io"),
        ("me/images", "me is no host of a registry; Docker Hub's is docker.io"),
        ("", "it is no host of a registry"),
        ("ghcr.io/me:latest", "me:latest is no namespace"),
        ("ghcr.io/me//images", "me//images is no namespace"),
        ("ghcr.io/me@sha256:00", "no tag and no digest"),
        ("ghcr.io/my images", "my images is no namespace"),
        ("gh cr.io/me", "gh cr.io is no host"),
    ],
)
def test_wrong_name_of_a_registry_has_a_reason(text: str, why: str) -> None:
    with pytest.raises(UserError, match=r"is not host/namespace of a registry") as error:
        registry_of(text, None)
    assert why in str(error.value)
    assert error.value.exit_status == 2
