"""Images that are to be published: what is known of each, and why one may not be."""

import datetime
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from imagematrix.audit.findings import Audited, pending, pending_refusals
from imagematrix.matrix.schema import Track
from imagematrix.matrix.variant import Variant
from imagematrix.plan.content import PYTHON_LABEL, REVISION_LABEL
from imagematrix.plan.plan import Action, Step
from imagematrix.release.contents import ImageContents
from imagematrix.repository.passed import Outcome, Results


@dataclass(frozen=True)
class Candidate:
    """An image of the engine that is to be published.

    `reference` is its name there, `labels` and `layers` (digests, lowest first) are the engine's.
    `base_layers` are those of the image that it is based on. `results` are those of the checks of
    exactly this image. `base_ids` identifies the base images of other makers that it and its parent
    were made of, by name. `debian_sha256` has the hashes of its Debian packages, as far as they are
    known, and `uncompressed` is its size in bytes.
    """

    step: Step
    reference: str
    labels: Mapping[str, str]
    layers: tuple[str, ...]
    base_layers: tuple[str, ...]
    contents: ImageContents
    results: Results
    audited: Audited
    base_ids: Mapping[str, str]
    debian_sha256: Mapping[str, str]
    uncompressed: int

    @property
    def variant(self) -> Variant:
        """What the matrix says of it."""
        return self.step.variant

    @property
    def pending(self) -> list[str]:
        """Which security fixes it lacks, and what was not audited, in words."""
        prefix = f"{self.variant.name}: "
        lines = pending_refusals({self.variant.name: self.audited})
        return [line.removeprefix(prefix) for line in lines]

    @property
    def commit(self) -> str:
        """The commit that it was built from."""
        return self.labels.get(REVISION_LABEL, "")


@dataclass(frozen=True)
class Policy:
    """What may be published, beyond what always may be: historical images, images on bootstrap
    bases, images that lack security fixes, for a reason. `jumps` has the reason for each jump of
    `latest` that is accepted, by its name."""

    historical: bool = False
    bootstrap_bases: bool = False
    pending: str = ""
    jumps: Mapping[str, str] = field(default_factory=dict)


def early_refusals(
    step: Step, policy: Policy, today: datetime.date, *, official_bases: bool
) -> list[str]:
    """Why an image of a plan may not be published, as far as the plan says it."""
    variant = step.variant
    found = []
    if variant.track is Track.HISTORICAL and not policy.historical:
        found.append(f"it is {variant.track.support}: publish it with --historical")
    until = variant.supported_until
    if until is not None and until < today:
        found.append(
            f"it was supported until {until}: retire it, or extend `supported_until` in matrix.yaml"
        )
    if step.action is not Action.UP_TO_DATE:
        why = "; ".join(step.reasons)
        found.append(f"it is not up to date ({why}): run `nox -s build -- {variant.name}`")
    elif not official_bases and not policy.bootstrap_bases:
        found.append(
            "it is based on bootstrap bases, made on this host: build it with `--bases registry`,"
            " or publish it with --bootstrap-bases"
        )
    return found


def refusals(candidate: Candidate, policy: Policy) -> list[str]:
    """Why an image that is up to date may not be published."""
    return list(_refusals(candidate, policy))


def _refusals(candidate: Candidate, policy: Policy) -> Iterator[str]:
    name = candidate.variant.name
    check = f"`nox -s test_images -- {name}`"
    failed = [n for n, one in candidate.results.items() if one.outcome is Outcome.FAILED]
    if not candidate.results:
        yield f"its checks were not run for this image: run {check}"
    elif failed:
        yield f"it failed {', '.join(sorted(failed))}: see {check}"
    if not candidate.commit:
        yield (
            "it was built from files that are of no commit: commit them, and build it with"
            f" `nox -s build -- --force {name}`"
        )
    python = candidate.labels.get(PYTHON_LABEL, "")
    if python != candidate.contents.python:
        yield (
            f"its label {PYTHON_LABEL} says {python or 'nothing'}, and it has CPython"
            f" {candidate.contents.python}"
        )
    if not policy.pending:
        for line in candidate.pending:
            fixes = pending(candidate.audited.all)
            rebuild = f"run `nox -s build -- --pending {name}`, or " if fixes else ""
            yield f'{line}: {rebuild}publish it with --allow-pending "reason"'
