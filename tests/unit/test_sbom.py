"""SBOMs in both formats: valid, exact, and the same bytes for the same image."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from spdx_tools.spdx.parser.jsonlikedict.json_like_dict_parser import JsonLikeDictParser
from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document

from imagematrix.errors import WorkError
from imagematrix.release.components import Component, components_of, image_purl
from imagematrix.release.contents import DebianPackage, Distribution, ImageContents
from imagematrix.release.cyclonedx import cyclonedx_document
from imagematrix.release.licences import spdx_expression
from imagematrix.release.spdx import spdx_document
from tests.unit.helpers import REPOSITORY, lock_of

DIGEST = f"sha256:{'ab' * 32}"
NAME = "minimal-py312-inference"
WERKZEUG = ("werkzeug", "3.1.9", "pkg:pypi/werkzeug@3.1.9")
CONTENTS = ImageContents(
    python="3.12.1",
    server="1.0.0",
    suite="trixie",
    debian=(
        DebianPackage(
            "bash", "5.2.37-2+b10", "amd64", "bash", "5.2.37-2", ("Expat", "GPL-3+", "MIT-like")
        ),
        DebianPackage("libc6", "2.41-12", "amd64", "glibc", "2.41-12", ("none or BSD, and X",)),
        DebianPackage("tzdata", "2026a-1", "all", "tzdata", "2026a-1"),
    ),
    distributions=(
        Distribution("httptools", "0.9.0", ("MIT",)),
        Distribution(
            "numpy",
            "2.5.5",
            ("BSD-3-Clause AND 0BSD",),
            ("/site-packages/numpy.libs/libopenblas-1.so", "/site-packages/numpy.libs/libz-2.so"),
            (WERKZEUG, ("openblas", "0.3.30", "pkg:generic/openblas@0.3.30")),
        ),
        Distribution("torch", "2.13.0+cpu", ("BSD",)),
    ),
    server_bundled=(WERKZEUG,),
)
LOCK = lock_of("httptools==0.9.0", "torch==2.12.0+cpu", digest="c" * 64)
Form = Callable[[str, str, Sequence[Component]], bytes]
FORMS: list[Form] = [cyclonedx_document, spdx_document]


def cyclonedx() -> Any:
    return json.loads(cyclonedx_document(NAME, DIGEST, components_of(CONTENTS, LOCK)))


def spdx() -> Any:
    return json.loads(spdx_document(NAME, DIGEST, components_of(CONTENTS, LOCK)))


PURLS = [
    "pkg:deb/debian/bash@5.2.37-2%2Bb10?arch=amd64&distro=trixie&upstream=bash%405.2.37-2",
    "pkg:deb/debian/libc6@2.41-12?arch=amd64&distro=trixie&upstream=glibc%402.41-12",
    "pkg:deb/debian/tzdata@2026a-1?arch=all&distro=trixie",
    "pkg:generic/cpython@3.12.1",
    "pkg:generic/inference-server@1.0.0",
    "pkg:pypi/httptools@0.9.0",
    "pkg:pypi/numpy@2.5.5",
    "pkg:pypi/torch@2.13.0%2Bcpu",
]


def test_every_part_has_its_package_url() -> None:
    assert sorted(one.purl for one in components_of(CONTENTS, LOCK)) == PURLS


def test_hash_is_that_of_the_lock_where_it_has_one_for_this_version() -> None:
    several = {"httptools": LOCK["httptools"]._replace(sha256=frozenset({"c" * 64, "d" * 64}))}
    for lock, expected in ((LOCK, {"httptools": "c" * 64}), (several, {})):
        found = {one.name: one.sha256 for one in components_of(CONTENTS, lock) if one.sha256}
        assert found == expected


def test_cyclonedx_lists_the_parts_and_what_they_bundle() -> None:
    document = cyclonedx()
    parts = {one["name"]: one for one in document["components"]}

    assert sorted(one["purl"] for one in document["components"]) == PURLS
    assert document["metadata"]["component"]["purl"] == image_purl(NAME, DIGEST)
    assert [(one["type"], one["name"]) for one in parts["numpy"]["components"]] == [
        ("file", "libopenblas-1.so"),
        ("file", "libz-2.so"),
        ("library", "openblas"),
        ("library", "werkzeug"),
    ]
    assert [one["purl"] for one in parts["inference-server"]["components"]] == [WERKZEUG[2]]
    assert parts["httptools"]["hashes"] == [{"alg": "SHA-256", "content": "c" * 64}]
    (dependencies,) = [d for d in document["dependencies"] if d["ref"] == "image"]
    assert sorted(dependencies["dependsOn"]) == PURLS


def test_cyclonedx_names_licences_as_spdx_does_where_it_can() -> None:
    licences = {one["name"]: one.get("licenses", []) for one in cyclonedx()["components"]}
    declared = {"acknowledgement": "declared"}

    assert licences["httptools"] == [{"license": {"id": "MIT", **declared}}]
    assert licences["numpy"] == [{"expression": "BSD-3-Clause AND 0BSD", **declared}]
    assert licences["torch"] == [{"license": {"name": "BSD", **declared}}]
    assert licences["tzdata"] == []
    assert [one["license"].get("id") for one in licences["bash"]] == [
        "GPL-3.0-or-later", "MIT", None,
    ]  # fmt: skip


def test_spdx_lists_the_parts_and_what_they_bundle() -> None:
    document = spdx()
    names = {one["SPDXID"]: one["name"] for one in document["packages"]}
    related = [
        (one["relationshipType"], names.get(one["spdxElementId"]), names[one["relatedSpdxElement"]])
        for one in document["relationships"]
    ]

    contained = [other for kind, owner, other in related if kind == "CONTAINS" and owner == NAME]
    assert sorted(contained) == sorted(one.name for one in components_of(CONTENTS, LOCK))
    assert [r for r in related if r[1] not in (None, NAME)] == [
        ("CONTAINS", "inference-server", "werkzeug"),
        ("CONTAINS", "numpy", "werkzeug"),
        ("CONTAINS", "numpy", "openblas"),
        ("CONTAINS", "numpy", "libopenblas-1.so"),
        ("CONTAINS", "numpy", "libz-2.so"),
    ]
    assert [r for r in related if r[0] == "DESCRIBES"] == [("DESCRIBES", None, NAME)]
    packages = {one["name"]: one for one in document["packages"]}
    assert packages["httptools"]["checksums"][0]["checksumValue"] == "c" * 64
    assert packages[NAME]["checksums"][0]["checksumValue"] == "ab" * 32


def test_spdx_has_an_identifier_for_every_name_that_it_does_not_know() -> None:
    document = spdx()
    licences = {one["name"]: one.get("licenseDeclared") for one in document["packages"]}
    own = {one["licenseId"]: one["name"] for one in document["hasExtractedLicensingInfos"]}

    assert licences["bash"] == "GPL-3.0-or-later AND LicenseRef-MIT-like AND MIT"
    assert licences["numpy"] == "BSD-3-Clause AND 0BSD"
    assert licences["tzdata"] == "NOASSERTION"
    assert own == {
        "LicenseRef-BSD": "BSD",
        "LicenseRef-MIT-like": "MIT-like",
        "LicenseRef-none-or-BSD-and-X": "none or BSD, and X",
    }


def test_names_of_licences_that_differ_in_signs_alone_stay_apart() -> None:
    parts = [
        Component(name, "1", f"pkg:pypi/{name}@1", (licence,))
        for name, licence in (("a", "My licence"), ("b", "My licence+"), ("c", "My licence"))
    ]
    document = json.loads(spdx_document(NAME, DIGEST, parts))
    licences = [one.get("licenseDeclared") for one in document["packages"]][1:]

    assert licences[0] == licences[2] != licences[1]
    assert len(document["hasExtractedLicensingInfos"]) == 2


def test_both_are_valid_by_the_formats_own_libraries() -> None:
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(cyclonedx())) is None
    assert validate_full_spdx_document(JsonLikeDictParser().parse(spdx())) == []


def test_document_that_is_not_valid_is_an_error() -> None:
    with pytest.raises(WorkError, match=f"the SPDX document of {NAME} is not valid: "):
        spdx_document(NAME, "sha256:short", components_of(CONTENTS, LOCK))


@pytest.mark.parametrize("form", FORMS)
def test_same_digest_gives_the_same_bytes_and_another_gives_others(form: Form) -> None:
    parts = components_of(CONTENTS, LOCK)
    first = form(NAME, DIGEST, parts)

    assert form(NAME, DIGEST, parts) == first
    other = f"sha256:{'cd' * 32}"
    assert form(NAME, other, parts) != first
    assert json.loads(form(NAME, other, parts)).get("serialNumber") != json.loads(first).get(
        "serialNumber", ""
    )
    assert b" " * 2 not in first
    assert b"2020-01-01T00:00:00" in first


_HASHES = """
import hashlib
from tests.unit.test_sbom import *
for form in FORMS:
    print(hashlib.sha256(form(NAME, DIGEST, components_of(CONTENTS, LOCK))).hexdigest())
"""


def test_bytes_do_not_depend_on_the_process() -> None:
    """Neither on its hash seed nor on its time zone."""
    environ = {**os.environ, "PYTHONHASHSEED": "4711", "TZ": "Asia/Tokyo"}
    result = subprocess.run(
        [sys.executable, "-c", _HASHES],
        cwd=REPOSITORY,
        env=environ,
        capture_output=True,
        check=True,
    )
    parts = components_of(CONTENTS, LOCK)
    here = [hashlib.sha256(form(NAME, DIGEST, parts)).hexdigest() for form in FORMS]
    assert result.stdout.decode().split() == here


@pytest.mark.parametrize(
    ("name", "expression"),
    [
        ("MIT", "MIT"),
        ("mit", "MIT"),
        ("Expat", "MIT"),
        ("GPL-2+", "GPL-2.0-or-later"),
        ("GPL-2", "GPL-2.0-only"),
        ("LGPL-2.1+", "LGPL-2.1-or-later"),
        ("GFDL-1.3+", "GFDL-1.3-or-later"),
        ("Apache License 2.0", "Apache-2.0"),
        ("Apache-2.0 OR BSD-2-Clause", "Apache-2.0 OR BSD-2-Clause"),
        ("BSD-3-clause or GPL-2+", "BSD-3-Clause OR GPL-2.0-or-later"),
        ("GPL-1+ or Artistic, and Expat", None),
        ("BSD or GPL-2+", None),
        ("BSD", None),
        ("MIT/X11", None),
        ("(", None),
        ("public-domain", None),
    ],
)
def test_name_of_a_licence_is_an_expression_if_it_means_one(
    name: str, expression: str | None
) -> None:
    assert spdx_expression(name) == expression
