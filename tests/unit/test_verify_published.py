"""The command `verify_published`: which images it is asked for, and what it refuses to begin."""

from pathlib import Path

import pytest

from imagematrix import cli
from imagematrix.commands import verifying
from imagematrix.commands.verify_published import image_of
from imagematrix.errors import UserError
from imagematrix.publish.cosign import Cosign
from tests.unit.fake_registry import PAGE, fake_registry

DIGEST = f"sha256:{'0' * 64}"
KEY = "-----BEGIN PUBLIC KEY-----\n"


@pytest.mark.parametrize(
    ("text", "host", "repository", "reference"),
    [
        ("ghcr.io/me/image", "ghcr.io", "me/image", "latest"),
        ("ghcr.io/me/image:20261128.v1", "ghcr.io", "me/image", "20261128.v1"),
        (f"ghcr.io/me/image@{DIGEST}", "ghcr.io", "me/image", DIGEST),
        ("127.0.0.1:5000/me/image", "127.0.0.1:5000", "me/image", "latest"),
        ("127.0.0.1:5000/a/b/image:x", "127.0.0.1:5000", "a/b/image", "x"),
        ("ghcr.io/Me/image", "ghcr.io", "me/image", "latest"),
    ],
)
def test_image(text: str, host: str, repository: str, reference: str) -> None:
    registry, *rest = image_of(text, None)
    assert (registry.host, *rest) == (host, repository, reference)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image", "image is not HOST/NAMESPACE/NAME"),
        ("ghcr.io/image", "ghcr.io/image is not HOST/NAMESPACE/NAME"),
        ("me/images/image", "me is no host of a registry"),
        ("https://ghcr.io/me/image", "leave out what is before the host"),
        ("ghcr.io/me/image:", "has no tag after the colon"),
        ("ghcr.io/me/image:a b", "has no tag after the colon"),
        ("ghcr.io/me/image@sha256:0", "has no digest after the @"),
        ("ghcr.io/me/image@", "has no digest after the @"),
        (f"ghcr.io/me/image:latest@{DIGEST}", "has a tag and a digest; give one of them"),
    ],
)
def test_wrong_image(text: str, message: str) -> None:
    with pytest.raises(UserError) as error:
        image_of(text, None)
    assert message in str(error.value)
    assert error.value.exit_status == 2


@pytest.fixture
def key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A public key, which no signature is checked with: there is no cosign."""
    monkeypatch.setattr(verifying, "find_cosign", lambda *_, **__: Cosign(tmp_path / "cosign"))
    (tmp_path / "key.pub").write_text(KEY)
    return str(tmp_path / "key.pub")


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line that a command prints which cannot begin."""
    assert cli.main(["verify_published", *arguments]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    (line,) = printed.err.splitlines()
    return line


def test_registry_that_cannot_verify_anything(key: str, capsys: pytest.CaptureFixture[str]) -> None:
    with fake_registry() as fake:
        image = f"{fake.host}/team/image"
        assert refusal(capsys, "--key", key, image) == f"there is no image {image}:latest"
        fake.answers["GET", "manifests"] = [PAGE]
        assert "a web page answers at" in refusal(capsys, "--key", key, image)


def test_identity_offline_needs_the_authorities(
    key: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    identity = ("--offline", "--certificate-identity-regexp", "^me$", "ghcr.io/me/image")
    assert "with --trusted-root FILE only; `cosign" in refusal(capsys, *identity)
    missing = tmp_path / "none.json"
    line = refusal(capsys, "--trusted-root", str(missing), *identity)
    assert line == f"the trusted root {missing} is not a file"


def test_key_or_identity_is_needed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as error:
        cli.main(["verify_published", "ghcr.io/me/image"])
    assert error.value.code == 2
    assert "one of the arguments --key --certificate-identity-regexp" in capsys.readouterr().err
