"""Images that are broken on purpose: the checks must reject each, and for the right reason."""

import re
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from imagematrix.host.engine import Engine, find_engine
from imagematrix.matrix.schema import Accelerator
from imagematrix.matrix.slim import SlimRule, Verb
from imagematrix.plan.bake import image_tag
from imagematrix.repository.project import Project
from tests.example_images import example, on_another_python
from tests.images.checks import (
    _BY_LAYER,
    Check,
    NoGpuError,
    checks_of,
    cuda_backend_is_compiled_in,
    framework_was_built_without_cuda,
    gpu_computes_as_the_host_does,
)
from tests.images.running import RunningImage, build_images, run_image, wait_until_healthy

ROOT = Path(__file__).resolve().parents[2]
PARENT = example().name
OTHER_PYTHON = on_another_python().name
WITH_CUDA = example(accelerator=Accelerator.CUDA).name
SITE = "/usr/local/lib/python3.12/site-packages"


@dataclass(frozen=True)
class Broken:
    """`steps` follow `FROM parent`, and make an image that is checked as `variant`. Of each check
    that must fail, `rejections` has a part of the message; all others must pass."""

    name: str
    steps: str
    rejections: dict[str, str]
    parent: str = PARENT
    variant: str = PARENT


def _distribution(name: str, version: str) -> str:
    folder = f"{name.replace('-', '_')}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\\nName: {name}\\nVersion: {version}\\n"
    return (
        f"USER 0\nRUN cd {SITE} && mkdir {folder} && printf '{metadata}' > {folder}/METADATA"
        f" && printf '{folder}/METADATA,,\\n{folder}/RECORD,,\\n' > {folder}/RECORD\n"
        "USER 1000:1000"
    )


BROKEN = (
    Broken(
        "root-user",
        "USER root",
        {
            "user_is_dockeruser": "the image's user is root",
            "nothing_runs_as_root": "not as uid 1000",
        },
    ),
    Broken(
        "drifted-pin",
        f"USER 0\nRUN cd {SITE} && sed -i 's/^Version: .*/Version: 2.0.0/'"
        " httptools-*.dist-info/METADATA\nUSER 1000:1000",
        {
            "distributions_equal_the_lock": "of another version: httptools 2.0.0 (locked: ",
            "promised_pins_are_kept": "but 2.0.0 is installed",
        },
    ),
    Broken(
        "extra-package",
        _distribution("left-pad", "1.3.0"),
        {"distributions_equal_the_lock": "extra: left-pad 1.3.0"},
    ),
    Broken(
        "extra-package-of-the-old-kind",
        f"USER 0\nRUN printf 'Name: old\\nVersion: 1\\n' > {SITE}/old.egg-info\nUSER 1000:1000",
        {
            "distributions_equal_the_lock": "extra: old 1",
            "files_of_the_records_are_there": "without a RECORD, by which pip replaces them: old",
        },
    ),
    Broken(
        "missing-package",
        f"USER 0\nRUN rm -r {SITE}/httptools-*.dist-info\nUSER 1000:1000",
        {
            "distributions_equal_the_lock": "missing: httptools ",
            "promised_pins_are_kept": "promised httptools==",
        },
    ),
    Broken(
        "missing-requirement",
        f"USER 0\nRUN cd {SITE} && sed -i '/^Version: /a Requires-Dist: left-pad\\nRequires-Dist:"
        ' another-pad; python_version < "3"\\nRequires-Dist: absent; extra == "test"\''
        " httptools-*.dist-info/METADATA\nUSER 1000:1000",
        {"requirements_are_consistent": "requirements: httptools requires left-pad, which is not"},
    ),
    Broken(
        "package-in-two-places",
        "RUN folder=$(python3 -m site --user-site) && mkdir -p $folder && cd $folder"
        f" && cp -r {SITE}/httptools-*.dist-info . && for info in *; do"
        " echo $info/METADATA,, > $info/RECORD; done",
        {"distributions_equal_the_lock": "installed in two places: httptools"},
    ),
    Broken(
        "requirement-of-another-version",
        f"USER 0\nRUN cd {SITE} && sed -i '/^Version: /a Requires-Dist: Pip<1'"
        " httptools-*.dist-info/METADATA\nUSER 1000:1000",
        {"requirements_are_consistent": "httptools requires Pip<1, but 2"},
    ),
    Broken(
        "cuda-library-in-cpu-image",
        "USER 0\nRUN touch /usr/lib/libcudart.so.12\nUSER 1000:1000",
        {"cuda_only_where_declared": "CUDA libraries in a CPU image: /usr/lib/libcudart.so.12"},
    ),
    Broken(
        "cuda-distribution-in-cpu-image",
        _distribution("nvidia-cudnn-cu12", "9.1.0"),
        {
            "distributions_equal_the_lock": "extra: nvidia-cudnn-cu12 9.1.0",
            "cuda_only_where_declared": "CUDA distributions in a CPU image: nvidia-cudnn-cu12",
        },
    ),
    Broken(
        "setuid-file",
        "USER 0\nRUN chmod u+s /usr/bin/mount\nUSER 1000:1000",
        {"no_setuid_file": "setuid or setgid: /usr/bin/mount"},
    ),
    Broken(
        "setgid-file",
        "USER 0\nRUN chmod g+s /usr/bin/chage\nUSER 1000:1000",
        {"no_setuid_file": "setuid or setgid: /usr/bin/chage"},
    ),
    Broken(
        "missing-label",
        'LABEL inference.framework=""',
        {"labels_tell_the_variant": "labels: {'inference.framework': ''}"},
    ),
    Broken(
        "foreign-key",
        'LABEL inference.matrix-key="0000"',
        {"key_is_that_of_the_tree": "inference.matrix-key is 0000"},
    ),
    Broken(
        "wrong-python",
        "\n".join(
            f'LABEL {label}="{value}"'
            for label, value in {
                "org.opencontainers.image.title": PARENT,
                "org.opencontainers.image.description": "Inference image: Python and the scoring"
                " server, nothing else, Python 3.12, CPU",
                "inference.python": "3.12",
            }.items()
        ),
        {
            "python_version": "python is 'Python 3.13.",
            "extension_modules_resolve": "only 0 modules in /usr/local/lib/python3.12",
            "bytecode_is_there": "modules lack bytecode: /usr/local/lib/python3.13/",
            "key_is_that_of_the_tree": f"lack base/{PARENT}/Dockerfile, base/",
        },
        parent=OTHER_PYTHON,
    ),
    Broken(
        "no-bytecode",
        "USER 0\nRUN find /usr/local/lib -name __pycache__ -exec rm -r {} +\nUSER 1000:1000",
        {
            "bytecode_is_there": "modules lack bytecode: /usr/local/lib/python3.12/",
            "bytecode_follows_its_source": "compiled modules: the scan saw nothing",
        },
    ),
    Broken(
        "bytecode-by-time",
        "USER 0\nRUN python3 -m compileall -q -f --invalidation-mode timestamp"
        " /usr/local/lib/python3.12/json\nUSER 1000:1000",
        {"bytecode_follows_its_source": "by time, or not compared: /usr/local/lib/"},
    ),
    Broken(
        "bytecode-that-hides-a-changed-source",
        "USER 0\nRUN python3 -m compileall -q -f --invalidation-mode unchecked-hash"
        " /usr/local/lib/python3.12/json\nUSER 1000:1000",
        {"bytecode_follows_its_source": "by time, or not compared: /usr/local/lib/"},
    ),
    Broken(
        "home-of-one-user",
        "USER 0\nRUN chmod 0755 /home/dockeruser\nUSER 1000:1000",
        {"any_user_of_the_group_0_has_a_home": "[1000680000, 'dockeruser', False, '/home/"},
    ),
    Broken(
        "nameless-user",
        "ENV USER=",
        {"any_user_of_the_group_0_has_a_home": "python3 ended with 1: "},
    ),
    Broken(
        "short-start",
        "HEALTHCHECK --start-period=60s "
        'CMD ["/usr/local/bin/python3", "-I", "-m", "inference_server.health"]',
        {"configuration_keeps_the_contract": "the health check gives the start 60 s"},
    ),
    Broken(
        "no-old-time-zones",
        "USER 0\nRUN rm /usr/share/zoneinfo/US/Pacific\nUSER 1000:1000",
        {
            "time_zones_have_their_old_names": "unknown time zones: US/Pacific",
            "debian_packages_are_whole": "/usr/share/zoneinfo/US/Pacific (missing)",
        },
    ),
    Broken(
        "missing-file",
        f"USER 0\nRUN rm {SITE}/httptools/py.typed\nUSER 1000:1000",
        {"files_of_the_records_are_there": f"recorded, but missing: {SITE}/httptools/py.typed"},
    ),
    Broken(
        "not-slimmed",
        f"USER 0\nRUN mkdir {SITE}/httptools/tests && touch {SITE}/httptools/tests/test_core.c"
        f" {SITE}/httptools/parser/parser.pyi\nUSER 1000:1000",
        {
            "what_is_removed_is_gone": "removed by a rule, but there:"
            " site-packages/httptools/parser/parser.pyi, "
        },
    ),
    Broken(
        "half-removed-debian-package",
        "USER 0\nRUN rm /usr/bin/nsenter && echo >> /usr/bin/chrt\nUSER 1000:1000",
        {
            "debian_packages_are_whole": "not as installed: /usr/bin/chrt (??5??????),"
            " /usr/bin/nsenter (missing)"
        },
    ),
    Broken(
        "another-port",
        "EXPOSE 8080",
        {"port_is_5001": "exposed: ['5001/tcp', '8080/tcp']"},
    ),
    Broken(
        "changed-environment",
        "ENV LANG=C\nWORKDIR /tmp",
        {"configuration_keeps_the_contract": "workdir is '/tmp'"},
    ),
    Broken(
        "compiler",
        "USER 0\nRUN touch /usr/bin/x86_64-linux-gnu-gcc-14\nUSER 1000:1000",
        {"no_compiler": "compilers: /usr/bin/x86_64-linux-gnu-gcc-14"},
    ),
    Broken(
        "package-cache",
        "USER 0\nRUN touch /var/lib/apt/lists/deb.debian.org_Packages\nUSER 1000:1000\n"
        "RUN mkdir -p ~/.cache/pip && touch ~/.cache/pip/kept",
        {
            "no_package_cache": "caches: /home/dockeruser/.cache/pip/kept,"
            " /var/lib/apt/lists/deb.debian.org_Packages"
        },
    ),
    Broken(
        "too-large",
        "USER 0\nRUN head -c 20000000 /dev/urandom > /opt/unexpected\nUSER 1000:1000",
        {"size_is_within_budget": "what changed since: no package\nits largest directories:\n"},
    ),
    Broken(
        "world-writable-path",
        "USER 0\nRUN chmod o+w /opt\nUSER 1000:1000",
        {"no_world_writable_path": "writable by everybody: /opt"},
    ),
    Broken(
        "build-secret",
        "USER 0\nRUN touch /etc/pip.conf\nUSER 1000:1000\nENV PIP_INDEX_URL=https://index.example/",
        {"no_build_secret": "left by the build: /etc/pip.conf"},
    ),
    Broken(
        "missing-library",
        "USER 0\nRUN rm /usr/lib/x86_64-linux-gnu/libsqlite3.so.0*\nUSER 1000:1000",
        {
            "extension_modules_resolve": "not found: libsqlite3.so.0 => not found",
            "debian_packages_are_whole": "/libsqlite3.so.0.8.6 (missing)",
        },
    ),
    Broken(
        "writing-while-serving",
        'CMD ["sh", "-c", "touch ~/written && exec python3 -m inference_server"]',
        {
            "configuration_keeps_the_contract": "command is ",
            "serving_writes_nothing": "written while serving: /home",
        },
    ),
    Broken(
        "wrong-answer",
        "USER 0\n"
        "RUN printf 'def init(): pass\\ndef run(data): return {}\\n' > /opt/score.py\n"
        "USER 1000:1000\n"
        'CMD ["sh", "-c", "AZUREML_ENTRY_SCRIPT=/opt/score.py exec python3 -m inference_server"]',
        {
            "configuration_keeps_the_contract": "command is ",
            "example_is_scored": "not as computed another way: response is {}",
            "serving_writes_nothing": "not as computed another way: response is {}",
        },
    ),
    Broken(
        "cpu-distribution-in-cuda-image",
        _distribution("tensorflow-cpu", "2.21.0"),
        {
            "distributions_equal_the_lock": "extra: tensorflow-cpu 2.21.0",
            "no_cpu_build": "CPU builds in an image with CUDA: tensorflow-cpu 2.21.0",
        },
        parent=WITH_CUDA,
        variant=WITH_CUDA,
    ),
    Broken(
        "another-cuda-than-it-says",
        'LABEL inference.cuda="12.9"',
        {
            "labels_tell_the_variant": "labels: {'inference.cuda': '12.9'}",
            "cuda_versions_agree": "by the lock; {'the label': '12.9'}",
        },
        parent=WITH_CUDA,
        variant=WITH_CUDA,
    ),
    Broken(
        "cuda-runtime-that-the-loader-does-not-find",
        "USER 0\nRUN rm /etc/ld.so.conf.d/cuda.conf && ldconfig\nUSER 1000:1000",
        {"cuda_versions_agree": "{'cudaRuntimeGetVersion': None}"},
        parent=WITH_CUDA,
        variant=WITH_CUDA,
    ),
    Broken(
        "library-that-cuda-lacks",
        f"USER 0\nRUN sed 's/librt.so/librx.so/' {SITE}/nvidia/*/lib/libcudart.so.*"
        f" > {SITE}/nvidia/broken.so\nUSER 1000:1000",
        {
            "cuda_libraries_resolve": "not found: librx.so.1 (for ",
            "size_is_within_budget": "grew by more than 2 %",
        },
        parent=WITH_CUDA,
        variant=WITH_CUDA,
    ),
    Broken(
        "no-gpu-asked-for",
        "ENV NVIDIA_VISIBLE_DEVICES=void",
        {"driver_is_asked_for": "{'NVIDIA_VISIBLE_DEVICES': 'void'}"},
        parent=WITH_CUDA,
        variant=WITH_CUDA,
    ),
)


@pytest.fixture(scope="session")
def engine() -> Engine:
    """The engine that holds the images that are broken here, as they are now."""
    found = find_engine()
    if found is None:
        pytest.fail("no Docker engine answers; run `nox -s build` first")
    build_images(PARENT, OTHER_PYTHON, WITH_CUDA)
    return found


def _rejections(image: RunningImage, checks: tuple[Check, ...]) -> dict[str, str]:
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
    project = Project(ROOT)
    variant = next(v for v in project.variants if v.name == broken.variant)
    tag = f"broken-{broken.name}:latest"
    dockerfile = f"FROM {image_tag(broken.parent)}\n{broken.steps}\n"
    command = ["docker", "build", "--quiet", "--tag", tag, "-"]
    subprocess.run(
        command, input=dockerfile.encode(), env=engine.environ(), check=True, stdout=subprocess.PIPE
    )
    try:
        with run_image(engine, tag, variant, project.locks[variant.name], ROOT) as running:
            wait_until_healthy(running)
            rejections = _rejections(running, checks_of(variant))
    finally:
        client = engine.client()
        client.images.remove(tag, force=True)
        client.close()
    told = "\n".join(f"{name}: {message}" for name, message in rejections.items())
    assert rejections.keys() == broken.rejections.keys(), told
    for name, part in broken.rejections.items():
        assert part in rejections[name], told


def test_every_check_rejects_something() -> None:
    """No check is without an image that it must reject, but for those that need a framework or a
    GPU, and for the one that has a test of its own."""
    variants = [v for v in Project(ROOT).variants if v.name in (PARENT, WITH_CUDA)]
    names = {c.__name__ for v in variants for c in checks_of(v) if c not in _BY_LAYER["framework"]}
    rejecting = {name for broken in BROKEN for name in broken.rejections}
    assert names - rejecting == {
        "framework_was_built_without_cuda",
        "cuda_backend_is_compiled_in",
        "gpu_computes_as_the_host_does",
        "what_is_stripped_has_no_symbols",
    }


NOTHING_TOLD = {"built_with_cuda": None, "cuda": None, "cudnn": None, "backends": ()}


WITHOUT, WITH = framework_was_built_without_cuda, cuda_backend_is_compiled_in


@pytest.mark.parametrize(
    ("check", "framework", "told", "bundled", "message"),
    [
        (WITHOUT, "pytorch", {"built_with_cuda": True}, None, "tells {"),
        (WITHOUT, "pytorch", {"cuda": "10.2"}, "10.1", "carries CUDA 10.1"),
        (WITHOUT, "pytorch", {"built_with_cuda": False}, "10.2", "but tells"),
        (WITH, "pytorch", {"built_with_cuda": False}, None, "pytorch tells {"),
        (WITH, "minimal", {"built_with_cuda": True}, None, "minimal tells {"),
    ],
)
def test_framework_of_another_build_is_rejected(
    check: Check, framework: str, told: dict[str, Any], bundled: str | None, message: str
) -> None:
    """What only a framework can tell, with one that tells something else."""
    variant = next(v for v in Project(ROOT).variants if v.name == WITH_CUDA)
    variant = replace(variant, framework=framework, bundled_cuda=bundled)
    facts = {"framework": {**NOTHING_TOLD, **told}}
    image = cast(RunningImage, SimpleNamespace(variant=variant, accelerator=facts))
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
        gpu_computes_as_the_host_does(cast(RunningImage, image))


def test_parent_of_another_build_is_rejected(engine: Engine) -> None:
    """An image that is not layered on the parent of this host is told so."""
    project = Project(ROOT)
    variant = next(v for v in project.variants if v.parent == PARENT)
    check = next(c for c in checks_of(variant) if c.__name__ == "layers_of_the_parent_are_shared")
    lock = project.locks[variant.name]
    with (
        run_image(engine, image_tag(OTHER_PYTHON), variant, lock, ROOT) as running,
        pytest.raises(AssertionError, match=f"not layered on the {PARENT} of this host"),
    ):
        check(running)


# The head of an ELF file with one section, a table of symbols.
SYMBOLS = (
    "import struct, sys; open(sys.argv[1], 'wb').write("
    "struct.pack('<16sHHIQQQIHHHHHH',"
    " b'\\x7fELF\\2\\1\\1', 3, 62, 1, 0, 0, 64, 0, 64, 0, 0, 64, 1, 0)"
    " + struct.pack('<II56x', 0, 2))"
)


def test_library_with_symbols_is_rejected(engine: Engine) -> None:
    """A library that a slim rule strips, and that has its table of symbols still, is told."""
    project = Project(ROOT)
    stripped = next(v for v in project.variants if v.patterns(Verb.STRIP))
    check = next(c for c in checks_of(stripped) if c.__name__ == "what_is_stripped_has_no_symbols")
    # The parent's own example, which the image can serve: its container ends with a script that
    # fails to start, and what runs inside ends with it.
    parent = next(v for v in project.variants if v.name == PARENT)
    variant = replace(
        parent, slim=(SlimRule(Verb.STRIP, "site-packages/httptools/*.so", "symbols"),)
    )
    tag = "broken-symbols:latest"
    dockerfile = (
        f"FROM {image_tag(PARENT)}\nUSER 0\n"
        f'RUN python3 -c "{SYMBOLS}" {SITE}/httptools/symbols.so\nUSER 1000:1000\n'
    )
    command = ["docker", "build", "--quiet", "--tag", tag, "-"]
    subprocess.run(
        command, input=dockerfile.encode(), env=engine.environ(), check=True, stdout=subprocess.PIPE
    )
    lock = project.locks[variant.name]
    try:
        with (
            run_image(engine, tag, variant, lock, ROOT) as running,
            pytest.raises(AssertionError, match=rf"^not stripped: {SITE}/httptools/symbols.so$"),
        ):
            check(running)
    finally:
        client = engine.client()
        client.images.remove(tag, force=True)
        client.close()
