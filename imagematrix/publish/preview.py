"""What a publication would do with an image; nothing is written or signed."""

import datetime
from dataclasses import replace

import docker

from imagematrix.host.registry import Registry
from imagematrix.publish.candidates import Candidate, Policy
from imagematrix.publish.image import config_digest
from imagematrix.publish.publication import Row, Verdict
from imagematrix.publish.releases import said_of
from imagematrix.publish.statements import Origin, release_of
from imagematrix.release.changelog import changes, summary
from imagematrix.release.guard import held, jumps
from imagematrix.release.tags import LATEST, newest_tag, next_tag


def preview(
    client: docker.DockerClient,
    registry: Registry,
    repository: str,
    candidate: Candidate,
    policy: Policy,
    origin: Origin,
    now: datetime.datetime,
) -> Row:
    """What would become of an image that nothing refuses.

    Signatures are not verified: who previews may have no key and no identity.
    """
    name, tags = candidate.variant.name, registry.tags(repository)
    newest = newest_tag(tags)
    there = registry.image_manifest(repository, newest) if newest else None
    if there is not None:
        config = (there.document.get("config") or {}).get("digest")
        if config == config_digest(client, candidate.reference):
            return Row(name, Verdict.UNCHANGED, newest, there.digest, "no new tag")
    tag = str(next_tag(now.date(), tags))
    own = release_of(candidate, tag, now, origin)
    before = said_of(registry, repository, newest) if newest else None
    # Its compressed size is known once it is compressed.
    sized = replace(own, compressed=before.compressed) if before else own
    changed = changes(before, sized) if before else ()
    latest = said_of(registry, repository, LATEST)
    if latest is not None:
        found = jumps(latest, own)
        if held(found, policy.jumps):
            why = "; ".join(str(jump) for jump in found if jump.name not in policy.jumps)
            return Row(name, Verdict.HELD, tag, "", f"latest stays: {why}", changed)
    what = summary(changed) if before else "the first one"
    return Row(name, Verdict.PUSHED, tag, "", what, changed)
