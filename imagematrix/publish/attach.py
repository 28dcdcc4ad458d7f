"""Attaching signed statements to a published image, and reading what is attached.

Each statement is a Sigstore bundle in an artifact that refers to the image, as cosign 3 stores it.
https://github.com/sigstore/cosign/blob/main/specs/BUNDLE_SPEC.md
"""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from imagematrix.errors import WorkError
from imagematrix.host.oci import Descriptor
from imagematrix.host.registry import Registry
from imagematrix.publish.cosign import Signer, Verifier
from imagematrix.release.intoto import BUNDLE, SIGNATURE, Statement, statement_in
from imagematrix.release.predicates import Predicate

_REQUESTS = 8


@dataclass(frozen=True)
class Attachment:
    """A bundle that is attached to an image; nothing of it is verified.

    `problem` says why it cannot be read; then there is no `statement`.
    """

    descriptor: Descriptor
    bundle: bytes
    statement: Statement | None
    problem: str = ""

    @property
    def predicate_type(self) -> str:
        """The type of its statement; of one that cannot be read, what its annotation says."""
        if self.statement is not None:
            return self.statement.predicate_type
        return self.descriptor.annotations.get("dev.sigstore.bundle.predicateType", "")

    def refusal(self, verifier: Verifier, digest: str) -> str:
        """Why it is no signed statement about the image `digest`; else ""."""
        if self.statement is None:
            return self.problem
        if self.statement.digest != digest:
            return f"it is about another image, {self.statement.digest}"
        return verifier.refusal(self.bundle, digest, self.statement.predicate_type)


@dataclass(frozen=True)
class Attached:
    """What is attached for a statement: `new`, or there before; `statement` is the attached one,
    which may say something else than the given one."""

    statement: Statement
    new: bool


def attachments(registry: Registry, repository: str, digest: str) -> tuple[Attachment, ...]:
    """The bundles that are attached to an image; attachments of other kinds are passed over.

    Raises WorkError where the registry does not list them.
    """
    listed = registry.referrers(repository, digest)
    with ThreadPoolExecutor(_REQUESTS) as pool:
        found = pool.map(lambda one: _attachment(registry, repository, one), listed)
        return tuple(one for one in found if one is not None)


def _attachment(registry: Registry, repository: str, descriptor: Descriptor) -> Attachment | None:
    try:
        manifest = registry.manifest(repository, descriptor.digest)
        if manifest is None:
            return Attachment(descriptor, b"", None, "the registry lists it and does not have it")
        layers = manifest.document.get("layers") or []
        # In the index that cosign writes, artifacts have another type and no annotations:
        # https://github.com/sigstore/cosign/issues/4641
        descriptor = replace(descriptor, annotations=manifest.document.get("annotations") or {})
        if BUNDLE not in (layer.get("mediaType") for layer in layers):
            return None
        (layer,) = layers
        bundle = registry.blob(repository, layer["digest"])
        return Attachment(descriptor, bundle, statement_in(bundle))
    except (WorkError, ValueError) as error:
        return Attachment(descriptor, b"", None, str(error))
    except (AttributeError, KeyError, TypeError):
        return Attachment(descriptor, b"", None, "its manifest has another form")


def attach_statements(
    registry: Registry,
    repository: str,
    subject: Descriptor,
    statements: Iterable[Statement],
    signer: Signer,
) -> tuple[Attached, ...]:
    """Signs statements about the image `subject` and attaches them; a plain signature too.

    What has been attached by this signer stays the only one of its meaning, even if it says
    something else than the given statement: a second one would contradict it. So a publication that
    was interrupted goes on with what it had signed. Raises UserError where the signer cannot sign,
    WorkError where the registry refuses.
    """
    verifier = signer.verifier()
    given = [Statement(f"{registry.host}/{repository}", subject.digest, SIGNATURE, {}), *statements]
    wanted = {meaning(statement): statement for statement in given}
    present: dict[tuple[str, str, bool], Statement] = {}
    for one in attachments(registry, repository, subject.digest):
        if one.statement is None or meaning(one.statement) not in wanted:
            continue
        if not one.refusal(verifier, subject.digest):
            present[meaning(one.statement)] = one.statement
    done = []
    for key, statement in wanted.items():
        if key not in present:
            annotations = {
                "dev.sigstore.bundle.content": "dsse-envelope",
                "dev.sigstore.bundle.predicateType": statement.predicate_type,
            }
            bundle = signer.sign(statement.content)
            registry.attach(repository, subject, BUNDLE, bundle, BUNDLE, annotations)
        done.append(Attached(present.get(key, statement), new=key not in present))
    return tuple(done)


def meaning(statement: Statement) -> tuple[str, str, bool]:
    """What an image has one statement of: a type; of release statements, a tag, and whether
    `latest` was held. So a jump may be accepted later."""
    if statement.predicate_type != Predicate.RELEASE:
        return statement.predicate_type, "", False
    said = statement.predicate
    return statement.predicate_type, str(said.get("tag")), bool(said.get("held"))
