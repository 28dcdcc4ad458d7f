"""What a build does when something goes wrong: said in words, nothing half-built, nothing lost."""

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from imagematrix.host.engine import Engine
from imagematrix.plan.bake import image_tag
from imagematrix.repository.sizes import Budgets, Measured, Size, budgets_text
from tests.engine.small_project import (
    CORRUPT,
    GOOD,
    PARENT,
    SLOW,
    command_of,
    environ_of,
    run_in,
    small_project,
)
from tests.images.running import build_images, is_present


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, engine: Engine) -> Iterator[Path]:
    """A repository with the minimal image of this one, which is up to date, and three children."""
    build_images(engine, PARENT)
    root = tmp_path_factory.mktemp("project")
    small_project(root)
    yield root
    client = engine.client()
    for name in (GOOD, CORRUPT, SLOW):
        if is_present(engine, image_tag(name)):
            client.images.remove(image_tag(name), force=True)
    client.close()


def _remove(engine: Engine, *names: str) -> None:
    client = engine.client()
    for name in names:
        if is_present(engine, image_tag(name)):
            client.images.remove(image_tag(name), force=True)
    client.close()


def test_one_failure_does_not_stop_the_others(project: Path, engine: Engine) -> None:
    """A hash that differs fails its image alone, names the package, and leaves no tag."""
    _remove(engine, GOOD, CORRUPT)
    result = run_in(project, "build", GOOD, CORRUPT, "--json")
    assert result.returncode == 1, result.stderr[-3000:]
    rows = {row["name"]: row for row in json.loads(result.stdout)}
    outcomes = {name: row["outcome"] for name, row in rows.items() if name != PARENT}
    assert outcomes == {GOOD: "built", CORRUPT: "failed"}, result.stderr[-3000:]
    detail = rows[CORRUPT]["detail"]
    assert "six==1.17.0" in detail, detail
    assert "Hash mismatch" in detail, detail
    assert "build/build.log" in detail, detail
    assert is_present(engine, image_tag(GOOD))
    assert not is_present(engine, image_tag(CORRUPT))


def _outcomes(project: Path) -> tuple[list[str], str]:
    """The outcomes of the parent and of the good image, and why."""
    result = run_in(project, "build", GOOD, "--json")
    assert result.returncode == 0, result.stderr[-3000:]
    return [row["outcome"] for row in json.loads(result.stdout)], result.stdout


def test_second_build_has_nothing_to_do(project: Path, engine: Engine) -> None:
    """Built images are up to date, until they are removed."""
    if not is_present(engine, image_tag(GOOD)):
        assert run_in(project, "build", GOOD).returncode == 0
    outcomes, why = _outcomes(project)
    assert outcomes == ["up to date", "up to date"], why
    _remove(engine, GOOD)
    outcomes, why = _outcomes(project)
    assert outcomes == ["up to date", "built"], why
    outcomes, why = _outcomes(project)
    assert outcomes == ["up to date", "up to date"], why


def test_index_that_cannot_be_reached_is_named(project: Path, engine: Engine) -> None:
    """The image fails with the package that could not be fetched."""
    _remove(engine, CORRUPT)
    index = "http://127.0.0.1:9/simple"
    result = run_in(project, "build", CORRUPT, "--json", PIP_INDEX_URL=index)
    assert result.returncode == 1
    detail = json.loads(result.stdout)[-1]["detail"]
    assert "127.0.0.1:9" in detail, detail
    assert not is_present(engine, image_tag(CORRUPT))


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGKILL], ids=["Ctrl-C", "kill -9"])
def test_interrupted_build_leaves_no_tag_and_the_next_one_works(
    project: Path, engine: Engine, kind: signal.Signals
) -> None:
    """No tag points at a partial image, and the next build just works."""
    _remove(engine, GOOD, SLOW)
    log = project / "interrupted.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            command_of("build", SLOW),
            cwd=project,
            env=environ_of(),
            stdout=output,
            stderr=output,
            start_new_session=True,
            # As at a terminal: what a shell runs in the background is born deaf to Ctrl-C.
            preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
        )
    deadline = time.monotonic() + 120
    while "RUN sleep 30" not in log.read_text():
        assert process.poll() is None, log.read_text()[-3000:]
        assert time.monotonic() < deadline, "the slow step did not begin"
        time.sleep(0.2)
    # Ctrl-C reaches the whole group, as from a terminal; kill -9 only the one that is named.
    if kind is signal.SIGINT:
        os.killpg(process.pid, kind)
    else:
        process.kill()
    status = process.wait(timeout=60)
    assert not is_present(engine, image_tag(SLOW))
    if kind is signal.SIGINT:
        assert status == 130, log.read_text()[-3000:]
        assert "Traceback" not in log.read_text()
    else:
        os.killpg(process.pid, signal.SIGTERM)  # What the killed one had started.
    result = run_in(project, "build", GOOD)
    assert result.returncode == 0, result.stderr[-3000:]
    assert is_present(engine, image_tag(GOOD))


def test_broken_matrix_writes_and_builds_nothing(project: Path) -> None:
    """All its errors at once, exit status 2, and every file as it was."""
    matrix = project / "matrix.yaml"
    text = matrix.read_text()
    before = {path: path.read_bytes() for path in project.rglob("*") if path.is_file()}
    matrix.write_text(text.replace('["3.12"]', "[3.12]").replace("title: good", "titel: good"))
    try:
        results = {command: run_in(project, command) for command in ("build", "render", "lock")}
    finally:
        matrix.write_text(text)
    for command, result in results.items():
        assert result.returncode == 2, f"{command}: {result.stderr}"
        assert "did you mean title?" in result.stderr
        assert result.stderr.count('write "3.12" in quotes') == 2
        assert "Traceback" not in result.stderr
    after = {path: path.read_bytes() for path in project.rglob("*") if path.is_file()}
    assert after == before


def test_disk_that_is_too_small_is_reported_before_building(project: Path) -> None:
    """The message has the figure that is needed and the one that there is."""
    huge = Budgets(
        measured={GOOD: Measured(Size(9 * 10**15, 0), Size(9 * 10**15, 0), 1, {}, "bootstrap")}
    )
    (project / "sizes.json").write_text(budgets_text(huge))
    try:
        assert run_in(project, "render").returncode == 0
        result = run_in(project, "build", GOOD, "--force")
    finally:
        (project / "sizes.json").unlink()
        assert run_in(project, "render").returncode == 0
    assert result.returncode == 1, result.stderr
    assert re.search(r"takes about [\d,.]+ GB, and \S+ has [\d.]+ GB free", result.stderr)
    assert "#1 [" not in result.stderr, "the build was begun"
