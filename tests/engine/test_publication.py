"""Publications to a registry with TLS and a password: what is pushed, what stays, and what a step
that fails, is killed or meets a second publisher leaves."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import chdir, closing, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path
from unittest.mock import patch

import pytest

from imagematrix import cli
from imagematrix.audit.facts import ArchiveFacts
from imagematrix.host.engine import Engine
from imagematrix.host.registry import Registry
from imagematrix.measure.layers import image_sizes
from imagematrix.plan.bake import image_tag
from imagematrix.publish.cosign import Verifier, find_cosign, key_verifier
from imagematrix.publish.verify import is_verified, signed_release, verify
from imagematrix.release.statement import ReleaseStatement
from imagematrix.release.tags import LATEST, DatedTag
from imagematrix.repository.passed import CheckResult, Outcome, checks_digest, record_results
from imagematrix.repository.project import Project
from tests.engine.conftest import ROOT, require
from tests.engine.faulty import Fault, Front, front
from tests.engine.registries import SecureRegistry, serve_secure_registry
from tests.engine.small_project import command_of, locked_project, run_in
from tests.example_images import example
from tests.images.running import image_id

OLD = {"alpha": "six==1.16.0", "beta": "idna==2.10", "gamma": "toolz==1.0.0"}
NEW = {**OLD, "alpha": "six==1.17.0", "beta": "idna==3.10"}
ALPHA, BETA, GAMMA = (f"{name}1.0-py312-inference" for name in OLD)
IMAGES = (ALPHA, BETA, GAMMA)
PASSWORD = "password of the key"
SOURCE = {"GITHUB_SERVER_URL": "https://github.com", "GITHUB_REPOSITORY": "me/images"}
UNAUDITED = """
import sys
from imagematrix import cli
from tests.engine.test_publication import unaudited
with unaudited():
    sys.exit(cli.main(sys.argv[1:]))
"""
FALLBACK = r"/manifests/sha256-"
# The plain signature, and a statement of each type.
ATTACHED = 6


@contextmanager
def unaudited() -> Iterator[None]:
    """What a publication asks of Debian and of indexes is tested by itself, and takes a while."""
    with (
        patch("imagematrix.commands.publish.pending_in_engine", return_value={}),
        patch("imagematrix.commands.publish.sources_of"),
        patch.object(ArchiveFacts, "hashes", return_value={}),
        patch.object(ArchiveFacts, "closed", return_value={}),
    ):
        yield


def _rows(output: str) -> dict[str, dict[str, str]]:
    return {row["image"]: row for row in json.loads(output)}


def attached(requests: list[tuple[str, str]]) -> bool:
    """Whether everything was attached."""
    return sum(m == "PUT" and bool(re.search(FALLBACK, p)) for m, p in requests) >= ATTACHED


@dataclass(frozen=True)
class Shop:
    """A repository whose images are built, and the registry that they are published to."""

    root: Path
    engine: Engine
    front: Front
    behind: SecureRegistry
    key: Path
    verifier: Verifier
    environ: dict[str, str]

    def build(self, pins: dict[str, str]) -> None:
        """Builds the images of these pins from a commit, as images that passed their checks."""
        locked_project(self.root, pins)
        git = ["git", "-c", "user.name=me", "-c", "user.email=me@example.org"]
        for command in (["add", "--all"], ["commit", "--quiet", "--message", "pins"]):
            subprocess.run([*git, *command], cwd=self.root, check=True)
        result = run_in(self.root, "build", *IMAGES, **SOURCE)
        assert result.returncode == 0, result.stderr[-3000:]
        for variant in Project(self.root).variants:
            parent = image_id(self.engine, image_tag(variant.parent)) if variant.parent else ""
            own = image_id(self.engine, image_tag(variant.name))
            digest = checks_digest(self.root, variant, parent)
            results = {"score": CheckResult(Outcome.PASSED)}
            record_results(self.root, own, variant.name, digest, results)

    def start(
        self,
        namespace: str,
        *arguments: str,
        audited: bool = False,
        environ: Mapping[str, str] | None = None,
    ) -> "subprocess.Popen[str]":
        """A publication in a process of its own."""
        program = command_of() if audited else [sys.executable, "-c", UNAUDITED]
        return subprocess.Popen(
            [*program, *self.command(namespace, *arguments)],
            cwd=self.root,
            env={**self.environ, **(environ or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def publish(
        self, namespace: str, *arguments: str, status: int = 0
    ) -> dict[str, dict[str, str]]:
        """The rows of a publication that ends with a status, by image."""
        output, errors = StringIO(), StringIO()
        with (
            patch.dict(os.environ, self.environ),
            chdir(self.root),
            redirect_stdout(output),
            redirect_stderr(errors),
            unaudited(),
        ):
            ended = cli.main(self.command(namespace, *arguments))
        assert ended == status, output.getvalue() + errors.getvalue()[-3000:]
        return _rows(output.getvalue())

    def command(self, namespace: str, *arguments: str) -> list[str]:
        """The command line of a publication; of what is given twice, the last counts."""
        where = f"{self.front.host}/{namespace}"
        options = ["--bootstrap-bases", "--key", str(self.key), "--json"]
        return ["publish", "--registry", where, *options, *arguments]

    def registry(self) -> Registry:
        with patch.dict(os.environ, self.environ):
            registry = Registry(self.front.host, Path(self.environ["SSL_CERT_FILE"]))
            # It logs in at once, with the environment of now.
            registry.tags("none")
        return registry

    def tags(self, namespace: str, image: str) -> dict[str, str]:
        """The digest of each tag of an image, without fallback tags."""
        with patch.dict(os.environ, self.environ):
            registry, repository = self.registry(), f"{namespace}/{image}"
            found = {tag: registry.manifest(repository, tag) for tag in registry.tags(repository)}
        return {t: one.digest for t, one in found.items() if one and not t.startswith("sha256-")}

    def dated(self, namespace: str, image: str) -> dict[str, str]:
        """The same of dated tags."""
        tags = self.tags(namespace, image)
        return {tag: digest for tag, digest in tags.items() if DatedTag.parse(tag)}

    def refused(self, namespace: str, image: str, reference: str = LATEST) -> list[str]:
        """What a consumer refuses of an image."""
        with patch.dict(os.environ, self.environ):
            where = (self.registry(), f"{namespace}/{image}", reference, self.verifier)
            findings = verify(*where, datetime.now(UTC))
        return [] if is_verified(findings) else [f"{one.what}: {one.detail}" for one in findings]

    def said(self, namespace: str, image: str, reference: str = LATEST) -> ReleaseStatement:
        """The release statement of an image."""
        with patch.dict(os.environ, self.environ):
            where = (self.registry(), f"{namespace}/{image}", reference, self.verifier)
            release = signed_release(*where)
        assert release is not None
        return release

    def copy(self, source: str, namespace: str) -> str:
        """A namespace with what another one has."""
        top = self.behind.data / "docker/registry/v2/repositories"
        shutil.copytree(top / source, top / namespace)
        return namespace


@pytest.fixture(scope="module")
def shop(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """The images of the old pins are published in `first`, those of the new ones are built."""
    root, folder = tmp_path_factory.mktemp("project"), tmp_path_factory.mktemp("publisher")
    (root / ".gitignore").write_text("build/\n")
    subprocess.run(["git", "init", "--quiet"], cwd=root, check=True)
    cosign = find_cosign(ROOT)
    cosign.run(
        "generate-key-pair",
        f"--output-key-prefix={folder / 'cosign'}",
        environ={**os.environ, "COSIGN_PASSWORD": PASSWORD},
    )
    with (
        serve_secure_registry(require("docker-registry", "docker-registry")) as behind,
        front(behind) as before,
    ):
        logged_in = replace(behind, host=before.host).environ(folder)
        given = {**engine.environ(), **SOURCE, **logged_in, "COSIGN_PASSWORD": PASSWORD}
        environ = {**given, "PYTHONPATH": str(ROOT)}
        verifier = key_verifier(cosign, folder / "cosign.pub")
        found = Shop(root, engine, before, behind, folder / "cosign.key", verifier, environ)
        try:
            found.build(OLD)
            # Debian and the index are asked here, as by every publisher.
            allowed = ["--allow-pending", "a test"]
            process = found.start("first", *allowed, *IMAGES, audited=True)
            output, errors = process.communicate()
            assert process.returncode == 0, output + errors[-3000:]
            assert verdicts(_rows(output)) == dict.fromkeys(IMAGES, "pushed")
            found.build(NEW)
            yield found
        finally:
            with closing(engine.client()) as client:
                for name in IMAGES:
                    if image_id(engine, image_tag(name)):
                        client.images.remove(image_tag(name), force=True)


@pytest.fixture(autouse=True)
def no_faults(shop: Shop) -> Iterator[None]:
    """The registry works, until a test wants something else."""
    shop.front.requests.clear()
    yield
    shop.front.faults.clear()


def images_of(shop: Shop) -> set[tuple[str, tuple[str, ...]]]:
    """What the engine has of these tests; others build beside."""
    with closing(shop.engine.client()) as client:
        rows = client.api.images(all=True)
    tagged = {(row["Id"], tuple(row["RepoTags"] or ())) for row in rows}
    mine = (*IMAGES, shop.front.host)
    return {row for row in tagged if any(tag.startswith(mine) for tag in row[1])}


def verdicts(rows: dict[str, dict[str, str]]) -> dict[str, str]:
    return {name: row["verdict"] for name, row in rows.items()}


def test_what_is_published_is_what_was_built(shop: Shop) -> None:
    """Its layers are compressed to the sizes that are recorded, and its config is the same."""
    with patch.dict(os.environ, shop.environ):
        registry, repository = shop.registry(), f"first/{GAMMA}"
        manifest = registry.manifest(repository, LATEST)
        assert manifest is not None
        config = registry.config(repository, manifest)
    layers, reference = manifest.document["layers"], image_tag(GAMMA)
    assert {layer["mediaType"] for layer in layers} == {
        "application/vnd.oci.image.layer.v1.tar+zstd"
    }
    with closing(shop.engine.client()) as client:
        local = client.api.inspect_image(reference)
        measured = image_sizes(shop.root, client, [reference])[reference]
    said = shop.said("first", GAMMA)
    assert said.suite == example().suite
    assert (said.uncompressed, said.compressed) == (measured.uncompressed, measured.compressed)
    assert sum(layer["size"] for layer in layers) == measured.compressed
    assert config["rootfs"]["diff_ids"] == local["RootFS"]["Layers"]
    assert config["config"]["Labels"] == local["Config"]["Labels"]
    assert config["config"]["User"] == "1000:1000"


def test_second_publication_pushes_what_changed_and_holds_a_jump(shop: Shop) -> None:
    namespace = shop.copy("first", "second")
    before, images = {name: shop.tags(namespace, name) for name in IMAGES}, images_of(shop)

    rows = shop.publish(namespace, *IMAGES)

    assert verdicts(rows) == {ALPHA: "pushed", BETA: "held", GAMMA: "unchanged"}
    assert rows[ALPHA]["detail"] == "1 Python package"
    assert "idna 2.10 → 3.10 is another major version" in rows[BETA]["detail"]
    assert '--accept-jump idna="reason"' in rows[BETA]["detail"]
    after = {name: shop.tags(namespace, name) for name in IMAGES}
    assert after[GAMMA] == before[GAMMA]
    for name in (ALPHA, BETA):
        # No dated tag moved, and there is one more.
        assert after[name] == {**before[name], **after[name], LATEST: after[name][LATEST]}
        assert len(after[name]) == len(before[name]) + 1
    assert after[ALPHA][LATEST] == after[ALPHA][rows[ALPHA]["tag"]]
    assert after[BETA][LATEST] == before[BETA][LATEST]
    assert shop.said(namespace, ALPHA).previous in before[ALPHA]
    assert not any(shop.refused(namespace, name) for name in IMAGES)
    assert images_of(shop) == images

    again = shop.publish(namespace, *IMAGES)
    assert verdicts(again) == {ALPHA: "unchanged", BETA: "held", GAMMA: "unchanged"}
    assert {name: shop.tags(namespace, name) for name in IMAGES} == after

    accepted = shop.publish(namespace, BETA, "--accept-jump", "idna=asked for")
    assert verdicts(accepted) == {BETA: "pushed"}
    assert shop.tags(namespace, BETA)[LATEST] == after[BETA][rows[BETA]["tag"]]
    assert shop.said(namespace, BETA).allowed == {"jump idna": "asked for"}
    assert not shop.refused(namespace, BETA)


def test_dry_run_says_the_same_and_writes_nothing(shop: Shop) -> None:
    namespace = shop.copy("first", "dry")
    before = {name: shop.tags(namespace, name) for name in IMAGES}
    shop.front.requests.clear()

    rows = shop.publish(namespace, *IMAGES, "--dry-run")

    assert verdicts(rows) == {ALPHA: "pushed", BETA: "held", GAMMA: "unchanged"}
    assert {method for method, _ in shop.front.requests} <= {"GET", "HEAD"}
    assert {name: shop.tags(namespace, name) for name in IMAGES} == before


STEPS = {
    "compare": Fault("GET", r"/manifests/latest$"),
    "upload": Fault("PUT", r"/blobs/uploads/"),
    "tag": Fault("PUT", r"/manifests/\d{8}\.v\d+$", after=True),
    "attach": Fault("PUT", FALLBACK, skip=2),
    "verify": Fault("GET", r"/manifests/\d{8}\.v\d+$", when=attached),
    "latest": Fault("PUT", r"/manifests/latest$"),
    "after latest": Fault("PUT", r"/manifests/latest$", after=True),
}


@pytest.mark.parametrize("step", STEPS)
def test_killed_publication_leaves_latest_complete_and_is_repeated(shop: Shop, step: str) -> None:
    namespace = shop.copy("first", f"killed-{step.replace(' ', '-')}")
    before = shop.tags(namespace, ALPHA)
    shop.front.requests.clear()
    process = shop.start(namespace, ALPHA)
    shop.front.faults.append(
        replace(STEPS[step], drop=True, act=lambda: os.kill(process.pid, signal.SIGKILL))
    )
    process.communicate()
    assert process.returncode == -signal.SIGKILL, "it was not killed"
    shop.front.faults.clear()

    left = shop.tags(namespace, ALPHA)
    assert {tag: left[tag] for tag in before if tag != LATEST} == {
        tag: before[tag] for tag in before if tag != LATEST
    }
    assert left[LATEST] in before.values() or step == "after latest"
    assert not shop.refused(namespace, ALPHA)

    (row,) = shop.publish(namespace, ALPHA).values()
    assert row["verdict"] == ("unchanged" if step == "after latest" else "pushed")
    after = shop.tags(namespace, ALPHA)
    assert {tag: after[tag] for tag in left if tag != LATEST} == {
        tag: left[tag] for tag in left if tag != LATEST
    }
    assert len(after) == len(before) + 1
    assert after[LATEST] == after[row["tag"]]
    assert not shop.refused(namespace, ALPHA)


def test_denied_image_does_not_stop_the_others(shop: Shop) -> None:
    denied = Fault("POST", rf"/denied/{re.escape(BETA)}/blobs/uploads/", status=403, times=99)
    shop.front.faults.append(denied)

    rows = shop.publish("denied", *IMAGES, status=1)

    assert verdicts(rows) == {ALPHA: "pushed", BETA: "failed", GAMMA: "pushed"}
    assert "requested access is denied" in rows[BETA]["detail"]
    assert "docker login" in rows[BETA]["detail"]
    assert shop.tags("denied", BETA) == {}
    shop.front.faults.clear()
    again = shop.publish("denied", *IMAGES)
    assert verdicts(again) == {ALPHA: "unchanged", BETA: "pushed", GAMMA: "unchanged"}
    assert {name: len(shop.dated("denied", name)) for name in IMAGES} == dict.fromkeys(IMAGES, 1)


def test_busy_registry_is_asked_again(shop: Shop) -> None:
    shop.front.faults += [
        Fault("PUT", r"/blobs/uploads/", status=429, headers={"Retry-After": "0"}),
        Fault("PUT", r"/manifests/\d{8}\.v\d+$", status=503),
        Fault("PUT", r"/manifests/latest$", drop=True, after=True),
        Fault("HEAD", r"/blobs/", drop=True),
    ]

    (row,) = shop.publish("busy", ALPHA).values()

    assert all(fault.seen for fault in shop.front.faults)
    assert row["verdict"] == "pushed"
    assert len(shop.dated("busy", ALPHA)) == 1
    assert not shop.refused("busy", ALPHA)


def test_registry_without_room_is_named_and_the_repeat_finishes(shop: Shop) -> None:
    full = '{"errors": [{"code": "UNKNOWN", "message": "write: no space left on device"}]}'
    shop.front.faults.append(Fault("PUT", r"/blobs/uploads/", status=500, body=full, times=99))

    (row,) = shop.publish("full", ALPHA, status=1).values()

    assert row["verdict"] == "failed"
    assert "has no room" in row["detail"]
    shop.front.faults.clear()
    assert verdicts(shop.publish("full", ALPHA)) == {ALPHA: "pushed"}


def both(shop: Shop, namespace: str, *options: list[str]) -> list[dict[str, str]]:
    """The rows of publications of one image at the same time."""
    running = [shop.start(namespace, ALPHA, *more) for more in options]
    ended = [process.communicate() for process in running]
    failed = [process.returncode for process in running] != [0] * len(options)
    assert not failed, "\n".join(output + errors[-3000:] for output, errors in ended)
    return [_rows(output)[ALPHA] for output, _ in ended]


def test_two_publishers_of_one_image_give_it_one_tag(shop: Shop) -> None:
    namespace = shop.copy("first", "twice")
    before = shop.dated(namespace, ALPHA)

    rows = both(shop, namespace, [], [])

    assert {row["verdict"] for row in rows} <= {"pushed", "unchanged"}
    after = shop.dated(namespace, ALPHA)
    assert len(after) == len(before) + 1
    assert {row["digest"] for row in rows} == set(after.values()) - set(before.values())
    assert {tag: after[tag] for tag in before} == before
    assert not shop.refused(namespace, ALPHA)


def test_two_publishers_of_two_images_take_a_tag_each(shop: Shop) -> None:
    """The same image in two forms has two digests."""
    namespace = shop.copy("first", "rivals")
    before = shop.dated(namespace, ALPHA)

    rows = both(shop, namespace, [], ["--compression", "gzip"])

    after = shop.dated(namespace, ALPHA)
    tags = {row["tag"]: row["digest"] for row in rows}
    assert after == {**before, **tags}
    assert len(after) == len(before) + 2
    newest = max(map(DatedTag.of, after))
    assert shop.tags(namespace, ALPHA)[LATEST] == after[str(newest)]
    assert not any(shop.refused(namespace, ALPHA, tag) for tag in (*after, LATEST))


@pytest.mark.parametrize(
    ("change", "status", "error"),
    [
        (["--registry", "nowhere"], 2, "nowhere is not host/namespace"),
        (["nonsense"], 2, "no image matches 'nonsense'"),
        (["--key", "missing.key"], 2, "missing.key"),
        (["--accept-jump", "numpy"], 2, '--accept-jump NAME="reason"'),
    ],
)
def test_wrong_request_is_one_line_and_nothing_is_asked(
    change: list[str], status: int, error: str, shop: Shop
) -> None:
    process = shop.start("wrong", *change)
    output, errors = process.communicate()

    assert (process.returncode, output) == (status, "")
    assert error in errors.splitlines()[-1]
    assert "Traceback" not in errors
    assert not [one for one in shop.front.requests if "/wrong/" in one[1]]


def test_wrong_passwords_and_web_pages_are_one_line(shop: Shop, tmp_path: Path) -> None:
    process = shop.start("wrong", ALPHA, environ={"COSIGN_PASSWORD": "another"})
    _, errors = process.communicate()
    assert process.returncode in (1, 2)
    assert "COSIGN_PASSWORD is not the password of the key" in errors.splitlines()[-1]
    other = replace(shop.behind, host=shop.front.host).environ(tmp_path, "expired")
    output, errors = (process := shop.start("wrong", ALPHA, environ=other)).communicate()
    (row,) = json.loads(output)
    assert (process.returncode, row["verdict"]) == (1, "failed"), errors
    assert f"run `docker login {shop.front.host}` again" in row["detail"]
    page = Fault("GET", "/wrong/", status=200, headers={"Content-Type": "text/html"}, times=99)
    shop.front.faults.append(page)
    (row,) = shop.publish("wrong", ALPHA, status=1).values()
    assert "a web page answers" in row["detail"]


def test_only_what_is_verified_is_pulled(shop: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    namespace = shop.copy("first", "pulled")
    built, local = image_id(shop.engine, image_tag(ALPHA)), image_tag(ALPHA)
    where = f"{shop.front.host}/{namespace}"
    command = ["pull", "--registry", where, "--key", str(shop.key.with_suffix(".pub")), ALPHA]
    with patch.dict(os.environ, shop.environ), chdir(shop.root):
        try:
            assert cli.main(command) == 0
            assert "verified" in capsys.readouterr().out
            pulled = image_id(shop.engine, local)
            assert pulled != built
            registry, repository = shop.registry(), f"{namespace}/{ALPHA}"
            latest = registry.manifest(repository, LATEST)
            assert latest is not None
            other = json.dumps({**latest.document, "annotations": {"by": "another"}}).encode()
            registry.push_manifest(repository, LATEST, other, latest.media_type)

            assert cli.main(command) == 1

            assert "is refused: signature: missing" in capsys.readouterr().err
            assert image_id(shop.engine, local) == pulled
        finally:
            with closing(shop.engine.client()) as client:
                client.api.tag(built, ALPHA, "latest", force=True)
