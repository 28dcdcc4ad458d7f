"""Deployment images from an inferenceconfig.json, in containers as a consumer runs them.

The base image of another maker is a stand-in, made of what is on this host: Debian with Python in
/opt/miniconda, a user of its own with the number 1000, and none of our files.
"""

import json
import os
import subprocess
import sys
from base64 import b64encode
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO
from unittest.mock import patch

import docker.errors
import pytest

from imagematrix.checks.fitness import findings_of
from imagematrix.checks.running import START_SECONDS
from imagematrix.environments.deploying import (
    DEPLOYMENTS,
    Options,
    Planned,
    build_deployment,
    plan_deployment,
)
from imagematrix.environments.deployment import EnvironmentImage
from imagematrix.environments.foreign import (
    PASSWORD_VARIABLE,
    USERNAME_VARIABLE,
    credentials_of,
)
from imagematrix.environments.model import Decisions, Deployment, Environment
from imagematrix.environments.specification import read_deployment
from imagematrix.errors import UserError
from imagematrix.files import WORK_FOLDER
from imagematrix.host.bases import BaseSource, ensure_bases
from imagematrix.host.engine import Engine, layers_of
from imagematrix.measure.layers import read_layers
from imagematrix.plan.bake import image_tag
from imagematrix.repository.passed import Outcome
from imagematrix.repository.project import Project
from tests.derived.containers import PORT, Service
from tests.engine.registries import PASSWORD, USER, SecureRegistry
from tests.example_images import example
from tests.images.running import build_images

BASE = "deployment-stand-in"
IMAGE_NAME = "deployment-test"
IMAGE = f"{IMAGE_NAME}:latest"
EXAMPLE = Path(__file__).resolve().parents[2] / "base/example"
REQUEST = json.loads((EXAMPLE / "request.json").read_text())
RESPONSE = json.loads((EXAMPLE / "response.json").read_text())
DECISIONS = Decisions(pythons=("3.7", "3.11", "3.12", "3.13"), default_python="3.12")

# As the recipes of 2019 have it: Debian or Ubuntu, Python of Miniconda on PATH, root.
_STAND_IN = """\
FROM {ours} AS ours
FROM {debian}
COPY --from=ours /usr/local/ /opt/miniconda/
COPY --from=ours /usr/lib/x86_64-linux-gnu/ /usr/lib/x86_64-linux-gnu/
RUN cd /opt/miniconda && rm -r lib/inference-server bin/azmlinfsrv lib/python3*/ensurepip.py \\
    lib/python3*/site-packages/httptools* lib/python3*/site-packages/inference-server.pth \\
 && echo /opt/miniconda/lib > /etc/ld.so.conf.d/conda.conf && ldconfig \\
 && useradd --uid 1000 --user-group ubuntu
ENV PATH=/opt/miniconda/bin:$PATH
LABEL inference.test=true
STOPSIGNAL SIGINT
CMD ["sleep", "1"]
"""


@pytest.fixture(scope="module")
def stand_in(engine: Engine) -> Iterator[str]:
    """The name of the base image of another maker."""
    build_images(engine, example().name)
    bases = ensure_bases(engine, [example()], BaseSource.AUTO)
    text = _STAND_IN.format(
        ours=image_tag(example().name), debian=bases.images[example().debian_image]
    )
    command = ["docker", "build", "--quiet", "--tag", BASE, "-"]
    subprocess.run(command, input=text, text=True, env=engine.environ(), check=True)
    yield image_tag(BASE)
    remove(engine, BASE)


@pytest.fixture
def app(tmp_path: Path) -> Path:
    """A folder with the example, and with what must not be copied; few may read it."""
    folder = tmp_path / "app"
    folder.mkdir()
    for name in ("score.py", "model.json"):
        (folder / name).write_text((EXAMPLE / name).read_text())
        (folder / name).chmod(0o600)
    (folder / ".git").mkdir()
    (folder / ".git" / "config").write_text("secret")
    return folder


def remove(engine: Engine, image: str) -> None:
    with closing(engine.client()) as client:
        client.api.remove_image(image, force=True)


@contextmanager
def deployed(
    engine: Engine, tree: Path, folder: Path, config: dict[str, Any], **options: Any
) -> Iterator[Planned]:
    """The image of an inferenceconfig.json in a folder; gone at the end."""
    file = folder / "inferenceconfig.json"
    file.write_text(json.dumps(config))
    deployment = read_deployment(file, DECISIONS)
    given = Options(IMAGE, credentials=credentials_of(deployment.registry, os.environ), **options)
    planned = plan_deployment(Project(tree), deployment, given)
    build_deployment(Project(tree), planned)
    try:
        yield planned
    finally:
        remove(engine, planned.image)


@contextmanager
def hardened(engine: Engine, image: str) -> Iterator[Service]:
    """Its container: read-only, without capabilities, under another uid."""
    with closing(engine.client()) as client:
        container = client.containers.create(
            image,
            user="12345:0",
            read_only=True,
            tmpfs={"/tmp": ""},
            cap_drop=["ALL"],
            security_opt=["no-new-privileges"],
            ports={PORT: ("127.0.0.1", 0)},
            labels={"inference.test": "true"},
        )
        try:
            container.start()
            yield Service(container, 0).await_ready()
        finally:
            container.remove(force=True, v=True)


def scores(service: Service) -> bool:
    """Whether it answers the request of the example as the example says."""
    answer = service.score(REQUEST)
    return answer.status == 200 and answer.json == {
        "predictions": pytest.approx(RESPONSE["predictions"])
    }


def config_of(engine: Engine, image: str) -> dict[str, Any]:
    found: dict[str, Any] = engine.inspect([image])[image]["Config"]
    return found


def test_a_recipe_of_2019_serves_on_a_base_of_another_maker(
    engine: Engine, tree: Path, stand_in: str, app: Path
) -> None:
    (app / "steps").write_text("# A step\nRUN id -un > /step \\\n && test -d /opt/miniconda\n")
    config = {
        "entryScript": "score.py",
        "runtime": "python",
        "sourceDirectory": ".",
        "extraDockerfileSteps": "steps",
        "baseImage": BASE,
        "enableGpu": None,
    }
    with deployed(engine, tree, app, config) as found, hardened(engine, IMAGE) as service:
        assert found.base.reference == stand_in
        assert scores(service)
        settings = config_of(engine, IMAGE)
        assert settings["User"] == "1000:1000"
        assert settings["ExposedPorts"] == {PORT: {}}
        assert settings["StopSignal"] == "SIGTERM"
        python = "/opt/miniconda/bin/python3"
        assert settings["Cmd"] == [python, "-I", "-m", "inference_server"]
        assert service.execute("cat", "/step").strip() == "root"
        assert service.execute("id", "-un", "1000").strip() == "dockeruser"
        assert service.execute("cat", "/proc/1/comm").strip() == "tini"
        assert service.execute(python, "-c", "import azureml.contrib.services") == ""
        copied = service.execute("find", "/var/azureml-app", "-type", "f").split()
        assert sorted(copied) == [
            f"/var/azureml-app/{n}" for n in ("model.json", "score.py", "steps")
        ]
        assert service.execute(*settings["Healthcheck"]["Test"][1:]) is not None
        assert "pycache" not in service.execute("find", "/opt/inference-server/bin")

        service.container.stop(timeout=30)
        assert service.await_exit() == 0


def test_verify_says_what_a_base_lacks_and_what_it_keeps(
    engine: Engine, tree: Path, stand_in: str, app: Path
) -> None:
    """All that the contract has comes with the server; setuid programs stay."""
    config = {"entryScript": "score.py", "baseImage": BASE, "sourceDirectory": "."}
    with deployed(engine, tree, app, config):
        lacking, left = (
            {
                finding.what
                for finding in findings_of(engine, image, tree, START_SECONDS)
                if finding.outcome is Outcome.FAILED
            }
            for image in (stand_in, IMAGE)
        )
    assert {"health", "port exposed", "user"} <= lacking
    assert left == {"setuid files"}


# A conda environment at its place, and a base image on whose PATH there is no Python.
_ENVIRONMENT = """\
FROM {stand_in} AS made
FROM scratch
COPY --from=made /opt/miniconda/ /azureml-envs/azureml_1/
"""
_WITHOUT_PYTHON = """\
FROM {stand_in}
ENV PATH=/usr/bin:/bin
"""


def test_a_conda_environment_brings_the_python_that_a_base_lacks(
    engine: Engine, tree: Path, stand_in: str, app: Path
) -> None:
    names = {f"{IMAGE_NAME}-environment": _ENVIRONMENT, f"{IMAGE_NAME}-base": _WITHOUT_PYTHON}
    with ExitStack() as stack:
        for name, text in names.items():
            command = ["docker", "build", "--quiet", "--tag", name, "-"]
            given = text.format(stand_in=stand_in)
            subprocess.run(command, input=given, text=True, env=engine.environ(), check=True)
            stack.callback(remove, engine, name)
        made, base = map(image_tag, names)
        config = {"entryScript": "score.py", "sourceDirectory": ".", "baseImage": base}
        with pytest.raises(UserError, match=r"has no Python .* a condaFile brings one"):
            stack.enter_context(deployed(engine, tree, app, config))

        (app / "env.yml").write_text("dependencies: [python=3.12]\nchannels: [conda-forge]\n")
        config["condaFile"] = "env.yml"
        environment = EnvironmentImage(made, "/azureml-envs/azureml_1")
        stack.enter_context(deployed(engine, tree, app, config, environment=environment))
        with hardened(engine, IMAGE) as service:
            assert scores(service)
            found = service.execute("sh", "-c", "command -v python3").strip()
            assert found == "/azureml-envs/azureml_1/bin/python3"

        without = EnvironmentImage(made)
        with pytest.raises(UserError, match="packages of PyPI go into the Python of these images"):
            stack.enter_context(deployed(engine, tree, app, config, environment=without))


def test_values_and_names_reach_the_image_as_they_are(
    engine: Engine, tree: Path, app: Path, tmp_path: Path
) -> None:
    """On an image of ours: a script with an odd name, models, variables of an environment."""
    name = "it's $HOME \" ${PATH} #score.py"
    odd = app / name
    odd.write_text((app / "score.py").read_text())
    (app / "score.py").unlink()
    model = tmp_path / "my model $x"
    model.mkdir(mode=0o700)
    (model / "weights").write_text("1")
    variables = {"ODD": 'a "b" $PATH \\ \' `id` #'}
    environment = Environment(app / "env.yml", variables=variables)
    deployment = Deployment(
        app / "inferenceconfig.json", app, source=None, script=name, environment=environment
    )
    planned = plan_deployment(Project(tree), deployment, Options(IMAGE, models=(model,)))
    build_deployment(Project(tree), planned)
    try:
        kept = dict(item.split("=", 1) for item in config_of(engine, IMAGE)["Env"])
        assert kept["AZUREML_ENTRY_SCRIPT"] == name
        assert kept["AZUREML_MODEL_DIR"] == "/var/azureml-app/azureml-models/my model $x"
        assert kept.items() > variables.items()
        with closing(engine.client()) as client:
            run = ["find", "/var/azureml-app", "-type", "f", "-printf", "%m %P\n"]
            output = client.containers.run(IMAGE, run[1:], entrypoint=run[:1], remove=True)
        assert sorted(output.decode().splitlines()) == [
            "755 azureml-models/my model $x/weights",
            f"755 {name}",
        ]
    finally:
        remove(engine, IMAGE)


# --- a private registry -----------------------------------------------------------------------


@pytest.fixture
def private(engine: Engine, stand_in: str, secure_registry: SecureRegistry) -> Iterator[str]:
    """The base image in a registry with a password; the engine does not have it from there."""
    reference = f"{secure_registry.host}/team/deployment-stand-in"
    with closing(engine.client()) as client:
        assert client.api.tag(stand_in, reference, "2019")
        events = client.api.push(
            reference,
            tag="2019",
            auth_config={"username": USER, "password": PASSWORD},
            stream=True,
            decode=True,
        )
        assert not [event for event in events if "error" in event]
        client.api.remove_image(f"{reference}:2019")
    yield f"{reference}:2019"
    with closing(engine.client()) as client, suppress(docker.errors.ImageNotFound):
        client.api.remove_image(f"{reference}:2019", force=True)


def test_a_private_base_is_refused_without_its_password(
    engine: Engine, tree: Path, private: str, app: Path
) -> None:
    config = {"entryScript": "score.py", "baseImage": private}
    with pytest.raises(UserError) as error, deployed(engine, tree, app, config):
        pytest.fail("it was pulled without a password")
    assert str(error.value).startswith(f"the base image {private} needs a log-in")
    assert PASSWORD_VARIABLE in str(error.value)

    wrong = {USERNAME_VARIABLE: USER, PASSWORD_VARIABLE: "a wrong password"}
    with (
        patch.dict(os.environ, wrong),
        pytest.raises(UserError) as error,
        deployed(engine, tree, app, config),
    ):
        pytest.fail("it was pulled with a wrong password")
    assert f"the registry of {private} refuses '{USER}' with this password" in str(error.value)
    assert "a wrong password" not in str(error.value)
    assert not engine.inspect([private])


@pytest.mark.parametrize("place", ["environment", "standard input", "file"])
def test_the_password_of_a_registry_stays_nowhere(
    place: str, engine: Engine, tree: Path, private: str, app: Path
) -> None:
    """From wherever it comes, and be it in the configuration, which lies beside the code."""
    registry: dict[str, str] = {"address": private.partition("/")[0]}
    environ, given, base = dict(os.environ), "", private
    options = ["--tag", IMAGE]
    match place:
        case "file":
            registry |= {"username": USER, "password": PASSWORD}
        case "environment":
            environ |= {USERNAME_VARIABLE: USER, PASSWORD_VARIABLE: PASSWORD}
        case "standard input":
            environ |= {USERNAME_VARIABLE: USER}
            options, given = [*options, "--password-stdin"], f"{PASSWORD}\n"
            # A base image may be named by its digest.
            base = f"{private.rpartition(':')[0]}@{digest_of(engine, private)}"
    config = {
        "entryScript": "score.py",
        "sourceDirectory": ".",
        "baseImage": base.partition("/")[2],
        "baseImageRegistry": registry,
    }
    file = app / "inferenceconfig.json"
    file.write_text(json.dumps(config))
    result = subprocess.run(
        [sys.executable, "-m", "imagematrix", "environment", str(file), *options],
        cwd=tree,
        env=environ,
        input=given,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    try:
        with hardened(engine, IMAGE) as service:
            assert scores(service)
        words = [PASSWORD.encode(), b64encode(f"{USER}:{PASSWORD}".encode())]
        with closing(engine.client()) as client:
            description = client.api.inspect_image(IMAGE)
            below = layers_of(client.api.inspect_image(base))
            own = set(layers_of(description)) - set(below)
            # The last word is in a layer: what is not found there would have been found, too.
            search = partial(words_in, words=[*words, b"azureml-app"])
            read = read_layers(client, IMAGE, own, search)
            history = json.dumps(client.api.history(IMAGE))
    finally:
        remove(engine, IMAGE)
        if base != private:
            remove(engine, base)
    folder = tree / DEPLOYMENTS / "deployment-test"
    log = (tree / WORK_FOLDER / "build.log").read_text()
    written = "".join(path.read_text() for path in folder.iterdir())
    assert f"FROM {base}\n" in written
    assert "add-server" in log
    assert len(history) > 1000
    assert "deployment-test:latest" in result.stdout
    shown = (result.stdout, result.stderr, log, written, history, json.dumps(description))
    for text in shown:
        assert not [word for word in words if word in text.encode()]
    assert read.keys() == own
    assert set().union(*read.values()) == {b"azureml-app"}


def digest_of(engine: Engine, reference: str) -> str:
    """The digest of an image in the private registry."""
    with closing(engine.client()) as client:
        login = {"username": USER, "password": PASSWORD}
        found = client.api.inspect_distribution(reference, auth_config=login)
    return str(found["Descriptor"]["digest"])


def words_in(layer: BinaryIO, words: Sequence[bytes]) -> set[bytes]:
    """Which of the words are in a layer."""
    content = b"".join(iter(partial(layer.read, 1 << 20), b""))
    return {word for word in words if word in content}
