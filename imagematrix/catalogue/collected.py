"""What a registry has of an image, as the catalogue takes it."""

import datetime
from collections.abc import Iterator, Mapping
from typing import Any

from imagematrix.catalogue.published import (
    Attachment,
    Audit,
    Check,
    Layer,
    Published,
    PublishedTag,
)
from imagematrix.errors import WorkError
from imagematrix.host.oci import digest_of
from imagematrix.publish.attach import Attachment as Attached
from imagematrix.publish.releases import Release, Releases
from imagematrix.release.predicates import Predicate
from imagematrix.release.statement import ReleaseStatement, from_json
from imagematrix.release.tags import LATEST, TaggedImage, tag_rows

Licences = Mapping[str, Mapping[str, tuple[str, ...]]]


def published_of(
    name: str, releases: Releases, audit: Audit | None, today: datetime.date
) -> tuple[Published | None, tuple[str, ...]]:
    """What is published of an image, None without a release, and why tags were left out."""
    images = [TaggedImage(str(one.tag), one.manifest.digest, None) for one in releases.dated]
    if releases.latest:
        images.append(TaggedImage(LATEST, releases.latest, None))
    supported = {row.tag for row in tag_rows(images, today) if row.supported}
    tags, problems = [], []
    for release in releases.dated:
        try:
            tags.append(_tag(name, release, supported=str(release.tag) in supported))
        except (WorkError, ValueError) as error:
            problems.append(f"{name}:{release.tag} is left out: {error}")
    if not tags:
        return None, tuple(problems)
    # The newest of those that are the same image.
    latest = next((tag.tag for tag in tags if tag.digest == releases.latest), "")
    return Published(name, tuple(tags), latest, audit), tuple(problems)


def _tag(name: str, release: Release, *, supported: bool) -> PublishedTag:
    """Raises WorkError or ValueError where a statement is missing or of another form."""
    manifest = release.manifest
    by_type: dict[Predicate, Attached] = {}
    for one in release.attachments:
        if one.statement is None or one.predicate_type not in set(Predicate):
            continue
        kind = Predicate(one.predicate_type)
        # An image may have been published under several tags: each has its release statement.
        if kind is not Predicate.RELEASE or one.statement.predicate.get("tag") == str(release.tag):
            by_type.setdefault(kind, one)
    if Predicate.RELEASE not in by_type:
        raise ValueError("it has no release statement")
    statement = _statement(by_type[Predicate.RELEASE])
    if statement.name != name:
        raise ValueError(f"its release statement is about {statement.name}")
    return PublishedTag(
        str(release.tag),
        manifest.digest,
        statement,
        layers=tuple(
            Layer(str(layer["digest"]), int(layer["size"]))
            for layer in manifest.document.get("layers") or ()
        ),
        attachments=tuple(
            Attachment(kind, found.descriptor.digest, digest_of(found.bundle), len(found.bundle))
            for kind in Predicate
            if (found := by_type.get(kind))
        ),
        checks=checks_in(_predicate(by_type, Predicate.TESTS)),
        licences=licences_in(_predicate(by_type, Predicate.CYCLONEDX)),
        supported=supported,
    )


def _statement(attached: Attached) -> ReleaseStatement:
    return from_json(attached.statement.predicate if attached.statement else {})


def _predicate(by_type: Mapping[Predicate, Attached], kind: Predicate) -> Mapping[str, Any]:
    attached = by_type.get(kind)
    return attached.statement.predicate if attached and attached.statement else {}


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
