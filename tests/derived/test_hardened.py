"""No writable file system but /tmp, no capability, no way to gain one, an unknown uid."""

import io
import json
import zipfile
from collections.abc import Mapping
from typing import Any

import pytest

from imagematrix.checks.serving import differences
from imagematrix.matrix.variant import Variant
from imagematrix.plan.bake import image_tag
from tests.derived.conftest import ROOT, Serve

LOCKED_DOWN: Mapping[str, Any] = {
    "read_only": True,
    "tmpfs": {"/tmp": ""},
    "cap_drop": ["ALL"],
    "security_opt": ["no-new-privileges"],
    "user": "12345:0",
}
SCRIPT = """
import os

def init():
    pass

def run(data):
    try:
        open("/var/tmp/written", "w").close()
        written = True
    except OSError:
        written = False
    status = dict(line.split(":", 1) for line in open("/proc/self/status"))
    return {
        "uid": os.getuid(),
        "written": written,
        "capabilities": int(status["CapEff"], 16) | int(status["CapBnd"], 16),
        "no_new_privileges": status["NoNewPrivs"].strip(),
    }
"""
EXTENDED = """
import extra_thing

def init():
    pass

def run(data):
    return extra_thing.ORIGIN
"""
LIBRARY = "AZUREML_EXTRA_PYTHON_LIB_PATH"
CONDA = "AZUREML_EXTRA_CONDA_YAML"
REQUIREMENTS = "AZUREML_EXTRA_REQUIREMENTS_TXT"
SETTINGS = {LIBRARY: "libs", CONDA: "env.yml", REQUIREMENTS: "requirements.txt"}


def _wheel() -> bytes:
    """A package that says that it came from a wheel."""
    buffer = io.BytesIO()
    info = "extra_thing-1.0.dist-info"
    with zipfile.ZipFile(buffer, "w") as wheel:
        wheel.writestr("extra_thing.py", "ORIGIN = 'wheel'\n")
        wheel.writestr(
            f"{info}/METADATA", "Metadata-Version: 2.1\nName: extra-thing\nVersion: 1.0\n"
        )
        wheel.writestr(
            f"{info}/WHEEL",
            "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        )
        wheel.writestr(f"{info}/RECORD", "")
    return buffer.getvalue()


FILES: dict[str, str | bytes] = {
    "main.py": EXTENDED,
    "libs/extra_thing.py": "ORIGIN = 'folder'\n",
    "wheels/extra_thing-1.0-py3-none-any.whl": _wheel(),
    # No network: the wheel is beside the file.
    "requirements.txt": "--no-index\n--find-links wheels\nextra-thing==1.0\n",
    "env.yml": "dependencies: [python=3.12]\n",
}


def test_it_serves(serve: Serve) -> None:
    service = serve({"main.py": SCRIPT}, **LOCKED_DOWN).await_ready()
    answer = service.score({})
    assert (answer.status, answer.json) == (
        200,
        {"uid": 12345, "written": False, "capabilities": 0, "no_new_privileges": "1"},
    )


def test_every_example_is_served(serve: Serve, current: list[Variant]) -> None:
    """By each current image that is here, as docs/use-the-images.md says of them all."""
    for variant in current:
        example = ROOT / variant.example
        paths = [p for p in example.rglob("*") if p.is_file() and p.suffix != ".pyc"]
        files = {str(path.relative_to(example)): path.read_bytes() for path in paths}
        environ, image = {"AZUREML_ENTRY_SCRIPT": "score.py"}, image_tag(variant.name)
        service = serve(files, environ, image=image, **LOCKED_DOWN).await_ready()
        answer = service.score(json.loads(files["request.json"]))
        assert answer.status == 200, f"{variant.name}: {answer.body!r}\n{service.log}"
        wrong = list(differences(answer.json, json.loads(files["response.json"]), variant.name))
        assert not wrong, wrong[:5]
        service.container.kill()


@pytest.mark.parametrize(
    ("names", "origin"),
    [
        ((LIBRARY,), "folder"),
        ((REQUIREMENTS,), "wheel"),
        ((LIBRARY, CONDA, REQUIREMENTS), "folder"),
    ],
    ids=["folder", "requirements", "the folder wins"],
)
def test_packages_come_at_start(serve: Serve, names: tuple[str, ...], origin: str) -> None:
    service = serve(FILES, {name: SETTINGS[name] for name in names}, **LOCKED_DOWN).await_ready()
    answer = service.score({})
    assert (answer.status, answer.json) == (200, origin)


def test_the_log_says_where_compiled_modules_cannot_be_loaded(serve: Serve) -> None:
    environ = {REQUIREMENTS: SETTINGS[REQUIREMENTS]}
    sentence = "/tmp is mounted noexec: packages with compiled modules cannot be loaded from there"
    assert sentence in serve(FILES, environ, **LOCKED_DOWN).await_ready().log
    options = {**LOCKED_DOWN, "tmpfs": {"/tmp": "exec"}}
    assert "noexec" not in serve(FILES, environ, **options).await_ready().log


def test_conda_is_refused_before_requirements(serve: Serve) -> None:
    environ = {name: SETTINGS[name] for name in (CONDA, REQUIREMENTS)}
    service = serve(FILES, environ, **LOCKED_DOWN)
    assert service.await_exit() == 96
    assert service.last_line.endswith(
        "AZUREML_EXTRA_CONDA_YAML=env.yml: this image has no conda. List the packages in a "
        "requirements file and set AZUREML_EXTRA_REQUIREMENTS_TXT, or build an image FROM this "
        "one (exit code 96)"
    )
