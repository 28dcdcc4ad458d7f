"""From an env.yml to an image, on a channel that is made of what is on this machine."""

import dataclasses
import json
import os
import shutil
import subprocess
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pytest

from imagematrix.build.buildkit import running_bake
from imagematrix.build.inputs import build_environment
from imagematrix.environments.conda import CondaLock, lock_conda
from imagematrix.environments.conda_image import CONDA_LOCK, conda_variant, prefix_of, render_conda
from imagematrix.environments.condarc import OFFICIAL, CondaSettings
from imagematrix.environments.specification import Decisions, read_environment
from imagematrix.files import WORK_FOLDER, write_atomically
from imagematrix.host.bases import BaseSource, ensure_bases
from imagematrix.host.bootstrap import find_interpreter
from imagematrix.host.buildx import find_builder
from imagematrix.host.config import read_host_config
from imagematrix.host.debian import debian_mirrors
from imagematrix.host.engine import Engine
from imagematrix.host.supply import Supply
from imagematrix.matrix.variant import SLIM_NAME, Variant
from imagematrix.plan.bake import bake_file, image_tag, target_name
from imagematrix.plan.content import Content
from imagematrix.plan.plan import Action, Step
from tests.engine.conda_channel import Channel, File, served
from tests.engine.conftest import ROOT
from tests.example_images import example
from tests.images.running import build_images

HOST = read_host_config(os.environ, Path.home())
PARENT = example()
NAME = "azureml_conda_test"
SPECIFICATION = """\
name: mine
channels: [conda-forge]
dependencies:
  - python=3.12
  - markupsafe
  - with_linker
  - pip:
      - six==1.17.0
variables:
  GREETING: hello $USER "you"
"""
SCRIPT = """\
import json, os, sys
import markupsafe, six


def init():
    pass


def run(data):
    return {
        "prefix": sys.prefix,
        "escaped": str(markupsafe.escape("<")),
        "speedups": markupsafe._speedups.__file__,
        "six": six.__file__,
        "greeting": os.environ["GREETING"],
        "echo": json.loads(data),
    }
"""


@dataclass(frozen=True)
class Site:
    """A folder with a channel, the files of an environment that is locked on it, and its image."""

    channels: Path
    lock: CondaLock
    variant: Variant


@pytest.fixture(scope="module")
def site(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    interpreter = find_interpreter(PARENT.python)
    if interpreter is None:
        pytest.skip(f"no CPython {PARENT.python} on this host to make a conda package of")
    build_images(engine, PARENT.name)
    folder = tmp_path_factory.mktemp("conda")
    channel = Channel(folder / "channels/conda-forge")
    channel.add_python(interpreter)
    wheels = folder / "wheels"
    pip = [str(interpreter.prefix / "bin" / f"python{PARENT.python}"), "-m", "pip", "download"]
    pip += ["--quiet", "--no-deps", "--only-binary", ":all:", "--dest", str(wheels)]
    subprocess.run([*pip, "markupsafe==3.0.3"], check=True)
    for wheel in sorted(wheels.iterdir()):
        channel.add_wheel(wheel, PARENT.python)
    channel.add("ld_impl_linux-64", "2.40", files={"bin/x86_64-conda-linux-gnu-ld": File(b"ld")})
    channel.add(
        "with_linker",
        "1.0",
        depends=["ld_impl_linux-64", "python"],
        files={
            "bin/.with_linker-post-link.sh": File(b"exit 1", executable=True),
            "etc/conda/activate.d/with_linker.sh": File(b"export ACTIVE=1"),
            "include/with_linker.h": File(b"int x;"),
        },
    )
    channel.write()
    specification = folder / "env.yml"
    specification.write_text(SPECIFICATION)
    decisions = Decisions(pythons=("3.11", "3.12"), default_python="3.12")
    environment = read_environment(specification, decisions)
    with served(folder / "channels") as url:
        settings = CondaSettings(mirrors={OFFICIAL: (f"{url}/",)})
        lock = lock_conda(
            ROOT,
            environment,
            HOST,
            settings,
            glibc=PARENT.suite.glibc,
            image_python=PARENT.python,
        )
    place = PurePosixPath(WORK_FOLDER.as_posix(), "environments", NAME)
    variant = conda_variant(NAME, place, PARENT, lock)
    for path, text in render_conda(ROOT, variant, PARENT, lock, environment.variables).items():
        write_atomically(ROOT / place / path, text)
    # What an earlier run built is no build.
    _change_context(variant)
    yield Site(folder / "channels", lock, variant)
    shutil.rmtree(ROOT / place)
    names = [image_tag(NAME), image_tag(NAME, "again"), image_tag(NAME, "offline")]
    subprocess.run(["docker", "rmi", "--force", *names], env=engine.environ(), capture_output=True)


def _change_context(variant: Variant) -> None:
    with (ROOT / variant.folder / SLIM_NAME).open("a") as rules:
        rules.write(f"# {uuid.uuid4()}\n")


def build(engine: Engine, site: Site, mirror: str, tag: str = "latest", *options: str) -> str:
    """Builds the image with its channel at the URL `mirror`; returns what the build printed."""
    builder = find_builder(engine)
    bases = ensure_bases(engine, [PARENT], BaseSource.AUTO)
    environment, variables = build_environment(
        ROOT, engine, builder, bases, HOST, debian_mirrors(), [site.variant], {NAME: Supply()}
    )
    variables["CONDA_MIRRORS"] = json.dumps({OFFICIAL: [f"{mirror}/"]})
    secrets = (*environment.secrets, "id=conda-mirrors,env=CONDA_MIRRORS")
    environment = dataclasses.replace(environment, secrets=secrets, tag="latest")
    step = Step(site.variant, Action.BUILD, ("a test",), Content({}))
    definition = bake_file([step], environment)
    target = definition["target"][target_name(NAME)]
    target["tags"] = [image_tag(NAME, tag)]
    with running_bake(
        ROOT, engine, builder, definition, options=options, variables=variables
    ) as bake:
        assert bake.stdout is not None
        output = bake.stdout.read()
    if bake.returncode != 0:
        raise AssertionError(output)
    return output


@pytest.fixture(scope="module")
def gateway(engine: Engine) -> str:
    """The address of this host on the engine's own bridge, which builds reach."""
    place = "{{(index .IPAM.Config 0).Gateway}}"
    return docker(engine, "network", "inspect", "bridge", "--format", place)


@pytest.fixture(scope="module")
def built(engine: Engine, site: Site, gateway: str) -> str:
    """What the build of the image printed."""
    with served(site.channels, gateway) as url:
        return build(engine, site, url)


def docker(engine: Engine, *arguments: str) -> str:
    result = subprocess.run(
        ["docker", *arguments], env=engine.environ(), capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def test_serves_locked_down(engine: Engine, site: Site, built: str, tmp_path: Path) -> None:
    """Read-only, without capabilities, as a user that nobody has heard of."""
    (tmp_path / "score.py").write_text(SCRIPT)
    tmp_path.chmod(0o755)
    container = docker(
        engine,
        *("run", "--detach", "--read-only", "--cap-drop=ALL", "--user=12345:0", "--tmpfs=/tmp"),
        *("--security-opt=no-new-privileges", "--env=AZUREML_ENTRY_SCRIPT=score.py"),
        *("--volume", f"{tmp_path}:/var/azureml-app:ro", "--publish=127.0.0.1:0:5001"),
        image_tag(NAME),
    )
    try:
        address = docker(engine, "port", container, "5001/tcp")
        request = urllib.request.Request(f"http://{address}/score", data=b'{"x": 1}')
        for _ in range(60):
            try:
                with urllib.request.urlopen(request, timeout=10) as response:
                    answer = json.load(response)
                break
            except (urllib.error.URLError, ConnectionError):
                time.sleep(1)
        else:
            pytest.fail(docker(engine, "logs", container))
        prefix = str(prefix_of(NAME))
        assert answer["prefix"] == prefix
        assert answer["escaped"] == "&lt;"
        assert answer["speedups"].startswith(f"{prefix}/lib/python3.12/site-packages/markupsafe/")
        assert answer["six"].startswith(f"{prefix}/lib/python3.12/site-packages/")
        assert answer["greeting"] == 'hello $USER "you"'
        assert answer["echo"] == {"x": 1}
        # The same Python in `exec`.
        where = docker(engine, "exec", container, "python3", "-c", "import sys; print(sys.prefix)")
        assert where == prefix
    finally:
        docker(engine, "rm", "--force", container)


def test_environment_is_active_and_trimmed(
    engine: Engine, site: Site, built: str, gateway: str
) -> None:
    prefix = prefix_of(NAME)
    run = ("run", "--rm", "--entrypoint=/bin/sh", image_tag(NAME), "-c")
    assert docker(engine, *run, "command -v python3") == f"{prefix}/bin/python3"
    variables = docker(engine, *run, "env")
    assert f"CONDA_PREFIX={prefix}" in variables
    assert "LD_LIBRARY_PATH" not in variables
    files = docker(engine, *run, f"find {prefix} /opt/inference-server -newermt 2020-01-02").split()
    assert files == []
    listing = docker(engine, *run, f"cd {prefix} && find . -type f -o -type l").split()
    assert "./bin/x86_64-conda-linux-gnu-ld" not in listing
    assert "./include/with_linker.h" not in listing
    records = docker(engine, *run, f"cat {prefix}/conda-meta/*.json")
    assert "/var/cache" not in records
    assert gateway not in records
    # Nobody runs these, and the result says so.
    assert "not run: scripts that would run when they are installed, of with_linker" in built
    not_run = json.loads(docker(engine, *run, f"cat {prefix}/conda-meta/scripts-not-run.json"))
    assert not_run == {"activation": ["with_linker"], "link_scripts": ["with_linker"]}
    # All modules have bytecode that depends on no time.
    code = (
        "import importlib.util, pathlib, six, markupsafe;"
        "paths = [m.__spec__.cached for m in (six, markupsafe)];"
        "print([pathlib.Path(p).read_bytes()[4:8] for p in paths])"
    )
    assert docker(engine, *run, f"python3 -c '{code}'") == str([b"\x03\0\0\0"] * 2)


def image(engine: Engine, tag: str) -> dict[str, object]:
    """What the engine knows of the image with this tag."""
    (found,) = json.loads(docker(engine, "image", "inspect", image_tag(NAME, tag)))
    return {name: found[name] for name in ("Id", "RootFS", "Config")}


def test_offline_from_the_cache_it_is_the_same_image(
    engine: Engine, site: Site, built: str, gateway: str
) -> None:
    with served(site.channels, gateway) as gone:
        pass
    # Not by `--no-cache`, with which BuildKit has empty cache mounts.
    _change_context(site.variant)
    output = build(engine, site, gone, "offline")
    assert "conda packages in" in output
    assert image(engine, "offline") == image(engine, "latest")


def test_two_builds_without_cache_are_the_same_image(
    engine: Engine, site: Site, built: str, gateway: str
) -> None:
    with served(site.channels, gateway) as url:
        output = build(engine, site, url, "again", f"--set={NAME}.no-cache=true")
    assert "conda packages in" in output
    assert image(engine, "again") == image(engine, "latest")


def test_replaced_package_stops_the_build(
    engine: Engine, site: Site, built: str, gateway: str
) -> None:
    """The lock is taken for that of another package, which no cache has."""
    place = ROOT / site.variant.folder / CONDA_LOCK
    (package,) = (p for p in site.lock.packages if p.name == "markupsafe")
    wrong = package.sha256[::-1]
    place.write_text(site.lock.conda.replace(package.sha256, wrong))
    try:
        with served(site.channels, gateway) as url, pytest.raises(AssertionError) as error:
            build(engine, site, url, "refused")
    finally:
        place.write_text(site.lock.conda)
    assert "is not the package that is locked" in str(error.value)
    assert package.sha256 in str(error.value)
    assert wrong in str(error.value)
