"""What a host says of its distribution and of its Debian mirrors."""

from pathlib import Path

import pytest

from imagematrix.host.debian import (
    DebianMirrors,
    debian_sources,
    mirrors_among,
    os_release,
    os_release_ids,
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
