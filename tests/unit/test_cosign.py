"""cosign: which one is taken, what it is run with, and its errors in a line."""

import json
import os
import shutil
from pathlib import Path

import pytest

from imagematrix.errors import UserError, WorkError
from imagematrix.publish import cosign as module
from imagematrix.publish.cosign import (
    Cosign,
    Signer,
    Verifier,
    error_in,
    find_cosign,
    key_verifier,
    workflow_verifier,
)

# What the help of cosign 3 says, and that of cosign 2.
CURRENT = """
    --statement='':
    --trusted-root='':
    --signing-config='':
    --use-signing-config=true:
"""
OLD = CURRENT.replace("=true", "=false")
DIGEST = f"sha256:{'0' * 64}"


def program(folder: Path, script: str) -> Path:
    """A program in the place of cosign."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "cosign"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def helpful(folder: Path, text: str) -> Path:
    """One that prints this help."""
    (folder / "help").parent.mkdir(parents=True, exist_ok=True)
    (folder / "help").write_text(text)
    return program(folder, f'[ "$2" = --help ] && exec cat "{folder}/help"')


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The first folder of PATH, in which there is no cosign; other programs are found."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    # One that this host has is not meant.
    found = shutil.which
    monkeypatch.setattr(shutil, "which", lambda name: found(name, path=str(folder)))
    return folder


def test_cosign_on_path_is_taken(path: Path, tmp_path: Path) -> None:
    own = helpful(path, CURRENT)

    assert find_cosign(tmp_path) == Cosign(own)


def test_cosign_2_is_too_old(path: Path, tmp_path: Path) -> None:
    own = helpful(path, OLD)

    with pytest.raises(UserError, match=r"too old; install cosign 3\.0 or newer: https") as error:
        find_cosign(tmp_path)
    assert str(error.value).startswith(str(own))


def test_another_program_of_that_name_is_none(path: Path, tmp_path: Path) -> None:
    program(path, "echo 'unknown command' >&2; exit 1")

    with pytest.raises(UserError, match=r"is no usable cosign \(.*unknown command\); install"):
        find_cosign(tmp_path)


def test_elsewhere_than_on_debian_it_has_to_be_installed(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "os_release_ids", lambda: {"fedora"})

    with pytest.raises(UserError, match=r"^cosign is not on PATH; install cosign 3\.0 or newer"):
        find_cosign(tmp_path)
    assert list(tmp_path.iterdir()) == [path]


def test_nothing_is_downloaded_if_that_is_not_wanted(path: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^cosign is not on PATH"):
        find_cosign(tmp_path, download=False)


def test_debian_package_is_unpacked_once(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keyring = tmp_path / "keyring"
    keyring.touch()
    unpacked = []

    def unpack(package: str, suite: str, folder: Path) -> None:
        unpacked.append((package, suite))
        helpful(folder / "usr" / "bin", CURRENT)
        # As it stands after the folder was moved.
        final = tmp_path / "build" / "cosign" / "usr" / "bin"
        program(folder / "usr" / "bin", f'exec cat "{final}/help"')

    monkeypatch.setattr(module, "os_release_ids", lambda: {"debian"})
    monkeypatch.setattr(module, "KEYRING", str(keyring))
    monkeypatch.setattr(module, "unpack_package", unpack)

    expected = Cosign(tmp_path / "build" / "cosign" / "usr" / "bin" / "cosign")
    assert find_cosign(tmp_path) == find_cosign(tmp_path) == expected
    assert unpacked == [("cosign", "forky")]
    assert list((tmp_path / "build").iterdir()) == [tmp_path / "build" / "cosign"]


def test_failed_download_says_what_to_install_and_leaves_nothing(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unpack(package: str, suite: str, folder: Path) -> None:
        (folder / "half").touch()
        raise WorkError("apt-get update failed")

    monkeypatch.setattr(module, "os_release_ids", lambda: {"debian"})
    (tmp_path / "keyring").touch()
    monkeypatch.setattr(module, "KEYRING", str(tmp_path / "keyring"))
    monkeypatch.setattr(module, "unpack_package", unpack)

    with pytest.raises(WorkError, match=r"^apt-get update failed\ncosign is not on PATH; install"):
        find_cosign(tmp_path)
    assert list((tmp_path / "build").iterdir()) == []


def test_environment_is_clean(tmp_path: Path) -> None:
    cosign = Cosign(program(tmp_path, "env"), Path("/ca.pem"))
    given = {
        "PATH": os.environ["PATH"],
        "COSIGN_PASSWORD": "secret",
        "HTTPS_PROXY": "http://proxy",
        "COSIGN_REPOSITORY": "elsewhere.example/x",
        "SIGSTORE_ROOT_FILE": "/root.pem",
        "TUF_ROOT": "/tuf",
        "AWS_SECRET_ACCESS_KEY": "secret",
    }

    seen = dict(line.split("=", 1) for line in cosign.run("x", environ=given).splitlines())
    own = {name: seen[name] for name in seen if name not in ("PWD", "SHLVL", "_", "OLDPWD")}
    assert own == {
        "PATH": given["PATH"],
        "COSIGN_PASSWORD": "secret",
        "HTTPS_PROXY": "http://proxy",
        "SSL_CERT_FILE": "/ca.pem",
    }
    # Without a password, it would ask for one.
    assert "COSIGN_PASSWORD=\n" in cosign.run("x", environ={"PATH": given["PATH"]})


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("WARNING: x\nError: a\nerror during command execution: a\n", "a"),
        ("Error: no token: tuf refresh failed: Get x\n", module._UNREACHABLE),
        ("Error: y: decrypt: encrypted: decryption failed", "COSIGN_PASSWORD is not the password"),
        ("panic\n", "panic"),
        ("", "it failed without a message"),
    ],
)
def test_error_is_one_line(output: str, expected: str) -> None:
    found = error_in(output)
    assert found.startswith(expected)
    assert "\n" not in found


def test_without_a_key_signing_needs_the_identity_of_a_workflow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = program(
        tmp_path, 'for one; do case $one in --bundle=*) echo "$@" > "${one#--bundle=}";; esac; done'
    )
    signer = Signer(Cosign(made))
    for name in ("ACTIONS_ID_TOKEN_REQUEST_URL", "SIGSTORE_ID_TOKEN", "GITHUB_WORKFLOW_REF"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UserError, match=r"`--key FILE`, or a job .* `id-token: write`"):
        signer.sign(b"{}")
    with pytest.raises(UserError, match=r"only a job of GitHub Actions can sign"):
        signer.verifier({})

    monkeypatch.setenv("ACTIONS_ID_TOKEN_REQUEST_URL", "https://token.example")
    command = signer.sign(b"{}").decode().split()
    # Sigstore's own configuration has the services that certify and log.
    assert command[:2] == ["attest-blob", "--yes"]
    assert [option.partition("=")[0] for option in command[2:]] == ["--statement", "--bundle"]


def test_identity_of_a_workflow_is_matched_whole() -> None:
    ref = "me/images/.github/workflows/nightly.yml@refs/heads/main"
    verifier = workflow_verifier(Cosign(Path("cosign")), {"GITHUB_WORKFLOW_REF": ref})

    assert verifier.identity == (
        r"^https://github\.com/me/images/\.github/workflows/nightly\.yml@refs/heads/main$"
    )
    assert verifier.issuer == "https://token.actions.githubusercontent.com"


def recording(folder: Path) -> Cosign:
    """A cosign that accepts everything, and writes its arguments to `folder`/arguments."""
    return Cosign(program(folder, f'for one; do echo "$one"; done > "{folder}/arguments"'))


def test_identity_is_verified_with_transparency_log(tmp_path: Path) -> None:
    root = tmp_path / "root.json"
    verifier = Verifier(recording(tmp_path), identity="^me$", issuer="https://i", trusted_root=root)

    assert verifier.refusal(b"{}", DIGEST, "https://type") == ""
    options = (tmp_path / "arguments").read_text().splitlines()
    assert f"--digest={'0' * 64}" in options
    assert options[-3:] == [
        "--certificate-identity-regexp=^me$",
        "--certificate-oidc-issuer=https://i",
        f"--trusted-root={root}",
    ]
    assert not any("insecure" in option for option in options)


def test_unreachable_sigstore_is_no_refusal(tmp_path: Path) -> None:
    made = program(tmp_path, "echo 'Error: x: tuf refresh failed: y' >&2; exit 1")

    with pytest.raises(WorkError, match=r"Sigstore cannot be reached"):
        Verifier(Cosign(made), identity="^me$").refusal(b"{}", DIGEST, "https://type")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "the key FILE cannot be read: No such file or directory"),
        ("hello", "FILE is no public key (PEM)"),
        (
            "-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----",
            "FILE is a private key; `cosign public-key --key FILE` has its public",
        ),
    ],
)
def test_wrong_public_key(tmp_path: Path, content: str | None, message: str) -> None:
    path = tmp_path / "key.pub"
    if content is not None:
        path.write_text(content)

    with pytest.raises(UserError) as error:
        key_verifier(Cosign(Path("cosign")), path)
    assert str(error.value) == message.replace("FILE", str(path))
    assert error.value.exit_status == 2


def test_program_that_cannot_be_run(tmp_path: Path) -> None:
    (tmp_path / "cosign").touch()

    with pytest.raises(WorkError, match=r"cosign cannot be run: Permission denied"):
        Cosign(tmp_path / "cosign").run("version")


def test_configurations_without_services_are_what_cosign_writes() -> None:
    # `cosign signing-config create` and `cosign trusted-root create` write these, with empty
    # members of no meaning.
    kinds = [
        json.loads(text)["mediaType"] for text in (module._SIGNING_CONFIG, module._TRUSTED_ROOT)
    ]
    assert kinds == [
        "application/vnd.dev.sigstore.signingconfig.v0.2+json",
        "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
    ]
