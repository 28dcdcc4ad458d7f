"""Signed statements in a real registry: cosign and `verify_published` accept what was attached, and
refuse each way of tampering with it for its own reason."""

import base64
import datetime
import io
import json
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from imagematrix import cli
from imagematrix.errors import UserError, WorkError
from imagematrix.host.oci import OCI_CONFIG, OCI_MANIFEST, Descriptor, Manifest, compact, digest_of
from imagematrix.host.registry import Registry
from imagematrix.publish.attach import attach_statements, attachments
from imagematrix.publish.cosign import Cosign, Signer, Verifier, find_cosign
from imagematrix.publish.verify import Finding, Verdict, is_verified, signed_release, verify
from imagematrix.release.components import components_of
from imagematrix.release.contents import DebianPackage, Distribution, ImageContents
from imagematrix.release.cyclonedx import cyclonedx_document
from imagematrix.release.intoto import BUNDLE, SIGNATURE, Statement
from imagematrix.release.predicates import Predicate
from imagematrix.release.spdx import spdx_document
from imagematrix.release.statement import ReleaseStatement, to_json
from imagematrix.release.test_results import check_results
from imagematrix.repository.passed import CheckResult, Outcome
from tests.engine.conftest import ROOT
from tests.example_images import example, on_another_python

NAME, OTHER = example().name, on_another_python().name
OLD, NEW, NEWEST = "20261101.v1", "20261101.v2", "20261120.v1"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
PASSWORD = "of the tests"
_namespaces = (f"case{number}" for number in count())


@pytest.fixture(scope="module")
def cosign() -> Cosign:
    """cosign, as this project finds it."""
    try:
        return find_cosign(ROOT)
    except UserError as error:
        pytest.skip(str(error))


@pytest.fixture(autouse=True)
def password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COSIGN_PASSWORD", PASSWORD)


def new_key(cosign: Cosign, folder: Path) -> Path:
    """A private key of cosign; the public one is beside it."""
    folder.mkdir(parents=True)
    prefix = f"--output-key-prefix={folder / 'key'}"
    cosign.run("generate-key-pair", prefix, environ={"COSIGN_PASSWORD": PASSWORD})
    return folder / "key.key"


@pytest.fixture(scope="module")
def signer(cosign: Cosign, tmp_path_factory: pytest.TempPathFactory) -> Signer:
    return Signer(cosign, new_key(cosign, tmp_path_factory.mktemp("keys") / "own"))


@pytest.fixture(scope="module")
def other(cosign: Cosign, tmp_path_factory: pytest.TempPathFactory) -> Signer:
    """The signer that an attacker is."""
    return Signer(cosign, new_key(cosign, tmp_path_factory.mktemp("keys") / "other"))


class Image:
    """A tiny image; `content` is its layer."""

    def __init__(self, content: str) -> None:
        self.layer = content.encode()
        config = {
            "os": "linux",
            "architecture": "amd64",
            "rootfs": {"type": "layers", "diff_ids": [digest_of(self.layer)]},
        }
        self.config = compact(config)
        self.manifest = compact(
            {
                "schemaVersion": 2,
                "mediaType": OCI_MANIFEST,
                "config": self._descriptor(OCI_CONFIG, self.config).document,
                "layers": [
                    self._descriptor("application/vnd.oci.image.layer.v1.tar", self.layer).document
                ],
            }
        )
        self.digest = digest_of(self.manifest)
        self.descriptor = Manifest(self.digest, OCI_MANIFEST, self.manifest).descriptor

    @staticmethod
    def _descriptor(kind: str, content: bytes) -> Descriptor:
        return Descriptor(kind, digest_of(content), len(content))

    def statements(self, tag: str, **changed: Any) -> list[Statement]:
        """All statements about this image; `changed` are fields of the release statement."""
        release = replace(RELEASE, tag=tag, digest=self.digest, **changed)
        spdx, cyclonedx = sboms(
            self.digest, tuple(release.packages.items()), tuple(release.debian.items())
        )
        predicates = {
            Predicate.SPDX: spdx,
            Predicate.CYCLONEDX: cyclonedx,
            Predicate.PROVENANCE: {
                "buildDefinition": {
                    "externalParameters": {"image": release.name},
                    "resolvedDependencies": [{"digest": {"gitCommit": COMMIT}}],
                },
                "runDetails": {"builder": {"id": "https://example.org/builder"}},
            },
            Predicate.TESTS: PASSED,
            Predicate.RELEASE: to_json(release),
        }
        return [self.statement(kind, predicate) for kind, predicate in predicates.items()]

    def statement(self, kind: str, predicate: Any) -> Statement:
        return Statement(f"registry.example/me/{NAME}", self.digest, kind, predicate)


@cache
def sboms(
    digest: str, packages: tuple[tuple[str, str], ...], debian: tuple[tuple[str, str], ...]
) -> tuple[Any, Any]:
    """Both SBOMs of an image with these packages."""
    contents = ImageContents(
        python="3.12.12",
        server="1.0",
        suite="trixie",
        debian=tuple(DebianPackage(*one, "amd64", *one) for one in debian),
        distributions=tuple(Distribution(*one) for one in packages),
    )
    components = components_of(contents, {})
    spdx = spdx_document(NAME, digest, components)
    return json.loads(spdx), json.loads(cyclonedx_document(NAME, digest, components))


PASSED = check_results({"score": CheckResult(Outcome.PASSED)}, "https://example.org/images", COMMIT)
PUBLISHED = datetime.datetime(2026, 11, 1, 2, tzinfo=datetime.UTC)
RELEASE = ReleaseStatement(
    name=NAME,
    tag="",
    digest="",
    previous="",
    published=PUBLISHED.isoformat(),
    platform="linux/amd64",
    source="https://example.org/images",
    commit=COMMIT,
    key="abc",
    framework="minimal",
    track="current",
    python="3.12.12",
    cuda="",
    supported_until="2027-05-01",
    base="python:3.12-slim-trixie@sha256:00",
    suite="trixie",
    pins=(),
    packages={"httptools": "0.9.1"},
    debian={"libc6": "2.41-12"},
    uncompressed=10,
    compressed=10,
)


class Patient(Verifier):
    """A verifier that asks cosign once about a bundle."""

    @cache  # noqa: B019  # It lives as long as this module's tests.
    def refusal(self, bundle: bytes, digest: str, predicate_type: str) -> str:
        return super().refusal(bundle, digest, predicate_type)


class Signatures:
    """Bundles, each signed once for all tests: signatures are of digests, not of repositories."""

    def __init__(self, signer: Signer) -> None:
        self.signer = signer
        self.verifier = Patient(signer.cosign, signer.verifier().key)
        self._made: dict[bytes, bytes] = {}

    def bundle(self, statement: Statement) -> bytes:
        content = statement.content
        if content not in self._made:
            self._made[content] = self.signer.sign(content)
        return self._made[content]


@pytest.fixture(scope="module")
def signatures(signer: Signer) -> Iterator[Signatures]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("COSIGN_PASSWORD", PASSWORD)
        yield Signatures(signer)


class Shop:
    """A repository of its own, in which images are published and tampered with."""

    def __init__(self, registry: Registry, signatures: Signatures, name: str = NAME) -> None:
        self.registry, self.signatures = registry, signatures
        self.now = PUBLISHED + datetime.timedelta(days=1)
        self.repository = f"{next(_namespaces)}/{name}"

    def push(self, image: Image, *tags: str) -> None:
        for content in (image.config, image.layer):
            self.registry.push_blob(
                self.repository,
                digest_of(content),
                len(content),
                lambda content=content: io.BytesIO(content),  # type: ignore[misc]  # A lambda's default.
            )
        for tag in tags:
            self.registry.push_manifest(self.repository, tag, image.manifest, OCI_MANIFEST)

    def attach(self, image: Image, bundle: bytes, kind: str) -> None:
        note = {"dev.sigstore.bundle.predicateType": kind}
        self.registry.attach(self.repository, image.descriptor, BUNDLE, bundle, BUNDLE, note)

    def publish(self, image: Image, *tags: str, **changed: Any) -> None:
        """Pushes an image, and attaches what is signed about it under the first of its tags."""
        self.push(image, *tags)
        self.sign(image, *image.statements(tags[0], **changed))

    def sign(self, image: Image, *statements: Statement) -> None:
        for statement in (image.statement(SIGNATURE, {}), *statements):
            self.attach(image, self.signatures.bundle(statement), statement.predicate_type)

    def findings(self, reference: str) -> tuple[Finding, ...]:
        return verify(self.registry, self.repository, reference, self.signatures.verifier, self.now)

    def refused(self, reference: str) -> dict[str, str]:
        """The reason for each check that is refused."""
        return self.judged(reference)[0]

    def judged(self, reference: str) -> tuple[dict[str, str], dict[str, str]]:
        """The reason for each check that is refused, and for each that is ignored."""
        found = self.findings(reference)
        refused, ignored = (
            {one.what: one.detail for one in found if one.verdict is verdict}
            for verdict in (Verdict.REFUSED, Verdict.IGNORED)
        )
        assert is_verified(found) == (not refused)
        return refused, ignored

    @property
    def path(self) -> str:
        return f"{self.registry.host}/{self.repository}"


@pytest.fixture
def shop(registry: str, signatures: Signatures) -> Shop:
    return Shop(Registry(registry, None), signatures)


FIRST, SECOND, THIRD = Image("first"), Image("second"), Image("third")


def without(kind: Predicate, statements: list[Statement]) -> list[Statement]:
    return [one for one in statements if one.predicate_type != kind]


def of(kind: Predicate, statements: list[Statement]) -> Statement:
    (found,) = (one for one in statements if one.predicate_type == kind)
    return found


def test_published_image_is_verified_by_tag_digest_and_latest(shop: Shop) -> None:
    shop.publish(FIRST, OLD)
    shop.publish(SECOND, NEW, "latest")

    for reference in (OLD, FIRST.digest, NEW, "latest"):
        assert shop.judged(reference) == ({}, {})
    details = {one.what: one.detail for one in shop.findings("latest")}
    assert details["image"] == f"{SECOND.digest}, 1 layers"
    assert details["release"] == f"{NAME}:{NEW}, commit {COMMIT[:12]}"
    assert details["SBOM (SPDX)"] == "1 Debian packages, 1 Python packages"
    assert details["test results"] == "1 passed"


def test_statements_are_attached_once_and_cosign_verifies_them(
    shop: Shop, signer: Signer, cosign: Cosign, tmp_path: Path
) -> None:
    shop.push(FIRST, OLD, "latest")
    wanted = FIRST.statements(OLD)
    publish = (shop.registry, shop.repository, FIRST.descriptor)
    # As a publication that was killed in its middle and goes on.
    first = attach_statements(*publish, wanted[:2], signer)
    second = attach_statements(*publish, wanted, signer)
    later = [replace(one, predicate={**one.predicate, "url": "another"}) for one in wanted]
    third = attach_statements(*publish, later, signer)

    assert [one.new for one in first] == [True, True, True]
    assert [one.new for one in second] == [False, False, False, True, True, True]
    assert [one.new for one in third] == [False] * 6
    assert [one.statement for one in third[1:]] == wanted
    found = attachments(*publish[:2], FIRST.digest)
    assert sorted(one.predicate_type for one in found) == sorted([*Predicate, SIGNATURE])
    assert shop.refused("latest") == {}

    # The commands of the documentation: with a key, no network is needed.
    public = tmp_path / "key.pub"
    public.write_text(signer.verifier().key)
    offline = [f"--key={public}", "--insecure-ignore-tlog", f"{shop.path}:latest"]
    assert FIRST.digest in cosign.run("verify", *offline)
    for kind in Predicate:
        line = cosign.run("verify-attestation", f"--type={kind}", *offline)
        statement = json.loads(base64.b64decode(json.loads(line)["payload"]))
        assert statement["predicate"] == of(kind, wanted).predicate


def test_cosign_refuses_another_key_and_passes_over_its_statements(
    shop: Shop, signer: Signer, other: Signer, cosign: Cosign, tmp_path: Path
) -> None:
    shop.publish(FIRST, OLD)
    failed = FIRST.statement(Predicate.TESTS, FAILED)
    shop.attach(FIRST, other.sign(failed.content), Predicate.TESTS)
    command = ["verify-attestation", "--insecure-ignore-tlog", f"{shop.path}:{OLD}"]
    for name, one in (("own", signer), ("other", other)):
        (tmp_path / name).write_text(one.verifier().key)

    # For the release statement, of which there is none by the other key.
    release = f"--type={Predicate.RELEASE}"
    with pytest.raises(WorkError, match=r"none of the attestations matched the predicate type"):
        cosign.run(*command, release, f"--key={tmp_path / 'other'}")
    line = cosign.run(*command, f"--type={Predicate.TESTS}", f"--key={tmp_path / 'own'}")
    statement = json.loads(base64.b64decode(json.loads(line)["payload"]))
    assert statement["predicate"] == PASSED


def test_what_cosign_attaches_itself_is_verified(
    shop: Shop, signer: Signer, cosign: Cosign, tmp_path: Path
) -> None:
    shop.push(FIRST, OLD)
    shop.sign(FIRST, *without(Predicate.TESTS, FIRST.statements(OLD)))
    (tmp_path / "predicate.json").write_text(json.dumps(PASSED))
    (tmp_path / "none.json").write_text(
        '{"mediaType":"application/vnd.dev.sigstore.signingconfig.v0.2+json"}'
    )
    cosign.run("trusted-root", "create", f"--out={tmp_path / 'root.json'}")
    cosign.run(
        "attest",
        "--yes",
        f"--key={signer.key}",
        f"--type={Predicate.TESTS}",
        f"--predicate={tmp_path / 'predicate.json'}",
        f"--signing-config={tmp_path / 'none.json'}",
        f"--trusted-root={tmp_path / 'root.json'}",
        f"{shop.path}@{FIRST.digest}",
    )

    assert shop.refused(OLD) == {}


def test_release_statement_alone(shop: Shop, other: Signer) -> None:
    shop.publish(FIRST, OLD, "latest")
    shop.push(SECOND, NEW)
    where = (shop.registry, shop.repository)

    found = signed_release(*where, "latest", shop.signatures.verifier)
    assert found == replace(RELEASE, tag=OLD, digest=FIRST.digest)
    assert signed_release(*where, NEW, shop.signatures.verifier) is None
    assert signed_release(*where, NEWEST, shop.signatures.verifier) is None
    assert signed_release(*where, "latest", other.verifier()) is None


# --- Tampering ------------------------------------------------------------------------------------


def test_another_signed_image_under_a_dated_tag(shop: Shop) -> None:
    shop.publish(FIRST, OLD)
    shop.publish(SECOND, NEW)
    shop.push(FIRST, NEW)

    assert shop.refused(NEW) == {"release": f"this image was published as {OLD} and not as {NEW}"}
    assert shop.refused(OLD) == {}


def test_unsigned_image_under_a_dated_tag(shop: Shop) -> None:
    shop.publish(FIRST, OLD, "latest")
    shop.push(SECOND, OLD)

    assert set(shop.refused(OLD).values()) == {"missing"}
    assert shop.refused("latest") == {
        "release": f"it is of the tag {OLD}, which is now {SECOND.digest}"
    }


def test_old_image_as_latest(shop: Shop) -> None:
    shop.publish(FIRST, OLD)
    shop.publish(SECOND, NEW, "latest")
    shop.push(FIRST, "latest")

    assert shop.refused("latest") == {"latest": f"it is {OLD}, and {NEW} is newer"}


def test_latest_moves_last(shop: Shop) -> None:
    """A consumer who looks between two steps of a publication finds nothing wrong."""
    shop.publish(FIRST, OLD, "latest")
    shop.publish(SECOND, NEW)
    shop.now = PUBLISHED + datetime.timedelta(minutes=59)
    assert shop.judged("latest") == ({}, {"latest": f"{NEW} is newer, and being published"})
    shop.now += datetime.timedelta(minutes=2)
    assert shop.refused("latest") == {"latest": f"it is {OLD}, and {NEW} is newer"}


def test_tenth_tag_of_a_day_is_newer_than_the_ninth(shop: Shop) -> None:
    shop.publish(SECOND, "20261101.v10")
    shop.publish(FIRST, "20261101.v9", "latest")

    assert shop.refused("latest") == {"latest": "it is 20261101.v9, and 20261101.v10 is newer"}


def test_newer_images_that_were_held_or_are_not_complete_do_not_matter(shop: Shop) -> None:
    shop.publish(FIRST, OLD, "latest")
    shop.publish(SECOND, NEW, held="numpy 1.26 → 2.5")

    held = f"{NEW} is newer, and was held: numpy 1.26 → 2.5"
    assert shop.judged("latest") == ({}, {"latest": held})
    shop.push(THIRD, NEWEST)
    found = shop.findings("latest")
    assert is_verified(found)
    assert [(one.verdict, one.detail) for one in found if one.what == "latest"] == [
        (Verdict.IGNORED, f"{NEWEST} is newer, and not complete"),
        (Verdict.IGNORED, held),
        (Verdict.OK, f"{OLD} is the newest to use"),
    ]
    shop.sign(THIRD, *THIRD.statements(NEWEST))
    assert shop.refused("latest") == {"latest": f"it is {OLD}, and {NEWEST} is newer"}


def test_latest_on_an_image_that_was_held_until_the_jump_is_accepted(
    shop: Shop, signer: Signer
) -> None:
    held = "numpy 1.26 → 2.5"
    shop.publish(FIRST, OLD)
    shop.publish(SECOND, NEW, "latest", held=held)
    assert shop.refused(NEW) == {}
    assert shop.refused("latest") == {"latest": f"{NEW} was held: {held}"}

    accepted = of(Predicate.RELEASE, SECOND.statements(NEW, allowed={"jump numpy": "asked for"}))
    where = (shop.registry, shop.repository, SECOND.descriptor)
    assert [one.new for one in attach_statements(*where, [accepted], signer)] == [False, True]
    assert shop.refused("latest") == shop.refused(NEW) == {}
    shop.push(FIRST, "latest")
    assert shop.refused("latest") == {"latest": f"it is {OLD}, and {NEW} is newer"}


def changed_bundle(bundle: bytes, field: str) -> bytes:
    """A bundle with one bit of its signature or its statement flipped."""
    document = json.loads(bundle)
    envelope = document["dsseEnvelope"]
    place = envelope if field == "payload" else envelope["signatures"][0]
    data = bytearray(base64.b64decode(place[field]))
    # In a name of a statement, so that it stays JSON; in a number of the signature.
    at = data.index(NAME.encode()) if field == "payload" else len(data) - 3
    data[at] ^= 1
    place[field] = base64.b64encode(data).decode()
    return compact(document)


@pytest.mark.parametrize(
    ("kind", "field", "what"),
    [
        (Predicate.TESTS, "sig", "test results"),
        (Predicate.SPDX, "payload", "SBOM (SPDX)"),
        (Predicate.CYCLONEDX, "payload", "SBOM (CycloneDX)"),
        (Predicate.PROVENANCE, "payload", "provenance"),
        (Predicate.RELEASE, "payload", "release"),
    ],
)
def test_flipped_bit(shop: Shop, kind: Predicate, field: str, what: str) -> None:
    shop.push(FIRST, OLD)
    statements = FIRST.statements(OLD)
    shop.sign(FIRST, *without(kind, statements))
    original = shop.signatures.bundle(of(kind, statements))
    shop.attach(FIRST, changed_bundle(original, field), kind)

    assert shop.refused(OLD) == {what: "not valid: it is not signed by the key, or changed"}


@pytest.mark.parametrize("kind", [SIGNATURE, *Predicate])
def test_missing_statement(shop: Shop, kind: str) -> None:
    shop.push(FIRST, OLD)
    for statement in (FIRST.statement(SIGNATURE, {}), *FIRST.statements(OLD)):
        if statement.predicate_type != kind:
            bundle = shop.signatures.bundle(statement)
            shop.attach(FIRST, bundle, statement.predicate_type)

    assert list(shop.refused(OLD).values()) == ["missing"]


FAILED = check_results(
    {"score": CheckResult(Outcome.PASSED), "users": CheckResult(Outcome.FAILED, "root")},
    "https://example.org/images",
    COMMIT,
)


def test_signed_statement_of_failed_tests(shop: Shop) -> None:
    shop.push(FIRST, OLD)
    statements = without(Predicate.TESTS, FIRST.statements(OLD))
    shop.sign(FIRST, *statements, FIRST.statement(Predicate.TESTS, FAILED))

    assert shop.refused(OLD) == {"test results": "tests FAILED: users"}


def test_skipped_checks_are_counted(shop: Shop) -> None:
    skipped = {**PASSED, "result": "WARNED", "warnedTests": ["on_a_gpu"]}
    shop.push(FIRST, OLD)
    statements = without(Predicate.TESTS, FIRST.statements(OLD))
    shop.sign(FIRST, *statements, FIRST.statement(Predicate.TESTS, skipped))

    assert Finding("test results", Verdict.OK, "1 passed, 1 skipped") in shop.findings(OLD)


def test_second_signed_statement_has_to_be_true_too(shop: Shop) -> None:
    shop.publish(FIRST, OLD)
    again = check_results(
        {"score": CheckResult(Outcome.PASSED)},
        "https://example.org/images",
        COMMIT,
        "https://run/2",
    )
    shop.sign(FIRST, FIRST.statement(Predicate.TESTS, again))
    assert shop.refused(OLD) == {}

    shop.sign(FIRST, FIRST.statement(Predicate.TESTS, FAILED))
    assert shop.refused(OLD) == {"test results": "tests FAILED: users"}


def test_later_statement_by_another_key_is_ignored(shop: Shop, other: Signer) -> None:
    shop.publish(FIRST, OLD)
    failed = FIRST.statement(Predicate.TESTS, FAILED)
    shop.attach(FIRST, other.sign(failed.content), Predicate.TESTS)

    ignored = {"test results": "another one: it is not signed by the key, or changed"}
    assert shop.judged(OLD) == ({}, ignored)


def test_everything_signed_by_another_key(shop: Shop, other: Signer) -> None:
    shop.push(FIRST, OLD)
    attach_statements(
        shop.registry, shop.repository, FIRST.descriptor, FIRST.statements(OLD), other
    )

    refused = shop.refused(OLD)
    assert len(refused) == 6
    assert set(refused.values()) == {"not valid: it is not signed by the key, or changed"}


def test_image_of_another_name(registry: str, signatures: Signatures) -> None:
    shop = Shop(Registry(registry, None), signatures, OTHER)
    shop.publish(FIRST, OLD)

    assert shop.refused(OLD) == {
        "release": f"it is of the image {NAME}",
        "provenance": f"it is of the image {NAME}",
    }


def test_statements_of_another_image(shop: Shop) -> None:
    shop.push(SECOND, OLD)
    for statement in (FIRST.statement(SIGNATURE, {}), *FIRST.statements(OLD)):
        shop.attach(SECOND, shop.signatures.bundle(statement), statement.predicate_type)

    refused = shop.refused(OLD)
    assert len(refused) == 6
    assert set(refused.values()) == {f"not valid: it is about another image, {FIRST.digest}"}


def test_sbom_of_another_image_in_a_statement_of_this_one(shop: Shop) -> None:
    shop.push(FIRST, OLD)
    kinds = {Predicate.SPDX, Predicate.CYCLONEDX}
    own = [one for one in FIRST.statements(OLD) if one.predicate_type not in kinds]
    foreign = [one for one in SECOND.statements(OLD) if one.predicate_type in kinds]
    shop.sign(FIRST, *own, *(replace(one, digest=FIRST.digest) for one in foreign))

    assert shop.refused(OLD) == {
        "SBOM (SPDX)": "it is of another image",
        "SBOM (CycloneDX)": "it is of another image",
    }


def test_sbom_that_lacks_a_package_of_the_release(shop: Shop) -> None:
    shop.push(FIRST, OLD)
    complete = FIRST.statements(OLD, debian={"libc6": "2.41-12", "zlib1g": "1.3"})
    shop.sign(
        FIRST,
        *without(Predicate.RELEASE, FIRST.statements(OLD)),
        of(Predicate.RELEASE, complete),
    )

    why = "it lacks zlib1g 1.3, which the release has"
    assert shop.refused(OLD) == {"SBOM (SPDX)": why, "SBOM (CycloneDX)": why}


def test_attachment_that_is_no_bundle(shop: Shop) -> None:
    shop.push(FIRST, OLD)
    shop.sign(FIRST, *without(Predicate.TESTS, FIRST.statements(OLD)))
    shop.attach(FIRST, b"<html>", Predicate.TESTS)

    (reason,) = shop.refused(OLD).values()
    assert reason.startswith("not valid: the bundle cannot be read: ")


# --- The command ----------------------------------------------------------------------------------


def test_command_prints_a_table_or_json(
    shop: Shop, signer: Signer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shop.publish(FIRST, OLD, "latest")
    shop.push(SECOND, NEW)
    public = tmp_path / "key.pub"
    public.write_text(signer.verifier().key)
    command = ["verify_published", "--key", str(public), "--offline"]

    assert cli.main([*command, shop.path, f"{shop.path}@{FIRST.digest}"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{shop.path}: verified"
    assert lines[1].split() == ["what", "verdict", "detail"]
    assert "release" in lines[4]
    assert cli.main([*command, f"{shop.path}:{OLD}", f"{shop.path}:{NEW}", "--json"]) == 1
    rows = json.loads(capsys.readouterr().out)
    assert [row["verified"] for row in rows] == [True, False]
    assert {"what": "signature", "verdict": "refused", "detail": "missing"} in rows[1]["findings"]
    assert cli.main([*command, f"{shop.path}:none"]) == 2
    assert capsys.readouterr().err == f"there is no image {shop.path}:none\n"
    private = ["verify_published", "--offline", "--key", str(signer.key), shop.path]
    assert cli.main(private) == 2
    assert f"{signer.key} is a private key" in capsys.readouterr().err


def test_wrong_password_and_no_key_are_one_line(
    cosign: Cosign, signer: Signer, monkeypatch: pytest.MonkeyPatch
) -> None:
    statement = FIRST.statement(SIGNATURE, {}).content
    monkeypatch.setenv("COSIGN_PASSWORD", "another")
    with pytest.raises(UserError, match=r"^\S+key\.key: .*COSIGN_PASSWORD is not the password"):
        signer.sign(statement)
    with pytest.raises(UserError, match=r"^the key no\.key cannot be read: No such file"):
        Signer(cosign, Path("no.key")).sign(statement)
