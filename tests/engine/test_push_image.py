"""Images pushed to a registry with TLS and a password, from engines that keep them differently."""

import io
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from unittest.mock import patch

import docker
import pytest

from imagematrix.errors import WorkError
from imagematrix.host.engine import Engine
from imagematrix.host.oci import digest_of
from imagematrix.host.registry import Registry
from imagematrix.measure.compression import Compression
from imagematrix.plan.bake import image_tag
from imagematrix.publish.image import config_digest, known_layers, push_image
from tests.engine.conftest import require
from tests.engine.engines import OwnEngine, fresh_engine
from tests.engine.registries import SecureRegistry, serve_secure_registry
from tests.example_images import example
from tests.images.running import build_images

IMAGE = example().name
REPOSITORY = f"team/images/{IMAGE}"


@pytest.fixture(autouse=True)
def logged_in(secure_registry: SecureRegistry, tmp_path: Path) -> Iterator[None]:
    """This host knows the password of the registry."""
    with patch.dict(os.environ, secure_registry.environ(tmp_path)):
        yield


@pytest.fixture(scope="module")
def other_engine(engine: Engine) -> Iterator[OwnEngine]:
    """An engine that has the image too, and keeps it in another way."""
    if os.geteuid() != 0 or not all(map(shutil.which, ("dockerd", "ip"))):
        pytest.skip("an engine of its own needs root, dockerd and ip")
    build_images(engine, IMAGE)
    with fresh_engine(containerd_store=not engine.containerd_store) as own:
        save = ["docker", "save", image_tag(IMAGE)]
        saved = subprocess.Popen(save, env=engine.environ(), stdout=subprocess.PIPE)
        environ = own.engine.environ()
        subprocess.run(["docker", "load"], env=environ, stdin=saved.stdout, check=True)
        assert saved.wait() == 0
        yield own


def images_of(client: docker.DockerClient) -> set[tuple[str, tuple[str, ...]]]:
    return {(image["Id"], tuple(image["RepoTags"] or ())) for image in client.api.images(all=True)}


def test_every_engine_pushes_the_same_image_and_keeps_nothing(
    engine: Engine, other_engine: OwnEngine, secure_registry: SecureRegistry, tmp_path: Path
) -> None:
    """One that does not have it pulls it by its digest, and runs it; in either compression."""
    registry = Registry(secure_registry.host, secure_registry.ca)
    tag, own = image_tag(IMAGE), other_engine.engine
    pushed = []
    for number, (each, compression) in enumerate(
        [(engine, Compression.ZSTD), (own, Compression.ZSTD), (own, Compression.GZIP)]
    ):
        # Repositories of their own, so that neither engine finds the layers of the other.
        repository = f"{REPOSITORY}/{number}"
        with closing(each.client()) as client:
            before = images_of(client)
            manifest = push_image(tmp_path, client, tag, registry, repository, compression)
            registry.push_manifest(repository, "1", manifest.content, manifest.media_type)
            after = images_of(client)
            # In the engine of this host, other tests may build at the same time.
            assert after == before if each is own else "team/" not in str(after - before)
            assert config_digest(client, tag) == manifest.document["config"]["digest"]
        assert not list((tmp_path / "build").iterdir())
        assert registry.manifest(repository, "1") == manifest
        present = registry.image(repository, "1")
        assert present is not None
        assert present.labels
        pushed.append((repository, manifest))
    assert pushed[0][1] == pushed[1][1]
    assert pushed[1][1] != pushed[2][1]

    docker_of_own = partial(
        subprocess.run, env=own.environ(), capture_output=True, text=True, check=False
    )
    images = [tag]
    for repository, manifest in pushed[1:]:
        # Its layers are gone with it, so they are pulled.
        assert docker_of_own(["docker", "image", "rm", "--force", *images]).returncode == 0
        reference = f"{secure_registry.host}/{repository}@{manifest.digest}"
        run = ["docker", "run", "--rm", "--network", "none", reference]
        result = docker_of_own([*run, "python", "-c", "print('it runs')"])
        assert result.stdout == "it runs\n", result.stderr
        assert "Pull complete" in result.stderr or "Download complete" in result.stderr
        images = [reference]


def test_layers_that_a_registry_has_are_not_pushed_again(
    engine: Engine,
    secure_registry: SecureRegistry,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    build_images(engine, IMAGE)
    registry = Registry(secure_registry.host, secure_registry.ca)
    source, target = f"{REPOSITORY}/source", f"{REPOSITORY}/target"
    with closing(engine.client()) as client:
        tag = image_tag(IMAGE)
        first = push_image(tmp_path, client, tag, registry, source)
        known = known_layers(first, registry.config(source, first))
        capfd.readouterr()

        again = push_image(tmp_path, client, tag, registry, target, known=known, parent=source)

    assert again == first
    said = capfd.readouterr().err.splitlines()
    assert len(said) == len(first.document["layers"])
    assert all(line.endswith(", mounted.") for line in said), said


@pytest.mark.parametrize(
    ("password", "words"),
    [("", "wants credentials to read team/images"), ("wrong", "does not accept the credentials")],
)
def test_wrong_password_and_none_have_a_line_each(
    password: str, words: str, secure_registry: SecureRegistry, tmp_path: Path
) -> None:
    with (
        patch.dict(os.environ, secure_registry.environ(tmp_path / "other", password)),
        pytest.raises(WorkError, match=words) as raised,
    ):
        Registry(secure_registry.host, secure_registry.ca).tags("team/images")
    assert f"`docker login {secure_registry.host}`" in str(raised.value)
    assert "UNAUTHORIZED: authentication required" in str(raised.value)


def test_unknown_authority_is_named_with_what_to_do(secure_registry: SecureRegistry) -> None:
    with pytest.raises(WorkError, match=r"certificate of .* is not accepted \(.*SSL_CERT_FILE$"):
        Registry(secure_registry.host, None).tags("team/images")


def test_full_disk_of_a_registry_has_a_line(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can make a disk of its own")
    data = tmp_path / "data"
    data.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(data)], check=True)
    try:
        program = require("docker-registry", "docker-registry")
        content = os.urandom(2_000_000)
        digest, size = digest_of(content), len(content)
        with (
            serve_secure_registry(program, data) as found,
            patch.dict(os.environ, found.environ(tmp_path)),
        ):
            registry = Registry(found.host, found.ca)
            with pytest.raises(WorkError, match="has no room for team/image"):
                registry.push_blob("team/image", digest, size, lambda: io.BytesIO(content))
    finally:
        subprocess.run(["umount", str(data)], check=True)
