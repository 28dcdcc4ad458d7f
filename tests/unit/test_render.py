"""Dockerfiles and the README's table: what the real ones say, and faults of templates."""

import re
from dataclasses import replace
from pathlib import Path, PurePosixPath

import pytest

from imagematrix.errors import InputError
from imagematrix.matrix.cuda import Cuda
from imagematrix.matrix.schema import Accelerator, Track
from imagematrix.matrix.variant import Variant
from imagematrix.repository.dockerfiles import render_dockerfiles
from imagematrix.repository.pages import image_table, render_readme
from imagematrix.repository.project import Project
from tests.unit.helpers import MINIMAL, REPOSITORY, XGBOOST, Repository

REAL = Project(REPOSITORY)
DOCKERFILES = {
    variant.name: render_dockerfiles(REPOSITORY, [variant])[variant.dockerfile]
    for variant in REAL.variants
}
ROOTS = [variant for variant in REAL.variants if variant.parent is None]
CHILDREN = [variant for variant in REAL.variants if variant.parent is not None]


def every(variants: list[Variant] | tuple[Variant, ...]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("variant", variants, ids=[variant.name for variant in variants])


def instructions(variant: Variant, *names: str) -> list[str]:
    """The instructions of these names, each with its lines joined."""
    text = re.sub(r"^\s*#.*\n", "", DOCKERFILES[variant.name], flags=re.MULTILINE)
    joined = [" ".join(line.split()) for line in text.replace("\\\n", " ").splitlines()]
    return [line for line in joined if line.split(" ")[0] in names]


@every(REAL.variants)
def test_a_dockerfile_is_clean_text(variant: Variant) -> None:
    text = DOCKERFILES[variant.name]

    assert text.startswith(f"# Rendered from {variant.template} by `nox -s render`. Do not edit.\n")
    assert not re.search(r"\{\{|\}\}|\{%|%\}|\{#|#\}", text)
    assert not re.search(r"[ \t]+$", text, re.MULTILINE)
    assert "\n\n\n" not in text
    assert text.endswith("\n")
    assert not text.endswith("\n\n")


@every(REAL.variants)
def test_a_dockerfile_needs_nothing_but_what_an_engine_has(variant: Variant) -> None:
    """No frontend has to be fetched, and nothing of a host is named."""
    text = DOCKERFILES[variant.name]

    assert "# syntax" not in text
    assert not re.search(r"https?://", re.sub(r"UV_INDEX=\S+", "", text))
    assert str(REPOSITORY) not in text


@every(REAL.variants)
def test_an_image_does_not_run_as_root(variant: Variant) -> None:
    assert instructions(variant, "USER")[-1] == "USER 1000:1000"


@every(REAL.variants)
def test_host_settings_reach_a_step_by_mounts_only(variant: Variant) -> None:
    fetch, install = (line for line in instructions(variant, "RUN") if "pip install" in line)

    lock = f"{variant.name}/requirements.txt" if variant.parent is None else "requirements.txt"
    assert re.findall(r"--mount=(\S+)", fetch) == [
        "type=cache,id=pip,target=/var/cache/pip",
        "type=secret,id=ca-bundle,target=/run/secrets/ca-bundle,mode=0444",
        "type=secret,id=pip-config,target=/etc/pip.conf,mode=0444",
    ]
    # The packages of an image with CUDA are too large to be kept in a cache as well.
    own_cuda = variant.cuda is not None and variant.cuda_image is None
    cache = [] if own_cuda else ["type=cache,id=uv,target=/var/cache/uv"]
    strip = ["type=bind,from=binutils,source=/usr,target=/mnt/binutils"] if variant.strip else []
    assert re.findall(r"--mount=(\S+)", install) == [
        "type=bind,from=installer,source=/tmp/uv,target=/mnt/uv",
        "type=bind,from=wheels,target=/mnt/wheels",
        f"type=bind,source={lock},target=/mnt/requirements.txt",
        *cache,
        *strip,
        "type=secret,id=ca-bundle,target=/run/secrets/ca-bundle",
        "type=secret,id=uv-config,target=/etc/uv/uv.toml",
    ]
    assert "--require-hashes" in fetch
    assert f"uv=={variant.installer.version} --hash=sha256:{variant.installer.sha256}" in fetch
    for option in ("--require-hashes", "--no-deps", "--only-binary :all:"):
        assert option in install
    assert not re.search("proxy", DOCKERFILES[variant.name], re.IGNORECASE)


@every(REAL.variants)
def test_apt_waits_for_another_one_that_fetches_lists_and_upgrades_below_only(
    variant: Variant,
) -> None:
    runs = [line for line in instructions(variant, "RUN") if "apt-get install" in line]

    assert all(" flock /var/lib/apt/lists/lock apt-get update " in run for run in runs)
    upgrades = [run for run in runs if "apt-get upgrade" in run]
    assert len(upgrades) == (1 if variant.parent is None else 0)


@every(REAL.variants)
def test_bytecode_is_written_of_what_there_is(variant: Variant) -> None:
    """Without a name, compileall writes that of all modules that Python finds."""
    installs = [line for line in instructions(variant, "RUN") if "xargs" in line]

    assert len(installs) == 1
    assert re.findall(r"xargs (-0 -r)?", installs[0]) == ["-0 -r"] * installs[0].count("xargs")


@every(ROOTS)
def test_a_root_starts_from_debian_and_python_and_ends_from_nothing(variant: Variant) -> None:
    assert instructions(variant, "ARG", "FROM") == [
        f"FROM debian:{variant.suite}-slim AS system",
        f"FROM python:{variant.python}-slim-{variant.suite} AS python",
        "FROM system AS interpreter",
        "FROM scratch AS wheels",
        "FROM interpreter AS installer",
        *([f"FROM debian:{variant.suite}-slim AS binutils"] if variant.strip else []),
        "FROM interpreter AS assembled",
        "FROM scratch",
    ]


@every(ROOTS)
def test_a_root_keeps_the_contract_of_the_images(variant: Variant) -> None:
    stages = 2 if variant.strip else 1
    assert instructions(variant, "USER") == ["USER 0"] * stages + ["USER 1000:1000"]
    assert instructions(variant, "WORKDIR", "EXPOSE", "ENTRYPOINT", "CMD") == [
        "WORKDIR /var/azureml-app",
        "EXPOSE 5001",
        'ENTRYPOINT ["tini", "-s", "--"]',
        'CMD ["/usr/local/bin/python3", "-I", "-m", "inference_server"]',
    ]


@every(CHILDREN)
def test_a_child_starts_from_its_parent_which_another_may_replace(variant: Variant) -> None:
    assert instructions(variant, "ARG", "FROM") == [
        f"ARG BASE_IMAGE={variant.parent}",
        "FROM scratch AS wheels",
        "FROM ${BASE_IMAGE} AS installer",
        *(["FROM ${BASE_IMAGE} AS binutils"] if variant.strip else []),
        *([f"FROM {variant.cuda_image} AS cuda"] if variant.cuda_image else []),
        "FROM ${BASE_IMAGE}",
    ]
    stages = 3 if variant.strip else 2
    assert instructions(variant, "USER") == ["USER 0"] * stages + ["USER 1000:1000"]


@every(REAL.variants)
def test_an_image_says_what_it_is(variant: Variant) -> None:
    (label,) = instructions(variant, "LABEL")
    base = variant.parent or f"debian:{variant.suite}-slim"

    for expected in (
        f'org.opencontainers.image.title="{variant.name}"',
        f'org.opencontainers.image.base.name="{base}"',
        f'inference.framework="{variant.framework}"',
        f'inference.python="{variant.python}"',
        f'inference.accelerator="{variant.accelerator}"',
        f'inference.cuda="{variant.cuda.version if variant.cuda else ""}"',
        f'inference.track="{variant.track}"',
        f'inference.support="{variant.track.support}"',
    ):
        assert expected in label
    assert ("image.version" in label) == (variant.version is not None)


@every(REAL.variants)
def test_what_is_trimmed_and_where_from_is_the_matrix_s(variant: Variant) -> None:
    text = DOCKERFILES[variant.name]
    declared = [f"./{entry.path}" for entry in (*variant.trim, *variant.strip)]

    assert re.findall(r"find \. -path '([^']*)'", text) == declared
    assert ("/mnt/binutils/bin/strip" in text) == ("AS binutils" in text) == bool(variant.strip)
    library = f"/usr/local/lib/python{variant.python}/"
    uncompiled = [library + entry.path for entry in variant.uncompiled]
    if variant.parent is not None:
        uncompiled = [path for path in uncompiled if "/site-packages/" in path]
    assert re.findall(r"-not -path '(/[^']*)'", text) == sorted(
        uncompiled, key=lambda path: "/site-packages/" in path
    )
    index = f"UV_INDEX={variant.index.url} " if variant.index else ""
    assert re.findall(r"UV_INDEX=\S+ ", text) == ([index] if index else [])


@every([variant for variant in REAL.variants if variant.accelerator is not Accelerator.CPU])
def test_cuda_is_found_by_the_loader_and_asked_for_from_the_driver(variant: Variant) -> None:
    assert variant.cuda is not None
    major = variant.cuda.version.split(".")[0]
    environment = " ".join(instructions(variant, "ENV"))

    assert f'NVIDIA_REQUIRE_CUDA="cuda>={major}.0"' in environment
    assert "NVIDIA_VISIBLE_DEVICES=all" in environment
    assert "NVIDIA_DRIVER_CAPABILITIES=compute,utility" in environment
    assert "LD_LIBRARY_PATH" not in DOCKERFILES[variant.name]
    (found,) = (line for line in instructions(variant, "RUN") if line.endswith("ldconfig"))
    copied = instructions(variant, "COPY")
    if variant.cuda_image:
        assert [line.split()[1] for line in copied] == ["--from=cuda", "--from=cuda"]
        assert "echo /usr/local/cuda/lib64 > /etc/ld.so.conf.d/cuda.conf" in found
    else:
        assert not copied
        assert "/site-packages/nvidia/*/lib " in found


def test_rendering_twice_gives_the_same_text() -> None:
    assert REAL.rendered() == Project(REPOSITORY).rendered()
    assert len(REAL.rendered()) == len(REAL.variants) + 2


@pytest.mark.parametrize(
    ("path", "text", "error"),
    [
        ("frameworks/xgboost/Dockerfile.j2", None,
         f"frameworks/xgboost/Dockerfile.j2: missing template of {XGBOOST}"),
        ("frameworks/xgboost/Dockerfile.j2", '{% extends "none.j2" %}',
         f"none.j2: missing template of {XGBOOST}"),
        ("frameworks/xgboost/Dockerfile.j2", "FROM a\n\nRUN {{ version }}\n",
         "frameworks/xgboost/Dockerfile.j2:3:1: 'version' is undefined"),
        ("frameworks/xgboost/Dockerfile.j2", "FROM a\n{{ variant.verison }}\n",
         "frameworks/xgboost/Dockerfile.j2:2:1:"
         " 'imagematrix.matrix.variant.Variant object' has no attribute 'verison'"),
        ("frameworks/xgboost/Dockerfile.j2", "FROM a\n{% if %}\n",
         "frameworks/xgboost/Dockerfile.j2:2:1:"
         " Expected an expression, got 'end of statement block'"),
        ("frameworks/xgboost/Dockerfile.j2", "FROM a\n{{ variant.name | shout }}\n",
         "frameworks/xgboost/Dockerfile.j2:2:1: No filter named 'shout'."),
        ("frameworks/xgboost/Dockerfile.j2", "\n\n{{ 1 / 0 }}\n",
         "frameworks/xgboost/Dockerfile.j2:3:1: ZeroDivisionError('division by zero')"),
        ("base/Dockerfile.j2", "FROM a\n{{ nothing }}\n",
         "base/Dockerfile.j2:2:1: 'nothing' is undefined"),
    ],
)  # fmt: skip
def test_a_fault_of_a_template_is_told_with_its_line(
    path: str, text: str | None, error: str, repository: Repository
) -> None:
    (repository.root / path).unlink()
    if text is not None:
        repository.put(path, text)

    assert repository.problems() == [error]


def test_a_fault_is_told_where_it_stands_not_where_it_is_used(repository: Repository) -> None:
    repository.put("base/macros.j2", "{% macro a() %}\n\n{{ nothing }}{% endmacro %}")
    repository.put(
        "frameworks/xgboost/Dockerfile.j2", '{% from "base/macros.j2" import a %}{{ a() }}'
    )

    assert "base/macros.j2:3:1: 'nothing' is undefined" in repository.problems()


@pytest.mark.parametrize("text", [b"\xff", b'{% extends "frameworks/xgboost/Dockerfile.j2" %}'])
def test_a_template_that_cannot_be_used_at_all_is_an_error(
    text: bytes, repository: Repository
) -> None:
    path = "frameworks/xgboost/Dockerfile.j2"
    (repository.root / path).write_bytes(text)

    (problem,) = repository.problems()
    assert problem.startswith(path)


def test_faults_of_several_templates_are_told_at_once(repository: Repository) -> None:
    repository.put("frameworks/xgboost/Dockerfile.j2", "{{ a }}")
    repository.put("frameworks/pytorch/Dockerfile.j2", "{{ b")

    with pytest.raises(InputError) as error:
        repository.project.rendered()

    assert [str(one.file) for one in error.value.diagnostics] == [
        "frameworks/pytorch/Dockerfile.j2",
        "frameworks/xgboost/Dockerfile.j2",
    ]


def test_nothing_in_a_template_is_escaped_for_html(repository: Repository) -> None:
    repository.put("base/Dockerfile.j2", "{{ '<a href=\"b\"> & c' }}\n")

    files = render_dockerfiles(repository.root, [repository.variant(MINIMAL)])

    assert files[PurePosixPath(f"base/{MINIMAL}/Dockerfile")].endswith('\n<a href="b"> & c\n')


def test_rendering_does_not_depend_on_the_working_folder(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = repository.project.rendered()
    monkeypatch.chdir(tmp_path)

    assert Repository(Path("repository")).project.rendered() == before


def test_the_table_shows_each_image_with_its_size_if_that_is_known(repository: Repository) -> None:
    minimal, xgboost = repository.variant(MINIMAL), repository.variant(XGBOOST)
    old = replace(xgboost, name="old", track=Track.HISTORICAL, bundled_cuda="10.2")
    cuda = Cuda("13.0", "9.1.0")
    gpu = replace(xgboost, name="gpu", accelerator=Accelerator.CUDA, cuda=cuda)
    gpu = replace(gpu, pins=("nvidia-nccl==2", "numpy>=2"))
    head = "| image | Python | on | pins | size |\n|---|---|---|---|---:|\n"

    assert image_table([minimal, old, xgboost, gpu], {MINIMAL: 1234.5, "other": 1.0}) == (
        f"{head}"
        f"| `{MINIMAL}` | 3.12 | CPU | `httptools==2.0` | 1,234 MB |\n"
        f"| `{XGBOOST}` | 3.12 | CPU | `xgboost-cpu==3.4.1`, `numpy>=2` | not measured |\n"
        "| `gpu` | 3.12 | CUDA 13.0 | `numpy>=2` | not measured |\n"
        "\nHistorical: unsupported, known vulnerabilities, for reproducing old deployments.\n\n"
        f"{head}"
        "| `old` | 3.12 | CPU (a package carries CUDA 10.2) | `xgboost-cpu==3.4.1`, `numpy>=2`"
        " | not measured |\n"
    )


def test_the_table_replaces_what_stands_between_the_marks() -> None:
    text = "# A\n<!-- images -->\nold\\1\n<!-- /images -->\nB <!-- other -->\n"

    once = render_readme(text, "| \\1 $x |\n")

    assert once == "# A\n<!-- images -->\n| \\1 $x |\n<!-- /images -->\nB <!-- other -->\n"
    assert render_readme(once, "| \\1 $x |\n") == once


@pytest.mark.parametrize("text", ["", "<!-- images -->\n", "<!-- /images -->\n<!-- images -->\n"])
def test_a_readme_without_both_marks_is_an_error(text: str) -> None:
    with pytest.raises(InputError, match=r"^README.md: the marks <!-- images --> … <!-- /images"):
        render_readme(text, "table\n")


def test_a_template_may_use_the_functions_of_jinja(repository: Repository) -> None:
    repository.put(
        "frameworks/xgboost/Dockerfile.j2", "{% for i in range(3) %}{{ i }}{% endfor %}\n"
    )
    variant = repository.variant(XGBOOST)

    assert render_dockerfiles(repository.root, [variant])[variant.dockerfile].endswith("\n012\n")
