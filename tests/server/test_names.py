"""Names: what we promise is always there, and what an app calls its modules is its own affair."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest

from .harness import PYTHON, SOURCE, Server

PACKAGES = "import sysconfig; print(sysconfig.get_paths()['purelib'])"
FINE = "def init(): pass\ndef run(data): return 1\n"
PROMISED = """
from azureml.contrib.services.aml_request import AMLRequest, rawhttp
from azureml.contrib.services.aml_response import AMLResponse
from azureml_inference_server_http.api.aml_request import AMLRequest as Newer, rawhttp as newer
from azureml_inference_server_http.api.aml_response import AMLResponse as NewerResponse
"""


@pytest.fixture(scope="session")
def image_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter that knows the server as an image's does: by one file in its packages."""
    folder = tmp_path_factory.mktemp("image")
    subprocess.run([PYTHON, "-m", "venv", "--without-pip", str(folder)], check=True)
    [packages] = folder.glob("lib/python*/site-packages")
    done = subprocess.run([PYTHON, "-c", PACKAGES], capture_output=True, text=True, check=True)
    (packages / "a-rest.pth").write_text(done.stdout)
    text = (
        (SOURCE / "inference-server.pth").read_text().replace("/opt/inference-server", str(SOURCE))
    )
    (packages / "inference-server.pth").write_text(text)
    return folder / "bin" / "python"


def python(interpreter: Path, *args: str, cwd: Path, **env: str) -> str:
    clean = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    done = subprocess.run(
        [str(interpreter), *args],
        cwd=cwd,
        env={**clean, "PYTHONDONTWRITEBYTECODE": "1", **env},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout.strip()


def write(root: Path, files: Mapping[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


EXTENDS = "__path__ = __import__('pkgutil').extend_path(__path__, __name__)"
# What may be installed beside us, and who is to answer for `azureml`.
BESIDE = [
    pytest.param({}, id="nothing"),
    pytest.param({"azureml/__init__.py": ""}, id="a plain package"),
    pytest.param({"azureml/core/__init__.py": ""}, id="a namespace"),
    pytest.param(
        {
            "azureml/__init__.py": EXTENDS,
            "azureml/core/__init__.py": "",
        },
        id="a package that extends its path",
    ),
    pytest.param(
        {"azureml/__init__.py": "", "azureml/contrib/__init__.py": "", "azureml/contrib/x.py": ""},
        id="another contrib",
    ),
    pytest.param(
        {
            "azureml/__init__.py": "",
            "azureml/contrib/services/__init__.py": "",
            "azureml/contrib/services/x.py": "",
        },
        id="other services",
    ),
    pytest.param({"azureml_inference_server_http/__init__.py": ""}, id="an older reference"),
    pytest.param({"inference_server/__init__.py": ""}, id="a package with our own name"),
]


@pytest.mark.parametrize("files", BESIDE)
def test_promised_names_are_there(
    image_python: Path, tmp_path: Path, files: dict[str, str]
) -> None:
    code = PROMISED + "print(newer is rawhttp and NewerResponse is AMLResponse)"
    write(tmp_path, files)
    assert python(image_python, "-c", code, cwd=tmp_path) == "True"
    assert python(image_python, "-c", code, cwd=Path("/"), PYTHONPATH=str(tmp_path)) == "True"
    late = f"import sys; sys.path.append({str(tmp_path)!r})\n" + code
    assert python(image_python, "-c", late, cwd=Path("/")) == "True"


@pytest.mark.parametrize(
    "name",
    [
        "azureml.contrib.services.aml_request",
        "azureml.contrib.services.aml_response",
        "azureml_inference_server_http.api.aml_request",
    ],
)
def test_what_is_really_installed_wins(image_python: Path, tmp_path: Path, name: str) -> None:
    parts = name.split(".")
    packages = ["/".join(parts[:end]) + "/__init__.py" for end in range(1, len(parts))]
    write(tmp_path, dict.fromkeys(packages, ""))
    write(tmp_path, {"/".join(parts) + ".py": "rawhttp = AMLRequest = AMLResponse = 'real'"})
    code = f"import {name} as module; print(getattr(module, 'AMLResponse'))"
    assert python(image_python, "-c", code, cwd=Path("/"), PYTHONPATH=str(tmp_path)) == "real"


def test_other_names_stay_unknown(image_python: Path, tmp_path: Path) -> None:
    code = """
try:
    import azureml.core
except ImportError as error:
    print(error.name)
"""
    assert python(image_python, "-c", code, cwd=tmp_path) == "azureml.core"


def test_a_python_starts_without_further_modules(image_python: Path, tmp_path: Path) -> None:
    code = "import sys; print(len(sys.modules))"
    ours = int(python(image_python, "-c", code, cwd=tmp_path))
    packages = next(image_python.parents[1].glob("lib/python*/site-packages"))
    aside = packages / "inference-server.aside"
    (packages / "inference-server.pth").rename(aside)
    try:
        assert ours == int(python(image_python, "-c", code, cwd=tmp_path)) + 1
    finally:
        aside.rename(packages / "inference-server.pth")


class ImageServer(Server):
    """Started as the image does it."""

    interpreter: Path
    flags: tuple[str, ...] = ("-I",)

    def command(self) -> list[str]:
        return [str(self.interpreter), *self.flags, "-m", "inference_server"]


class PlainServer(ImageServer):
    """Started as people do it."""

    flags = ()


TRAP = "raise ImportError('this is the module of the app: ' + __name__)\n"
NAMES = """
    abc aml app argparse array asyncio base64 bisect calendar code collections config connection
    contextlib copy ctypes dataclasses datetime decimal email encoding enum exit_codes
    extra_packages frames functools getpass hashlib heapq hmac http httptools importlib inputs
    inspect io ipaddress json linecache listener load log logging math messages multiprocessing
    operator os outputs pathlib pickle pip pkgutil pool pwd queue random raw re reader resource
    runpy script secrets select selectors service shutil signal site sitecustomize socket ssl
    stat string struct subprocess supervisor sysconfig tempfile textwrap threading time token
    tokenize traceback types typing urllib usercustomize uuid warnings weakref wire worker
    workers zlib
"""
TRAPS = {f"{name}.py": TRAP for name in NAMES.split()}
TRAPS["inference_server/__init__.py"] = "WHO = 'the app'\n"
TRAPS["inference_server/health.py"] = TRAP
TRAPS["inference_server/helper.py"] = "WHO = 'a helper of the app'\n"
SCRIPT = """
import email.utils, http.client, random, asyncio, tempfile
import inference_server
from inference_server import helper
from azureml_inference_server_http.api.aml_request import rawhttp
from azureml_inference_server_http.api.aml_response import AMLResponse

def init():
    pass

@rawhttp
def run(request):
    if request.method == "POST":
        request.form
    return AMLResponse([inference_server.WHO, helper.WHO, random.randint(1, 1)], 200, json_str=True)
"""


@pytest.fixture
def started(image_python: Path, tmp_path: Path) -> Iterator[ExitStack]:
    ImageServer.interpreter = image_python
    with ExitStack() as stack:
        yield stack


@pytest.mark.parametrize("kind", [ImageServer, PlainServer])
def test_an_app_may_call_its_modules_as_it_likes(
    started: ExitStack, image_python: Path, tmp_path: Path, kind: type[ImageServer]
) -> None:
    root = tmp_path / "app"
    write(root, {**TRAPS, "main.py": SCRIPT})
    server = started.enter_context(kind(root, {"PYTHONPATH": ""})).await_ready()
    form = {"Content-Type": "multipart/form-data; boundary=x"}
    answer = server.score(b"--x--", headers=form)
    assert answer.status == 200, server.log
    assert answer.json == ["the app", "a helper of the app", 1]
    for flags in (["-I"], []):
        module = [*flags, "-m", "inference_server.health"]
        assert python(image_python, *module, cwd=root, SERVER_PORT=str(server.port)) == ""
    assert server.stop() == 0


def test_packages_are_installed_beside_an_app_with_such_modules(
    started: ExitStack, tmp_path: Path
) -> None:
    root = tmp_path / "app"
    write(root, {**TRAPS, "main.py": FINE, "more.txt": "# nothing\n"})
    environ = {"PYTHONPATH": "", "AZUREML_EXTRA_REQUIREMENTS_TXT": "more.txt"}
    server = started.enter_context(ImageServer(root, environ)).await_ready()
    assert server.score().json == 1


@pytest.mark.parametrize("options", [[], ["--system-site-packages"]])
def test_a_virtual_environment_on_the_path(tmp_path: Path, options: list[str]) -> None:
    """It is made from the interpreter of the service, and has no package of the server."""
    base = "import os, sys; print(os.path.realpath(sys.executable))"
    interpreter = python(Path(PYTHON), "-c", base, cwd=tmp_path)
    packages = python(Path(PYTHON), "-c", PACKAGES, cwd=tmp_path)
    venv = tmp_path / "venv"
    command = [interpreter, "-m", "venv", "--without-pip", *options, str(venv)]
    subprocess.run(command, check=True)
    [installed] = venv.glob("lib/python*/site-packages")
    (installed / "only_here.py").write_text("")
    root = tmp_path / "app"
    script = "import only_here, sys\ndef init(): pass\ndef run(d): return sys.prefix\n"
    write(root, {"main.py": script})

    class Base(Server):
        def command(self) -> list[str]:
            return [interpreter, "-m", "inference_server"]

    # The service needs httptools, which the interpreter itself need not have.
    environ = {"PATH": f"{venv}/bin:/usr/bin:/bin", "PYTHONPATH": f"{SOURCE}:{packages}"}
    with Base(root, environ) as server:
        server.await_ready()
        assert server.score().json == str(venv)


def test_an_app_on_pythonpath(started: ExitStack, tmp_path: Path) -> None:
    """The user's own PYTHONPATH reaches the worker; the service does not look there."""
    root = tmp_path / "app"
    files = {name: TRAPS[name] for name in ("random.py", "asyncio.py", "httptools.py", "uuid.py")}
    script = "import helper, sys\ndef init(): pass\ndef run(d): return [helper.WHO, sys.path[0]]\n"
    write(root, {**files, "main.py": script, "first/helper.py": "WHO = 'first'"})
    environ = {"PYTHONPATH": f"{root}/first:{root}"}
    server = started.enter_context(ImageServer(root, environ)).await_ready()
    assert server.score().json == ["first", f"{root}/first"]


def test_the_app_root_comes_last(started: ExitStack, tmp_path: Path) -> None:
    """As in the reference: installed packages and the standard library come before it."""
    root = tmp_path / "app"
    script = "import sys\ndef init(): pass\ndef run(d): return sys.path\n"
    write(root, {"main.py": script, "more/x.py": ""})
    environ = {"PYTHONPATH": "", "AZUREML_SOURCE_DIRECTORY": "more"}
    server = started.enter_context(ImageServer(root, environ)).await_ready()
    path = server.score().json
    assert path[-3:] == [str(root), f"{root}/more", str(SOURCE)]
    assert "" not in path
