"""The sessions hand on what the machinery says."""

import sys
from unittest.mock import Mock

import nox
import pytest
from nox.command import CommandFailed

import noxfile


def _session(tmp_path_factory: pytest.TempPathFactory, status: int) -> Mock:
    session = Mock(spec=nox.Session, posargs=["pattern"])
    session.virtualenv.location = str(tmp_path_factory.mktemp("venv"))
    session.run.side_effect = CommandFailed(f"Returned code {status}", return_code=status)
    return session


def test_a_wrong_request_ends_nox_with_2(tmp_path_factory: pytest.TempPathFactory) -> None:
    session = _session(tmp_path_factory, 2)
    with pytest.raises(SystemExit) as end:
        noxfile.imagematrix(session, "build")
    assert end.value.code == 2
    command = ("python", "-m", "imagematrix", "build", "pattern")
    session.run.assert_called_once_with(*command, stderr=sys.stderr)


def test_work_that_failed_ends_its_session(tmp_path_factory: pytest.TempPathFactory) -> None:
    with pytest.raises(CommandFailed):
        noxfile.imagematrix(_session(tmp_path_factory, 1), "build")


def test_tools_are_installed_once(tmp_path_factory: pytest.TempPathFactory) -> None:
    session = _session(tmp_path_factory, 1)
    noxfile.install(session)
    noxfile.install(session)
    session.install.assert_called_once_with(
        "--require-hashes",
        "--requirement",
        "requirements.txt",
        env={"UV_COMPILE_BYTECODE": "1"},
    )
