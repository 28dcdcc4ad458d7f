"""Environments of PyPI's packages: what is asked for, what is rendered, what it depends on."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path, PurePath, PurePosixPath
from unittest.mock import Mock

import pytest

from imagematrix import cli
from imagematrix.build.inputs import uv_config
from imagematrix.checks.content import promised_pins_are_kept
from imagematrix.checks.cuda import cuda_only_where_declared
from imagematrix.checks.running import Entry as PathEntry
from imagematrix.environments import pypi
from imagematrix.environments.checked import failed_checks, outcome_of, remarks
from imagematrix.environments.details import (
    DETAILS_LABEL,
    details_label,
    details_of,
    image_details,
)
from imagematrix.environments.folder import DETAILS, environment_folder, write_folder
from imagematrix.environments.pypi import (
    decisions,
    environment_lock,
    environment_variant,
    from_pypi,
)
from imagematrix.environments.specification import Entry, Environment, Packages, read_environment
from imagematrix.errors import InputError, UserError, WorkError
from imagematrix.host.supply import resolve_supply
from imagematrix.matrix.slim import Verb
from imagematrix.matrix.variant import Variant
from imagematrix.plan.bake import BuildEnvironment, bake_file
from imagematrix.plan.content import Content
from imagematrix.plan.plan import make_plan
from imagematrix.repository.dockerfiles import render_dockerfiles
from imagematrix.repository.project import Project
from tests.unit.helpers import MINIMAL, REPOSITORY, Repository, host_config, lock_text
from tests.unit.test_locking import FakeUv, fake

__all__ = ["fake"]

FILE = PurePath("env.yml")
SIX, OTHER = "1" * 64, "2" * 64


def entries(*texts: str) -> tuple[Entry, ...]:
    return tuple(Entry(text, FILE, line, 5) for line, text in enumerate(texts, start=1))


def asked(*pip: str, **fields: object) -> Environment:
    """An environment with these requirements."""
    environment = Environment(FILE, series="3.12", pip=entries(*pip))
    return replace(environment, **fields)  # type: ignore[arg-type]


def errors_of(environment: Environment) -> list[str]:
    with pytest.raises(InputError) as raised:
        from_pypi(environment)
    return [str(one) for one in raised.value.diagnostics]


@pytest.mark.parametrize(
    ("conda", "requirement"),
    [
        ("numpy", "numpy"),
        ("numpy=1.26", "numpy==1.26.*"),
        ("numpy==1.26.4", "numpy==1.26.4"),
        ("numpy 1.26.4", "numpy==1.26.4"),
        ("numpy=1.26.*", "numpy==1.26.*"),
        ("scikit-learn>=1.2,<2", "scikit-learn<2,>=1.2"),
        ("NumPy", "numpy"),
        ("pytorch=2.4", "torch==2.4.*"),
        ("py-xgboost", "xgboost"),
    ],
)
def test_conda_package_of_the_same_project_becomes_a_requirement(
    conda: str, requirement: str
) -> None:
    found = from_pypi(asked("six", conda=entries("python=3.12", "pip<=26", conda)))

    assert [entry.text for entry in found.pip] == sorted(["six", requirement])
    assert (found.conda, found.channels) == ((), ())


@pytest.mark.parametrize(
    ("conda", "reason"),
    [
        ("graphviz", "not known which project of PyPI is conda's graphviz"),
        ("numpy=1.26=py312h1", "names a channel, a build"),
        ("conda-forge::numpy", "names a channel, a build"),
        ("numpy=1.26|=2.0", "PyPI has no form for the versions"),
    ],
)
def test_conda_package_that_is_not_clear_is_an_error_with_its_place(
    conda: str, reason: str
) -> None:
    (error,) = errors_of(asked(conda=entries("python=3.12", conda)))

    assert error.startswith("env.yml:2:5: ")
    assert reason in error
    assert "--packages conda" in error


def test_all_errors_come_at_once() -> None:
    environment = asked(
        "thing @ https://example.org/thing-1-py3-none-any.whl",
        conda=entries("graphviz", "snappy"),
        pip_options=entries("--index-url https://example.org", "--only-binary :all:"),
        variables={"TEXT": "two\nlines"},
    )
    errors = errors_of(environment)

    assert len(errors) == 5
    assert not any("--only-binary" in error for error in errors)


def test_server_of_azure_is_left_out_with_a_note() -> None:
    found = from_pypi(asked("AzureML_defaults>=1", "six"))

    assert [entry.text for entry in found.pip] == ["six"]
    (note,) = found.notes
    assert str(note).startswith("env.yml:1:5: AzureML_defaults>=1 is left out")


@pytest.fixture(scope="module")
def project() -> Project:
    return Project(REPOSITORY)


def variant_of(project: Project, environment: Environment) -> Variant:
    return environment_variant(project, environment)


def test_environment_is_an_image_on_the_minimal_image_of_its_python(project: Project) -> None:
    variant = variant_of(project, asked("six", "idna>=3", variables={"A": "b"}))

    assert variant.name.startswith("azureml_")
    assert variant.parent == "minimal-py312-inference"
    assert variant.folder == PurePosixPath("build/environments", variant.name)
    assert variant.context == variant.folder
    assert variant.pins == ("six", "idna>=3")
    assert variant.environment == (("A", "b"),)
    # Rules of the minimal image alone do not hold for it, those of all images do.
    assert "site-packages/*.pyi" in variant.patterns(Verb.REMOVE)
    assert not variant.patterns(Verb.STRIP)


@pytest.mark.parametrize("python", ["3.7", "3.11", "3.13"])
def test_parent_follows_the_python(project: Project, python: str) -> None:
    variant = variant_of(project, replace(asked("six"), series=python))
    parent = {one.name: one for one in project.variants}[str(variant.parent)]

    assert (variant.python, variant.suite) == (python, parent.suite)
    assert parent.parent is None


def test_specification_is_read_with_the_pythons_that_have_an_image(
    project: Project, tmp_path: Path
) -> None:
    path = tmp_path / "requirements.txt"
    path.write_text("six\n")

    usual = read_environment(path, decisions(project, Packages.PYPI))
    other = read_environment(path, decisions(project, Packages.PYPI, "3.11"))

    assert (usual.series, other.series) == ("3.12", "3.11")
    with pytest.raises(UserError, match=r"--python 3\.10: use one of 3\.7, 3\.11, 3\.12, 3\.13"):
        decisions(project, Packages.PYPI, "3.10")


def rendered(project: Project, environment: Environment) -> str:
    variant = variant_of(project, environment)
    return render_dockerfiles(REPOSITORY, [variant])[variant.dockerfile]


def test_dockerfile_makes_the_tools_in_stages_of_its_own(project: Project) -> None:
    text = rendered(project, asked("six"))

    assert text.startswith("# Rendered from base/environment.Dockerfile.j2 by `nox -s environment`")
    # A global argument stands before the first stage, or it is not one.
    assert text.index("ARG BASE_IMAGE=minimal-py312-inference") < text.index("FROM ")
    stages = [line.split(" AS ")[-1] for line in text.splitlines() if line.startswith("FROM ")]
    assert stages == ["uv", "strip", "inference-tools", "wheels", "FROM ${BASE_IMAGE}"]
    assert "source=tools/bin," in text
    assert text.rstrip().endswith("USER 1000:1000")
    assert str(REPOSITORY) not in text


@pytest.mark.parametrize(
    ("value", "line"),
    [
        ("plain/path:1", "ENV A=plain/path:1"),
        ("two words", 'ENV A="two words"'),
        ('say "$HOME" \\', 'ENV A="say \\"\\$HOME\\" \\\\"'),
        ("", 'ENV A=""'),
        ("#no comment", 'ENV A="#no comment"'),
    ],
)
def test_variables_are_quoted_where_docker_would_read_them_in_another_way(
    project: Project, value: str, line: str
) -> None:
    assert line in rendered(project, asked("six", variables={"A": value})).splitlines()


WITH_INDEXES = entries(
    "--extra-index-url https://one.example/simple/", "--extra-index-url=https://two.example/a&b"
)


def test_indexes_of_the_file_are_asked_by_the_lock_and_by_every_build(
    resolve: Callable[..., str], fake: FakeUv, repository: Repository, project: Project
) -> None:
    environment = from_pypi(asked("six", pip_options=WITH_INDEXES))
    urls = ["https://one.example/simple", "https://two.example/a&b"]

    resolve(environment)
    assert [index["url"] for index in fake.project["tool"]["uv"]["index"]] == urls
    assert fake.project["tool"]["uv"]["index-strategy"] == "unsafe-best-match"

    # The shell of the step would take the second one apart.
    assert f'UV_INDEX="{urls[0]} {urls[1]}" /tools/install-locked' in rendered(project, environment)
    variant = environment_variant(repository.project, environment)
    lock = repository.project.locks[MINIMAL]
    supply = resolve_supply(variant, lock, [], {}, lambda _: "")
    assert f"extra-index-url = {json.dumps(urls)}" in uv_config(host_config(), supply)


def test_index_of_the_file_that_cannot_be_reached_makes_it_unavailable(
    repository: Repository,
) -> None:
    variant = environment_variant(
        repository.project, from_pypi(asked("six", pip_options=WITH_INDEXES))
    )
    down = resolve_supply(
        variant,
        repository.project.locks[MINIMAL],
        [],
        {},
        lambda url: "answers 503" if "two" in url else "",
    )
    assert down.unavailable == "the index https://two.example/a&b answers 503"


# --- its folder ----------------------------------------------------------------------------------


def files_of(project: Project, variant: Variant) -> dict[PurePosixPath, str]:
    dockerfile = render_dockerfiles(REPOSITORY, [variant])[variant.dockerfile]
    details = image_details(variant.name, dockerfile, "name: x\n")
    return environment_folder(REPOSITORY, variant, lock_text(["six==1"]), "name: x\n", details)


def test_folder_has_all_that_docker_build_needs(project: Project, tmp_path: Path) -> None:
    variant = variant_of(project, asked("six"))
    folder = tmp_path / "out"

    write_folder(folder, files_of(project, variant))

    names = {path.name for path in folder.iterdir()}
    assert names == {
        *("Dockerfile", "requirements.txt", "slim.txt", "tools", ".dockerignore"),
        *("mutated_conda_dependencies.yml", "details.json"),
    }
    for program in (REPOSITORY / "base/tools/bin").iterdir():
        copy = folder / "tools/bin" / program.name
        assert copy.read_bytes() == program.read_bytes()
        assert copy.stat().st_mode & 0o111 == 0o111, f"{program.name} is no program"
    assert not (folder / "Dockerfile").stat().st_mode & 0o111
    details = json.loads((folder / DETAILS).read_text())
    assert details["ingredients"]["dockerfile"] == (folder / "Dockerfile").read_text()


def test_folder_that_is_right_is_not_touched_and_another_one_is_refused(
    project: Project, tmp_path: Path
) -> None:
    files = files_of(project, variant_of(project, asked("six")))
    folder, mine = tmp_path / "out", tmp_path / "mine"
    write_folder(folder, files)
    before = folder.stat().st_ino
    write_folder(folder, files)
    assert folder.stat().st_ino == before

    (folder / "tools/bin/of-an-old-version").write_text("")
    write_folder(folder, files)
    assert not (folder / "tools/bin/of-an-old-version").exists()

    mine.mkdir()
    (mine / "thesis.tex").write_text("years of work")
    with pytest.raises(UserError, match="holds other files"):
        write_folder(mine, files)
    assert [path.name for path in mine.iterdir()] == ["thesis.tex"]


# --- details -------------------------------------------------------------------------------------


def test_details_come_back_from_the_label_of_an_image() -> None:
    """By the keys that `DockerImageDetails` of azureml-core reads."""
    details = image_details("azureml_1", "FROM ${BASE_IMAGE}\n", "name: azureml_1\n")

    local = details_of("azureml_1", details_label(details))
    remote = details_of("ghcr.io/me/x:1", details_label(details), "ghcr.io")

    assert local == details
    assert local["ingredients"]["dockerfile"] == "FROM ${BASE_IMAGE}\n"
    assert local["imageExistsInRegistry"] is False
    assert local["pythonEnvironment"]["interpreterPath"] == "/usr/local/bin/python3"
    assert remote["imageExistsInRegistry"] is True
    assert remote["dockerImage"]["name"] == "me/x:1"
    assert remote["dockerImage"]["registry"]["address"] == "ghcr.io"


@pytest.mark.parametrize("labels", [{}, {DETAILS_LABEL: "no JSON"}, {DETAILS_LABEL: "[]"}])
def test_image_without_details_is_told_apart(labels: dict[str, str]) -> None:
    for registry in (None, "ghcr.io"):
        with pytest.raises(UserError, match="alien"):
            details_of("alien", labels, registry)


# --- key, plan and bake file ----------------------------------------------------------------------


@pytest.fixture
def at_hand(repository: Repository) -> Callable[[], tuple[Project, Variant]]:
    """The project with an environment, whose folder is written, as it is now."""
    template = "base/environment.Dockerfile.j2"
    repository.put(template, "{% extends 'frameworks/Dockerfile.j2' %}\n")
    repository.put("base/tools/uv.txt", "uv\n")

    def make() -> tuple[Project, Variant]:
        project = repository.project
        variant = environment_variant(project, asked("six"))
        details = image_details(variant.name, "", "")
        lock = lock_text(["httptools==2.0", "six==1.17"])
        files = environment_folder(project.root, variant, lock, "", details)
        text = render_dockerfiles(project.root, [variant])[variant.dockerfile]
        files[PurePosixPath("Dockerfile")] = text
        write_folder(project.root / variant.folder, files)
        return replace(project, environments=(variant,)), variant

    return make


def content_of(project: Project, variant: Variant, base: str = "sha256:1") -> Content:
    needed = [one for one in project.variants if one.name in (variant.name, variant.parent)]
    parent = needed[0]
    ids = {one.name: dict.fromkeys(parent.base_images, base) for one in needed}
    return project.contents(needed, ids)[variant.name]


def test_key_covers_parent_template_and_bases(
    at_hand: Callable[[], tuple[Project, Variant]], repository: Repository
) -> None:
    project, variant = at_hand()
    project.check_buildable()
    first = content_of(project, variant).key

    assert content_of(*at_hand()).key == first
    assert content_of(project, variant, "sha256:2").key != first
    repository.change("frameworks/Dockerfile.j2", ("# {{ variant.title }}", "RUN true"))
    repository.render()
    changed = content_of(*at_hand()).key
    assert changed != first
    repository.put("base/server/app.py", "other\n")
    assert content_of(*at_hand()).key not in (first, changed)


def test_folder_that_was_edited_is_not_built(
    at_hand: Callable[[], tuple[Project, Variant]],
) -> None:
    project, variant = at_hand()
    (project.root / variant.dockerfile).write_text("FROM scratch\n")

    with pytest.raises(InputError, match=variant.name):
        project.check_buildable()


def test_bake_file_keeps_the_label_as_it_is_and_knows_the_bases_of_the_tools(
    at_hand: Callable[[], tuple[Project, Variant]],
) -> None:
    project, variant = at_hand()
    content = content_of(project, variant)
    steps = make_plan([variant], {variant.name: content}, {}, {})
    environment = BuildEnvironment(
        base_sources={"debian:trixie-slim": "bootstrap/debian:trixie-slim"},
        image_labels={variant.name: {"details": "FROM ${BASE_IMAGE} %{x}"}},
    )
    target = bake_file(steps, environment)["target"][variant.name]

    # Bake expands what has one of these signs.
    assert target["labels"]["details"] == "FROM $${BASE_IMAGE} %%{x}"
    assert target["contexts"]["debian:trixie-slim"] == (
        "docker-image://bootstrap/debian:trixie-slim"
    )


# --- the lock ------------------------------------------------------------------------------------


@pytest.fixture
def resolve(repository: Repository, fake: FakeUv) -> Callable[..., str]:
    """Resolves an environment; the lock is written as the command does it."""
    fake.resolves(lock_text(["httptools==2.0", "six==1.17"], SIX))

    def lock(environment: Environment, *, upgrade: bool = False, index: str = "") -> str:
        project = repository.project
        variant = environment_variant(project, environment)
        host = host_config(index_url=index) if index else host_config()
        text = environment_lock(project, variant, environment, host, upgrade=upgrade)
        repository.put(str(variant.lock), text)
        return text

    return lock


def test_lock_is_resolved_once(resolve: Callable[..., str], fake: FakeUv) -> None:
    first = resolve(asked("six", constraints=entries("urllib3<3")))
    assert "Written by `nox -s environment`" in first
    assert "six" in fake.project["project"]["dependencies"]
    assert "httptools==2.0" in fake.project["project"]["dependencies"]
    assert fake.option("--constraints") == "constraints.txt"

    # No index is asked for what is locked.
    fake.says("exit 9")
    assert resolve(asked("six", constraints=entries("urllib3<3"))) == first
    with pytest.raises(WorkError):
        resolve(asked("six", constraints=entries("urllib3<3")), upgrade=True)


def test_lock_follows_the_packages_of_the_parent(
    resolve: Callable[..., str], fake: FakeUv, repository: Repository
) -> None:
    resolve(asked("six"))
    for variant in repository.project.variants:
        repository.change(str(variant.lock), ("httptools==2.0", "httptools==2.1"))
    repository.change("matrix.yaml", ("httptools==2.0", "httptools==2.1"))
    fake.resolves(lock_text(["httptools==2.1", "six==1.17"], SIX))

    assert "httptools==2.1" in resolve(asked("six"))


def test_lock_holds_only_hashes_that_the_specification_admits(
    resolve: Callable[..., str], fake: FakeUv
) -> None:
    both = f" \\\n    --hash=sha256:{SIX} \\\n    --hash=sha256:{OTHER}\n    # via lock\n"
    fake.resolves(f"httptools==2.0{both}six==1.17{both}")

    text = resolve(asked("six==1.17", hashes={"six==1.17": (f"sha256:{OTHER}",)}))

    assert text.endswith(
        f"httptools==2.0{both}six==1.17 \\\n    --hash=sha256:{OTHER}\n    # via lock\n"
    )


def test_hash_that_no_file_has_is_an_error_with_both(resolve: Callable[..., str]) -> None:
    with pytest.raises(WorkError) as raised:
        resolve(asked("six==1.17", hashes={"six==1.17": (f"sha256:{OTHER}",)}))

    assert SIX in str(raised.value)
    assert OTHER in str(raised.value)


def test_index_that_cannot_be_reached_makes_it_unavailable(
    resolve: Callable[..., str], fake: FakeUv
) -> None:
    fake.says("echo 'error: Failed to fetch' >&2; exit 2")

    with pytest.raises(WorkError, match=r"unavailable: the index cannot be reached.*127\.0\.0\.1"):
        resolve(asked("six"), index="http://127.0.0.1:1/simple")


def test_error_of_uv_says_what_to_do(
    resolve: Callable[..., str], fake: FakeUv, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pypi, "why_unreachable", lambda *_: "answers 404 Not Found")
    fake.says("echo 'six==9 has no usable wheels and httptools==2.0 is needed' >&2; exit 1")

    with pytest.raises(WorkError) as raised:
        resolve(asked("six"))

    assert "six==9 has no usable wheels" in str(raised.value)
    assert "--packages conda" in str(raised.value)
    assert "minimal-py312-inference, which it is based on, has httptools 2.0" in str(raised.value)


# --- the command ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name a specification"),
        (["requirements.txt", "--show", "x"], "name a specification"),
        (["absent.txt"], "absent.txt"),
        (["requirements.txt", "--packages", "pypi", "--python", "2.7"], "2.7"),
    ],
)
def test_invalid_request_ends_with_2_and_writes_nothing(
    arguments: list[str],
    message: str,
    repository: Repository,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    repository.put("requirements.txt", "six\n")
    monkeypatch.chdir(repository.root)
    before = repository.files()

    assert cli.main(["environment", *arguments]) == 2

    assert message in capsys.readouterr().err
    assert repository.files() == before


def test_print_gives_the_dockerfile_alone_and_writes_nothing(
    repository: Repository, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    repository.put("base/environment.Dockerfile.j2", "{% extends 'frameworks/Dockerfile.j2' %}\n")
    repository.put("requirements.txt", "six\n")
    monkeypatch.chdir(repository.root)
    before = repository.files()

    assert cli.main(["environment", "requirements.txt", "--print"]) == 0

    assert "ARG BASE_IMAGE=minimal-py312-inference\n" in capsys.readouterr().out
    assert repository.files() == before


# --- its checks ----------------------------------------------------------------------------------


def test_cuda_that_a_wheel_carries_is_a_remark_and_other_faults_are_failures(
    project: Project,
) -> None:
    """By a container that has what `xgboost` of PyPI brings."""
    variant = environment_variant(project, asked("xgboost"))
    entries_ = [PathEntry(f"/usr/lib/lib{number}.so", "f", 0o644) for number in range(101)]
    running = Mock(entries=entries_, variant=variant, installed={"nvidia-nccl-cu12": "2.28"})
    running.carries_cuda = False

    cuda = outcome_of(cuda_only_where_declared, running)
    pins = outcome_of(promised_pins_are_kept, running)

    results = {"cuda": cuda, "pins": pins}
    assert "nvidia-nccl-cu12" in remarks(results)["cuda"]
    assert failed_checks(results).keys() == {"pins"}
