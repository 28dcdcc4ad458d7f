"""The catalogue of what a registry has: tags, their statements, and what is left out."""

import base64
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from imagematrix.cli import main
from imagematrix.host.oci import OCI_MANIFEST, Descriptor, compact, digest_of
from imagematrix.host.registry import Registry
from imagematrix.release.changelog import changes
from imagematrix.release.intoto import BUNDLE, Statement
from imagematrix.release.predicates import Predicate
from imagematrix.release.statement import ReleaseStatement, to_json
from imagematrix.release.test_results import check_results
from imagematrix.repository.passed import CheckResult, Outcome
from tests.unit.fake_registry import FakeRegistry, fake_registry
from tests.unit.helpers import XGBOOST, Repository
from tests.unit.statements import STATEMENT, statement

TEAM = "team"
LAYER = f"sha256:{'1' * 64}"


@pytest.fixture
def fake() -> Iterator[FakeRegistry]:
    with fake_registry() as found:
        yield found


def bundle(subject: str, kind: str, predicate: Any) -> bytes:
    """A statement as it is attached; without a signature, which the catalogue does not look at."""
    content = Statement(XGBOOST, subject, kind, predicate).content
    payload = base64.b64encode(content).decode()
    envelope = {"payload": payload, "payloadType": "application/vnd.in-toto+json", "signatures": []}
    return compact({"mediaType": BUNDLE, "verificationMaterial": {}, "dsseEnvelope": envelope})


class Shop:
    """A namespace of a registry, to which images are published."""

    def __init__(self, fake: FakeRegistry) -> None:
        self.where = f"{fake.host}/{TEAM}"
        self.repository = f"{TEAM}/{XGBOOST}"
        self.registry = Registry(fake.host, None)

    def push(self, *tags: str, marker: str = "") -> Descriptor:
        """An image under some tags; another one for another marker."""
        layers = [{"digest": LAYER, "size": 80_000_000}]
        content = compact({"config": {}, "layers": layers, "annotations": {"a": marker}})
        for tag in tags:
            self.registry.push_manifest(self.repository, tag, content, OCI_MANIFEST)
        return Descriptor(OCI_MANIFEST, digest_of(content), len(content))

    def attach(self, image: Descriptor, kind: str, predicate: Any) -> None:
        """Attaches a statement about an image."""
        content = bundle(image.digest, kind, predicate)
        named = {"dev.sigstore.bundle.predicateType": kind}
        self.registry.attach(self.repository, image, BUNDLE, content, BUNDLE, named)

    def publish(self, release: ReleaseStatement, *tags: str) -> ReleaseStatement:
        """An image with its release statement, which gets its digest."""
        image = self.push(release.tag, *tags, marker=release.tag)
        release = replace(release, digest=image.digest)
        self.attach(image, Predicate.RELEASE, to_json(release))
        results = {
            "serves the example": CheckResult(Outcome.PASSED),
            "computes on a GPU": CheckResult(Outcome.SKIPPED, "this machine has no GPU"),
        }
        tests = check_results(results, release.source, release.commit)
        self.attach(image, Predicate.TESTS, tests)
        numpy = {"type": "library", "name": "numpy", "purl": "pkg:pypi/numpy@2.5.5"}
        licences = [{"license": {"id": "BSD-3-Clause"}}]
        self.attach(image, Predicate.CYCLONEDX, {"components": [{**numpy, "licenses": licences}]})
        return release


@pytest.fixture
def shop(fake: FakeRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shop:
    """The same, with a repository as the working directory."""
    Repository.write(tmp_path / "repository")
    monkeypatch.chdir(tmp_path / "repository")
    return Shop(fake)


def catalogue(shop: Shop) -> tuple[str, dict[str, Any]]:
    """The page of the image, and what programs read of it."""
    given = ["--registry", shop.where, "--no-audit", "--date", "2026-11-29"]
    assert main(["catalogue", "--output", "site", *given]) == 0
    rows = {row["name"]: row for row in json.loads(Path("site/images.json").read_text())}
    return Path(f"site/images/{XGBOOST}.html").read_text(), rows[XGBOOST]


def test_tags_of_a_registry_with_what_is_attached(shop: Shop) -> None:
    first = shop.publish(STATEMENT, "latest")
    second = statement({"numpy": "2.5.5"}, held="the guard holds it", changes=())
    second = shop.publish(replace(second, changes=changes(first, second)))
    page, row = catalogue(shop)
    # `latest` stays where it is.
    assert row["tag"] == first.tag
    assert row["digest"] == first.digest
    assert row["reference"] == f"{shop.where}/{XGBOOST}:latest"
    assert "the guard holds it" in page
    for words in ("2.5.4", "2.5.5", "computes on a GPU", "this machine has no GPU", "BSD-3-Clause"):
        assert words in page
    assert f"docker pull {shop.where}/{XGBOOST}@{second.digest}" in page
    assert f'id="tag-{second.tag}"' in page
    assert "1 passed, 1 skipped" in page
    # Nothing was audited, and that is said.
    assert "no audit was made" in page


def test_an_image_under_two_tags_has_a_statement_of_each(shop: Shop) -> None:
    image = shop.push(STATEMENT.tag, "20261128.v1", "latest")
    for tag in (STATEMENT.tag, "20261128.v1"):
        release = replace(STATEMENT, tag=tag, digest=image.digest, previous="")
        shop.attach(image, Predicate.RELEASE, to_json(release))
    page, row = catalogue(shop)
    assert row["tag"] == "20261128.v1"
    assert page.count('<details class="tag" id="tag-') == 2


def test_what_has_no_statement_is_left_out_with_a_word(
    shop: Shop, capsys: pytest.CaptureFixture[str]
) -> None:
    shop.publish(STATEMENT, "latest")
    shop.push("20261128.v1", marker="bare")
    other = shop.push("20261128.v2", marker="other")
    named = replace(STATEMENT, name="minimal", tag="20261128.v2", digest=other.digest)
    shop.attach(other, Predicate.RELEASE, to_json(named))
    wrong = shop.push("20261128.v3", marker="wrong")
    shop.attach(wrong, Predicate.RELEASE, {"tag": "20261128.v3"})
    _, row = catalogue(shop)
    assert row["tag"] == STATEMENT.tag
    said = capsys.readouterr().err
    assert f"{XGBOOST}:20261128.v1 is left out: it has no release statement" in said
    assert f"{XGBOOST}:20261128.v2 is left out: its release statement is about minimal" in said
    assert f"{XGBOOST}:20261128.v3 is left out: malformed release statement" in said


def test_registry_without_the_images(shop: Shop) -> None:
    page, row = catalogue(shop)
    assert row["reference"] is None
    assert "Not published yet." in page


def test_registry_that_is_none(shop: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["catalogue", "--output", "site", "--registry", "https://x"]) == 2
    assert main(["catalogue", "--output", "site", "--registry", "127.0.0.1:1/team"]) == 1
    assert "127.0.0.1:1" in capsys.readouterr().err
    assert not Path("site").exists()
