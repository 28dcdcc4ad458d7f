"""Locks are resolved by uv; a fake uv shows how it is called and how its result is used."""

import re
import stat
import tomllib
from pathlib import Path
from typing import Any

import pytest
import uv

from imagematrix.errors import WorkError
from imagematrix.repository.locking import write_lock, write_tools_lock
from imagematrix.repository.project import Project
from tests.unit.helpers import (
    MINIMAL,
    PACKAGES,
    PYTORCH,
    REPOSITORY,
    XGBOOST,
    Repository,
    host_config,
    lock_text,
)

HEADER = (
    f"# Requirements of {XGBOOST}, resolved for CPython 3.12 on x86_64 with\n"
    "# glibc 2.41. Written by `nox -s lock`. Do not edit.\n"
)
# Writes down how it was called, then does what the test's script says.
FAKE = """\
#!/bin/sh
set -eu
{{ printf '%s\\n' "$@"; }} > {calls}/arguments
env > {calls}/environ
pwd > {calls}/folder
cp pyproject.toml {calls}/
if [ -f requirements.txt ]; then cp requirements.txt {calls}/present; fi
{script}
"""


class FakeUv:
    """A fake uv, and the arguments of its calls."""

    def __init__(self, folder: Path) -> None:
        self.calls = folder / "calls"
        self.calls.mkdir()
        self.executable = folder / "uv"
        self.says("true")

    def says(self, script: str) -> None:
        """What it does, as a shell script in the folder of the project file."""
        self.executable.write_text(FAKE.format(calls=self.calls, script=script))
        self.executable.chmod(self.executable.stat().st_mode | stat.S_IXUSR)

    def resolves(self, text: str) -> None:
        """What it writes."""
        (self.calls / "answer").write_text(text)
        self.says(f"cp {self.calls}/answer requirements.txt")

    @property
    def arguments(self) -> list[str]:
        return (self.calls / "arguments").read_text().splitlines()

    @property
    def environ(self) -> dict[str, str]:
        lines = (self.calls / "environ").read_text().splitlines()
        return dict(line.split("=", 1) for line in lines if "=" in line)

    @property
    def project(self) -> dict[str, Any]:
        return tomllib.loads((self.calls / "pyproject.toml").read_text())

    def option(self, name: str) -> str:
        return self.arguments[self.arguments.index(name) + 1]


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeUv:
    folder = tmp_path / "uv"
    folder.mkdir()
    fake = FakeUv(folder)
    monkeypatch.setattr(uv, "find_uv_bin", lambda: str(fake.executable))
    return fake


def lock(repository: Repository, name: str, **options: Any) -> bool:
    host = options.pop("host", host_config())
    return write_lock(repository.root, repository.variant(name), host, **options)


def test_lock_is_resolved_for_the_platform_of_the_image(
    repository: Repository, fake: FakeUv
) -> None:
    fake.resolves(lock_text(PACKAGES[XGBOOST]))

    lock(repository, XGBOOST)

    assert fake.arguments[:3] == ["pip", "compile", "pyproject.toml"]
    assert fake.option("--python-version") == "3.12"
    assert fake.option("--python-platform") == "x86_64-manylinux_2_40"
    assert fake.option("--only-binary") == ":all:"
    assert fake.option("--output-file") == "requirements.txt"
    for option in ("--generate-hashes", "--no-header", "--no-python-downloads"):
        assert option in fake.arguments
    assert fake.project == {
        "project": {
            "name": "lock",
            "version": "0",
            "requires-python": "==3.12.*",
            "dependencies": ["xgboost-cpu==3.4.1", "numpy>=2", "httptools==2.0"],
        }
    }


def test_older_debian_bounds_the_wheels(repository: Repository, fake: FakeUv) -> None:
    repository.change("matrix.yaml", ("  trixie:", "  bookworm:"))
    fake.resolves("")

    lock(repository, MINIMAL)

    assert fake.option("--python-platform") == "x86_64-manylinux_2_36"
    assert fake.project["project"]["dependencies"] == ["httptools==2.0"]


def test_lock_says_what_it_is_and_names_no_temporary_file(
    repository: Repository, fake: FakeUv
) -> None:
    hashed = "==1 \\\n    --hash=sha256:" + "0" * 64 + "\n"
    fake.resolves(
        f"click{hashed}    # via httptools, lock (pyproject.toml)\n"
        f"httptools{hashed}    # via lock (pyproject.toml)\n"
        f"numpy{hashed}    # via lock (pyproject.toml), scipy\n"
        f"scipy{hashed}    # via xgboost\n"
    )

    assert lock(repository, XGBOOST)

    assert (repository.root / repository.variant(XGBOOST).lock).read_text() == (
        f"{HEADER}click{hashed}    # via httptools\n"
        f"httptools{hashed}numpy{hashed}    # via scipy\nscipy{hashed}    # via xgboost\n"
    )
    assert not lock(repository, XGBOOST)


@pytest.mark.parametrize("upgrade", [False, True])
def test_versions_are_kept_without_upgrade(
    upgrade: bool, repository: Repository, fake: FakeUv
) -> None:
    fake.resolves(lock_text(PACKAGES[XGBOOST]))

    lock(repository, XGBOOST, upgrade=upgrade)

    assert (fake.calls / "present").exists() is not upgrade


def test_declared_wheel_is_locked_without_asking_its_index(
    repository: Repository, fake: FakeUv
) -> None:
    fake.resolves("".join(lock_text([pin]) for pin in ("filelock==3", "sympy==1.14", "zlib==1")))

    lock(repository, PYTORCH)

    text = (repository.root / repository.variant(PYTORCH).lock).read_text()
    assert re.findall(r"^[a-z].*", text, re.MULTILINE) == [
        "filelock==3 \\",
        "sympy==1.14 \\",
        "torch==2.0.0+cpu \\",
        "zlib==1 \\",
    ]
    assert f"torch==2.0.0+cpu \\\n    --hash=sha256:{'b' * 64}\n" in text
    assert fake.option("--no-emit-package") == "torch"
    assert fake.project["project"]["dependencies"] == [
        "filelock",
        "sympy>=1",
        "pandas>=3",
        "httptools==2.0",
    ]
    assert "tool" not in fake.project


def test_package_without_declared_wheel_comes_from_its_index(
    repository: Repository, fake: FakeUv
) -> None:
    text = (repository.root / "matrix.yaml").read_text()
    declared = text[text.index("wheels:\n") : text.index("frameworks:\n")]
    repository.change("matrix.yaml", (declared, ""))
    fake.resolves(lock_text(PACKAGES[PYTORCH]))

    lock(repository, PYTORCH)

    assert "torch==2.0.0+cpu" in fake.project["project"]["dependencies"]
    assert fake.project["tool"]["uv"] == {
        "index": [{"name": "extra", "url": "https://wheels.example/cpu", "explicit": True}],
        "sources": {"torch": {"index": "extra"}},
    }


def test_index_and_certificates_of_the_host_are_used_but_not_written(
    repository: Repository, fake: FakeUv, tmp_path: Path
) -> None:
    fake.resolves(lock_text(PACKAGES[XGBOOST]))
    host = host_config(
        ca_bundle=tmp_path / "ca.crt",
        index_url="https://mirror.example/simple",
        extra_index_urls=("https://a.example", "https://b.example"),
        wheel_folders=(tmp_path / "wheels",),
    )

    lock(repository, XGBOOST, host=host)

    assert fake.environ["UV_DEFAULT_INDEX"] == "https://mirror.example/simple"
    assert fake.environ["UV_INDEX"] == "https://a.example https://b.example"
    assert fake.environ["SSL_CERT_FILE"]
    text = (repository.root / repository.variant(XGBOOST).lock).read_text()
    assert "example" not in text
    assert str(tmp_path) not in text


def test_host_without_settings_asks_pypi(repository: Repository, fake: FakeUv) -> None:
    fake.resolves("")

    lock(repository, MINIMAL)

    assert fake.environ["UV_DEFAULT_INDEX"] == "https://pypi.org/simple"
    assert "UV_INDEX" not in fake.environ


def test_index_that_is_set_for_uv_alone_is_kept(
    repository: Repository, fake: FakeUv, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UV_DEFAULT_INDEX", "https://uv.example/simple")
    fake.resolves("")

    lock(repository, MINIMAL)

    assert fake.environ["UV_DEFAULT_INDEX"] == "https://uv.example/simple"


@pytest.mark.parametrize("upgrade", [False, True])
def test_tools_are_locked_for_every_platform(
    upgrade: bool, repository: Repository, fake: FakeUv
) -> None:
    repository.put("pyproject.toml", '[project]\nname = "tools"\n')
    repository.put("requirements.txt", "# An older one.\n")
    fake.resolves("nox==1\n    # via tools (pyproject.toml)\n")

    assert write_tools_lock(repository.root, host_config(), upgrade=upgrade)

    assert (repository.root / "requirements.txt").read_text() == (
        "# What the tools of this repository need, for every platform. Written by\n"
        "# `nox -s lock -- --tools`. Do not edit.\n"
        "nox==1\n    # via tools (pyproject.toml)\n"
    )
    assert fake.project == {"project": {"name": "tools"}}
    assert "--universal" in fake.arguments
    assert "--python-platform" not in fake.arguments
    assert fake.option("--python-version") == "3.11"
    assert (fake.calls / "present").exists() is not upgrade


def test_failure_has_the_words_of_uv_and_changes_nothing(
    repository: Repository, fake: FakeUv
) -> None:
    before = repository.files()
    fake.says(
        "echo half > requirements.txt;"
        ' echo "  error: No solution found in $PWD/pyproject.toml:" >&2;'
        ' echo "  ╰─▶ numpy>=2 conflicts" >&2; exit 1'
    )

    with pytest.raises(WorkError) as error:
        lock(repository, XGBOOST)

    message = str(error.value)
    assert message.startswith(
        f"{XGBOOST}: the requirements cannot be resolved\n  error: No solution"
    )
    assert "\n    ╰─▶ numpy>=2 conflicts" in message
    assert (fake.calls / "folder").read_text().strip() not in message
    assert error.value.exit_status == 1
    assert repository.files() == before


def test_parent_without_a_lock_is_an_error_that_says_what_to_run(
    repository: Repository, fake: FakeUv
) -> None:
    (repository.root / repository.variant(MINIMAL).lock).unlink()

    with pytest.raises(WorkError) as error:
        lock(repository, XGBOOST)

    assert str(error.value) == f"{MINIMAL} has no lock yet; run `nox -s lock -- {MINIMAL}`"
    assert not (fake.calls / "arguments").exists()


def test_locks_of_this_repository_are_valid_for_anyone() -> None:
    for variant in Project(REPOSITORY).variants:
        text = (REPOSITORY / variant.lock).read_text()
        named = re.findall(r"https?:|file:|--index|--find-links|(?<!\S)/\w", text)
        assert not named, variant.name
        assert not re.search(r"[ \t,]+$|\n\n", text, re.MULTILINE), variant.name
