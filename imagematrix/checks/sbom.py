"""What its SBOM says: exactly what the container itself knows, and nothing is in it beside that."""

import json
from collections.abc import Iterator
from typing import Any

from packageurl import PackageURL
from packaging.utils import canonicalize_name

from imagematrix.checks.check import layer, listing
from imagematrix.checks.running import RunningVariant
from imagematrix.matrix.schema import MINIMAL
from imagematrix.measure.contents import contents_of
from imagematrix.measure.unowned import CUDA_FOLDER, findings, server_files
from imagematrix.release.components import components_of
from imagematrix.release.cyclonedx import cyclonedx_document
from imagematrix.release.spdx import spdx_document

_DIGEST = f"sha256:{'0' * 64}"


@layer(MINIMAL)
def sbom_equals_what_is_installed(image: RunningVariant) -> None:
    """Both forms list what dpkg and Python report in the container, no more and no less."""
    expected = set(_reported(image))
    assert len(expected) > 50, f"only {len(expected)} packages are reported: the scan saw nothing"
    components = components_of(contents_of(image.files, image.reference), image.lock)
    name = image.variant.name
    forms = {
        "CycloneDX": _of_cyclonedx(json.loads(cyclonedx_document(name, _DIGEST, components))),
        "SPDX": _of_spdx(json.loads(spdx_document(name, _DIGEST, components))),
    }
    for form, packages in forms.items():
        listed = list(packages)
        differing = {
            "listed twice": {one for one in listed if listed.count(one) > 1},
            "not listed": expected - set(listed),
            "not installed": set(listed) - expected,
        }
        found = "; ".join(f"{kind}: {listing(s)}" for kind, s in differing.items() if s)
        assert not found, f"the {form} document is not exact: {found}"


@layer(MINIMAL)
def every_file_belongs_to_a_package(image: RunningVariant) -> None:
    """No file and no link is there that is in no package of the SBOM, and no package is empty."""
    copied = [CUDA_FOLDER] if image.variant.cuda_image else []
    found = findings(image.files, server_files(image.root), copied)
    assert not found, "; ".join(found)


def _reported(image: RunningVariant) -> Iterator[str]:
    """What the container says itself of what is installed, as `kind name version`."""
    shown = "${db:Status-Status} ${Package} ${Version}\\n"
    for line in image.host.run("dpkg-query --show --showformat=%s", shown).stdout.splitlines():
        status, name, version = line.split(" ")
        if status == "installed":
            yield f"deb {name} {version}"
    for found in image.distributions:
        yield f"pypi {canonicalize_name(found.name)} {found.version}"
    yield f"generic cpython {image.marker_environment['python_full_version']}"
    server = image.host.run("grep -r __version__.= /opt/inference-server/inference_server").stdout
    yield f"generic inference-server {server.split()[-1].strip(chr(34))}"


def _of_cyclonedx(document: Any) -> Iterator[str]:
    for component in document["components"]:
        yield _kind_name_version(component["purl"])


def _of_spdx(document: Any) -> Iterator[str]:
    (image,) = [one for one in document["packages"] if one["SPDXID"] == "SPDXRef-image"]
    contained = {
        one["relatedSpdxElement"]
        for one in document["relationships"]
        if (one["spdxElementId"], one["relationshipType"]) == (image["SPDXID"], "CONTAINS")
    }
    for package in document["packages"]:
        if package["SPDXID"] in contained:
            yield _kind_name_version(package["externalRefs"][0]["referenceLocator"])


def _kind_name_version(purl: str) -> str:
    found = PackageURL.from_string(purl)
    return f"{found.type} {found.name} {found.version}"
