"""What people do to an image's Python: patch it, install with uv, make virtual environments."""

import pytest

from tests.derived.conftest import Build, Serve
from tests.derived.containers import archive
from tests.derived.test_hardened import FILES
from tests.example_images import example

SITE = "/usr/local/lib/python3.12/site-packages"
# Everything that an image brings compiled: a package, the standard library, the server.
PATCH = f"""
USER root
RUN echo 'PATCHED = True' >> {SITE}/httptools/__init__.py \\
 && echo 'PATCHED = True' >> /usr/local/lib/python3.12/json/__init__.py \\
 && sed -i 's/^__version__ = .*/__version__ = "patched"/' \\
        /opt/inference-server/inference_server/__init__.py
USER dockeruser
RUN pip install --no-cache-dir humanize==4.9.0 \\
 && echo 'PATCHED = True' >> ~/.local/lib/python3.12/site-packages/humanize/__init__.py
"""
PATCHED = """
import httptools, humanize, json

def init():
    pass

def run(data):
    return [httptools.PATCHED, json.PATCHED, humanize.PATCHED]
"""
MOUNTED = """
import colorsys

def init():
    pass

def run(data):
    return colorsys.WHO
"""
WHERE = """
import sys

def init():
    pass

def run(data):
    import humanize
    from azureml_inference_server_http.api.aml_request import rawhttp
    return {"prefix": sys.prefix, "version": humanize.__version__}
"""
VENV = """
USER root
RUN python3 -m venv /opt/venv \\
 && /opt/venv/bin/pip install --no-cache-dir humanize==4.9.0
ENV PATH=/opt/venv/bin:$PATH
USER dockeruser
"""
UV_VENV = """
USER root
RUN pip install --no-cache-dir --root-user-action=ignore uv \\
 && export SSL_CERT_FILE=/run/secrets/ca-bundle \\
 && uv venv --no-cache --system-site-packages /opt/venv \\
 && uv pip install --no-cache --python /opt/venv/bin/python humanize==4.9.0
ENV PATH=/opt/venv/bin:$PATH
USER dockeruser
"""
# As docs/use-the-images.md has it: as root beside the image's packages, else below the home.
UV_AS_ROOT = """
USER root
RUN pip install --no-cache-dir --root-user-action=ignore uv \\
 && export SSL_CERT_FILE=/run/secrets/ca-bundle \\
 && uv pip install --no-cache --system humanize==4.9.0 joblib==1.5.2 \\
 && pip uninstall --yes --root-user-action=ignore uv
USER dockeruser
"""
UV_AS_USER = """
RUN pip install --no-cache-dir uv \\
 && export SSL_CERT_FILE=/run/secrets/ca-bundle \\
 && pip freeze | cut -d = -f 1 > /tmp/image.txt \\
 && uv pip install --no-cache --prefix ~/.local --excludes /tmp/image.txt \\
        humanize==4.9.0 sklearn-pandas==2.2.0 \\
 && rm /tmp/image.txt
"""
SCIKIT_LEARN = example("scikit-learn").name
VERSIONS = """
import importlib.metadata, numpy

def init():
    pass

def run(data):
    names = ("humanize", "joblib")
    found = {name: importlib.metadata.version(name) for name in names}
    return {**found, "numpy": numpy.__file__}
"""
NAMELESS = """
import getpass, os, humanize

def init():
    pass

def run(data):
    with open(os.path.expanduser("~/written"), "w"):
        pass
    return [os.getuid(), getpass.getuser(), os.path.expanduser("~"), humanize.__version__]
"""
EXTRA = """
import extra_thing, humanize

def init():
    pass

def run(data):
    return [extra_thing.ORIGIN, humanize.__version__]
"""
PIP = "RUN pip install --no-cache-dir humanize==4.9.0\n"


def test_a_patched_source_runs(derive: Build, serve: Serve) -> None:
    """Not the bytecode of what it was."""
    service = serve({"main.py": PATCHED}, image=derive(PATCH)).await_ready()
    answer = service.score({})
    assert (answer.status, answer.json) == (200, [True, True, True])
    assert answer.headers["x-ms-server-version"] == "inference-server/patched"


def test_a_source_that_is_put_over_another_runs(serve: Serve) -> None:
    """As with a file that is mounted, its time says nothing: here it is that of 1970."""
    service = serve({"main.py": MOUNTED})
    service.container.stop(timeout=1)
    library = "/usr/local/lib/python3.12"
    assert service.container.put_archive(library, archive({"colorsys.py": "WHO = 'mounted'\n"}))
    service.container.start()
    assert service.await_ready().score({}).json == "mounted"


@pytest.mark.parametrize("steps", [VENV, UV_VENV], ids=["venv", "uv"])
@pytest.mark.parametrize(
    "command",
    [None, ["/opt/venv/bin/python", "-m", "inference_server"], ["azmlinfsrv", "--port", "5001"]],
    ids=["as the image does", "by its path", "azmlinfsrv"],
)
def test_the_server_starts_in_a_virtual_environment(
    derive: Build, serve: Serve, steps: str, command: list[str] | None
) -> None:
    """The script sees its packages; the environment comes first on the path."""
    service = serve({"main.py": WHERE}, image=derive(steps), command=command).await_ready()
    answer = service.score({})
    assert (answer.status, answer.json) == (200, {"prefix": "/opt/venv", "version": "4.9.0"})
    service.execute("python3", "-m", "inference_server.health")


def test_a_virtual_environment_has_pip_and_no_package_of_the_image(serve: Serve) -> None:
    service = serve({"main.py": MOUNTED}, command=["sleep", "300"])
    service.execute("python3", "-m", "venv", "/tmp/venv")
    listed = service.execute("/tmp/venv/bin/pip", "list", "--format=freeze").split()
    assert [line.split("==")[0] for line in listed] == ["pip"]
    service.execute("/tmp/venv/bin/pip", "uninstall", "--yes", "pip")
    assert "pip" not in service.execute("ls", "/tmp/venv/bin")
    # Its own, and the image's stays.
    service.execute("pip", "--version")


@pytest.mark.parametrize("steps", [UV_AS_ROOT, UV_AS_USER], ids=["root", "user"])
def test_uv_installs_beside_the_packages_of_the_image(
    derive: Build, serve: Serve, steps: str
) -> None:
    image = derive(steps, parent=SCIKIT_LEARN)
    service = serve({"main.py": VERSIONS}, image=image).await_ready()
    answer = service.score({}).json
    assert answer["humanize"] == "4.9.0"
    assert answer["numpy"].startswith(SITE), "uv brought another numpy"
    if steps == UV_AS_ROOT:
        assert answer["joblib"] == "1.5.2"


@pytest.mark.parametrize("user", ["1000680000:0", "1000:1000"])
def test_packages_of_pip_are_found_under_any_user(derive: Build, serve: Serve, user: str) -> None:
    service = serve({"main.py": NAMELESS}, image=derive(PIP), user=user).await_ready()
    answer = service.score({})
    uid = int(user.split(":")[0])
    assert (answer.status, answer.json) == (200, [uid, "dockeruser", "/home/dockeruser", "4.9.0"])


def test_packages_are_found_where_the_home_is_another_one(derive: Build, serve: Serve) -> None:
    """On a read-only root, for libraries that insist on writing to the home."""
    service = serve(
        {"main.py": NAMELESS},
        {"HOME": "/tmp"},
        image=derive(PIP),
        user="12345:12345",
        read_only=True,
        tmpfs={"/tmp": ""},
    ).await_ready()
    assert service.score({}).json == [12345, "dockeruser", "/tmp", "4.9.0"]


@pytest.mark.parametrize("user", ["1000680000:0", "1000:1000"])
def test_packages_at_start_come_on_top_of_those_of_the_build(
    derive: Build, serve: Serve, user: str
) -> None:
    files = {**FILES, "main.py": EXTRA}
    environ = {"AZUREML_EXTRA_REQUIREMENTS_TXT": "requirements.txt"}
    service = serve(files, environ, image=derive(PIP), user=user).await_ready()
    assert service.score({}).json == ["wheel", "4.9.0"]


def test_azmlinfsrv_starts_the_server(serve: Serve) -> None:
    """In the folder where it is called, with the options of the reference's command."""
    files = {"src/score.py": "import os\ndef init(): pass\ndef run(data): return os.getcwd()\n"}
    command = ["azmlinfsrv", "--entry_script", "src/score.py", "--worker_count", "2"]
    service = serve(files, command=command).await_ready()
    answer = service.score({})
    assert (answer.status, answer.json) == (200, "/var/azureml-app")
    assert answer.headers["x-ms-server-version"].startswith("inference-server/")
    wrong = serve(files, command=["azmlinfsrv", "--entry_scripts", "x", "--unknown"])
    assert wrong.await_exit() == 1
    assert "unrecognized arguments" in wrong.last_line


def test_another_init_as_process_1_gives_no_warning(serve: Serve) -> None:
    """`docker run --init`: orphans are ours to reap there, too."""
    service = serve({"main.py": MOUNTED.replace("colorsys.WHO", "1")}, init=True).await_ready()
    assert "Tini" not in service.log
    assert service.execute("cat", "/proc/1/comm").strip() != "tini"
    service.container.stop(timeout=20)
    assert service.await_exit() == 0
    assert service.last_line.endswith("stopped")
