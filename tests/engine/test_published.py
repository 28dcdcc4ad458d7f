"""A plan against a real registry, with an image as it is pushed and below an index."""

import json
import subprocess
import sys
import urllib.request

import pytest

from imagematrix.host.engine import Engine
from imagematrix.plan.bake import image_tag
from tests.engine.conftest import ROOT
from tests.example_images import example, on_another_python
from tests.images.running import build_images

IMAGE = example().name
OTHER = on_another_python().name
NAMESPACE = "team/images"


@pytest.fixture(scope="module")
def namespace(engine: Engine, registry: str) -> str:
    """Where IMAGE is published, and OTHER is not."""
    build_images(engine, IMAGE)
    repository = f"{registry}/{NAMESPACE}/{IMAGE}"
    client = engine.client()
    try:
        assert client.api.tag(image_tag(IMAGE), repository, "latest")
        for event in client.api.push(repository, tag="latest", stream=True, decode=True):
            assert "error" not in event, event["error"]
        client.api.remove_image(f"{repository}:latest")
    finally:
        client.close()
    return f"{registry}/{NAMESPACE}"


def _plan(namespace: str, engine: Engine) -> dict[str, dict[str, object]]:
    command = [sys.executable, "-m", "imagematrix", "plan", IMAGE, OTHER, "--json"]
    # No engine answers there: none may be needed.
    environ = {**engine.environ(), "DOCKER_HOST": "tcp://127.0.0.1:1"}
    result = subprocess.run(
        [*command, "--against", namespace],
        cwd=ROOT,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return {row["image"]: row for row in json.loads(result.stdout)}


def test_pushed_image_is_up_to_date(namespace: str, engine: Engine) -> None:
    """Its labels are found, and those of an image that was not pushed are not."""
    rows = _plan(namespace, engine)
    assert (rows[IMAGE]["action"], rows[IMAGE]["reasons"]) == ("up to date", [])
    assert (rows[OTHER]["action"], rows[OTHER]["reasons"]) == ("build", ["no such image yet"])


def test_image_below_an_index_is_up_to_date(namespace: str, engine: Engine) -> None:
    """As it is where an image was pushed with an attestation, or for several platforms."""
    reference = f"{namespace}/{IMAGE}:latest"
    command = ["docker", "buildx", "imagetools", "create", "--tag", reference, reference]
    subprocess.run(command, env=engine.environ(), check=True, capture_output=True)
    host, path = namespace.split("/", 1)
    # The kind follows that of the manifest, which is Docker's or OCI's by the engine's store.
    indexes = (
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.oci.image.index.v1+json",
    )
    url = f"http://{host}/v2/{path}/{IMAGE}/manifests/latest"
    request = urllib.request.Request(url, headers={"Accept": ", ".join(indexes)})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request) as answer:
        assert answer.headers["Content-Type"] in indexes, "no index was made"
    assert _plan(namespace, engine)[IMAGE]["action"] == "up to date"
