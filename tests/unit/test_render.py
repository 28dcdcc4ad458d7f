"""Dockerfiles and the README's table: what every rendered one keeps to, and errors of templates.

That the committed files are what the templates give is a matter of `nox -s check`, their style one
of hadolint, and what an image holds one of tests/images. Here is what none of these can see.
"""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import pytest

from imagematrix.build.inputs import SECRETS, WHEELS
from imagematrix.errors import InputError
from imagematrix.matrix.cuda import Cuda
from imagematrix.matrix.schema import Accelerator, Track
from imagematrix.plan.bake import TOOLS
from imagematrix.repository.dockerfiles import render_dockerfiles
from imagematrix.repository.pages import image_table, render_readme, with_images_there_are
from imagematrix.repository.project import Project
from tests.unit.helpers import MINIMAL, REPOSITORY, XGBOOST, Repository

REAL = Project(REPOSITORY)
DOCKERFILES = {
    str(path): text for path, text in REAL.rendered().items() if path.name == "Dockerfile"
}


HOST_SETTING = re.compile(r"PROXY|TOKEN|PASSWORD|SECRET|^PIP_|^UV_|^SSL_|CERT|CA_BUNDLE")


@dataclass(frozen=True)
class Instruction:
    """One instruction, its continued lines joined and its comments left out."""

    name: str
    rest: str

    @property
    def mounts(self) -> list[dict[str, str]]:
        """The options of its mounts."""
        found = re.findall(r"--mount=(\S+)", self.rest)
        return [dict(part.partition("=")[::2] for part in mount.split(",")) for mount in found]

    @property
    def pairs(self) -> dict[str, str]:
        """Its `name=value` pairs: of ARG, ENV and LABEL."""
        return dict(word.partition("=")[::2] for word in shlex.split(self.rest))


def instructions(text: str) -> list[Instruction]:
    """The instructions of a Dockerfile, in their order."""
    text = re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE).replace("\\\n", " ")
    lines = [line.strip().partition(" ") for line in text.splitlines() if line.strip()]
    return [Instruction(name.upper(), " ".join(rest.split())) for name, _, rest in lines]


def last_stage(text: str) -> list[Instruction]:
    """The instructions from the last FROM on."""
    all_of_them = instructions(text)
    start = max(n for n, one in enumerate(all_of_them) if one.name == "FROM")
    return all_of_them[start:]


def references(text: str) -> Iterator[str]:
    """The images that a Dockerfile needs: what it starts from, copies from or mounts."""
    defaults: dict[str, str] = {}
    stages = {"scratch"}
    for one in instructions(text):
        if one.name == "ARG":
            name, _, value = one.rest.partition("=")
            defaults[name] = value
        used = [mount["from"] for mount in one.mounts if "from" in mount]
        if one.name == "COPY":
            used += re.findall(r"--from=(\S+)", one.rest)
        if one.name == "FROM":
            used.append(
                re.sub(r"\$\{(\w+)\}", lambda match: defaults[match[1]], one.rest.split()[0])
            )
            stages.update(re.findall(r" AS (\S+)$", one.rest, re.IGNORECASE))
        yield from (name for name in used if name not in stages)


def test_dockerfiles_are_clean_text() -> None:
    for path, text in DOCKERFILES.items():
        header = re.match(r"# Rendered from (\S+) by `nox -s render`\. Do not edit\.\n", text)
        assert header, path
        assert (REPOSITORY / header[1]).is_file(), path
        assert not re.search(r"\{\{|\}\}|\{%|%\}|\{#|#\}", text), path
        assert not re.search(r"[ \t]+$", text, re.MULTILINE), path
        assert "\n\n\n" not in text, path
        assert re.search(r"[^\n]\n\Z", text), path


def test_dockerfiles_need_official_images_and_those_made_here() -> None:
    """And no frontend from a registry: `docker build` works where no registry can be reached."""
    made_here = {PurePosixPath(path).parent.name for path in DOCKERFILES}
    made_here |= {variant.name for variant in REAL.variants} | {TOOLS}
    official = {image for variant in REAL.variants for image in variant.base_images}

    for path, text in DOCKERFILES.items():
        needed = {name.removesuffix(":latest") for name in references(text)}
        assert needed, path
        assert needed <= made_here | official, path
        assert not re.search(r"^# *syntax *=", text, re.MULTILINE | re.IGNORECASE), path


def test_images_do_not_run_as_root() -> None:
    for variant in REAL.variants:
        text = DOCKERFILES[str(variant.dockerfile)]
        users = [one.rest for one in last_stage(text) if one.name == "USER"]
        assert users, variant.name
        assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", users[-1]), variant.name


def test_settings_of_the_host_reach_a_build_by_mounts_only() -> None:
    """ARG and ENV would stay in the history of an image, a file that is copied in a layer."""
    for path, text in DOCKERFILES.items():
        assert str(REPOSITORY) not in text, path
        for one in instructions(text):
            if one.name in ("ARG", "ENV"):
                assert not [name for name in one.pairs if HOST_SETTING.search(name.upper())], path
            if one.name in ("ADD", "COPY"):
                assert not re.search(r"https?://|/run/secrets|pip\.conf|uv\.toml", one.rest), path
            assert not re.search("proxy", one.rest, re.IGNORECASE), path


def test_dockerfiles_mount_the_secrets_and_the_wheels_that_builds_are_given() -> None:
    """BuildKit ignores a mount without a secret: a name with a typo fails nowhere else."""
    mounts = [
        mount for text in DOCKERFILES.values() for one in instructions(text) for mount in one.mounts
    ]

    secrets = [mount for mount in mounts if mount.get("type") == "secret"]
    used = {(one["id"], one.get("target", f"/run/secrets/{one['id']}")) for one in secrets}
    assert used == set(SECRETS.items())
    assert {mount["target"] for mount in mounts if mount.get("from") == "wheels"} == {WHEELS}


def test_labels_say_what_the_image_is() -> None:
    for variant in REAL.variants:
        found: dict[str, str] = {}
        for one in last_stage(DOCKERFILES[str(variant.dockerfile)]):
            found |= one.pairs if one.name == "LABEL" else {}
        expected = {
            "org.opencontainers.image.title": variant.name,
            "org.opencontainers.image.description": variant.description,
            "org.opencontainers.image.base.name": variant.parent or variant.debian_image,
            "org.opencontainers.image.version": variant.version or variant.python,
            "org.opencontainers.image.created": "2020-01-01T00:00:00Z",
            "org.opencontainers.image.licenses": "MIT AND LicenseRef-see-SBOM",
            "inference.framework": variant.framework,
            "inference.python": variant.python,
            "inference.accelerator": str(variant.accelerator),
            "inference.cuda": variant.cuda.version if variant.cuda else "",
            "inference.track": str(variant.track),
            "inference.support": variant.track.support,
        }
        assert {name: found.get(name) for name in expected} == expected, variant.name


def test_images_with_cuda_ask_the_driver_for_it() -> None:
    """These are seldom built where they are tested, so that few of them ever run."""
    for variant in REAL.variants:
        environment: dict[str, str] = {}
        for one in last_stage(DOCKERFILES[str(variant.dockerfile)]):
            environment |= one.pairs if one.name == "ENV" else {}
        asked = {name: value for name, value in environment.items() if name.startswith("NVIDIA_")}
        expected = {}
        if variant.accelerator is not Accelerator.CPU:
            assert variant.cuda, variant.name
            expected = {
                "NVIDIA_REQUIRE_CUDA": f"cuda>={variant.cuda.oldest_driver}",
                "NVIDIA_VISIBLE_DEVICES": "all",
                "NVIDIA_DRIVER_CAPABILITIES": "compute,utility",
            }
        assert asked == expected, variant.name


def test_rendering_twice_gives_the_same_text() -> None:
    assert REAL.rendered() == Project(REPOSITORY).rendered()


CHILD = "frameworks/Dockerfile.j2"
CHILD_HOME = f"frameworks/xgboost/{XGBOOST}"


@pytest.mark.parametrize(
    ("files", "error"),
    [
        ({CHILD: None}, f"{CHILD}: missing template of {CHILD_HOME}/Dockerfile"),
        (
            {CHILD: '{% extends "none.j2" %}'},
            f"none.j2: missing template of {CHILD_HOME}/Dockerfile",
        ),
        ({CHILD: "FROM a\n\nRUN {{ version }}\n"}, f"{CHILD}:3:1: 'version' is undefined"),
        (
            {CHILD: "FROM a\n{{ variant.verison }}\n"},
            f"{CHILD}:2:1: 'imagematrix.matrix.variant.Variant object' has no attribute 'verison'",
        ),
        (
            {CHILD: "FROM a\n{% if %}\n"},
            f"{CHILD}:2:1: Expected an expression, got 'end of statement block'",
        ),
        ({CHILD: "\n{{ variant.name | shout }}\n"}, f"{CHILD}:2:1: No filter named 'shout'."),
        ({CHILD: "\n\n{{ 1 / 0 }}\n"}, f"{CHILD}:3:1: ZeroDivisionError('division by zero')"),
        # Where it stands, not where it is used.
        (
            {
                "macros.j2": "{% macro a() %}\n\n{{ nothing }}{% endmacro %}",
                CHILD: '{% from "macros.j2" import a %}{{ a() }}',
            },
            "macros.j2:3:1: 'nothing' is undefined",
        ),
        ({CHILD: f'{{% extends "{CHILD}" %}}'}, f"{CHILD}"),
        ({CHILD: b"\xff"}, f"{CHILD}"),
    ],
)
def test_template_error_names_file_and_line(
    files: dict[str, str | bytes | None], error: str, repository: Repository
) -> None:
    for path, content in files.items():
        file = repository.root / path
        if content is None:
            file.unlink()
        else:
            file.write_bytes(content if isinstance(content, bytes) else content.encode())

    problems = repository.problems()

    assert [problem.startswith(error) for problem in problems] == [True], problems


def test_errors_of_several_templates_come_together(repository: Repository) -> None:
    repository.put("frameworks/Dockerfile.j2", "{{ a }}")
    repository.put("base/Dockerfile.j2", "{{ b")

    with pytest.raises(InputError) as error:
        repository.project.rendered()

    assert [str(one.file) for one in error.value.diagnostics] == [
        "base/Dockerfile.j2",
        "frameworks/Dockerfile.j2",
    ]


def test_templates_are_jinja_without_escapes_of_html(repository: Repository) -> None:
    template = "{% for i in range(3) %}{{ i }}{% endfor %}{{ '<a href=\"b\"> & c' }}\n"
    repository.put("base/Dockerfile.j2", template)

    files = render_dockerfiles(repository.root, [repository.variant(MINIMAL)])

    assert files[PurePosixPath(f"base/{MINIMAL}/Dockerfile")].endswith('\n012<a href="b"> & c\n')


def test_rendering_is_independent_of_the_working_folder(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = repository.project.rendered()
    monkeypatch.chdir(tmp_path)

    assert Repository(Path("repository")).project.rendered() == before


def test_table_has_each_image_with_its_size(repository: Repository) -> None:
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


def test_table_replaces_what_is_between_the_marks() -> None:
    text = "# A\n<!-- images -->\nold\\1\n<!-- /images -->\nB <!-- other -->\n"

    once = render_readme(text, "| \\1 $x |\n")

    assert once == "# A\n<!-- images -->\n| \\1 $x |\n<!-- /images -->\nB <!-- other -->\n"
    assert render_readme(once, "| \\1 $x |\n") == once


@pytest.mark.parametrize("text", ["", "<!-- images -->\n", "<!-- /images -->\n<!-- images -->\n"])
def test_readme_without_both_marks_is_an_error(text: str) -> None:
    with pytest.raises(InputError, match=r"^README.md: the marks <!-- images --> … <!-- /images"):
        render_readme(text, "table\n")


def test_pages_name_images_that_there_are(repository: Repository) -> None:
    """An image that is gone is that of the newest release of its kind; the rest is left alone."""
    minimal, xgboost = repository.variant(MINIMAL), repository.variant(XGBOOST)
    newer = replace(xgboost, name="xgboost3.10-py312-inference", version="3.10")
    cuda = replace(
        xgboost, name="xgboost3.4-py312-cuda13.0-inference", accelerator=Accelerator.CUDA
    )
    old = replace(xgboost, name="xgboost0.9-py3.7-inference-cpu", track=Track.HISTORICAL)
    variants = [minimal, newer, xgboost, cuda, old]

    changed = {
        "FROM xgboost3.3-py311-inference\n": f"FROM {newer.name}\n",
        "`xgboost3.4-py312-cuda12.9-inference`": f"`{cuda.name}`",
        "frameworks/xgboost/xgboost0.8-py3.7-inference-cpu/": f"frameworks/xgboost/{old.name}/",
    }
    same = [*(v.name for v in variants), "xgboost1-py3.7-inference-gpu", "mine1.0-py312-inference"]

    for before, after in {**changed, **dict(zip(same, same, strict=True))}.items():
        assert with_images_there_are(before, variants) == after


def test_new_version_needs_no_edit_of_pages_by_hand(repository: Repository) -> None:
    repository.put("docs/use.md", f"docker run {XGBOOST}\n")
    versions = ('version: "3.4"', 'version: "3.5"')
    repository.change("matrix.yaml", versions, ("xgboost-cpu==3.4.1", "xgboost-cpu==3.5.0"))

    repository.render()

    text = (repository.root / "docs/use.md").read_text()
    assert text == "docker run xgboost3.5-py312-inference\n"
