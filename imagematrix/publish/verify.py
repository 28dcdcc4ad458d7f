"""Verifying a published image as a consumer does: what its tag is, and what is signed about it.

A signature names a digest and no tag. So name and tag are in the release statement, and it is not
enough that something is signed: what is signed has to be about this image, under this tag.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from packageurl import PackageURL

from imagematrix.errors import UserError, WorkError
from imagematrix.host.oci import Manifest
from imagematrix.host.registry import Registry
from imagematrix.publish.attach import attachments
from imagematrix.publish.cosign import Verifier
from imagematrix.release.intoto import SIGNATURE, Statement
from imagematrix.release.predicates import Predicate
from imagematrix.release.statement import ReleaseStatement, from_json
from imagematrix.release.tags import LATEST, DatedTag

# Of cosign, at a time.
_PROCESSES = 4
_NAMES = {
    SIGNATURE: "signature",
    Predicate.RELEASE: "release",
    Predicate.SPDX: "SBOM (SPDX)",
    Predicate.CYCLONEDX: "SBOM (CycloneDX)",
    Predicate.PROVENANCE: "provenance",
    Predicate.TESTS: "test results",
}
# Of the SPDX and CycloneDX documents: https://spdx.github.io/spdx-spec/v2.3/,
# https://cyclonedx.org/docs/1.6/json/
_SPDX_VERSION, _CYCLONEDX_VERSION = "SPDX-2.3", "1.6"


class Verdict(StrEnum):
    """What came of a check. What is ignored makes an image neither better nor worse."""

    OK = "ok"
    REFUSED = "refused"
    IGNORED = "ignored"


@dataclass(frozen=True)
class Finding:
    """One check: of what, its verdict, and the reason or what was found."""

    what: str
    verdict: Verdict
    detail: str


def is_verified(findings: Iterable[Finding]) -> bool:
    """Whether nothing was refused."""
    return all(finding.verdict is not Verdict.REFUSED for finding in findings)


def verify(
    registry: Registry, repository: str, reference: str, verifier: Verifier
) -> tuple[Finding, ...]:
    """What a consumer finds of `repository` (namespace/name) under a tag or digest.

    Of `latest`, that no newer image was to replace it, too. Raises UserError where there is no such
    image and for a key that cannot be used, WorkError where the registry or Sigstore cannot be
    asked.
    """
    manifest = registry.manifest(repository, reference)
    if manifest is None:
        at = "@" if ":" in reference else ":"
        raise UserError(f"there is no image {registry.host}/{repository}{at}{reference}")
    image = _Image(registry, repository, manifest, verifier)
    findings, release = image.findings(reference)
    if reference == LATEST and release is not None:
        findings += image.newer_tags(release)
    return tuple(findings)


def verified_release(
    registry: Registry, repository: str, reference: str, verifier: Verifier
) -> tuple[tuple[Finding, ...], ReleaseStatement | None]:
    """The same for a publisher, who moves `latest`: newer images are not looked at. Also the
    release statement, None where anything is refused, and both empty where there is no image."""
    manifest = registry.manifest(repository, reference)
    if manifest is None:
        return (), None
    findings, release = _Image(registry, repository, manifest, verifier).findings(reference)
    return tuple(findings), release if is_verified(findings) else None


def signed_release(
    registry: Registry, repository: str, reference: str, verifier: Verifier
) -> ReleaseStatement | None:
    """The signed release statement of a tag or digest, as `verify` accepts it; None if there is no
    such image or statement. Nothing else of the image is verified.

    Raises what `verify` raises, except for an image that is not there.
    """
    manifest = registry.manifest(repository, reference)
    if manifest is None:
        return None
    image = _Image(registry, repository, manifest, verifier)
    signed, _ = image.statements([Predicate.RELEASE])
    finding, release = image.release(signed[Predicate.RELEASE], reference)
    return release if finding.verdict is Verdict.OK else None


class _RefusedError(Exception):
    """Why a part of an image is refused."""


@dataclass(frozen=True)
class _Image:
    registry: Registry
    repository: str
    manifest: Manifest
    verifier: Verifier

    @property
    def name(self) -> str:
        return self.repository.rpartition("/")[2]

    def findings(self, reference: str) -> tuple[list[Finding], ReleaseStatement | None]:
        """What is found of the image, and its release statement if that is as it should be."""
        found = [_checked("image", self.content)]
        signed, refused = self.statements()

        def each(kind: Predicate, check: Callable[[Mapping[str, Any]], str]) -> Callable[[], str]:
            # Two publications of one image at once sign two, and both have to be true.
            return lambda: [check(statement.predicate) for statement in signed[kind]][-1]

        of_release, release = self.release(signed[Predicate.RELEASE], reference)
        checks: dict[str, Callable[[], str]] = {
            SIGNATURE: lambda: f"by {self.verifier.whom}",
            Predicate.SPDX: each(Predicate.SPDX, lambda one: self.check_spdx(one, release)),
            Predicate.CYCLONEDX: each(
                Predicate.CYCLONEDX, lambda one: self.check_cyclonedx(one, release)
            ),
            Predicate.PROVENANCE: each(
                Predicate.PROVENANCE, lambda one: self.check_provenance(one, release)
            ),
            Predicate.TESTS: each(Predicate.TESTS, _check_tests),
        }
        for kind, what in _NAMES.items():
            reasons = "; ".join(sorted(set(refused[kind])))
            if not signed[kind]:
                detail = f"not valid: {reasons}" if reasons else "missing"
                found.append(Finding(what, Verdict.REFUSED, detail))
                continue
            is_release = kind == Predicate.RELEASE
            found.append(of_release if is_release else _checked(what, checks[kind]))
            if reasons:
                found.append(Finding(what, Verdict.IGNORED, f"another one: {reasons}"))
        return found, release

    def content(self) -> str:
        """What the image consists of. Raises _RefusedError, or WorkError from the registry, for
        contents that are missing or have another digest."""
        config = self.registry.config(self.repository, self.manifest)
        layers = self.manifest.document.get("layers") or []
        for layer in layers:
            if not self.registry.has_blob(self.repository, layer["digest"]):
                raise _RefusedError(f"its layer {layer['digest']} is not there")
        diff_ids = (config.get("rootfs") or {}).get("diff_ids") or []
        if len(diff_ids) != len(layers):
            raise _RefusedError(f"it has {len(layers)} layers, and its config has {len(diff_ids)}")
        return f"{self.manifest.digest}, {len(layers)} layers"

    def statements(
        self, kinds: Iterable[str] = tuple(_NAMES)
    ) -> tuple[dict[str, list[Statement]], dict[str, list[str]]]:
        """The signed statements of these types, by their types, each once, and why others are
        none."""
        signed: dict[str, list[Statement]] = {kind: [] for kind in kinds}
        refused: dict[str, list[str]] = {kind: [] for kind in kinds}
        digest = self.manifest.digest
        attached = attachments(self.registry, self.repository, digest)
        # Others may attach what they like, such as the findings of a scanner.
        known = [one for one in attached if one.predicate_type in signed]
        with ThreadPoolExecutor(_PROCESSES) as pool:
            reasons = list(pool.map(lambda one: one.refusal(self.verifier, digest), known))
        for one, reason in zip(known, reasons, strict=True):
            kind = one.predicate_type
            if reason:
                refused[kind].append(reason)
            elif one.statement is not None and one.statement not in signed[kind]:
                signed[kind].append(one.statement)
        return signed, refused

    def release(
        self, statements: Iterable[Statement], reference: str
    ) -> tuple[Finding, ReleaseStatement | None]:
        """What is found of the release statement, and the statement if it is as it should be."""
        found: list[ReleaseStatement] = []

        def check() -> str:
            found.append(self.release_of(statements, reference))
            return self.check_release(found[0], reference)

        finding = _checked(_NAMES[Predicate.RELEASE], check)
        return finding, found[0] if finding.verdict is Verdict.OK else None

    def release_of(self, statements: Iterable[Statement], reference: str) -> ReleaseStatement:
        """The release statement of a tag; without a dated tag, of the newest one that is this
        image. Raises _RefusedError if there is none."""
        found = [from_json(statement.predicate) for statement in statements]
        if not found:
            raise _RefusedError("missing")
        of_name = [release for release in found if release.name == self.name]
        if not of_name:
            raise _RefusedError(f"it is of the image {found[0].name}")
        of_tag = [one for one in of_name if one.tag == reference]
        if DatedTag.parse(reference) is not None and not of_tag:
            tags = ", ".join(sorted({one.tag for one in of_name}))
            raise _RefusedError(f"this image was published as {tags} and not as {reference}")
        # One that was held, and was accepted later, has two statements.
        return max(of_tag or of_name, key=lambda release: (release.dated, not release.held))

    def check_release(self, release: ReleaseStatement, reference: str) -> str:
        digest = self.manifest.digest
        if release.digest != digest:
            raise _RefusedError(f"it says that it is of {release.digest}")
        if reference != release.tag:
            tagged = self.registry.manifest(self.repository, release.tag)
            if tagged is None:
                raise _RefusedError(f"it is of the tag {release.tag}, which is not there")
            if tagged.digest != digest:
                raise _RefusedError(f"it is of the tag {release.tag}, which is now {tagged.digest}")
        config = self.registry.config(self.repository, self.manifest)
        platform = f"{config.get('os')}/{config.get('architecture')}"
        if release.platform != platform:
            raise _RefusedError(f"it is for {release.platform}, and the image for {platform}")
        return f"{release.name}:{release.tag}, commit {release.commit[:12]}"

    def check_spdx(self, document: Mapping[str, Any], release: ReleaseStatement | None) -> str:
        if document.get("spdxVersion") != _SPDX_VERSION:
            raise _RefusedError(f"it is not {_SPDX_VERSION}")
        packages = document.get("packages") or []
        value = self.manifest.digest.partition(":")[2]
        of_image = [
            package
            for package in packages
            if value in (one.get("checksumValue") for one in package.get("checksums") or [])
        ]
        if not of_image:
            raise _RefusedError("it is of another image")
        references = (one for package in packages for one in package.get("externalRefs") or [])
        purls = [one["referenceLocator"] for one in references if one["referenceType"] == "purl"]
        return _compared(purls, release)

    def check_cyclonedx(self, document: Mapping[str, Any], release: ReleaseStatement | None) -> str:
        form = document.get("bomFormat"), document.get("specVersion")
        if form != ("CycloneDX", _CYCLONEDX_VERSION):
            raise _RefusedError(f"it is not CycloneDX {_CYCLONEDX_VERSION}")
        if document["metadata"]["component"].get("version") != self.manifest.digest:
            raise _RefusedError("it is of another image")
        components = document.get("components") or []
        return _compared([one["purl"] for one in components if "purl" in one], release)

    def check_provenance(
        self, document: Mapping[str, Any], release: ReleaseStatement | None
    ) -> str:
        definition = document["buildDefinition"]
        name = definition["externalParameters"]["image"]
        if name != self.name:
            raise _RefusedError(f"it is of the image {name}")
        sources = definition["resolvedDependencies"]
        commits = {(one.get("digest") or {}).get("gitCommit") for one in sources} - {None}
        if release is not None and release.commit not in commits:
            raise _RefusedError(f"it is not of the commit {release.commit} of the release")
        return f"built by {document['runDetails']['builder']['id']}"

    def newer_tags(self, release: ReleaseStatement) -> Iterator[Finding]:
        """Whether `latest` is on the newest image that is complete and was not held back."""
        if release.held:
            yield Finding(LATEST, Verdict.REFUSED, f"{release.tag} was held: {release.held}")
            return
        dated = filter(None, map(DatedTag.parse, self.registry.tags(self.repository)))
        newer = sorted((tag for tag in dated if tag > release.dated), reverse=True)
        for tag in map(str, newer):
            manifest = self.registry.manifest(self.repository, tag)
            if manifest is None:
                continue
            image = _Image(self.registry, self.repository, manifest, self.verifier)
            findings, other = image.findings(tag)
            if other is None or not is_verified(findings):
                yield Finding(LATEST, Verdict.IGNORED, f"{tag} is newer, and not complete")
            elif other.held:
                detail = f"{tag} is newer, and was held: {other.held}"
                yield Finding(LATEST, Verdict.IGNORED, detail)
            else:
                detail = f"it is {release.tag}, and {tag} is newer"
                yield Finding(LATEST, Verdict.REFUSED, detail)
                return
        yield Finding(LATEST, Verdict.OK, f"{release.tag} is the newest to use")


def _checked(what: str, check: Callable[[], str]) -> Finding:
    try:
        return Finding(what, Verdict.OK, check())
    except (_RefusedError, WorkError) as error:
        return Finding(what, Verdict.REFUSED, str(error))
    except (AttributeError, KeyError, TypeError, ValueError):
        # Signed, and still of a form that this does not know.
        return Finding(what, Verdict.REFUSED, "it has another form")


def _check_tests(predicate: Mapping[str, Any]) -> str:
    """https://github.com/in-toto/attestation/blob/main/spec/predicates/test-result.md"""
    passed, skipped = predicate.get("passedTests") or [], predicate.get("warnedTests") or []
    failed = predicate.get("failedTests") or []
    if failed or predicate["result"] not in ("PASSED", "WARNED"):
        names = ", ".join(map(str, failed)) or "no test is named"
        raise _RefusedError(f"tests {predicate['result']}: {names}")
    if not passed:
        raise _RefusedError("no test passed")
    return f"{len(passed)} passed" + (f", {len(skipped)} skipped" if skipped else "")


def _compared(purls: Iterable[str], release: ReleaseStatement | None) -> str:
    """What an SBOM has, after comparing it with the release statement."""
    found = {(one.type, one.name, one.version) for one in map(PackageURL.from_string, purls)}
    if release is not None:
        wanted = {("pypi", name, version) for name, version in release.packages.items()}
        wanted |= {("deb", name, version) for name, version in release.debian.items()}
        if missing := sorted(wanted - found):
            raise _RefusedError(f"it lacks {missing[0][1]} {missing[0][2]}, which the release has")
    kinds = {kind: sum(one[0] == kind for one in found) for kind in ("deb", "pypi")}
    return f"{kinds['deb']} Debian packages, {kinds['pypi']} Python packages"
