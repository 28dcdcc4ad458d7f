"""The SBOM of an image as SPDX 2.3. https://spdx.github.io/spdx-spec/v2.3/"""

import json
import re
from collections.abc import Iterable
from datetime import UTC, datetime

from spdx_tools.common.spdx_licensing import spdx_licensing
from spdx_tools.spdx.jsonschema.document_converter import DocumentConverter
from spdx_tools.spdx.model import (
    Actor,
    ActorType,
    Checksum,
    ChecksumAlgorithm,
    CreationInfo,
    Document,
    ExternalPackageRef,
    ExternalPackageRefCategory,
    ExtractedLicensingInfo,
    Package,
    PackagePurpose,
    Relationship,
    RelationshipType,
    SpdxNoAssertion,
)
from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document

from imagematrix.errors import WorkError
from imagematrix.matrix.platforms import EPOCH
from imagematrix.release.components import Component, document_id, image_purl
from imagematrix.release.licences import spdx_expression

_DOCUMENT = "SPDXRef-DOCUMENT"
_IMAGE = "SPDXRef-image"
_TOOL = Actor(ActorType.TOOL, "imagematrix")


def spdx_document(name: str, digest: str, components: Iterable[Component]) -> bytes:
    """The SBOM of the image with this name and digest: the same bytes for the same digest.

    Raises WorkError where the format's own library finds it invalid.
    """
    image = _package(_IMAGE, Component(name, digest, image_purl(name, digest)))
    image.primary_package_purpose = PackagePurpose.CONTAINER
    image.checksums = [_checksum(digest.removeprefix("sha256:"))]
    packages, relationships = [image], [_relation(_DOCUMENT, RelationshipType.DESCRIBES, _IMAGE)]
    names: dict[str, str] = {}

    def add(one: Component, owner: str) -> None:
        # Two parts may bundle the same one.
        identity = f"SPDXRef-{len(packages)}-{_identifier(f'{one.name}-{one.version}')}"
        package = _package(identity, one)
        package.license_declared = _licence(one.licences, names)
        packages.append(package)
        relationships.append(_relation(owner, RelationshipType.CONTAINS, identity))
        for part in one.parts:
            add(part, identity)

    for component in components:
        add(component, _IMAGE)
    document = Document(
        creation_info=CreationInfo(
            spdx_version="SPDX-2.3",
            spdx_id=_DOCUMENT,
            name=name,
            document_namespace=f"https://spdx.org/spdxdocs/{name}-{document_id(name, digest)}",
            creators=[_TOOL],
            created=datetime.fromtimestamp(EPOCH, UTC).replace(tzinfo=None),
        ),
        packages=packages,
        relationships=relationships,
        extracted_licensing_info=[
            ExtractedLicensingInfo(names[one], f"The package names this licence: {one}", one)
            for one in sorted(names)
        ],
    )
    if errors := validate_full_spdx_document(document):
        first = errors[0].validation_message
        raise WorkError(f"the SPDX document of {name} is not valid: {first}")
    text = json.dumps(DocumentConverter().convert(document), sort_keys=True, separators=(",", ":"))
    return text.encode()


def _package(identity: str, one: Component) -> Package:
    references = [
        ExternalPackageRef(ExternalPackageRefCategory.PACKAGE_MANAGER, "purl", one.purl)
        for _ in range(bool(one.purl))
    ]
    return Package(
        spdx_id=identity,
        name=one.name,
        version=one.version or None,
        download_location=SpdxNoAssertion(),
        files_analyzed=False,
        checksums=[_checksum(one.sha256)] if one.sha256 else [],
        external_references=references,
        primary_package_purpose=PackagePurpose.FILE if one.is_file else PackagePurpose.LIBRARY,
    )


def _checksum(sha256: str) -> Checksum:
    return Checksum(ChecksumAlgorithm.SHA256, sha256)


def _relation(owner: str, kind: RelationshipType, other: str) -> Relationship:
    return Relationship(owner, kind, other)


def _identifier(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9.]+", "-", text).strip("-")


def _licence(licences: Iterable[str], names: dict[str, str]) -> object:
    """The expression of all licences of a package. `names` gets an identifier for each name that
    SPDX does not know."""
    parts = []
    for licence in licences:
        expression = spdx_expression(licence)
        if expression is None:
            identifier = f"LicenseRef-{_identifier(licence)}"
            if identifier in {other for name, other in names.items() if name != licence}:
                identifier += f"-{len(names)}"
            expression = names.setdefault(licence, identifier)
        parts.append(f"({expression})")
    return spdx_licensing.parse(" AND ".join(sorted(set(parts)))) if parts else SpdxNoAssertion()
