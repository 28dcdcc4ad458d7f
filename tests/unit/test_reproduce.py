"""Copies of the repository that differ as checkouts do, and what is said of images built there."""

import io
import json
import subprocess
import tarfile
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import docker.errors
import pytest

from imagematrix import cli
from imagematrix.commands import reproduce
from imagematrix.repository.copies import CHECKOUTS, Checkout, copy_repository
from tests.unit.helpers import MINIMAL, PYTORCH, XGBOOST, Repository


def modes(root: Path) -> dict[str, str]:
    return {str(p.relative_to(root)): f"{p.stat().st_mode & 0o777:o}" for p in root.rglob("*")}


def test_a_copy_has_the_files_of_the_repository_in_another_state(repository: Repository) -> None:
    for name in (".git/HEAD", "build/log", "base/server/__pycache__/a.pyc", "base/.dockerignore"):
        repository.put(name, name)
    repository.put("run.sh", "#!/bin/sh\n")
    (repository.root / "run.sh").chmod(0o755)
    copies = [repository.root / "build" / name for name in ("1", "2")]

    for copy, checkout in zip(copies, CHECKOUTS, strict=True):
        copy.mkdir()
        (copy / "of-an-earlier-run").touch()
        copy_repository(repository.root, copy, checkout)

    one, two = (Repository(copy).files() for copy in copies)
    assert one == two
    left_out = ("of-an-earlier-run", ".git/", "build/", "base/server/__pycache__/")
    assert not [name for name in one if name.startswith(left_out)]
    assert one.keys() >= {"matrix.yaml", "base/.dockerignore", "base/server/app.py"}
    assert [modes(copy)["run.sh"] for copy in copies] == ["755", "700"]
    assert [modes(copy)["matrix.yaml"] for copy in copies] == ["644", "600"]
    assert [modes(copy)["base"] for copy in copies] == ["755", "700"]
    times = [{path.stat().st_mtime for path in copy.rglob("*")} for copy in copies]
    assert len(times[0]) == len(list(copies[0].rglob("*"))), "each of its own time"
    assert not times[0] & times[1]
    assert str(Checkout(0o77, 0, True)) == "umask 0077, files of 1970-01-01, written backwards"


def image(digest: str, *layers: str) -> dict[str, Any]:
    return {"Id": digest, "Config": {}, "RootFS": {"Layers": list(layers)}}


def tree(text: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        info = tarfile.TarInfo("etc/motd")
        info.size = len(text)
        archive.addfile(info, io.BytesIO(text.encode()))
    return buffer.getvalue()


@pytest.fixture
def images(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, Any]]:
    """What the engine has, under its names; a layer is called by what its one file holds."""
    monkeypatch.chdir(repository.root)
    there: dict[str, dict[str, Any]] = {}

    def inspect(name: str) -> dict[str, Any]:
        if name not in there:
            raise docker.errors.ImageNotFound(name)
        return there[name]

    def remove(name: str) -> None:
        inspect(name)
        del there[name]

    engine = Mock()
    client = engine.client.return_value
    client.api.inspect_image.side_effect = inspect
    client.api.history.return_value = []
    client.api.remove_image.side_effect = remove
    monkeypatch.setattr(reproduce, "ensure_engine", lambda: engine)
    monkeypatch.setattr(
        "imagematrix.measure.compared.read_layers",
        lambda _client, _image, layers, read: {
            layer: read(io.BytesIO(tree(layer))) for layer in layers
        },
    )
    return there


@pytest.fixture
def builds(monkeypatch: pytest.MonkeyPatch) -> list[list[dict[str, str]]]:
    """What the two builds say; MINIMAL and XGBOOST are built by both."""
    results = [[{"name": n, "outcome": "built", "detail": ""} for n in (MINIMAL, XGBOOST)]] * 2
    waiting = iter(results)
    commands: list[list[str]] = []

    def run(command: list[str], **options: Any) -> Any:
        assert (Path(options["cwd"]) / "matrix.yaml").is_file()
        commands.append(command)
        return subprocess.CompletedProcess(command, 0, json.dumps(next(waiting)))

    monkeypatch.setattr("imagematrix.commands.reproduce.subprocess.run", run)
    return results


def result(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    status = cli.main(["reproduce", *arguments])
    return status, capsys.readouterr().out


def test_images_of_one_digest_are_the_same_and_go(
    images: dict[str, Any], builds: object, capsys: pytest.CaptureFixture[str]
) -> None:
    images[f"{MINIMAL}:latest"] = image("sha256:users", "u")
    for tag in reproduce.TAGS:
        images[f"{MINIMAL}:{tag}"] = image("sha256:m", "a")
        images[f"{XGBOOST}:{tag}"] = image("sha256:x", "a", "b")

    status, out = result(capsys, XGBOOST)

    assert status == 0
    assert not Path("build/reproduce").exists()
    assert "the same: sha256:x" in out
    assert out.splitlines()[-1].startswith("2 same in ")
    assert images.keys() == {f"{MINIMAL}:latest"}


def test_differences_are_reported_once_for_the_image_that_brings_them(
    images: dict[str, Any], builds: object, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = reproduce.TAGS
    images[f"{MINIMAL}:{one}"] = image("sha256:m1", "a")
    images[f"{MINIMAL}:{two}"] = image("sha256:m2", "b")
    images[f"{XGBOOST}:{one}"] = image("sha256:x1", "a", "x")
    images[f"{XGBOOST}:{two}"] = image("sha256:x2", "b", "x")

    status, out = result(capsys, XGBOOST, "--keep")

    assert status == 1
    assert f"{MINIMAL}:\nlayer 1 /etc/motd: sha256 " in out
    assert f"differs as {MINIMAL} does" in out
    assert f"{XGBOOST}:\n" not in out
    assert len(images) == 4


def test_an_image_that_was_not_built_twice_is_not_the_same(
    images: dict[str, Any],
    builds: list[list[dict[str, str]]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    for tag in reproduce.TAGS:
        images[f"{MINIMAL}:{tag}"] = image("sha256:m", "a")
    builds[1] = [builds[0][0], {"name": XGBOOST, "outcome": "failed", "detail": "no network"}]
    assert PYTORCH not in str(builds)

    status, out = result(capsys, XGBOOST, "--json")

    assert status == 1
    rows = json.loads(out)
    assert [(row["image"], row["same"]) for row in rows] == [(MINIMAL, True), (XGBOOST, False)]
    assert rows[1]["outcome"] == "build 2: failed: no network"
    assert Path("build/reproduce/reproduce-2/matrix.yaml").is_file(), "its log would be there"


def test_builds_that_say_nothing_are_an_error(
    images: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ended = subprocess.CompletedProcess([], 2, "")
    monkeypatch.setattr("imagematrix.commands.reproduce.subprocess.run", lambda *_, **__: ended)

    assert cli.main(["reproduce", XGBOOST]) == 1
    assert "build 1 of 2 ended with 2; see above" in capsys.readouterr().err


def test_two_images_are_compared_by_what_they_are(
    images: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    images["one"] = image("sha256:1", "a") | {"Config": {"Labels": {"inference.matrix-key": "1"}}}
    images["same"] = image("sha256:2", "b", "a")
    images["other"] = image("sha256:3", "b") | {"Config": {"User": "0"}}

    assert result(capsys, "--compare", "one", "same") == (0, "no difference\n")
    status, out = result(capsys, "--compare", "one", "other")
    assert status == 1
    assert out.splitlines() == [
        "/etc/motd: sha256 ca978112ca1b → 3e23e8160039",
        "    -a",
        "    +b",
        "configuration User: only in the second (0)",
        "2 differences: 1 sha256",
    ]
    assert cli.main(["reproduce", "--compare", "one", "none"]) == 2
    assert "the engine has no image none" in capsys.readouterr().err
