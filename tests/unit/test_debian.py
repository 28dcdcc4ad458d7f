"""What a host says of its distribution and of its Debian mirrors."""

from pathlib import Path

import pytest

from imagematrix.errors import WorkError
from imagematrix.host import debian
from imagematrix.host.debian import (
    DebianMirrors,
    debian_sources,
    mirrors_among,
    os_release,
    os_release_ids,
    unpack_package,
)


def test_sources_are_those_of_the_official_image() -> None:
    mirrors = DebianMirrors("http://a.example/debian", "http://b.example/security")

    assert debian_sources("trixie", mirrors) == (
        "Types: deb\n"
        "URIs: http://a.example/debian\n"
        "Suites: trixie trixie-updates\n"
        "Components: main\n"
        "Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n"
        "\n"
        "Types: deb\n"
        "URIs: http://b.example/security\n"
        "Suites: trixie-security\n"
        "Components: main\n"
        "Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n"
    )


@pytest.mark.parametrize(
    ("targets", "mirrors"),
    [
        ("", DebianMirrors()),
        ("nonsense\n|||\n", DebianMirrors()),
        ("Docker|trixie|main|http://a.example/\n", DebianMirrors()),
        ("Debian|bookworm|main|http://a.example/debian/\n", DebianMirrors()),
        ("Debian|trixie|contrib|http://a.example/debian/\n", DebianMirrors()),
        (
            "Debian|trixie|main|http://a.example/debian/\nDebian|trixie-updates|main|http://c.example/\n",
            DebianMirrors(main="http://a.example/debian"),
        ),
        (
            "Debian|trixie|main|http://a.example/debian/\nDebian|trixie-security|main|http://b.example/s/\n",
            DebianMirrors("http://a.example/debian", "http://b.example/s"),
        ),
    ],
)
def test_mirrors_are_those_of_the_release_of_this_host(
    targets: str, mirrors: DebianMirrors
) -> None:
    assert mirrors_among(targets, "trixie") == mirrors
    assert mirrors.are_custom() == (mirrors != DebianMirrors())


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ('ID=debian\nVERSION_ID="12"\n', {"debian"}),
        ("ID=ubuntu\nID_LIKE=debian\n", {"ubuntu", "debian"}),
        ('NAME="Rocky Linux"\nID="rocky"\nID_LIKE="rhel centos fedora"\n',
         {"rocky", "rhel", "centos", "fedora"}),
        ("# nothing\n\n", set()),
        (None, set()),
    ],
)  # fmt: skip
def test_distribution_is_known_by_what_it_is_like(
    text: str | None, ids: set[str], tmp_path: Path
) -> None:
    file = tmp_path / "os-release"
    if text is not None:
        file.write_text(text)

    assert os_release_ids(file) == ids
    assert ("VERSION_ID" in os_release(file)) == ("VERSION_ID" in (text or ""))


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in front of PATH; apt-get there logs its arguments and sources beside it."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.setattr(debian, "debian_mirrors", lambda: DebianMirrors("http://a.example/debian"))
    log = tmp_path / "log"
    scripts = {
        "apt-get": f"""
echo "apt-get $*" >> {log}
for one; do
  case $one in *SourceParts=*) cat "${{one#*SourceParts=}}"/*.sources >> {log};; esac
done
case " $* " in *" download "*) touch own_1_amd64.deb;; esac
""",
        "dpkg-deb": 'test -f "$2" && echo unpacked > "$3/file"',
    }
    for name, script in scripts.items():
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)
    return folder


def test_package_is_unpacked_by_lists_and_settings_of_its_own(
    programs: Path, tmp_path: Path
) -> None:
    target = tmp_path / "target"
    target.mkdir()

    unpack_package("own", "forky", target)

    assert (target / "file").read_text() == "unpacked\n"
    log = (tmp_path / "log").read_text()
    update, download = (line for line in log.splitlines() if line.startswith("apt-get"))
    assert update.endswith(" update")
    assert download.endswith(" download own")
    for option in (
        "Dir::State::Lists=",
        "Dir::State::Status=",
        "Dir::Cache=",
        "SourceList=/dev/null",
    ):
        assert option in update
    # Without the keyring, apt would not check the index.
    assert "URIs: http://a.example/debian\nSuites: forky\n" in log
    assert "Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n" in log
    assert "allow" not in log.lower()


def test_package_that_is_not_there_is_an_error(programs: Path, tmp_path: Path) -> None:
    (programs / "apt-get").write_text("#!/bin/sh\necho 'E: Unable to locate it' >&2; exit 100\n")

    with pytest.raises(WorkError, match=r"failed:\n  E: Unable to locate it"):
        unpack_package("own", "forky", tmp_path)
