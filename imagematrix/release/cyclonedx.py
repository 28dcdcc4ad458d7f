"""The SBOM of an image as CycloneDX 1.6. https://cyclonedx.org/docs/1.6/json/"""

import json
from collections.abc import Iterable
from datetime import UTC, datetime

from cyclonedx.model import HashAlgorithm, HashType
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component as CycloneComponent
from cyclonedx.model.component import ComponentType
from cyclonedx.model.dependency import Dependency
from cyclonedx.model.license import DisjunctiveLicense, LicenseAcknowledgement, LicenseExpression
from cyclonedx.output.json import JsonV1Dot6
from cyclonedx.schema import SchemaVersion
from cyclonedx.spdx import is_supported_id
from packageurl import PackageURL

from imagematrix.errors import WorkError
from imagematrix.matrix.platforms import EPOCH
from imagematrix.release.components import Component, document_id, image_purl
from imagematrix.release.licences import spdx_expression

_IMAGE = "image"
_DECLARED = LicenseAcknowledgement.DECLARED


def cyclonedx_document(name: str, digest: str, components: Iterable[Component]) -> bytes:
    """The SBOM of the image with this name and digest: the same bytes for the same digest.

    Raises WorkError where the format's own library finds it invalid.
    """
    # It takes a second to import, which most commands can do without.
    from cyclonedx.validation.json import JsonStrictValidator

    image = CycloneComponent(
        name=name,
        version=digest,
        type=ComponentType.CONTAINER,
        bom_ref=_IMAGE,
        purl=PackageURL.from_string(image_purl(name, digest)),
    )
    parts = [_component(one, "") for one in components]
    bom = Bom(
        serial_number=document_id(name, digest),
        metadata=BomMetaData(timestamp=datetime.fromtimestamp(EPOCH, UTC), component=image),
        components=parts,
        dependencies=[
            Dependency(image.bom_ref, [Dependency(one.bom_ref) for one in parts]),
            *(Dependency(one.bom_ref) for one in parts),
        ],
    )
    document = json.loads(JsonV1Dot6(bom).output_as_string())
    text = json.dumps(document, sort_keys=True, separators=(",", ":"))
    if error := JsonStrictValidator(SchemaVersion.V1_6).validate_str(text):
        raise WorkError(f"the CycloneDX document of {name} is not valid: {error}")
    return text.encode()


def _component(one: Component, owner: str) -> CycloneComponent:
    reference = f"{owner}{one.purl or one.name}"
    return CycloneComponent(
        name=one.name,
        version=one.version or None,
        type=ComponentType.FILE if one.is_file else ComponentType.LIBRARY,
        bom_ref=reference,
        purl=PackageURL.from_string(one.purl) if one.purl else None,
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=one.sha256)] if one.sha256 else [],
        licenses=_licences(one.licences),
        components=[_component(part, f"{reference}#") for part in one.parts],
    )


def _licences(names: Iterable[str]) -> list[DisjunctiveLicense | LicenseExpression]:
    """Licences by their SPDX identifiers, or by the names that the package gives; one expression
    alone, since the format admits no other beside it."""
    found = {expression or name for name in names for expression in [spdx_expression(name)]}
    expressions = [one for one in found if spdx_expression(one) and not is_supported_id(one)]
    if len(found) == len(expressions) == 1:
        return [LicenseExpression(expressions[0], acknowledgement=_DECLARED)]
    return [
        DisjunctiveLicense(id=one, acknowledgement=_DECLARED)
        if is_supported_id(one)
        else DisjunctiveLicense(name=one, acknowledgement=_DECLARED)
        for one in found
    ]
