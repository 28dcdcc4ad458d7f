"""What is installed in published images, from what is attached to them."""

import base64
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from imagematrix.audit.findings import Audited, Finding, Kind, Status
from imagematrix.audit.installed import Installed
from imagematrix.build import published_plan
from imagematrix.build.prepare import Request
from imagematrix.build.published_plan import plan_against
from imagematrix.errors import UserError
from imagematrix.host.oci import OCI_MANIFEST, Descriptor, compact, digest_of
from imagematrix.host.registry import Registry
from imagematrix.matrix.selection import Selection
from imagematrix.plan.content import Present
from imagematrix.publish.pending import installed_in_registry, pending_in_registry
from imagematrix.release.intoto import BUNDLE, Statement
from imagematrix.release.predicates import Predicate
from imagematrix.release.statement import to_json
from tests.unit.fake_registry import FakeRegistry, fake_registry
from tests.unit.helpers import MINIMAL, XGBOOST, Repository, host_config
from tests.unit.statements import STATEMENT

IMAGE = compact({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "layers": []})
DIGEST = digest_of(IMAGE)
RELEASE = to_json(replace(STATEMENT, digest=DIGEST))
WHERE = f"team/{XGBOOST}"


@pytest.fixture
def fake() -> Iterator[FakeRegistry]:
    with fake_registry() as fake:
        yield fake


@pytest.fixture
def registry(fake: FakeRegistry) -> Registry:
    """A registry with one published image."""
    found = Registry(fake.host, None)
    found.push_manifest(WHERE, "latest", IMAGE, OCI_MANIFEST)
    return found


def attach(
    registry: Registry, predicate: Any, kind: str = Predicate.RELEASE, digest: str = DIGEST
) -> None:
    payload = base64.b64encode(Statement(WHERE, digest, kind, predicate).content).decode()
    envelope = {"payload": payload, "payloadType": "application/vnd.in-toto+json"}
    document = {
        "mediaType": BUNDLE,
        "verificationMaterial": {},
        "dsseEnvelope": {**envelope, "signatures": []},
    }
    bundle, subject = json.dumps(document).encode(), Descriptor(OCI_MANIFEST, DIGEST, len(IMAGE))
    notes = {"dev.sigstore.bundle.predicateType": kind}
    registry.attach(WHERE, subject, BUNDLE, bundle, BUNDLE, notes)


def installed(registry: Registry, repository: Repository) -> dict[str, Installed | str]:
    return installed_in_registry(registry, "team", repository.project.variants)


def test_release_statement_says_what_is_installed(
    registry: Registry, repository: Repository
) -> None:
    attach(registry, {"name": "other"}, Predicate.TESTS)
    attach(registry, RELEASE)

    assert installed(registry, repository) == {
        XGBOOST: Installed("trixie", "3.12.13", STATEMENT.debian, STATEMENT.packages)
    }


@pytest.mark.parametrize(
    ("predicate", "kind", "why"),
    [
        (None, "", "no release statement"),
        ({"name": "other"}, Predicate.SPDX, "no release statement"),
        ({}, Predicate.RELEASE, "malformed release statement"),
        (
            {**RELEASE, "debian": {"libssl3t64": 3}},
            Predicate.RELEASE,
            "malformed release statement",
        ),
        (to_json(STATEMENT), Predicate.RELEASE, "is about another image"),
    ],
)
def test_image_that_does_not_say_it_is_not_audited(
    predicate: Any, kind: str, why: str, registry: Registry, repository: Repository
) -> None:
    if predicate is not None:
        attach(registry, predicate, kind)

    found = installed(registry, repository)[XGBOOST]

    assert isinstance(found, str)
    assert why in found


def test_plan_of_a_saved_file_cannot_know_of_fixes(repository: Repository, tmp_path: Path) -> None:
    saved = tmp_path / "plan.json"
    saved.write_text("[]")
    request = Request(Selection((MINIMAL,)), pending=True)

    with pytest.raises(UserError, match="--pending needs a registry"):
        plan_against(repository.project, request, str(saved), pending_in_registry)


def test_nothing_is_asked_where_nothing_is_published(
    fake: FakeRegistry, repository: Repository
) -> None:
    variants = repository.project.variants

    assert (
        pending_in_registry(repository.project, variants, f"{fake.host}/team", host_config()) == {}
    )


def test_plan_rebuilds_what_lacks_fixes_and_nothing_else(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is published is up to date otherwise; `--pending` alone asks for fixes."""
    project = repository.project
    contents = project.contents(project.variants, {})
    present = {name: Present(content.labels) for name, content in contents.items()}
    monkeypatch.setattr(published_plan, "published_images", lambda *_: present)
    fix = Finding(Kind.DEB, "libgomp1", "1", Status.PENDING, "2", hours=1, rebuilt=True)
    asked: list[tuple[str, ...]] = []

    def audit(*given: Any) -> dict[str, Audited]:
        asked.append((*(variant.name for variant in given[1]), given[2]))
        return {XGBOOST: Audited((fix,)), MINIMAL: Audited((replace(fix, rebuilt=False),))}

    def plan(*, pending: bool) -> dict[str, tuple[str, ...]]:
        request = Request(Selection((XGBOOST,)), pending=pending)
        steps = plan_against(project, request, "registry.example/team", audit)
        return {step.variant.name: step.reasons for step in steps}

    assert plan(pending=False) == {MINIMAL: (), XGBOOST: ()}
    assert asked == []
    assert plan(pending=True) == {
        MINIMAL: (),
        XGBOOST: ("1 security fix pending (libgomp1)",),
    }
    assert asked == [(MINIMAL, XGBOOST, "registry.example/team")]
