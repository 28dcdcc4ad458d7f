"""What `verify` says of what it found, and what its checks of bases make of answers of images."""

import io
import json
import tarfile
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, cast

import docker.errors
import pytest

from imagematrix.checks.fitness import REQUIREMENTS, Finding, Group, holding
from imagematrix.checks.foundation import (
    NEWEST_PYTHON,
    OLDEST_PYTHON,
    conda_is_new_enough,
    has_conda,
    is_debian_or_ubuntu,
    python_is_one_that_the_server_runs_on,
)
from imagematrix.checks.running import Interpreter, RunningImage
from imagematrix.cli import main
from imagematrix.commands.verify import document, is_fit, report
from imagematrix.repository.passed import Outcome
from tests.example_images import PROJECT

SYSTEM = Finding(Group.BASE, "system", Outcome.PASSED, "It is Debian.", "Debian 13")
USER = Finding(Group.CONTRACT, "user", Outcome.FAILED, "Not root.", "the user\nis root", "USER 1")
STOP = Finding(Group.CONTRACT, "stop", Outcome.SKIPPED, "It ends.", "needs: health")
MUSL = Finding(Group.BASE, "C library", Outcome.FAILED, "It is glibc.", "it is musl", "use Debian")
WHOLE = Finding(Group.CONTENT, "compilers", Outcome.PASSED, "There is no compiler.")


def test_report_of_an_image_that_is_fit() -> None:
    assert report("one:1", [SYSTEM, WHOLE]).splitlines() == [
        "group    check      result  found",
        "base     system     passed  Debian 13",
        "content  compilers  passed  There is no compiler.",
        "",
        "one:1: fit to serve (2 passed)",
    ]


def test_report_says_what_to_do_in_one_line_each() -> None:
    lines = report("one:1", [SYSTEM, USER, STOP]).splitlines()
    assert lines[2:] == [
        "contract  user    failed   the user is root",
        "contract  stop    skipped  needs: health",
        "",
        "To mend:",
        "  user  USER 1",
        "",
        "one:1: not fit to serve, but fit as a base (1 failed, 1 passed, 1 skipped)",
    ]


def test_image_that_is_no_base_is_not_fit_at_all() -> None:
    last = report("one:1", [SYSTEM, MUSL]).splitlines()[-1]
    assert last == "one:1: not fit to serve (1 failed, 1 passed)"
    assert not is_fit([SYSTEM, STOP])


def test_document_has_all_of_it() -> None:
    found = json.loads(json.dumps(document("one:1", "sha256:1", [SYSTEM, USER])))
    findings = found.pop("findings")
    assert found == {"image": "one:1", "id": "sha256:1", "fit": False, "base": True}
    assert findings[1] == {
        "group": "contract",
        "what": "user",
        "outcome": "failed",
        "holds": "Not root.",
        "found": "the user\nis root",
        "mend": "USER 1",
    }


def test_every_check_says_what_holds_and_how_to_mend_it() -> None:
    names = [one.what for one in REQUIREMENTS]
    assert len(names) == len(set(names))
    for one in REQUIREMENTS:
        assert one.mend, one.what
        assert holding(one.check).endswith("."), one.what


def test_pythons_are_those_of_the_matrix() -> None:
    pythons = {tuple(map(int, variant.python.split("."))) for variant in PROJECT.variants}
    assert min(pythons) == OLDEST_PYTHON.release
    assert max(pythons) == NEWEST_PYTHON.release


@pytest.mark.parametrize("wait", ["0", "soon", "nan", "4000"])
def test_time_that_is_none_is_a_bad_request(wait: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["verify", "one:1", "--wait", wait])
    assert end.value.code == 2
    assert f"{wait} is no number of seconds up to 3600" in capsys.readouterr().err


def image(**facts: Any) -> RunningImage:
    return cast(RunningImage, SimpleNamespace(**facts))


def with_os_release(files: Mapping[str, str | None]) -> RunningImage:
    """An image with these files; None is a link."""

    def get_archive(path: str) -> tuple[list[bytes], object]:
        if path not in files:
            raise docker.errors.NotFound("no such file")
        buffer = io.BytesIO()
        text = files[path]
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            info = tarfile.TarInfo("os-release")
            if text is None:
                info.type = tarfile.SYMTYPE
                tar.addfile(info)
            else:
                info.size = len(text.encode())
                tar.addfile(info, io.BytesIO(text.encode()))
        return [buffer.getvalue()], None

    return image(container=SimpleNamespace(get_archive=get_archive))


USR, ETC = "/usr/lib/os-release", "/etc/os-release"
UBUNTU = 'ID=ubuntu\nID_LIKE=debian\nVERSION_ID="{0}"\nPRETTY_NAME="Ubuntu {0}"\n'


@pytest.mark.parametrize(
    ("files", "found"),
    [
        ({USR: 'ID=debian\nPRETTY_NAME="Debian GNU/Linux 12"\n'}, "Debian GNU/Linux 12"),
        ({ETC: UBUNTU.format("16.04")}, "Ubuntu 16.04"),
        ({ETC: None, USR: UBUNTU.format("24.04")}, "Ubuntu 24.04"),
        ({USR: "# a comment\nID=linuxmint\nID_LIKE='ubuntu debian'\n"}, "linuxmint"),
    ],
)
def test_debian_and_ubuntu_are_bases(files: dict[str, str | None], found: str) -> None:
    assert is_debian_or_ubuntu(with_os_release(files)) == found


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "it has no /usr/lib/os-release"),
        ({ETC: None}, "it has no /usr/lib/os-release"),
        ({USR: UBUNTU.format("14.04")}, "it is Ubuntu 14.04"),
        ({USR: UBUNTU.format("next")}, "it is Ubuntu next"),
        ({USR: 'ID="rhel"\nID_LIKE="fedora"\n'}, "it is rhel"),
        ({USR: "NAME=none\n"}, "a system without a name"),
        ({USR: 'ID="not closed\n'}, "it has no /usr/lib/os-release"),
    ],
)
def test_other_systems_are_none(files: dict[str, str | None], message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        is_debian_or_ubuntu(with_os_release(files))


@pytest.mark.parametrize("version", ["3.7.0", "3.13.9"])
def test_python_that_the_server_runs_on(version: str) -> None:
    found = image(python_command="python", interpreter=Interpreter(version, "/opt/conda", ""))
    assert python_is_one_that_the_server_runs_on(found) == f"Python {version} in /opt/conda"


@pytest.mark.parametrize("version", ["2.7.18", "3.6.15", "3.14.0", "unknown"])
def test_python_that_it_does_not_run_on(version: str) -> None:
    found = image(python_command="python", interpreter=Interpreter(version, "/usr", ""))
    with pytest.raises(AssertionError, match=rf"it is Python {version} \(in /usr\)"):
        python_is_one_that_the_server_runs_on(found)


def with_conda(place: str, said: str, status: int = 0) -> RunningImage:
    """An image with a program conda, that says something and ends with a status."""

    def run(command: str, *arguments: str) -> object:
        if arguments:
            return SimpleNamespace(rc=status, stdout="", stderr=said)
        return SimpleNamespace(rc=0, stdout=place, stderr="")

    return image(host=SimpleNamespace(run=run), environment={"CONDA_DIR": "/opt/conda"})


@pytest.mark.parametrize("said", ["conda 4.5.0", "conda 23.11.0\n", "a warning\nconda 4.10.3"])
def test_conda_that_is_new_enough(said: str) -> None:
    found = with_conda("/opt/conda/bin/conda", said)
    assert has_conda(found)
    assert conda_is_new_enough(found).startswith("conda ")


@pytest.mark.parametrize(
    ("place", "said", "status", "message"),
    [
        ("/opt/conda/bin/conda", "conda 4.4.11", 0, "conda is 4.4.11"),
        ("/opt/conda/bin/conda", "no module named conda", 1, "ended with 1: no module named"),
        ("/opt/conda/bin/conda", "hello", 0, "says 'hello'"),
        ("", "", 0, "CONDA_DIR is /opt/conda, and there is no conda"),
    ],
)
def test_conda_that_is_claimed_and_is_none(
    place: str, said: str, status: int, message: str
) -> None:
    found = with_conda(place, said, status)
    assert has_conda(found)
    with pytest.raises(AssertionError, match=message):
        conda_is_new_enough(found)


@pytest.mark.parametrize(
    ("reference", "is_own"),
    [
        ("minimal-py312-inference", True),
        ("ghcr.io:443/me/minimal-py312-inference:20260101.v1", True),
        ("me/minimal-py312-inference@sha256:0", True),
        ("me/service:1", False),
    ],
)
def test_labels_of_a_parent_are_not_its_own(reference: str, is_own: bool) -> None:
    labels = {"org.opencontainers.image.title": "minimal-py312-inference"}
    own = vars(RunningImage)["own_labels"].fget
    assert own(image(reference=reference, labels=labels)) == (labels if is_own else {})
