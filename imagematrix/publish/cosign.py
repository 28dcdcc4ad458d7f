"""Signing statements and checking their signatures, with cosign.

cosign makes and reads Sigstore bundles, and pushes nothing: `attach` does. With a key it needs no
network, because it gets a signing configuration without services and a trusted root without
authorities. https://docs.sigstore.dev/cosign/, https://docs.sigstore.dev/about/bundle/
"""

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from imagematrix.console import say
from imagematrix.errors import UserError, WorkError
from imagematrix.files import WORK_FOLDER
from imagematrix.host.config import PROXY_VARIABLES
from imagematrix.host.debian import KEYRING, os_release_ids, unpack_package

# The first release of Debian with cosign 3.
SUITE = "forky"
INSTALL = "install cosign 3.0 or newer: https://docs.sigstore.dev/cosign/system_config/installation"
GITHUB_ISSUER = "https://token.actions.githubusercontent.com"

# What it has to be able to do. Its version does not say: that of Debian's package is "devel".
_OPTIONS = ("--statement=", "--trusted-root=", "--signing-config=", "--use-signing-config=true")
_SIGNING_CONFIG = '{"mediaType":"application/vnd.dev.sigstore.signingconfig.v0.2+json"}'
_TRUSTED_ROOT = '{"mediaType":"application/vnd.dev.sigstore.trustedroot+json;version=0.1"}'
# Others would change what is signed, where it is sent, or what is trusted.
_ENVIRONMENT = (
    "PATH",
    "HOME",
    "COSIGN_PASSWORD",
    "SIGSTORE_ID_TOKEN",
    "ACTIONS_ID_TOKEN_REQUEST_TOKEN",
    "ACTIONS_ID_TOKEN_REQUEST_URL",
    "GITHUB_ACTIONS",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    *PROXY_VARIABLES,
)
_SECONDS = 180
# Errors of a verification that are not about what is verified.
_UNUSABLE = ("loading verifier", "parsing regexp", "reading trusted root", "trusted root file")
_UNREACHABLE = "Sigstore cannot be reached; `--key FILE` or `--trusted-root FILE` need no network"
# Parts of cosign's errors, and what they mean here.
_MEANINGS = {
    "accepted signatures do not match threshold": "it is not signed by the key, or changed",
    "not match any digest in statement": "the statement is about another image",
    "not match digests in statement": "the statement is about another image",
    # It tries the format of cosign 2 next.
    "only supported with --new-bundle-format": "it is no Sigstore bundle",
    "decryption failed": "COSIGN_PASSWORD is not the password of the key",
    "unsupported pem type": "the key is not a private key of cosign",
    "tuf refresh failed": _UNREACHABLE,
    "none of the expected identities matched": "the certificate is of another identity",
    "not enough verified log entries": "it is in no transparency log: signed with a key, perhaps",
}


@dataclass(frozen=True)
class Cosign:
    """The program cosign, and the CA certificates by which it reaches Sigstore."""

    program: Path
    ca_bundle: Path | None = None

    def run(self, *arguments: str, environ: Mapping[str, str] = os.environ) -> str:
        """Runs it with a clean environment; returns its standard output.

        Raises WorkError, with the last error in one line, if it fails.
        """
        own = {name: environ[name] for name in _ENVIRONMENT if environ.get(name)}
        if self.ca_bundle is not None:
            own.setdefault("SSL_CERT_FILE", str(self.ca_bundle))
        # It would ask for a password that is not set, and fail with "inappropriate ioctl".
        own.setdefault("COSIGN_PASSWORD", "")
        try:
            result = subprocess.run(
                [str(self.program), *arguments],
                env=own,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=_SECONDS,
                check=False,
            )
        except OSError as error:
            raise WorkError(f"{self.program} cannot be run: {error.strerror}") from None
        except subprocess.TimeoutExpired:
            raise WorkError(f"cosign {arguments[0]} did not end in {_SECONDS} s") from None
        if result.returncode != 0:
            raise WorkError(f"cosign {arguments[0]}: {error_in(result.stderr)}")
        return result.stdout


def error_in(output: str) -> str:
    """The error in cosign's standard error, as one line, in our words where they are known."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line.removeprefix("Error: ") for line in lines if line.startswith("Error: ")]
    error = errors[-1] if errors else (lines[-1] if lines else "it failed without a message")
    return next((meaning for part, meaning in _MEANINGS.items() if part in error), error)


def find_cosign(root: Path, ca_bundle: Path | None = None, *, download: bool = True) -> Cosign:
    """cosign on PATH; else Debian's, unpacked below `root`/build, where this host can do that and
    it may `download`.

    Raises UserError for one that is too old and where there is none, WorkError where Debian's
    mirror does not have it.
    """
    if found := shutil.which("cosign"):
        return _checked(Cosign(Path(found), ca_bundle))
    folder = root / WORK_FOLDER / "cosign"
    program = folder / "usr" / "bin" / "cosign"
    if not program.is_file():
        if not download or "debian" not in os_release_ids() or not Path(KEYRING).is_file():
            raise UserError(f"cosign is not on PATH; {INSTALL}")
        say(f"Unpacking cosign of Debian {SUITE} to {folder}.")
        _unpack(folder)
    return _checked(Cosign(program, ca_bundle))


def _unpack(folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".cosign.") as scratch:
        try:
            unpack_package("cosign", SUITE, Path(scratch))
        except WorkError as error:
            raise WorkError(f"{error}\ncosign is not on PATH; {INSTALL}") from None
        try:
            Path(scratch).rename(folder)
        except OSError:
            # Another process was first.
            if not folder.is_dir():
                raise
            return
        # What is deleted at the end.
        Path(scratch).mkdir()


def _checked(cosign: Cosign) -> Cosign:
    """The same cosign. Raises UserError if it is none, or too old."""
    try:
        help_text = cosign.run("attest-blob", "--help")
    except WorkError as error:
        raise UserError(f"{cosign.program} is no usable cosign ({error}); {INSTALL}") from None
    missing = [option for option in _OPTIONS if option not in help_text]
    if missing:
        raise UserError(f"{cosign.program} is too old; {INSTALL}")
    return cosign


@dataclass(frozen=True)
class Signer:
    """Signs with a key of cosign, whose password is in COSIGN_PASSWORD; without one, by the
    identity of a workflow of GitHub, which Sigstore certifies and logs.

    https://docs.sigstore.dev/cosign/signing/overview/
    """

    cosign: Cosign
    key: Path | None = None

    def sign(self, statement: bytes) -> bytes:
        """The Sigstore bundle v0.3 (JSON) of an in-toto statement, whose bytes stay as they are.

        Raises UserError for a key that cannot be used, and where there is no identity.
        """
        with tempfile.TemporaryDirectory() as scratch:
            own = Path(scratch)
            (own / "statement.json").write_bytes(statement)
            made = own / "bundle.json"
            options = ["--yes", f"--statement={own / 'statement.json'}", f"--bundle={made}"]
            try:
                self.cosign.run("attest-blob", *options, *self._identity(own))
            except WorkError as error:
                whom = f"{self.key}: " if self.key else ""
                raise WorkError(f"{whom}{error}") from None
            return made.read_bytes()

    def _identity(self, folder: Path) -> list[str]:
        if self.key is not None:
            _require_file(self.key)
            return [f"--key={self.key}", _no_services(folder), _no_authorities(folder)]
        # It would wait for someone to log in with a browser.
        if not any(map(os.environ.get, ("ACTIONS_ID_TOKEN_REQUEST_URL", "SIGSTORE_ID_TOKEN"))):
            raise UserError(
                "signing needs `--key FILE`, or a job of GitHub Actions with the permission"
                " `id-token: write`"
            )
        return []

    def verifier(self, environ: Mapping[str, str] = os.environ) -> "Verifier":
        """The verifier of what this signer signs. Raises UserError where its identity is unknown,
        WorkError where its public key cannot be had."""
        if self.key is None:
            return workflow_verifier(self.cosign, environ)
        _require_file(self.key)
        try:
            public = self.cosign.run("public-key", f"--key={self.key}")
        except WorkError as error:
            raise WorkError(f"{self.key}: {error}") from None
        return Verifier(self.cosign, key=public)


@dataclass(frozen=True)
class Verifier:
    """Checks signatures: those of `key`, a public key (PEM), or of certificates for an identity
    that `identity` (a regular expression of Go) matches, by `issuer`.

    `trusted_root` is the file with Sigstore's authorities; without it, cosign downloads them.
    """

    cosign: Cosign
    key: str = ""
    identity: str = ""
    issuer: str = ""
    trusted_root: Path | None = None

    @property
    def whom(self) -> str:
        """Whose signatures these are, for messages."""
        return "the given key" if self.key else f"{self.identity} ({self.issuer})"

    def refusal(self, bundle: bytes, digest: str, predicate_type: str) -> str:
        """Why a bundle is no signed statement of this type about the image `digest`; else "".

        Raises UserError for a key or identity that cannot be used, WorkError where Sigstore cannot
        be reached.
        """
        with tempfile.TemporaryDirectory() as scratch:
            own = Path(scratch)
            (own / "bundle.json").write_bytes(bundle)
            algorithm, _, value = digest.partition(":")
            what = [f"--digest={value}", f"--digestAlg={algorithm}", f"--type={predicate_type}"]
            what.append(f"--bundle={own / 'bundle.json'}")
            try:
                self.cosign.run("verify-blob-attestation", *what, *self._trusted(own))
            except WorkError as error:
                if any(part in str(error) for part in _UNUSABLE):
                    raise UserError(f"the signature cannot be checked: {error}") from None
                if _UNREACHABLE in str(error):
                    raise
                return str(error).partition(": ")[2]
        return ""

    def _trusted(self, folder: Path) -> Sequence[str]:
        if self.key:
            (folder / "key.pub").write_text(self.key, encoding="utf-8")
            key = f"--key={folder / 'key.pub'}"
            return [key, "--insecure-ignore-tlog", _no_authorities(folder)]
        options = [
            f"--certificate-identity-regexp={self.identity}",
            f"--certificate-oidc-issuer={self.issuer}",
        ]
        if self.trusted_root is not None:
            options.append(f"--trusted-root={self.trusted_root}")
        return options


def key_verifier(cosign: Cosign, path: Path) -> Verifier:
    """The verifier of a public key in a file. Raises UserError if it is none."""
    _require_file(path)
    text = path.read_text(encoding="utf-8", errors="replace")
    if "PRIVATE KEY" in text:
        raise UserError(f"{path} is a private key; `cosign public-key --key {path}` has its public")
    if "-----BEGIN PUBLIC KEY-----" not in text:
        raise UserError(f"{path} is no public key (PEM)")
    return Verifier(cosign, key=text)


def workflow_verifier(cosign: Cosign, environ: Mapping[str, str]) -> Verifier:
    """The verifier of what the running workflow of GitHub Actions signs.

    https://docs.github.com/actions/reference/variables-reference,
    https://github.com/sigstore/fulcio/blob/main/docs/oidc.md. Raises UserError elsewhere.
    """
    workflow = environ.get("GITHUB_WORKFLOW_REF")
    if not workflow:
        raise UserError("without `--key FILE`, only a job of GitHub Actions can sign")
    server = environ.get("GITHUB_SERVER_URL", "https://github.com")
    return Verifier(cosign, identity=f"^{re.escape(f'{server}/{workflow}')}$", issuer=GITHUB_ISSUER)


def _require_file(path: Path) -> None:
    try:
        with path.open("rb"):
            pass
    except OSError as error:
        raise UserError(f"the key {path} cannot be read: {error.strerror}") from None


def _no_services(folder: Path) -> str:
    """The option by which cosign sends nothing to a transparency log or timestamp authority."""
    path = folder / "signing-config.json"
    path.write_text(_SIGNING_CONFIG, encoding="utf-8")
    return f"--signing-config={path}"


def _no_authorities(folder: Path) -> str:
    """The option by which cosign downloads no authorities."""
    path = folder / "trusted-root.json"
    path.write_text(_TRUSTED_ROOT, encoding="utf-8")
    return f"--trusted-root={path}"
