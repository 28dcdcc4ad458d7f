"""From an env.yml to an image, on a channel that is made of what is on this machine."""

import dataclasses
import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import pytest

from imagematrix.build.buildkit import running_bake
from imagematrix.build.inputs import build_environment
from imagematrix.build.results import Outcome
from imagematrix.environments.conda import read_conda_lock
from imagematrix.environments.conda_image import CONDA_LOCK
from imagematrix.environments.conda_making import make_conda_environment
from imagematrix.environments.condarc import OFFICIAL
from imagematrix.environments.deploying import Options, build_deployment, plan_deployment
from imagematrix.environments.deployment import EnvironmentImage, choose_base
from imagematrix.environments.making import MadeEnvironment, Settings
from imagematrix.environments.model import Deployment, Environment, Packages
from imagematrix.environments.pypi import decisions, minimal_images, without_server
from imagematrix.environments.specification import read_environment
from imagematrix.host.bases import BaseSource, ensure_bases
from imagematrix.host.bootstrap import find_interpreter
from imagematrix.host.buildx import find_builder
from imagematrix.host.config import read_host_config
from imagematrix.host.debian import debian_mirrors
from imagematrix.host.engine import Engine
from imagematrix.host.supply import Supply
from imagematrix.matrix.variant import Variant
from imagematrix.plan.bake import bake_file, image_tag, target_name
from imagematrix.plan.content import Content
from imagematrix.plan.plan import Action, Step
from imagematrix.repository.project import Project
from tests.engine.conda_channel import Channel, File, served
from tests.engine.conftest import ROOT
from tests.example_images import example
from tests.images.running import build_images

HOST = read_host_config(os.environ, Path.home())
PARENT = example()
SPECIFICATION = """\
name: mine
channels: [conda-forge]
dependencies:
  - python=3.12
  - markupsafe
  - with_linker
  - pip:
      - six==1.17.0
      - azureml-defaults
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
    """A folder with a channel, and an environment that takes its packages from there."""

    channels: Path
    environment: Environment


@pytest.fixture(scope="module")
def site(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Site:
    interpreter = find_interpreter(PARENT.python)
    if interpreter is None:
        pytest.skip(f"no CPython {PARENT.python} on this host to make a conda package of")
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
    # What an earlier run built has another name.
    specification.write_text(f"{SPECIFICATION}  RUN: {uuid.uuid4()}\n")
    known = decisions(Project(tree), Packages.CONDA)
    return Site(folder / "channels", without_server(read_environment(specification, known)))


@pytest.fixture(scope="module")
def older(tmp_path_factory: pytest.TempPathFactory, tree: Path) -> Site:
    """An environment with a Python that has no minimal image."""
    images = minimal_images(Project(tree).variants)
    series = next((s for s in ("3.10", "3.9", "3.8") if find_interpreter(s) is not None), "")
    interpreter = find_interpreter(series) if series else None
    if interpreter is None or series in images:
        pytest.skip("no CPython on this host that has no minimal image")
    folder = tmp_path_factory.mktemp("older")
    channel = Channel(folder / "channels/conda-forge")
    channel.add_python(interpreter)
    channel.write()
    specification = folder / "env.yml"
    specification.write_text(
        f"channels: [conda-forge]\ndependencies: [python={series}]\n"
        f"variables: {{RUN: {uuid.uuid4()}}}\n"
    )
    known = decisions(Project(tree), Packages.CONDA)
    return Site(folder / "channels", read_environment(specification, known))


@pytest.fixture(scope="module")
def gateway(engine: Engine) -> str:
    """The address of this host on the engine's own bridge, which builds reach."""
    place = "{{(index .IPAM.Config 0).Gateway}}"
    return docker(engine, "network", "inspect", "bridge", "--format", place)


@contextmanager
def mirrored(site: Site, gateway: str) -> Iterator[str]:
    """A host whose .condarc names a mirror on this machine; the URL of that."""
    with served(site.channels, gateway) as url:
        settings = site.channels.parent / "condarc"
        settings.write_text(f"channel_alias: {url}\n")
        with patch.dict(os.environ, CONDARC=str(settings), NOX_ENVDIR=str(ROOT / ".nox")):
            yield url


@pytest.fixture(scope="module")
def made(engine: Engine, tree: Path, site: Site, gateway: str) -> Iterator[MadeEnvironment]:
    build_images(engine, PARENT.name)
    with mirrored(site, gateway):
        found = make_conda_environment(Project(tree), site.environment, Settings())
    try:
        assert found.is_right, found.result.detail
        yield found
    finally:
        names = [image_tag(found.variant.name, tag) for tag in ("latest", "again", "offline")]
        remove = ["docker", "rmi", "--force", *names]
        subprocess.run(remove, env=engine.environ(), capture_output=True)


def build(
    engine: Engine, tree: Path, variant: Variant, mirror: str, tag: str, *options: str
) -> str:
    """Builds the image once more; returns what the build printed."""
    builder = find_builder(engine)
    bases = ensure_bases(engine, [PARENT], BaseSource.AUTO)
    environment, variables = build_environment(
        tree, engine, builder, bases, HOST, debian_mirrors(), [variant], {variant.name: Supply()}
    )
    variables["CONDA_MIRRORS"] = json.dumps({OFFICIAL: [f"{mirror}/"]})
    secrets = (*environment.secrets, "id=conda-mirrors,env=CONDA_MIRRORS")
    environment = dataclasses.replace(environment, secrets=secrets)
    step = Step(variant, Action.BUILD, ("a test",), Content({}))
    definition = bake_file([step], environment)
    target = definition["target"][target_name(variant.name)]
    # As the first build had them.
    present = engine.inspect([image_tag(variant.name)])[image_tag(variant.name)]
    labels = present["Config"]["Labels"]
    target |= {"tags": [image_tag(variant.name, tag)]}
    target["labels"] = {name: text.replace("${", "$${") for name, text in labels.items()}
    with running_bake(
        tree, engine, builder, definition, options=options, variables=variables
    ) as bake:
        assert bake.stdout is not None
        output = bake.stdout.read()
    if bake.returncode != 0:
        raise AssertionError(output)
    return output


def docker(engine: Engine, *arguments: str) -> str:
    result = subprocess.run(
        ["docker", *arguments], env=engine.environ(), capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def test_serves_locked_down(engine: Engine, made: MadeEnvironment, tmp_path: Path) -> None:
    """Read-only, without capabilities, as a user without a name."""
    (tmp_path / "score.py").write_text(SCRIPT)
    tmp_path.chmod(0o755)
    container = docker(
        engine,
        *("run", "--detach", "--read-only", "--cap-drop=ALL", "--user=12345:0", "--tmpfs=/tmp"),
        *("--security-opt=no-new-privileges", "--env=AZUREML_ENTRY_SCRIPT=score.py"),
        *("--volume", f"{tmp_path}:/var/azureml-app:ro", "--publish=127.0.0.1:0:5001"),
        image_tag(made.variant.name),
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
        prefix = f"/azureml-envs/{made.variant.name}"
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
    engine: Engine, tree: Path, made: MadeEnvironment, gateway: str
) -> None:
    prefix = f"/azureml-envs/{made.variant.name}"
    run = ("run", "--rm", "--entrypoint=/bin/sh", image_tag(made.variant.name), "-c")
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
    # Nobody runs these, and the build says so.
    built = (tree / "build/build.log").read_text()
    assert "not run: scripts that would run when they are installed, of with_linker" in built
    not_run = json.loads(docker(engine, *run, f"cat {prefix}/etc/conda/scripts-not-run.json"))
    assert not_run == {"activation": ["with_linker"], "link_scripts": ["with_linker"]}
    # All modules have bytecode that depends on no time.
    code = (
        "import importlib.util, pathlib, six, markupsafe;"
        "paths = [m.__spec__.cached for m in (six, markupsafe)];"
        "print([pathlib.Path(p).read_bytes()[4:8] for p in paths])"
    )
    assert docker(engine, *run, f"python3 -c '{code}'") == str([b"\x03\0\0\0"] * 2)


def image(engine: Engine, made: MadeEnvironment, tag: str) -> dict[str, object]:
    """What the engine knows of the image with this tag."""
    (found,) = json.loads(docker(engine, "image", "inspect", image_tag(made.variant.name, tag)))
    return {name: found[name] for name in ("Id", "RootFS", "Config")}


def test_second_run_has_nothing_to_do_and_asks_nobody(
    tree: Path, site: Site, made: MadeEnvironment
) -> None:
    again = make_conda_environment(Project(tree), site.environment, Settings())
    assert again.result.outcome is Outcome.UP_TO_DATE
    assert again.variant == made.variant


def test_command_finds_it_up_to_date(
    engine: Engine, tree: Path, site: Site, made: MadeEnvironment, tmp_path: Path
) -> None:
    specification = site.channels.parent / "env.yml"
    command = [sys.executable, "-m", "imagematrix", "environment", str(specification), "--json"]
    done = subprocess.run(
        command, cwd=tree, env=engine.environ(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(done.stdout)
    assert (row["name"], row["outcome"]) == (made.variant.name, "up to date")
    assert "azureml-defaults is left out" in done.stderr


def test_details_say_how_it_was_made(tree: Path, made: MadeEnvironment) -> None:
    folder = tree / made.variant.folder
    details = json.loads((folder / "details.json").read_text())
    prefix = f"/azureml-envs/{made.variant.name}"
    assert details["pythonEnvironment"] == {
        "interpreterPath": f"{prefix}/bin/python3",
        "condaEnvironmentName": made.variant.name,
        "condaEnvironmentPath": prefix,
    }
    assert details["ingredients"]["dockerfile"] == (folder / "Dockerfile").read_text()
    lock = (folder / "conda.lock").read_text()
    assert f"{OFFICIAL}conda-forge/linux-64/markupsafe-3.0.3-py312_0.conda" in lock


def test_python_without_a_minimal_image(
    engine: Engine, tree: Path, older: Site, gateway: str
) -> None:
    """It is on the usual image, with a parser of HTTP of its own, and passes the same checks."""
    build_images(engine, PARENT.name)
    with mirrored(older, gateway):
        found = make_conda_environment(Project(tree), older.environment, Settings())
    try:
        assert found.is_right, found.result.detail
        assert found.variant.parent == PARENT.name
        run = ("run", "--rm", image_tag(found.variant.name), "python3", "-c")
        code = "import httptools, platform; print(platform.python_version(), httptools.__file__)"
        version, parser = docker(engine, *run, code).split()
        assert version.startswith(f"{older.environment.series}.")
        assert parser.startswith(f"/azureml-envs/{found.variant.name}/lib/")
    finally:
        remove = ["docker", "rmi", "--force", image_tag(found.variant.name)]
        subprocess.run(remove, env=engine.environ(), capture_output=True)


def test_nothing_of_the_mirror_is_in_the_image(
    engine: Engine, tree: Path, made: MadeEnvironment, gateway: str
) -> None:
    name = image_tag(made.variant.name)
    described = docker(engine, "image", "inspect", name)
    assert gateway not in described + docker(engine, "history", "--no-trunc", name)
    search = f"grep -rlF '{gateway}:' /azureml-envs /opt /etc /home || true"
    assert docker(engine, "run", "--rm", "--entrypoint=/bin/sh", name, "-c", search) == ""
    for path in (tree / made.variant.folder).rglob("*"):
        assert path.is_dir() or gateway not in path.read_text(), path


def test_offline_from_the_cache_it_is_the_same_image(
    engine: Engine, tree: Path, site: Site, made: MadeEnvironment, gateway: str
) -> None:
    with mirrored(site, gateway) as gone:
        pass
    # Not by `--no-cache`, with which BuildKit has empty cache mounts.
    with (tree / made.variant.slim_file).open("a") as rules:
        rules.write("# Another context.\n")
    output = build(engine, tree, made.variant, gone, "offline")
    assert "conda packages in" in output
    assert image(engine, made, "offline") == image(engine, made, "latest")


def test_two_builds_without_cache_are_the_same_image(
    engine: Engine, tree: Path, site: Site, made: MadeEnvironment, gateway: str
) -> None:
    no_cache = f"--set={target_name(made.variant.name)}.no-cache=true"
    with mirrored(site, gateway) as url:
        output = build(engine, tree, made.variant, url, "again", no_cache)
    assert "conda packages in" in output
    assert image(engine, made, "again") == image(engine, made, "latest")


def test_replaced_package_stops_the_build(
    engine: Engine, tree: Path, site: Site, made: MadeEnvironment, gateway: str
) -> None:
    """The channel has another package than the one that is locked."""
    place = tree / made.variant.folder / CONDA_LOCK
    text = place.read_text()
    lock = read_conda_lock(text, "")
    (package,) = (p for p in lock.packages if p.name == "markupsafe")
    wrong = package.sha256[::-1]
    place.write_text(text.replace(package.sha256, wrong))
    try:
        with mirrored(site, gateway) as url, pytest.raises(AssertionError) as error:
            build(engine, tree, made.variant, url, "refused")
    finally:
        place.write_text(text)
    assert "is not the package that is locked" in str(error.value)
    assert package.sha256 in str(error.value)
    assert wrong in str(error.value)


def test_it_serves_on_a_base_image_without_a_python(
    engine: Engine, tree: Path, made: MadeEnvironment, site: Site, tmp_path: Path
) -> None:
    """A deployment whose base image is of another maker: plain Debian."""
    base = ensure_bases(engine, [PARENT], BaseSource.AUTO).images[PARENT.debian_image]
    (tmp_path / "score.py").write_text(SCRIPT)
    deployment = Deployment(
        file=tmp_path / "inferenceconfig.json",
        folder=tmp_path,
        source=tmp_path,
        script="score.py",
        environment=site.environment,
        base_image=base,
    )
    conda = made.variant.conda
    assert conda is not None
    environment = EnvironmentImage(image_tag(made.variant.name), conda.prefix)
    options = Options("deployment-conda:latest", environment=environment)
    if not choose_base(deployment, Project(tree).variants, environment).foreign:
        pytest.skip(f"{base} is an image that these tools know")
    build_deployment(Project(tree), plan_deployment(Project(tree), deployment, options))
    try:
        score = "from inference_server import service; import score; score.init();"
        score += "print(score.run('1')['prefix'], score.run('1')['six'])"
        run = ("run", "--rm", "--read-only", "--cap-drop=ALL", "--user=12345:0", "--network=none")
        output = docker(engine, *run, options.image, "python3", "-c", score)
    finally:
        docker(engine, "rmi", "--force", options.image)
    assert output.split()[0] == conda.prefix
    assert output.split()[1].startswith(f"{conda.prefix}/lib/")
