"""Images built on ours as the README says: pip as their user, apt as root, another server."""

import json

import docker
import pytest

from imagematrix.matrix.variant import Variant
from imagematrix.plan.bake import image_tag
from imagematrix.repository.project import Project
from tests.derived.conftest import PARENT, ROOT, Build, Serve

SCRIPT = """
import importlib.metadata, json, os

def init():
    pass

def run(data):
    names = json.loads(data)["names"]
    found = {name: importlib.metadata.version(name) for name in names}
    return {"uid": os.getuid(), "versions": found}
"""
# httptools is a package of the image's own lock, and what its server reads HTTP with.
PIP = """
RUN pip install --no-cache-dir humanize==4.9.0
RUN pip install --no-cache-dir httptools==0.8.0
"""
# numpy is one of which much is trimmed.
PIP_AS_ROOT = """
USER root
RUN pip install --no-cache-dir numpy==2.4.6
USER dockeruser
"""
APT = """
USER root
RUN apt-get update \\
 && apt-get install --yes --no-install-recommends libgomp1 \\
 && rm -rf /var/lib/apt/lists/*
USER dockeruser
"""
# As docs/sizes.md has it.
BACK = """
USER root
RUN pip install --no-cache-dir --root-user-action=ignore --force-reinstall --no-deps {package} \\
 && test -e {site}/httptools/parser/parser.pyi
RUN rm /etc/dpkg/dpkg.cfg.d/inference-images \\
 && apt-get update \\
 && apt-get install --yes --no-install-recommends --reinstall util-linux \\
 && lsblk --version
"""
LOADS_LIBRARY = """
import ctypes, os

def init():
    ctypes.CDLL("libgomp.so.1")

def run(data):
    return {"uid": os.getuid()}
"""
REFERENCE = """
RUN pip install --no-cache-dir azureml-inference-server-http==1.5.1
"""
RAW = """
from azureml_inference_server_http.api.aml_request import AMLRequest, rawhttp
from azureml_inference_server_http.api.aml_response import AMLResponse
import azureml_inference_server_http

def init():
    pass

@rawhttp
def run(request):
    return AMLResponse({"x": request.get_json()["x"] * 2}, 200, json_str=True)
"""
COMMANDS = {
    "the reference": (["azmlinfsrv", "--entry_script", "main.py"], "azmlinfsrv/1.5.1"),
    "this server": (["python3", "-m", "inference_server"], "inference-server/"),
}


@pytest.fixture(scope="module")
def with_reference(derive: Build) -> str:
    """An image with the reference server."""
    return derive(REFERENCE)


def test_pip_adds_and_replaces_packages(derive: Build, serve: Serve) -> None:
    service = serve({"main.py": SCRIPT}, image=derive(PIP)).await_ready()
    answer = service.score({"names": ["humanize", "httptools"]})
    assert answer.status == 200
    assert answer.json == {"uid": 1000, "versions": {"humanize": "4.9.0", "httptools": "0.8.0"}}
    assert "No broken requirements found." in service.execute("pip", "check")


def test_pip_replaces_a_trimmed_package_of_a_framework(derive: Build, serve: Serve) -> None:
    """Its files that were trimmed are no obstacle, and models are scored with the new one."""
    variant = next(v for v in Project(ROOT).variants if v.framework == "scikit-learn")
    example = ROOT / variant.example
    files = {path.name: path.read_bytes() for path in example.iterdir() if path.is_file()}
    image = derive(PIP_AS_ROOT, parent=variant.name)

    service = serve(files, {"AZUREML_ENTRY_SCRIPT": "score.py"}, image=image).await_ready()

    answer = service.score(json.loads(files["request.json"]))
    expected = json.loads(files["response.json"])
    assert (answer.status, answer.json["predictions"]) == (200, expected["predictions"])
    assert "numpy 2.4.6" in " ".join(service.execute("pip", "list").split())
    assert "No broken requirements found." in service.execute("pip", "check")
    site = f"/usr/local/lib/python{variant.python}/site-packages"
    left = service.execute("sh", "-c", f"ls -d {site}/numpy-*")
    assert left.split() == [f"{site}/numpy-2.4.6.dist-info"]


def test_pip_finds_nothing_broken_in_the_images_that_are_here(
    client: docker.DockerClient, current: list[Variant]
) -> None:
    """The checks of an image compare requirements without pip, which takes a second to start."""
    for tag in [image_tag(variant.name) for variant in current]:
        output = client.containers.run(tag, ["pip", "check"], network_mode="none", remove=True)
        assert b"No broken requirements found." in output, f"{tag}: {output.decode()}"


def test_apt_adds_libraries(derive: Build, serve: Serve) -> None:
    service = serve({"main.py": LOADS_LIBRARY}, image=derive(APT)).await_ready()
    answer = service.score({})
    assert (answer.status, answer.json) == (200, {"uid": 1000})


def test_what_is_left_out_comes_back(derive: Build, serve: Serve) -> None:
    project = Project(ROOT)
    variant = next(v for v in project.variants if v.name == PARENT)
    site = f"/usr/local/lib/python{variant.python}/site-packages"
    as_it_is = serve({}, command=["sleep", "300"])
    as_it_is.execute("sh", "-c", f"! test -e {site}/httptools/parser/parser.pyi")
    as_it_is.execute("sh", "-c", "! command -v lsblk")
    version = project.locks[PARENT]["httptools"].version
    derive(BACK.format(package=f"httptools=={version}", site=site))


@pytest.mark.parametrize("server", COMMANDS)
def test_the_reference_can_be_installed(with_reference: str, serve: Serve, server: str) -> None:
    command, version = COMMANDS[server]
    service = serve({"main.py": RAW}, image=with_reference, command=command).await_ready()
    answer = service.score({"x": 21})
    assert (answer.status, answer.json) == (200, {"x": 42})
    assert answer.headers["x-ms-server-version"].startswith(version)
