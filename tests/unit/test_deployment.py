"""The base image and the Dockerfile of an inference configuration."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from imagematrix.environments.deploying import PYTHONS, nearest
from imagematrix.environments.deployment import (
    AddedServer,
    Base,
    BasePython,
    EnvironmentImage,
    choose_base,
    ignored_paths,
    models_of,
    quoted,
    render_deployment,
    with_host_settings,
)
from imagematrix.environments.foreign import (
    PASSWORD_VARIABLE,
    USERNAME_VARIABLE,
    Credentials,
    Found,
    credentials_of,
    require_python,
)
from imagematrix.environments.model import Deployment, Environment, Registry
from imagematrix.errors import UserError
from imagematrix.matrix.variant import Variant
from imagematrix.plan.bake import BuildEnvironment, OtherImage, local_paths, other_image
from imagematrix.repository.project import Project
from tests.unit.helpers import REPOSITORY

PROJECT = Project(REPOSITORY)
MINIMAL = "minimal-py312-inference:latest"
FOREIGN = Base("registry.example/team/base:1", foreign=True)


def deployment(**given: Any) -> Deployment:
    folder = Path("/app")
    return Deployment(
        **{"file": folder / "inferenceconfig.json", "folder": folder, "source": folder}
        | {"script": "score.py"}
        | given
    )


def chosen(**given: Any) -> Base:
    return choose_base(deployment(**given), PROJECT.variants)


def rendered(**given: Any) -> list[str]:
    """The lines of a Dockerfile on an image of ours."""
    return render_deployment(REPOSITORY, deployment(**given), Base(MINIMAL)).splitlines()


def added(version: str = "3.12", executable: str = "/opt/miniconda/bin/python3") -> AddedServer:
    return AddedServer(BasePython(executable, version), minimal(version))


def minimal(version: str) -> Variant:
    return nearest([variant for variant in PROJECT.variants if variant.parent is None], version)


# --- the base image ---------------------------------------------------------------------------


def test_without_more_it_is_the_newest_minimal_image() -> None:
    base = chosen()
    assert (base.reference, base.foreign) == (MINIMAL, False)
    assert base.why == "the newest minimal image"


@pytest.mark.parametrize(
    ("series", "image"),
    [("3.13", "minimal-py313-inference"), ("3.7", "minimal-py3.7-inference-cpu")],
)
def test_the_python_that_is_asked_for_chooses_the_image(series: str, image: str) -> None:
    environment = Environment(Path("env.yml"), series=series)
    assert chosen(environment=environment).reference == f"{image}:latest"
    with pytest.raises(UserError, match=r"no minimal image has Python 3\.9"):
        chosen(environment=replace(environment, series="3.9"))


def test_a_gpu_chooses_the_image_with_cuda() -> None:
    base = chosen(enable_gpu=True)
    assert base.variant is not None
    assert base.variant.cuda is not None
    version = base.variant.cuda.version
    assert base.reference == f"minimal-py312-cuda{version}-inference:latest"
    assert chosen(enable_gpu=True, cuda_version=version) == base
    assert chosen(enable_gpu=True, cuda_version=f"{version}.2") == base


def test_a_cuda_that_no_image_has_is_an_error_that_names_those_that_there_are() -> None:
    with pytest.raises(UserError) as error:
        chosen(enable_gpu=True, cuda_version="10.0")
    assert str(error.value) == (
        "/app/inferenceconfig.json: no minimal image has CUDA 10.0 (there is: 13.0); leave out"
        " cudaVersion, or name a baseImage that has it"
    )


@pytest.mark.parametrize(
    ("named", "image"),
    [
        ("mcr.microsoft.com/azureml/onnxruntime:v0.4.0", "onnxruntime0.4-py3.7-inference-cpu"),
        (
            "mcr.microsoft.com/azureml/onnxruntime:v0.4.0-cuda10.0-cudnn7",
            "onnxruntime1.31-py312-cuda13.0-inference",
        ),
        (
            "mcr.microsoft.com/azureml/pytorch1.6-py3.7-inference-cpu:latest",
            "pytorch1.6-py3.7-inference-cpu",
        ),
        ("xgboost0.9-py3.7-inference-cpu", "xgboost0.9-py3.7-inference-cpu"),
        ("minimal-py313-inference:latest", "minimal-py313-inference"),
    ],
)
def test_names_that_people_know_have_an_image_here(named: str, image: str) -> None:
    base = chosen(base_image=named)
    assert (base.reference, base.foreign) == (f"{image}:latest", False)
    assert base.variant is not None
    assert base.variant.name == image


def test_the_conda_base_of_the_recipes_has_an_image_here() -> None:
    base = chosen(base_image="mcr.microsoft.com/azureml/o16n-sample-user-base/ubuntu-miniconda")
    assert base.variant is not None
    assert base.variant.framework == "minimal"
    assert base.why.startswith("it takes the place of mcr.microsoft.com/")


@pytest.mark.parametrize(
    ("named", "reference"),
    [
        ("registry.example/onnxruntime:v0.4.0", "registry.example/onnxruntime:v0.4.0"),
        ("127.0.0.1:5000/team/base", "127.0.0.1:5000/team/base:latest"),
        ("python:3.10-slim", "python:3.10-slim"),
        (f"a.example/b@sha256:{'0' * 64}", f"a.example/b@sha256:{'0' * 64}"),
    ],
)
def test_images_of_others_are_taken_as_they_are(named: str, reference: str) -> None:
    assert chosen(base_image=named) == Base(reference, foreign=True)


@pytest.mark.parametrize("named", ["a b/c", "x\nRUN y/z", "$HOME/x", "-x/y"])
def test_what_is_no_name_of_an_image_is_refused(named: str) -> None:
    with pytest.raises(UserError, match="is no name of an image"):
        chosen(base_image=named)


def test_an_environment_is_the_base_unless_another_maker_has_one() -> None:
    made = EnvironmentImage("azureml_123:latest", "/azureml-envs/azureml_123")
    ours = deployment(base_image="mcr.microsoft.com/azureml/onnxruntime:v0.4.0")
    theirs = deployment(base_image="registry.example/base:1")

    for one in (deployment(), ours):
        base = choose_base(one, PROJECT.variants, made)
        assert (base.reference, base.foreign) == ("azureml_123:latest", False)
    assert choose_base(theirs, PROJECT.variants, made).reference == "registry.example/base:1"


# --- the Dockerfile ---------------------------------------------------------------------------


def test_on_an_image_of_ours_it_is_short() -> None:
    assert rendered() == [
        "# From inferenceconfig.json, rendered by imagematrix. Changes are overwritten.",
        f"FROM {MINIMAL}",
        "USER 0",
        "WORKDIR /var/azureml-app",
        'COPY --chmod=755 [".", "/var/azureml-app/"]',
        'ENV AZUREML_ENTRY_SCRIPT="score.py"',
        f'LABEL org.opencontainers.image.base.name="{MINIMAL}"',
        "# By number, so that Kubernetes can tell that it is not root.",
        "USER 1000:1000",
    ]


def test_without_a_source_directory_only_the_script_is_copied() -> None:
    lines = rendered(source=None, script="app/my $score's.py")
    path = "app/my \\\\$score\\\\'s.py"
    assert f'COPY --chmod=755 ["{path}", "/var/azureml-app/{path}"]' in lines
    assert 'ENV AZUREML_ENTRY_SCRIPT="app/my \\$score\'s.py"' in lines


@pytest.mark.parametrize("script", ["sco[r]e.py", "*.py", "a?.py", "a\\b.py"])
def test_files_that_copy_would_take_for_a_pattern_are_refused(script: str) -> None:
    with pytest.raises(UserError, match="would be read as a pattern"):
        rendered(source=None, script=script)
    assert f"ENV AZUREML_ENTRY_SCRIPT={quoted(script)}" in rendered(script=script)


def test_steps_come_before_the_code_and_the_last_user() -> None:
    lines = rendered(docker_steps="# mine\nUSER 0\nENV A=b\n")
    assert lines.index("# mine") < lines.index("WORKDIR /var/azureml-app")
    assert lines[-1] == "USER 1000:1000"
    assert lines.index("ENV A=b") < lines.index('COPY --chmod=755 [".", "/var/azureml-app/"]')


def test_steps_that_would_swallow_what_follows_are_refused() -> None:
    with pytest.raises(UserError, match="extraDockerfileSteps goes on"):
        rendered(docker_steps="RUN true && \\\n")


def test_values_are_what_they_are() -> None:
    """None ends its quotes, begins another instruction, or is replaced."""
    variables = {"A": 'x" USER 0', "B": "$PATH ${HOME} `id`", "C": "back\\slash\\", "D": "it's"}
    environment = Environment(Path("env.yml"), variables=variables)
    lines = rendered(environment=environment, description='a "b"\nUSER 0 $c')
    assert 'ENV A="x\\" USER 0" \\' in lines
    assert '    B="\\$PATH \\${HOME} `id`" \\' in lines
    assert '    C="back\\\\slash\\\\" \\' in lines
    assert '    D="it\'s"' in lines
    assert '      org.opencontainers.image.description="a \\"b\\" USER 0 \\$c"' in lines
    assert [line for line in lines if line.startswith("USER")] == ["USER 0", "USER 1000:1000"]


@pytest.mark.parametrize("value", ["a\nRUN b", "a\rb", "a\0b"])
def test_line_breaks_in_values_are_refused(value: str) -> None:
    with pytest.raises(UserError, match="line break"):
        quoted(value)
    with pytest.raises(UserError, match="line break"):
        rendered(script=f"{value}.py")


def test_names_of_variables_are_names() -> None:
    environment = Environment(Path("env.yml"), variables={"A B": "c"})
    with pytest.raises(UserError, match="'A B' is no name of a variable"):
        rendered(environment=environment)


def test_models_are_copied_and_named(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two.json").write_text("{}")
    one, two = tmp_path / "one", tmp_path / "two.json"

    text = render_deployment(REPOSITORY, deployment(), Base(MINIMAL), models=models_of([one, two]))
    assert 'COPY --from=model0 --chmod=755 ["/", "/var/azureml-app/azureml-models/one/"]\n' in text
    copied = '["/two.json", "/var/azureml-app/azureml-models/"]\n'
    assert f"COPY --from=model1 --chmod=755 {copied}" in text
    assert 'AZUREML_MODEL_DIR="/var/azureml-app/azureml-models"\n' in text
    assert [model.folder for model in models_of([one, two])] == [one, tmp_path]

    text = render_deployment(REPOSITORY, deployment(), Base(MINIMAL), models=models_of([one]))
    assert 'AZUREML_MODEL_DIR="/var/azureml-app/azureml-models/one"\n' in text


def test_models_that_are_not_there_or_twice_are_errors(tmp_path: Path) -> None:
    for name in ("a/model", "b/model"):
        (tmp_path / name).mkdir(parents=True)
    with pytest.raises(UserError, match="does not exist"):
        models_of([tmp_path / "c"])
    with pytest.raises(UserError, match="two models are named 'model'"):
        models_of([tmp_path / "a/model", tmp_path / "b/model"])


def test_a_base_of_another_maker_gets_what_it_lacks() -> None:
    text = render_deployment(REPOSITORY, deployment(), FOREIGN, added=added("3.10"))
    lines = text.splitlines()
    python = "/opt/miniconda/bin/python3"
    assert f"FROM {FOREIGN.reference}" in lines
    assert (
        "    /base/custom/install-parser /base/minimal-py311-inference/requirements.txt 3.10"
        in (lines)
    )
    assert "COPY --from=inference-base --chmod=755 server/ /opt/inference-server/" in lines
    assert 'ENTRYPOINT ["/usr/local/bin/tini", "-s", "--"]' in lines
    assert f'CMD ["{python}", "-I", "-m", "inference_server"]' in lines
    assert f'    CMD ["{python}", "-I", "-m", "inference_server.health"]' in lines
    assert {"EXPOSE 5001", "STOPSIGNAL SIGTERM", "WORKDIR /var/azureml-app"} <= set(lines)
    assert lines[-1] == "USER 1000:1000"


def test_the_python_of_a_base_is_an_argument_whatever_its_path() -> None:
    server = added(executable="/opt/a b;$x/python")
    text = render_deployment(REPOSITORY, deployment(), FOREIGN, added=server)
    assert "/base/custom/add-server '/opt/a b;$x/python'\n" in text
    assert 'CMD ["/opt/a b;$x/python", "-I", "-m", "inference_server"]\n' in text


def test_a_conda_environment_is_copied_into_a_base_of_another_maker() -> None:
    prefix = "/azureml-envs/azureml_1"
    text = render_deployment(
        REPOSITORY,
        deployment(),
        FOREIGN,
        added=added(executable=f"{prefix}/bin/python"),
        environment=EnvironmentImage("azureml_1:latest", prefix),
    )
    assert f'COPY --from=azureml_1:latest ["{prefix}/", "{prefix}/"]\n' in text
    assert f'ENV PATH="{prefix}/bin":$PATH CONDA_PREFIX="{prefix}" ' in text


@pytest.mark.parametrize(
    ("version", "image"),
    [("3.7", "minimal-py3.7-inference-cpu"), ("3.8", "minimal-py3.7-inference-cpu"),
     ("3.9", "minimal-py311-inference"), ("3.10", "minimal-py311-inference"),
     ("3.12", "minimal-py312-inference"), ("3.13", "minimal-py313-inference")],
)  # fmt: skip
def test_the_parser_is_that_of_the_nearest_python(version: str, image: str) -> None:
    assert minimal(version).name == image


def test_each_run_gets_the_settings_of_the_host_and_nothing_else_does() -> None:
    steps = (
        "RUN one && \\\n# RUN comment\n  RUN-like two\nrun three\nENV A=RUN\n"
        "RUN <<EOF\nRUN four\nEOF\nRUN five"
    )
    assert with_host_settings(steps, "--mount=m") == (
        "RUN --mount=m one && \\\n# RUN comment\n  RUN-like two\nRUN --mount=m three\nENV A=RUN\n"
        "RUN --mount=m <<EOF\nRUN four\nEOF\nRUN --mount=m five"
    )


def test_debian_mirrors_are_for_images_of_ours_only() -> None:
    step = "RUN apt-get update"
    ours = "\n".join(rendered(docker_steps=step))
    theirs = render_deployment(
        REPOSITORY, deployment(docker_steps=step), FOREIGN, added=added()
    ).rpartition("extraDockerfileSteps")[2]
    assert "id=apt-sources" in ours
    assert "id=apt-sources" not in theirs
    assert "id=ca-bundle" in theirs


# --- what is not copied -----------------------------------------------------------------------


def test_the_configuration_and_the_history_of_git_are_not_copied(tmp_path: Path) -> None:
    (tmp_path / ".dockerignore").write_text("data\n!data/keep\n")
    file = tmp_path / "conf" / "inference[1].json"
    given = deployment(file=file, folder=tmp_path, source=tmp_path)
    assert ignored_paths(given).splitlines() == [
        "data", "!data/keep", ".git", ".dockerignore", "conf/inference\\[1\\].json"
    ]  # fmt: skip


def test_a_configuration_elsewhere_needs_no_line(tmp_path: Path) -> None:
    given = deployment(file=tmp_path / "x.json", folder=tmp_path / "src", source=tmp_path / "src")
    assert ignored_paths(given).splitlines() == [".git", ".dockerignore"]


# --- the base image of another maker ----------------------------------------------------------


def test_credentials_come_from_standard_input_then_the_environment_then_the_file() -> None:
    registry = Registry("registry.example", "file", "of the file")
    environ = {USERNAME_VARIABLE: "environment", PASSWORD_VARIABLE: "of the environment"}
    assert credentials_of(None, {}) is None
    assert credentials_of(registry, {}) == Credentials("file", "of the file")
    found = credentials_of(registry, environ)
    assert found == Credentials("environment", "of the environment")
    assert credentials_of(registry, environ, "of stdin") == Credentials("environment", "of stdin")


def test_half_a_log_in_is_an_error_that_does_not_show_the_password() -> None:
    with pytest.raises(UserError, match="has a user name and no password"):
        credentials_of(Registry("registry.example", "somebody"), {})
    with pytest.raises(UserError, match="has a password and no user name") as error:
        credentials_of(None, {PASSWORD_VARIABLE: "hush"})
    assert "hush" not in str(error.value)
    assert "hush" not in repr(Credentials("a", "hush"))


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (Found(), "has no Python that the user 1000 can start; the server runs on 3.7 to 3.13"),
        (Found("/usr/bin/python", "3.6"), r"has Python 3.6 \(/usr/bin/python\); the server runs"),
        (Found("/usr/bin/python", "3.12", musl=True), "has musl"),
        (Found("/usr/bin/python", "3.12", useradd=False), "has no useradd"),
    ],
)
def test_a_base_on_which_no_server_runs_is_refused(found: Found, message: str) -> None:
    with pytest.raises(UserError, match=message):
        require_python("registry.example/base:1", found, PYTHONS)


@pytest.mark.parametrize("version", PYTHONS)
def test_a_base_with_a_python_of_the_server_is_taken(version: str) -> None:
    require_python("registry.example/base:1", Found("/usr/bin/python3", version), PYTHONS)


# --- the bake file ----------------------------------------------------------------------------


def test_the_bake_file_has_one_image_and_the_tools_if_they_are_used() -> None:
    wanted = OtherImage("churn:1", "/src/${x}", "/out/Dockerfile", {"model0": "/models/%{y}"})
    environment = BuildEnvironment(proxies=("HTTP_PROXY",), secrets=("id=a,env=A",))
    definition = other_image(wanted, environment)

    assert definition["group"]["default"]["targets"] == ["image"]
    (target,) = definition["target"].values()
    assert target["tags"] == ["churn:1"]
    assert target["context"] == "/src/$${x}"
    assert target["contexts"] == {"model0": "/models/%%{y}"}
    assert "HTTP_PROXY" in target["args"]
    assert definition["variable"] == {"HTTP_PROXY": {"default": ""}}
    paths = {"/src/${x}", "/models/%{y}", "/out/Dockerfile"}
    assert set(local_paths(definition)) == paths

    with_tools = other_image(replace(wanted, tools=True), environment)
    assert with_tools["target"].keys() == {"image", "inference-tools"}
    assert with_tools["target"]["image"]["contexts"]["inference-tools"] == "target:inference-tools"


def test_programs_of_the_template_can_be_executed() -> None:
    for name in ("add-server", "install-parser"):
        assert os.access(REPOSITORY / "base/custom" / name, os.X_OK)
