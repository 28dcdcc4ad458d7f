"""What it says of itself: port, configuration, labels."""

import re
from pathlib import PurePosixPath

from imagematrix.checks.check import layer, listing
from imagematrix.checks.running import RunningImage, RunningVariant
from imagematrix.files import file_hash
from imagematrix.matrix.platforms import CREATED, LICENCES
from imagematrix.matrix.schema import MINIMAL
from imagematrix.plan.content import (
    INPUTS_LABEL,
    KEY_LABEL,
    PARENT,
    PYTHON_LABEL,
    REVISION_LABEL,
    SOURCE_LABEL,
    decode_inputs,
    image_key,
)


@layer(MINIMAL)
def port_is_5001(image: RunningImage) -> None:
    """5001 is exposed, nothing else, and the server is healthy there."""
    only_5001_is_exposed(image)
    health_route_answers(image)


def only_5001_is_exposed(image: RunningImage) -> None:
    """The image exposes the port 5001, and no other."""
    exposed = list(image.config.get("ExposedPorts") or {})
    assert exposed == ["5001/tcp"], f"exposed: {exposed}"


def health_route_answers(image: RunningImage) -> None:
    """GET / is 200, Healthy, of the type text/html."""
    status, headers, body = image.request("/")
    assert (status, body) == (200, b"Healthy"), f"GET / gave {status} {body[:200]!r}"
    kind = headers.get("Content-Type", headers.get("content-type", ""))
    assert kind.startswith("text/html"), f"GET / has the type {kind!r}"


@layer(MINIMAL)
def configuration_keeps_the_contract(image: RunningImage) -> None:
    """Working directory, environment, init and health check are as consumers rely on."""
    config = image.config
    assert config["WorkingDir"] == "/var/azureml-app", f"workdir is {config['WorkingDir']!r}"
    environment = dict(item.split("=", 1) for item in config["Env"])
    expected = {
        "AML_APP_ROOT": "/var/azureml-app",
        "LANG": "C.UTF-8",
        "LC_ALL": "C.UTF-8",
        "HOME": "/home/dockeruser",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    differing = {n: environment.get(n) for n, v in expected.items() if environment.get(n) != v}
    assert not differing, f"the environment has {differing}, expected {expected}"
    # It would leave columns out of the tracebacks of scripts, as it does of the image's packages.
    assert "PYTHONNODEBUGRANGES" not in environment, "scripts are compiled without columns"
    first = environment["PATH"].split(":")[0]
    assert first == "/home/dockeruser/.local/bin", f"PATH begins with {first}"
    assert config["Entrypoint"] == ["tini", "-s", "--"], f"entrypoint is {config['Entrypoint']}"
    start = ["/usr/local/bin/python3", "-I", "-m", "inference_server"]
    assert config["Cmd"] == start, f"command is {config['Cmd']}"
    health = config.get("Healthcheck") or {}
    test = health.get("Test")
    assert test == ["CMD", *start[:-1], "inference_server.health"], f"health check is {test}"
    # In nanoseconds; init() may take as long as WORKER_TIMEOUT. 0 is the default of 3 retries.
    starting, interval = health.get("StartPeriod", 0) / 1e9, health.get("Interval", 0) / 1e9
    assert starting == 600, f"the health check gives the start {starting:g} s"
    assert interval == 10, f"the health check runs every {interval:g} s"
    assert health.get("Retries", 0) in (0, 3), f"the health check has {health['Retries']} retries"


@layer(MINIMAL)
def labels_tell_the_variant(image: RunningVariant) -> None:
    """OCI annotations and our own labels say what the variant says."""
    variant = image.variant
    expected = {
        "org.opencontainers.image.title": variant.name,
        "org.opencontainers.image.description": variant.description,
        "org.opencontainers.image.base.name": variant.parent or f"debian:{variant.suite}-slim",
        "org.opencontainers.image.version": variant.version or variant.python,
        "org.opencontainers.image.created": CREATED,
        "org.opencontainers.image.licenses": LICENCES,
        "inference.framework": variant.framework,
        "inference.python": variant.python,
        "inference.accelerator": str(variant.accelerator),
        "inference.cuda": variant.cuda.version if variant.cuda else "",
        "inference.track": str(variant.track),
        "inference.support": variant.track.support,
    }
    if variant.cuda and variant.cuda.cudnn:
        expected["inference.cudnn"] = variant.cuda.cudnn
    if variant.bundled_cuda:
        expected["inference.bundled-cuda"] = variant.bundled_cuda
    wrong = {n: image.labels.get(n) for n, v in expected.items() if image.labels.get(n) != v}
    assert not wrong, f"labels: {wrong}, expected { ({n: expected[n] for n in wrong}) }"


@layer(MINIMAL)
def python_version_label_is_that_of_cpython(image: RunningImage) -> None:
    """The label has the full version of the CPython inside, which no file of the tree pins."""
    label = image.labels.get(PYTHON_LABEL)
    reported = image.host.run("python3 -V").stdout.strip()
    assert reported == f"Python {label}", f"{PYTHON_LABEL} is {label}, python3 says {reported!r}"


@layer(MINIMAL)
def revision_is_a_commit(image: RunningImage) -> None:
    """Where it says from which commit and repository it was built, these are a hash and a plain
    URL. Builds from a changed checkout say neither."""
    commit, source = (image.labels.get(name, "") for name in (REVISION_LABEL, SOURCE_LABEL))
    assert re.fullmatch("([0-9a-f]{40})?", commit), f"{REVISION_LABEL} is {commit!r}"
    assert re.fullmatch("(https?://[^@]+)?", source), f"{SOURCE_LABEL} is {source!r}"


@layer(MINIMAL)
def key_is_that_of_the_tree(image: RunningVariant) -> None:
    """Its key is the hash of its inputs, and these are the files that stand here now."""
    inputs = decode_inputs(image.labels.get(INPUTS_LABEL, ""))
    assert inputs, f"the label {INPUTS_LABEL} holds no inputs"
    key = image.labels.get(KEY_LABEL)
    assert key == image_key(inputs), f"{KEY_LABEL} is {key}, its inputs give {image_key(inputs)}"
    variant = image.variant
    files = {name: digest for name, digest in inputs.items() if ":" not in name and name != PARENT}
    own = {str(variant.dockerfile), str(variant.lock)}
    lacking = own - files.keys()
    assert not lacking, f"its {len(files)} inputs lack {listing(lacking)}"
    moved = [n for n, digest in files.items() if _hash_now(image, n) != digest]
    assert not moved, f"built from other contents of {listing(moved)}; run `nox -s build`"


def _hash_now(image: RunningVariant, name: str) -> str:
    path = image.root / PurePosixPath(name)
    return file_hash(path) if path.is_file() else "no such file"
