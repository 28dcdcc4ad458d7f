"""The types of the statements that are attached to a published image.

Each is an in-toto statement about the digest of the image, in a Sigstore bundle.
https://github.com/in-toto/attestation/tree/main/spec/predicates
"""

from enum import StrEnum


class Predicate(StrEnum):
    """The type of a statement."""

    RELEASE = "https://in-toto.io/attestation/release/v0.1"
    SPDX = "https://spdx.dev/Document"
    CYCLONEDX = "https://cyclonedx.org/bom"
    PROVENANCE = "https://slsa.dev/provenance/v1"
    TESTS = "https://in-toto.io/attestation/test-result/v0.1"
