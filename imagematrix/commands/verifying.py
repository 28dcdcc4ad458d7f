"""Options that say whose signatures are accepted."""

import argparse
from pathlib import Path

from imagematrix.errors import UserError
from imagematrix.publish.cosign import GITHUB_ISSUER, Verifier, find_cosign, key_verifier


def add_verifier(parser: argparse.ArgumentParser, *, required: bool) -> None:
    """Adds the options."""
    signer = parser.add_mutually_exclusive_group(required=required)
    signer.add_argument("--key", type=Path, metavar="FILE", help="the public key of the signer")
    signer.add_argument(
        "--certificate-identity-regexp",
        metavar="REGEXP",
        help="the identity of the signer, as ^https://github.com/OWNER/REPOSITORY/",
    )
    parser.add_argument(
        "--certificate-oidc-issuer",
        default=GITHUB_ISSUER,
        metavar="URL",
        help="who confirmed that identity (default: %(default)s)",
    )
    parser.add_argument(
        "--trusted-root",
        type=Path,
        metavar="FILE",
        help="Sigstore's authorities (default: downloaded)",
    )
    parser.add_argument(
        "--offline", action="store_true", help="connect to nothing but the image's registry"
    )


def verifier_of(root: Path, ca_bundle: Path | None, options: argparse.Namespace) -> Verifier:
    """The verifier in the options of `add_verifier`.

    Raises UserError for a key that cannot be used, and where there is no cosign.
    """
    trusted_root: Path | None = options.trusted_root
    if trusted_root is not None and not trusted_root.is_file():
        raise UserError(f"the trusted root {trusted_root} is not a file")
    if options.offline and options.key is None and trusted_root is None:
        raise UserError(
            "without a network, an identity can be verified with --trusted-root FILE only; `cosign"
            " trusted-root create --with-default-services --out FILE` writes it"
        )
    cosign = find_cosign(root, ca_bundle, download=not options.offline)
    if options.key is not None:
        return key_verifier(cosign, options.key)
    return Verifier(
        cosign,
        identity=options.certificate_identity_regexp,
        issuer=options.certificate_oidc_issuer,
        trusted_root=trusted_root,
    )
