"""The sessions hand on what the machinery says."""

import subprocess
import sys
from pathlib import Path
from unittest.mock import Mock

import nox
import pytest
from nox.command import CommandFailed

import noxfile
from imagematrix.host.bootstrap import find_interpreter


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the tools go."""
    monkeypatch.setattr(noxfile, "ENVIRONMENT", tmp_path)
    monkeypatch.setattr(noxfile, "PROGRAMS", tmp_path / "bin")
    return tmp_path


def _session(status: int = 0) -> Mock:
    """A session with an argument, in which commands of the machinery end with a status."""
    session = Mock(spec=nox.Session, posargs=["pattern"])

    def run(*command: str, **_: object) -> None:
        if status and "imagematrix" in command:
            raise CommandFailed(f"Returned code {status}", return_code=status)

    session.run.side_effect = run
    return session


def test_wrong_request_ends_nox_with_2(environment: Path) -> None:
    session = _session(2)
    with pytest.raises(SystemExit) as end:
        noxfile.imagematrix(session, "build")
    assert end.value.code == 2
    called = session.run.call_args
    python = str(environment / "bin" / "python")
    assert called.args == (python, "-m", "imagematrix", "build", "pattern")
    assert called.kwargs["stderr"] == sys.stderr
    assert called.kwargs["env"]["PATH"].startswith(f"{environment}/bin:")


def test_failed_work_ends_its_session() -> None:
    with pytest.raises(CommandFailed):
        noxfile.imagematrix(_session(1), "build")


@pytest.mark.parametrize("uv", ["/usr/bin/uv", None])
def test_tools_are_installed_once_for_all_sessions(
    uv: str | None, environment: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("noxfile.shutil.which", lambda _: uv)
    session = _session()
    noxfile.install(session)
    noxfile.install(session)
    made, installed = (call.args for call in session.run.call_args_list)
    assert made[:3] == (sys.executable, "-m", "virtualenv")
    python = str(environment / "bin" / "python")
    assert installed[0] == (uv or python)
    assert python in installed, "what UV_PYTHON names would be taken"
    assert installed[-3:] == ("--require-hashes", "--requirement", "requirements.txt")


@pytest.mark.parametrize(("version", "refused"), [("3.10", True), ("3.12", False)])
def test_python_that_is_too_old_is_refused(version: str, refused: bool, tmp_path: Path) -> None:
    """nox may run in another Python than the one that is needed, and would install for that."""
    (tmp_path / "nox").mkdir()
    (tmp_path / "nox" / "__init__.py").write_text(
        "class Session: pass\noptions = Session()\n"
        "def session(*given, **_): return given[0] if given else session\n"
    )
    (tmp_path / "nox" / "command.py").write_text("class CommandFailed(Exception): pass\n")
    python = find_interpreter(version)
    if python is None:
        pytest.skip(f"no CPython {version} on this host to try it with")
    result = subprocess.run(
        [python.prefix / "bin" / "python3", noxfile.__file__],
        env={"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == int(refused), result.stderr
    assert ("Python 3.11 or newer is needed" in result.stderr) == refused
    assert "Traceback" not in result.stderr
