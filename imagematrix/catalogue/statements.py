"""What the catalogue takes from the signed statements about an image."""

from collections.abc import Iterator, Mapping
from typing import Any

from imagematrix.catalogue.published import Check

Licences = Mapping[str, Mapping[str, tuple[str, ...]]]


def checks_in(predicate: Mapping[str, Any]) -> tuple[Check, ...]:
    """The checks in a statement of test results, in the form that `release.test_results` gives it:
    https://github.com/in-toto/attestation/blob/main/spec/predicates/test-result.md
    """
    reasons: dict[str, str] = {}
    for part in predicate.get("configuration", ()):
        reasons |= part.get("annotations", {}).get("skipped", {})
    passed = [Check(str(name)) for name in predicate.get("passedTests", ())]
    skipped = [
        Check(str(name), str(reasons.get(name) or "no reason is recorded"))
        for name in predicate.get("warnedTests", ())
    ]
    return tuple(sorted([*passed, *skipped], key=lambda check: check.name))


def licences_in(document: Mapping[str, Any]) -> Licences:
    """The licences of the packages of Debian (`deb`) and of Python (`pypi`) in a CycloneDX
    document, by their names. https://cyclonedx.org/docs/1.6/json/#components_items_licenses
    """
    found: dict[str, dict[str, tuple[str, ...]]] = {"deb": {}, "pypi": {}}
    for component in document.get("components", ()):
        # pkg:deb/debian/libc6@2.41-12?arch=amd64
        kind = str(component.get("purl", "")).removeprefix("pkg:").partition("/")[0]
        if kind in found:
            found[kind][str(component["name"])] = tuple(_licences(component))
    return found


def _licences(component: Mapping[str, Any]) -> Iterator[str]:
    for choice in component.get("licenses", ()):
        licence = choice.get("license", {})
        if text := choice.get("expression") or licence.get("id") or licence.get("name"):
            yield str(text)
