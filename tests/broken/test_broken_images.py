"""Images that are broken on purpose: the checks must reject each, and for the right reason."""

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from imagematrix.checks import BY_LAYER, Check, NoGpuError, checks_of
from imagematrix.checks.cuda import (
    cuda_backend_is_compiled_in,
    framework_was_built_without_cuda,
    gpu_computes_as_the_host_does,
)
from imagematrix.checks.labels import configuration_keeps_the_contract
from imagematrix.checks.running import RunningVariant, run_image, wait_until_healthy
from imagematrix.checks.size import layers_of_the_parent_are_shared
from imagematrix.checks.slim import what_is_stripped_has_no_symbols
from imagematrix.host.engine import Engine
from imagematrix.matrix.slim import SlimRule, Verb
from imagematrix.matrix.variant import Variant
from imagematrix.plan.bake import image_tag
from imagematrix.repository.project import Project
from tests.broken.broken import BROKEN, OTHER_PYTHON, PARENT, ROOT, SITE, WITH_CUDA, Broken
from tests.images.running import build_images


@pytest.fixture(scope="session")
def engine(engine: Engine) -> Engine:
    """The engine, with the images that are broken here as they are now."""
    build_images(engine, PARENT, OTHER_PYTHON, WITH_CUDA)
    return engine


@contextmanager
def _running(engine: Engine, broken: Broken, variant: Variant) -> Iterator[RunningVariant]:
    """A container of the image, which is built for it and gone at the end."""
    tag = f"broken-{broken.name}:latest"
    # As bake makes them: packed layers would be measured by way of the whole image's archive.
    output = "type=docker" + ",compression=uncompressed" * engine.containerd_store
    subprocess.run(
        ["docker", "build", "--quiet", "--output", output, "--tag", tag, "-"],
        input=f"FROM {image_tag(broken.parent)}\n{broken.steps}\n".encode(),
        env=engine.environ(),
        check=True,
        stdout=subprocess.PIPE,
    )
    try:
        lock = Project(ROOT).locks[variant.name]
        with run_image(engine, tag, variant, lock, ROOT) as running:
            yield running
    finally:
        client = engine.client()
        client.images.remove(tag, force=True)
        client.close()


def _rejections(image: RunningVariant, checks: tuple[Check, ...]) -> dict[str, str]:
    rejections = {}
    for check in checks:
        try:
            check(image)
        except NoGpuError:
            continue
        except AssertionError as error:
            rejections[check.__name__] = str(error)
    return rejections


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.name)
def test_broken_image_is_rejected(broken: Broken, engine: Engine) -> None:
    """Exactly the checks that are named reject the image, each with its reason."""
    variant = next(v for v in Project(ROOT).variants if v.name == broken.variant)
    with _running(engine, broken, variant) as running:
        wait_until_healthy(running)
        rejections = _rejections(running, checks_of(variant))
    reported = "\n".join(f"{name}: {message}" for name, message in rejections.items())
    assert rejections.keys() == broken.rejections.keys(), reported
    for name, part in broken.rejections.items():
        assert part in rejections[name], reported


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"WorkingDir": "/"}, "workdir is '/'"),
        ({"Env": {"AML_APP_ROOT": "/app"}}, "the environment has {'AML_APP_ROOT': '/app'}"),
        ({"Env": {"LANG": "C"}}, "the environment has {'LANG': 'C'}"),
        ({"Env": {"LC_ALL": ""}}, "the environment has {'LC_ALL': ''}"),
        ({"Env": {"HOME": "/root"}}, "the environment has {'HOME': '/root'}"),
        (
            {"Env": {"PYTHONDONTWRITEBYTECODE": ""}},
            "the environment has {'PYTHONDONTWRITEBYTECODE': ''}",
        ),
        ({"Env": {"PYTHONNODEBUGRANGES": "1"}}, "scripts are compiled without columns"),
        ({"Env": {"PATH": "/usr/bin:/bin"}}, "PATH begins with /usr/bin"),
        ({"Entrypoint": ["tini", "--"]}, "entrypoint is ['tini', '--']"),
        ({"Entrypoint": None}, "entrypoint is None"),
        ({"Cmd": ["python3", "-m", "inference_server"]}, "command is ['python3', "),
        ({"Healthcheck": None}, "health check is None"),
        ({"Healthcheck": {"Interval": 30 * 10**9}}, "the health check runs every 30 s"),
        ({"Healthcheck": {"StartPeriod": 0}}, "the health check gives the start 0 s"),
        ({"Healthcheck": {"Retries": 1}}, "the health check has 1 retries"),
    ],
    ids=str,
)
def test_another_configuration_is_rejected(
    engine: Engine, change: dict[str, Any], message: str
) -> None:
    """Each part of it, in what the engine says of the image; as it is, it passes."""
    (image,) = engine.inspect([image_tag(PARENT)]).values()
    config = deepcopy(image["Config"])
    configuration_keeps_the_contract(cast(RunningVariant, SimpleNamespace(config=config)))
    for name, value in change.items():
        if name == "Env":
            given = dict(item.split("=", 1) for item in config["Env"]) | value
            config["Env"] = [f"{variable}={text}" for variable, text in given.items()]
        elif isinstance(value, dict):
            config[name] = config[name] | value
        else:
            config[name] = value
    with pytest.raises(AssertionError, match=re.escape(message)):
        configuration_keeps_the_contract(cast(RunningVariant, SimpleNamespace(config=config)))


def test_every_check_rejects_something() -> None:
    """No check is without an image that it must reject, but for those that need a framework or a
    GPU, and for the one that has a test of its own."""
    variants = [v for v in Project(ROOT).variants if v.name in (PARENT, WITH_CUDA)]
    names = {c.__name__ for v in variants for c in checks_of(v) if c not in BY_LAYER["framework"]}
    rejecting = {name for broken in BROKEN for name in broken.rejections}
    assert names - rejecting == {
        "framework_was_built_without_cuda",
        "cuda_backend_is_compiled_in",
        "gpu_computes_as_the_host_does",
        "what_is_stripped_has_no_symbols",
    }


NOTHING_REPORTED = {"built_with_cuda": None, "cuda": None, "cudnn": None, "backends": ()}


WITHOUT, WITH = framework_was_built_without_cuda, cuda_backend_is_compiled_in


@pytest.mark.parametrize(
    ("check", "framework", "reported", "bundled", "message"),
    [
        (WITHOUT, "pytorch", {"built_with_cuda": True}, None, "reports {"),
        (WITHOUT, "pytorch", {"cuda": "10.2"}, "10.1", "carries CUDA 10.1"),
        (WITHOUT, "pytorch", {"built_with_cuda": False}, "10.2", "but reports"),
        (WITH, "pytorch", {"built_with_cuda": False}, None, "pytorch reports {"),
        (WITH, "minimal", {"built_with_cuda": True}, None, "minimal reports {"),
    ],
)
def test_framework_of_another_build_is_rejected(
    check: Check, framework: str, reported: dict[str, Any], bundled: str | None, message: str
) -> None:
    """What only a framework can report, with one that reports something else."""
    variant = next(v for v in Project(ROOT).variants if v.name == WITH_CUDA)
    variant = replace(variant, framework=framework, bundled_cuda=bundled)
    facts = {"framework": {**NOTHING_REPORTED, **reported}}
    image = cast(RunningVariant, SimpleNamespace(variant=variant, accelerator=facts))
    with pytest.raises(AssertionError, match=re.escape(message)):
        check(image)


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"kernel": 0.5, "model": None}, "the sum of two vectors is 0.5 off"),
        ({"kernel": 0.0, "model": {"values": 0, "difference": 0.0}}, "the model gave no values"),
        ({"kernel": 0.0, "model": {"values": 3, "difference": 0.1}}, "the model's values differ"),
    ],
)
def test_gpu_that_computes_otherwise_is_rejected(facts: dict[str, Any], message: str) -> None:
    """As `accelerator.py` would tell it."""
    variant = next(v for v in Project(ROOT).variants if v.name == WITH_CUDA)
    variant = replace(variant, framework="pytorch")
    image = SimpleNamespace(variant=variant, accelerator=facts, has_gpu=True)
    with pytest.raises(AssertionError, match=message):
        gpu_computes_as_the_host_does(cast(RunningVariant, image))


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (OTHER_PYTHON, f"not based on the {PARENT} of this host"),
        (PARENT, "adds no layer to its parent"),
    ],
)
def test_other_layers_than_those_of_the_parent_are_rejected(
    engine: Engine, image: str, message: str
) -> None:
    """An image that is based on another build of its parent, or is its parent itself."""
    project = Project(ROOT)
    variant = next(v for v in project.variants if v.parent == PARENT)
    lock = project.locks[variant.name]
    with (
        run_image(engine, image_tag(image), variant, lock, ROOT) as running,
        pytest.raises(AssertionError, match=message),
    ):
        layers_of_the_parent_are_shared(running)


# The head of an ELF file with one section, a table of symbols.
SYMBOLS = (
    "import struct, sys; open(sys.argv[1], 'wb').write("
    "struct.pack('<16sHHIQQQIHHHHHH',"
    " b'\\x7fELF\\2\\1\\1', 3, 62, 1, 0, 0, 64, 0, 64, 0, 0, 64, 1, 0)"
    " + struct.pack('<II56x', 0, 2))"
)


def test_library_with_symbols_is_rejected(engine: Engine) -> None:
    """A library that a slim rule strips, and that has its table of symbols still, is reported."""
    project = Project(ROOT)
    # The parent's own example, which the image can serve: its container ends with a script that
    # fails to start, and what runs inside ends with it.
    parent = next(v for v in project.variants if v.name == PARENT)
    variant = replace(
        parent, slim=(SlimRule(Verb.STRIP, "site-packages/httptools/*.so", "symbols"),)
    )
    steps = f'USER 0\nRUN python3 -c "{SYMBOLS}" {SITE}/httptools/symbols.so\nUSER 1000:1000'
    with (
        _running(engine, Broken("symbols", steps, {}), variant) as running,
        pytest.raises(AssertionError, match=rf"^not stripped: {SITE}/httptools/symbols.so$"),
    ):
        what_is_stripped_has_no_symbols(running)
