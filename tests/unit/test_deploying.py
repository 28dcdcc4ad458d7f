"""`environment` with an inferenceconfig.json, as far as it needs no engine."""

import json
import re
from pathlib import Path

import pytest

from imagematrix import cli
from imagematrix.environments.foreign import PASSWORD_VARIABLE
from tests.unit.helpers import REPOSITORY, Repository

CONFIG = {"entryScript": "score.py", "sourceDirectory": "src"}


@pytest.fixture(autouse=True)
def _here(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(repository.root)
    for template in ("deployment.Dockerfile.j2", "macros.j2"):
        repository.put(f"base/{template}", (REPOSITORY / "base" / template).read_text())
    repository.put("src/score.py", "def init(): pass\ndef run(data): return data\n")


def run(
    capsys: pytest.CaptureFixture[str], *options: str, **config: object
) -> tuple[int, str, str]:
    """Exit status, standard output and standard error; nothing may be written."""
    file = Path("inferenceconfig.json")
    file.write_text(json.dumps({**CONFIG, **config}))
    before = sorted(Path().rglob("*"))
    try:
        status = cli.main(["environment", str(file), *options])
    except SystemExit as exit_:
        status = exit_.code if isinstance(exit_.code, int) else 1
    assert sorted(Path().rglob("*")) == before
    output = capsys.readouterr()
    assert "Traceback" not in output.err
    return status, output.out, output.err


def test_print_shows_the_dockerfile_and_needs_no_engine(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent/docker.sock")
    status, out, _ = run(capsys, "--print", "--model", "base")
    assert status == 0
    assert "FROM minimal-py312-inference:latest\n" in out
    assert 'AZUREML_MODEL_DIR="/var/azureml-app/azureml-models/base"\n' in out


def test_a_gpu_that_chooses_nothing_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    said = "enableGpu chooses no image: minimal-py312-inference:latest has CUDA only if"
    named = "minimal-py312-inference"
    status, _, err = run(capsys, "--print", baseImage=named, enableGpu=True)
    assert (status, said in err) == (0, True)
    assert "enableGpu" not in run(capsys, "--print", baseImage=named)[2]


def test_an_inline_environment_without_packages_needs_no_image_of_its_own(
    capsys: pytest.CaptureFixture[str],
) -> None:
    python = {"condaDependencies": {"dependencies": ["python=3.12", "pip"]}}
    variables = {"A": "b"}
    environment = {"name": "x", "environmentVariables": variables, "python": python}
    status, out, _ = run(capsys, "--print", environment=environment)
    assert (status, 'ENV A="b"' in out) == (0, True)
    assert "FROM minimal-py312-inference:latest\n" in out


def test_all_errors_of_the_files_are_shown_at_once(
    repository: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    repository.put("src/score.py", "def run(:\n")
    repository.put("src/steps", "RUN true\nFROM other\n")
    status, out, err = run(capsys, extraDockerfileSteps="steps", runtime="r")
    assert (status, out) == (2, "")
    assert "src/score.py:1:" in err
    assert "src/steps:2:1: FROM" in err
    assert "runtime" in err
    assert err.endswith("3 errors; nothing was changed\n")


def test_a_model_that_does_not_exist_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = run(capsys, "--model", "nowhere")
    assert (status, out, err) == (2, "", "the model nowhere does not exist\n")


def test_half_a_log_in_is_an_error_without_the_password(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PASSWORD_VARIABLE, "hush")
    status, out, err = run(capsys, baseImage="registry.example/team/base:1")
    assert (status, out) == (2, "")
    assert err.startswith("the registry of the base image has a password and no user name; set ")
    assert "hush" not in err


def test_no_option_takes_a_password(capsys: pytest.CaptureFixture[str]) -> None:
    status, _, err = run(capsys, "--password", "hush")
    assert status == 2
    assert "unrecognized arguments: hush" in err


def test_options_of_deployments_are_for_these(capsys: pytest.CaptureFixture[str]) -> None:
    Path("requirements.txt").write_text("six\n")
    status = cli.main(["environment", "requirements.txt", "--model", "base"])
    assert status == 2
    assert capsys.readouterr().err == (
        "--model and --password-stdin are for an inferenceconfig.json\n"
    )


@pytest.mark.parametrize("packages", ["conda", "pypi"])
def test_the_recipe_of_2019_is_based_on_its_environment(
    packages: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It names ubuntu-miniconda; its conda file becomes the environment."""
    monkeypatch.chdir(REPOSITORY)
    file = "tests/unit/environments/case09/inferenceconfig.json"
    status = cli.main(["environment", file, "--packages", packages, "--print"])
    output = capsys.readouterr()
    assert status == 0, output.err
    assert re.search(r"^FROM azureml_[0-9a-f]{32}:latest$", output.out, re.MULTILINE)
    assert "miniconda" not in output.out
