"""The commands: exit status, what goes to which stream, and that a fault writes nothing."""

import datetime
import json
from pathlib import Path

import pytest

from imagematrix import cli
from imagematrix.build import prepare
from imagematrix.build.disk import needed_megabytes
from imagematrix.commands import check, lock, names
from imagematrix.errors import UserError, WorkError
from imagematrix.matrix.variant import Variant
from imagematrix.repository.sizes import Measured, Size
from tests.unit.helpers import MINIMAL, PYTORCH, XGBOOST, Repository

MB = 10**6
XGBOOST_HOME = f"frameworks/xgboost/{XGBOOST}"


@pytest.fixture(autouse=True)
def _here(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(repository.root)
    monkeypatch.setattr(check, "DISTRO_INFO", repository.root / "debian.csv")


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Exit status, standard output and standard error of a command."""
    try:
        status = cli.main(arguments)
    except SystemExit as exit_:
        status = exit_.code if isinstance(exit_.code, int) else 1
    output = capsys.readouterr()
    assert "Traceback" not in output.err
    return status, output.out, output.err


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ([], [MINIMAL, XGBOOST, PYTORCH]),
        (["--all"], [MINIMAL, XGBOOST, PYTORCH]),
        (["--track", "current", "--accelerator", "cpu"], [MINIMAL, XGBOOST, PYTORCH]),
        (["pytorch*", "minimal*"], [MINIMAL, PYTORCH]),
    ],
)
def test_names_prints_the_selected_images(
    arguments: list[str], names: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(capsys, "names", *arguments) == (0, "\n".join(names) + "\n", "")
    assert json.loads(run(capsys, "names", *arguments, "--json")[1]) == names


@pytest.mark.parametrize("command", ["build", "plan", "render", "lock", "names"])
def test_broken_matrix_ends_every_command_with_all_its_errors_and_writes_nothing(
    command: str, repository: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    minimal = "releases:\n      - track: current"
    repository.change(
        "matrix.yaml",
        ("title: XGBoost", "titel: XGBoost"),
        (minimal, minimal.replace("current", "curent")),
        ("httptools==2.0", "httptools=2.0"),
    )
    before = repository.files()

    status, out, err = run(capsys, command)

    assert (status, out) == (2, "")
    assert err == (
        "matrix.yaml:19:16: frameworks.minimal.releases[0].track: 'curent' is unknown;"
        " did you mean current?\n"
        "matrix.yaml:22:16: frameworks.minimal.releases[0].pins[0]: 'httptools=2.0' is no valid"
        " requirement; write httptools==2.0\n"
        "matrix.yaml:24:5: frameworks.xgboost: the key title is missing; add it\n"
        "matrix.yaml:24:5: frameworks.xgboost.titel: unknown key titel; did you mean title?\n"
        "4 errors; nothing was changed\n"
    )
    assert repository.files() == before


@pytest.mark.parametrize("command", ["build", "plan", "lock", "names"])
def test_pattern_without_an_image_ends_every_command(
    command: str, repository: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    before = repository.files()

    status, out, err = run(capsys, command, "xgbost*")

    assert (status, out) == (2, "")
    assert err.startswith(f"no image matches 'xgbost*'; the nearest names: {XGBOOST}")
    assert repository.files() == before


@pytest.mark.parametrize("command", ["build", "plan"])
def test_files_that_differ_from_the_matrix_stop_a_build_before_it_uses_the_engine(
    command: str,
    repository: Repository,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(prepare, "ensure_engine", lambda: pytest.fail("the engine was used"))
    (repository.root / XGBOOST_HOME / "Dockerfile").unlink()

    status, _, err = run(capsys, command)

    assert status == 2
    assert f"{XGBOOST_HOME}/Dockerfile: is missing; run `nox -s render`" in err


@pytest.mark.parametrize(
    "arguments",
    [[], ["no-such-command"], ["names", "--track", "old"], ["names", "--accelerator", "x"]],
)
def test_wrong_request_shows_the_usage(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    status, _, err = run(capsys, *arguments)

    assert status == 2
    assert err.startswith("usage: ")


def test_folder_without_a_matrix_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)

    assert run(capsys, "names") == (
        2,
        "",
        "matrix.yaml: cannot be read: No such file or directory\n1 error; nothing was changed\n",
    )


def test_check_passes_or_lists_what_is_wrong(
    repository: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = "3 images: every file is as the matrix gives it\n"
    assert run(capsys, "check") == (0, expected, "")
    repository.put(f"{XGBOOST_HOME}/Dockerfile", "")
    before = repository.files()

    status, out, err = run(capsys, "check")

    assert (status, out) == (2, "")
    assert err.startswith(f"{XGBOOST_HOME}/Dockerfile:1:1: differs from what the matrix gives;")
    assert repository.files() == before


def test_check_warns_of_what_ends_soon_and_of_another_table_of_debian(
    repository: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    today = datetime.datetime.now(datetime.UTC).date()
    soon, past = (today + datetime.timedelta(days) for days in (60, -2))
    repository.change("matrix.yaml", ("2098-12-31", soon.isoformat()))
    repository.render()
    repository.put("debian.csv", "series,eol,eol-lts\ntrixie,2098-12-31,2098-12-30\n")

    status, out, err = run(capsys, "check")

    assert (status, out) == (0, "3 images: every file is as the matrix gives it\n")
    of_debian, of_matrix = err.splitlines()
    assert of_debian == (
        "warning: ends-of-life.yaml:3:42: debian.trixie.lts: is 2098-12-31, but 2098-12-30 in"
        " distro-info-data; take over the date of the newer one"
    )
    assert of_matrix.startswith("warning: matrix.yaml:4:70: tracks.current.supported_until: the")

    repository.change("matrix.yaml", (soon.isoformat(), past.isoformat()))
    repository.render()
    status, out, err = run(capsys, "check")

    assert (status, out) == (2, "")
    assert f"ended on {past}; retire or extend: " in err


def test_render_writes_what_differs_and_nothing_else(
    repository: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    before = repository.files()
    assert run(capsys, "render") == (0, "every rendered file is as the matrix gives it\n", "")
    (repository.root / XGBOOST_HOME / "Dockerfile").unlink()
    repository.put("README.md", "<!-- images --><!-- /images -->")
    repository.put("README.md", "# Images\n<!-- images -->\nold\n<!-- /images -->\nThe end.\n")

    status, out, err = run(capsys, "render")

    assert (status, err) == (0, "")
    assert out == f"wrote {XGBOOST_HOME}/Dockerfile\nwrote README.md\n"
    assert repository.files() == before


def test_render_takes_no_selection(capsys: pytest.CaptureFixture[str]) -> None:
    """`check` asks for all files, so a part of them is never right."""
    status, out, err = run(capsys, "render", XGBOOST)

    assert (status, out) == (2, "")
    assert err.endswith(f"unrecognized arguments: {XGBOOST}\n")


def test_render_removes_the_folder_of_an_image_that_is_no_longer_declared(
    repository: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    repository.change(
        "matrix.yaml", ('version: "3.4"', 'version: "3.5"'), ("cpu==3.4.1", "cpu==3.5.0")
    )
    new = "frameworks/xgboost/xgboost3.5-py312-inference"

    status, out, err = run(capsys, "render")

    assert (status, err) == (0, "")
    written = ("README.md", "docs/images.md", "docs/where-did-it-go.md", "docker-bake.json")
    pages = "".join(f"wrote {page}\n" for page in written)
    files = f"wrote {new}/Dockerfile\nwrote {new}/slim.txt\n"
    assert out == f"{files}{pages}removed {XGBOOST_HOME}\n"
    assert not (repository.root / XGBOOST_HOME).exists()


@pytest.mark.parametrize(
    ("path", "text", "message"),
    [
        ("frameworks/mine/Dockerfile", "FROM scratch\n",
         "frameworks/mine also holds Dockerfile; remove it by hand or declare its image\n"),
        ("frameworks/mine/Dockerfile.j2", "",
         "frameworks/mine also holds Dockerfile.j2; remove it by hand or declare its image\n"),
        ("base/notes.txt", "",
         "base/notes.txt is not of this project's making; remove it or declare its image\n"),
    ],
)  # fmt: skip
def test_render_never_removes_what_it_did_not_write(
    path: str,
    text: str,
    message: str,
    repository: Repository,
    capsys: pytest.CaptureFixture[str],
) -> None:
    repository.put(path, text)

    assert run(capsys, "render") == (1, "", message)
    assert (repository.root / path).read_text() == text


def test_render_does_not_follow_links_out_of_the_repository(
    repository: Repository, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "Dockerfile").write_text("# by `nox -s render`\n")
    (repository.root / "frameworks/linked").symlink_to(outside)

    status, _, err = run(capsys, "render")

    assert status == 1
    assert err.startswith("frameworks/linked is not of this project's making;")
    assert (outside / "Dockerfile").exists()


def locked_by(
    arguments: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> tuple[list[str], str]:
    """The images that `lock` resolves, and what it says."""
    names: list[str] = []

    def write(root: Path, variant: Variant, host: object, *, upgrade: bool) -> bool:
        assert upgrade == ("--upgrade" in arguments)
        names.append(variant.name)
        return False

    monkeypatch.setattr(lock, "write_lock", write)
    status, _, err = run(capsys, "lock", *arguments)
    assert status == 0, err
    return names, err


OLD = "minimal-py3.7-inference-cpu"


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ([], [MINIMAL, XGBOOST, PYTORCH]),
        (["--all"], [OLD, MINIMAL, XGBOOST, PYTORCH]),
        (["minimal*"], [OLD, MINIMAL]),
        (["--upgrade"], [MINIMAL, XGBOOST, PYTORCH]),
        (["--upgrade", "--all"], [MINIMAL, XGBOOST, PYTORCH]),
        (["--upgrade", "minimal*"], [MINIMAL]),
        (["--upgrade", "*py3.7*"], []),
        (["--upgrade", OLD], [OLD]),
        (["--upgrade", "--track", "historical"], [OLD]),
    ],
)
def test_lock_keeps_the_versions_of_historical_images_that_are_not_named(
    arguments: list[str],
    names: list[str],
    repository: Repository,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    repository.change(
        "matrix.yaml",
        ('trixie: ["3.12"]', 'trixie: ["3.12"]\n  bookworm: ["3.7"]'),
        ("tracks:\n", 'tracks:\n  historical: {pythons: ["3.7"], accelerators: [cpu]}\n'),
        (
            '      - track: current\n        pythons: ["3.12"]\n        accelerators: [cpu]\n'
            "        pins: [httptools==2.0]",
            "      - {track: historical, pins: [httptools==1.0]}\n      - pins: [httptools==2.0]",
        ),
    )

    locked, said = locked_by(arguments, capsys, monkeypatch)

    assert locked == names
    kept = "--upgrade" in arguments and OLD not in names and arguments != ["--upgrade"]
    assert (f"{OLD} is historical and keeps its versions: name it in full" in said) == kept


def test_lock_goes_on_after_a_failure_and_reports_all(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(root: Path, variant: Variant, host: object, *, upgrade: bool) -> bool:
        assert upgrade
        if variant.name != XGBOOST:
            raise WorkError(f"{variant.name}: no solution")
        return True

    monkeypatch.setattr(lock, "write_lock", write)

    status, out, err = run(capsys, "lock", "--upgrade")

    assert status == 1
    assert out == f"wrote {XGBOOST_HOME}/requirements.txt\n"
    assert err.endswith(f"{MINIMAL}: no solution\n{PYTORCH}: no solution\n")


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (UserError("fix it"), 2, "fix it\n"),
        (WorkError("it failed"), 1, "it failed\n"),
        (
            KeyboardInterrupt(),
            130,
            "interrupted; nothing half-built was tagged, run it again to go on\n",
        ),
    ],
)
def test_errors_become_a_message_and_an_exit_status(
    error: BaseException,
    status: int,
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(names, "select", fail)

    assert run(capsys, "names") == (status, "", message)


def test_build_needs_disk_beside_that_of_its_images(repository: Repository) -> None:
    """A minimal image alone takes several times its size: base images, lists, downloads, tools."""
    minimal, xgboost = repository.variant(MINIMAL), repository.variant(XGBOOST)
    measured = {
        MINIMAL: Measured(Size(100 * MB, 0), Size(100 * MB, 0), 1, {}, "bootstrap"),
        XGBOOST: Measured(Size(300 * MB, 0), Size(200 * MB, 0), 2, {}, "bootstrap"),
    }
    alone = needed_megabytes([minimal], measured)
    assert alone > 900
    both = needed_megabytes([minimal, xgboost], measured)
    assert 400 < both - alone < 600
    # One that was never measured may be large.
    assert needed_megabytes([minimal, xgboost], {MINIMAL: measured[MINIMAL]}) > both + 1000
