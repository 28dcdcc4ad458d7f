"""Publishing one image, in an order in which no step that fails leaves anything half done.

1. The layers and the config are uploaded: no tag shows them yet.
2. A dated tag that is free is taken, and read back.
3. The signed statements are attached to the digest, the release statement last.
4. All is read back, and verified as a consumer would.
5. The image is compared with the one that `latest` is: the guard.
6. `latest` moves.

A repeat goes on where the last one ended: an image whose digest is that of its newest tag gets no
other one, and what is attached stays. Of two publishers at once, each verifies its own tag before
`latest` moves to the newer of both.
"""

import datetime
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path

import docker

from imagematrix.audit.facts import ArchiveFacts
from imagematrix.console import say
from imagematrix.errors import WorkError
from imagematrix.host.oci import Manifest
from imagematrix.host.registry import Registry
from imagematrix.matrix.lockfile import Lock
from imagematrix.measure.compression import Compression
from imagematrix.publish.attach import attach_statements
from imagematrix.publish.candidates import Candidate, Policy
from imagematrix.publish.cosign import Signer, Verifier
from imagematrix.publish.image import known_layers, push_image
from imagematrix.publish.statements import Origin, release_of, statements_of
from imagematrix.publish.verify import Finding, signed_release, verified_release
from imagematrix.publish.verify import Verdict as Found
from imagematrix.release.changelog import changes, summary
from imagematrix.release.guard import Jump, allowed, held, jumps
from imagematrix.release.predicates import Predicate
from imagematrix.release.statement import Change, ReleaseStatement, from_json
from imagematrix.release.tags import LATEST, DatedTag, next_tag

# Publishers that take a tag at the same time; more are seldom.
_CLAIMS = 8
# How often `latest` is read again while others move it.
_MOVES = 5


class Verdict(StrEnum):
    """What became of an image. `held` is published under a dated tag, and `latest` stays."""

    PUSHED = "pushed"
    UNCHANGED = "unchanged"
    HELD = "held"
    REFUSED = "refused"
    FAILED = "failed"


@dataclass(frozen=True)
class Row:
    """What became of an image, under which dated tag, and why; `changes` are those since the tag
    before, of an image that is new there."""

    image: str
    verdict: Verdict
    tag: str = ""
    digest: str = ""
    detail: str = ""
    changes: tuple[Change, ...] = ()


@dataclass(frozen=True)
class Published:
    """A complete image in a registry."""

    tag: DatedTag
    manifest: Manifest
    release: ReleaseStatement


@dataclass(frozen=True)
class Publisher:
    """Publishes images of an engine to `namespace` of a registry.

    `facts` are those of a Debian release, `now` is the clock, in UTC.
    """

    root: Path
    client: docker.DockerClient
    registry: Registry
    namespace: str
    signer: Signer
    verifier: Verifier
    origin: Origin
    policy: Policy
    facts: Callable[[str], ArchiveFacts]
    now: Callable[[], datetime.datetime]
    compression: Compression = Compression.ZSTD

    def publish(self, candidate: Candidate, lock: Lock, lock_text: str) -> Row:
        """Publishes an image that nothing refuses, and what it was installed from; returns what
        became of it.

        Raises WorkError where the registry or cosign fails; a repeat then goes on.
        """
        return _Publication(self, candidate, lock, lock_text).run()

    def repository(self, name: str) -> str:
        """The repository of an image in the registry."""
        return f"{self.namespace}/{name}"


@dataclass
class _Publication:
    """The publication of one image; what is known of it grows from step to step."""

    to: Publisher
    candidate: Candidate
    lock: Lock
    lock_text: str
    findings: tuple[Finding, ...] = field(default=(), init=False)

    @property
    def name(self) -> str:
        return self.candidate.variant.name

    @property
    def repository(self) -> str:
        return self.to.repository(self.name)

    def run(self) -> Row:
        latest = self.signed(LATEST)
        manifest = self.upload(latest)
        release, is_new = self.attach(manifest, latest)
        if is_new:
            self.verify(release)
        moved = not release.held and self.move_latest(release, manifest)
        shown = (release.tag, manifest.digest)
        if release.held:
            why = "; ".join(str(jump) for jump in self.jumps(latest, release))
            detail = f"latest stays: {why or release.held}"
            return Row(self.name, Verdict.HELD, *shown, detail, release.changes if is_new else ())
        if not is_new and not moved:
            return Row(self.name, Verdict.UNCHANGED, *shown, "no new tag")
        what = summary(release.changes) if release.previous else "the first one"
        return Row(self.name, Verdict.PUSHED, *shown, what, release.changes)

    def tags(self) -> list[DatedTag]:
        """The dated tags of the image, the newest first."""
        found = filter(None, map(DatedTag.parse, self.to.registry.tags(self.repository)))
        return sorted(found, reverse=True)

    def newest_of(self, tags: Sequence[DatedTag]) -> tuple[DatedTag, Manifest] | None:
        """The newest of these tags, and what it is, complete or not."""
        for tag in tags:
            if (manifest := self.to.registry.manifest(self.repository, str(tag))) is not None:
                return tag, manifest
        return None

    def complete(self, reference: str) -> Published | None:
        """The image under a tag, if it is complete and verified; the last findings are kept."""
        manifest = self.to.registry.manifest(self.repository, reference)
        if manifest is None:
            self.findings = ()
            return None
        self.findings, release = verified_release(
            self.to.registry, self.repository, reference, self.to.verifier
        )
        if release is None or release.digest != manifest.digest:
            return None
        return Published(release.dated, manifest, release)

    def signed(self, reference: str) -> Published | None:
        """The image under a tag, if its release statement is signed. It is the last one that is
        attached."""
        manifest = self.to.registry.manifest(self.repository, reference)
        release = signed_release(self.to.registry, self.repository, reference, self.to.verifier)
        if manifest is None or release is None or release.digest != manifest.digest:
            return None
        return Published(release.dated, manifest, release)

    def upload(self, latest: Published | None) -> Manifest:
        """Uploads the image, without a tag. Layers that a complete image has are not compressed
        again."""
        known = {}
        if latest is not None:
            config = self.to.registry.config(self.repository, latest.manifest)
            known = known_layers(latest.manifest, config)
        parent = self.candidate.variant.parent
        return push_image(
            self.to.root,
            self.to.client,
            self.candidate.reference,
            self.to.registry,
            self.repository,
            self.to.compression,
            known,
            self.to.repository(parent) if parent else "",
        )

    def attach(self, manifest: Manifest, latest: Published | None) -> tuple[ReleaseStatement, bool]:
        """Takes a dated tag where the newest one is of another image, and attaches all statements.

        Returns the release statement that is attached, and whether the image was not complete.
        """
        for _ in range(_CLAIMS):
            # One list for both questions: another publisher may take a tag between two.
            tags = self.tags()
            newest = self.newest_of(tags)
            if newest is not None and newest[1].digest == manifest.digest:
                tag = newest[0]
                there = self.complete(str(tag))
                if there is not None and not self.is_accepted_now(there.release, latest):
                    return there.release, False
            else:
                tag = next_tag(self.to.now().date(), map(str, tags))
                if not self.to.registry.claim_tag(self.repository, str(tag), manifest):
                    say(f"{self.name}: another publisher took {tag}; looking again.")
                    continue
                say(f"{self.name}: {tag} is {manifest.digest}.")
            release = self.attach_all(manifest, self.release(manifest, tag, latest))
            if self.is_ours(tag, manifest):
                return release, True
        raise WorkError(f"{self.name}: other publishers take each tag first; run this again later")

    def is_accepted_now(self, release: ReleaseStatement, latest: Published | None) -> bool:
        """Whether an image was held because of jumps that are accepted by now."""
        found = self.jumps(latest, release)
        return bool(release.held) and not held(found, self.to.policy.jumps)

    def is_ours(self, tag: DatedTag, manifest: Manifest) -> bool:
        """Whether a tag is still on the image: of two that write at once, the later one stays."""
        found = self.to.registry.manifest(self.repository, str(tag))
        return found is not None and found.digest == manifest.digest

    def release(
        self, manifest: Manifest, tag: DatedTag, latest: Published | None
    ) -> ReleaseStatement:
        """The release statement, with what changed since the complete tag before, and whether
        `latest` has to stay."""
        own = replace(
            release_of(self.candidate, str(tag), self.to.now(), self.to.origin),
            digest=manifest.digest,
            compressed=sum(layer["size"] for layer in manifest.document["layers"]),
        )
        before = self.before(tag, latest)
        if before is not None:
            facts = self.to.facts(self.candidate.contents.suite)
            closed = facts.closed(before.release.debian, own.debian)
            changed = changes(before.release, own, closed)
            own = replace(own, previous=str(before.tag), changes=changed)
        found = self.jumps(latest, own)
        accepted = self.to.policy.jumps
        reasons = allowed(found, accepted)
        if self.candidate.pending and self.to.policy.pending:
            reasons["pending"] = self.to.policy.pending
        return replace(own, allowed=reasons, held=held(found, accepted))

    def before(self, tag: DatedTag, latest: Published | None) -> Published | None:
        """The newest complete image with an older dated tag."""
        for other in self.tags():
            if other < tag:
                if latest is not None and latest.tag == other:
                    return latest
                if (found := self.signed(str(other))) is not None:
                    return found
        return None

    def jumps(self, latest: Published | None, own: ReleaseStatement) -> tuple[Jump, ...]:
        if latest is not None:
            return jumps(latest.release, own)
        if self.to.registry.manifest(self.repository, LATEST) is None:
            return ()
        why = "is not a complete image that was signed by this key or identity"
        hint = "look at it with `nox -s verify_published`"
        return (Jump(LATEST, why, hint),)

    def attach_all(self, manifest: Manifest, release: ReleaseStatement) -> ReleaseStatement:
        """Attaches all statements that are missing; returns the release statement that is there."""
        where = f"{self.to.registry.host}/{self.repository}"
        wanted = statements_of(
            self.candidate, release, where, self.lock, self.lock_text, self.to.origin
        )
        done = attach_statements(
            self.to.registry, self.repository, manifest.descriptor, wanted, self.to.signer
        )
        (said,) = (
            one.statement for one in done if one.statement.predicate_type == Predicate.RELEASE
        )
        return from_json(said.predicate)

    def verify(self, release: ReleaseStatement) -> None:
        """Raises WorkError where a consumer would refuse the image under its dated tag."""
        if self.complete(release.tag) is None:
            refused = [f"{o.what}: {o.detail}" for o in self.findings if o.verdict is Found.REFUSED]
            raise WorkError(
                f"{self.name}:{release.tag} does not verify, and `latest` stays: "
                + ("; ".join(refused) or "it is not there")
            )

    def move_latest(self, release: ReleaseStatement, manifest: Manifest) -> bool:
        """Moves `latest` to the newest complete image that is not held; returns whether it moved to
        this one."""
        moved = False
        for _ in range(_MOVES):
            wanted = self.newest_to_use(release, manifest)
            there = self.to.registry.manifest(self.repository, LATEST)
            if there is not None and there.digest == wanted.digest:
                return moved
            self.to.registry.push_manifest(
                self.repository, LATEST, wanted.content, wanted.media_type
            )
            moved = moved or wanted.digest == manifest.digest
        raise WorkError(f"{self.name}: others move `latest` all the time; run this again later")

    def newest_to_use(self, release: ReleaseStatement, manifest: Manifest) -> Manifest:
        """The image that `latest` has to be: this one, unless there is a newer one."""
        for tag in self.tags():
            if tag > release.dated:
                newer = self.complete(str(tag))
                if newer is not None and not newer.release.held:
                    return newer.manifest
        return manifest
