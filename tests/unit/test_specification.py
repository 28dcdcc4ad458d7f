"""Conda specifications: what is read, what is refused and where, and what they are called."""

import itertools
from pathlib import PurePath

import pytest
import yaml

from imagematrix.environments.specification import (
    Packages,
    content_of,
    mutated_specification,
    name_of,
)
from tests.unit.specifications import conda, decisions, environment, errors_of, texts

FULL = """\
# What the service needs.
name: serving
channels:
  - conda-forge
  - nvidia
dependencies:
  - python=3.11
  - numpy >=1.24, <2
  - pip
  - pip:
      - mlflow== 2.4.1
      - --extra-index-url https://wheels.example/simple
      - joblib>=1 ; python_version < "3.13"
variables:
  LEVEL: 07
  SWITCH: yes
prefix: /opt/miniconda3/envs/serving
"""


def test_every_part_is_read() -> None:
    read = environment(FULL)
    assert (read.file, read.name) == (PurePath("env.yml"), "serving")
    assert (read.python, read.series) == ("3.11", "3.11")
    assert texts(read.channels) == ["conda-forge", "nvidia"]
    assert texts(read.conda) == ["python=3.11", "numpy >=1.24, <2", "pip"]
    assert texts(read.pip) == ["mlflow==2.4.1", 'joblib>=1; python_version < "3.13"']
    assert texts(read.pip_options) == ["--extra-index-url https://wheels.example/simple"]
    # As they were typed, not as YAML understands them.
    assert read.variables == {"LEVEL": "07", "SWITCH": "yes"}
    assert [str(note) for note in read.notes] == [
        "env.yml:17:1: prefix: `prefix` is a path of the machine that wrote this; ignored"
    ]


def test_each_entry_knows_its_place() -> None:
    read = environment(FULL)
    assert [(entry.line, entry.column) for entry in read.conda] == [(7, 5), (8, 5), (9, 5)]
    assert [(entry.line, entry.column) for entry in read.pip] == [(11, 9), (13, 9)]
    assert str(read.pip[0].diagnostic("is gone", "leave it out")) == (
        "env.yml:11:9: is gone; leave it out"
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ["env.yml:1:1: is empty"]),
        ("# nothing\n", ["env.yml:1:1: is empty"]),
        (b"name: \xff", ["env.yml: is not UTF-8: byte 6 is 0xff"]),
        ("a: @b", ["env.yml:1:4: no valid YAML: "]),
        ("- numpy\n", ["env.yml:1:1: must be a mapping of keys to values, is a list"]),
        (
            conda("numpy", more="chanels: [a]\n"),
            ["env.yml:4:1: chanels: unknown key chanels; did you mean channels?"],
        ),
        (
            conda("numpy", channels="conda-forge"),
            ["env.yml:1:11: channels: must be a list, is 'conda-forge'; write [ … ] around it"],
        ),
        ("channels: [conda-forge]\n", ["env.yml:1:1: the key dependencies is missing; add it"]),
        (
            "dependencies: []\n",
            ["env.yml:1:15: dependencies: must not be empty; name at least python"],
        ),
        (
            conda("3.11", ""),
            [
                "env.yml:3:5: dependencies[0]: must be a package, such as numpy=2.5;"
                ' write "3.11" in quotes',
                "env.yml:4:4: dependencies[1]: must be a package, such as numpy=2.5;"
                " remove the hyphen",
            ],
        ),
        (
            conda("numpy: 1.2", "pips: [a]", "pip:", "pip: [1, null]"),
            [
                "env.yml:3:5: dependencies[0].numpy: unknown section numpy; write numpy=1.2",
                "env.yml:4:5: dependencies[1].pips: unknown section pips; did you mean pip?",
                "env.yml:5:9: dependencies[2].pip: must be a list of requirements;"
                " begin each with `- `",
                "env.yml:6:11: dependencies[3].pip[0]: must be a requirement, such as"
                " numpy==2.5.5; correct or remove it",
                "env.yml:6:14: dependencies[3].pip[1]: must be a requirement, such as"
                " numpy==2.5.5; correct or remove it",
            ],
        ),
        (
            conda("numpy=>2", "a b c d"),
            [
                "env.yml:3:5: 'numpy=>2' is no package and version; write numpy>=2",
                "env.yml:4:5: 'a b c d' is no package and version",
            ],
        ),
        (
            conda("numpy", more="name: a\nname: b\n"),
            ["env.yml:5:1: name: duplicate key name, first on line 4; keep one of them"],
        ),
        (
            conda("azureml-samples==0+unknown"),
            [
                "env.yml:3:5: azureml-samples 0+unknown: this version is that of a working copy,"
                " and in no channel; name a version that was released, or remove it"
            ],
        ),
        (
            conda("numpy=1.2", "Numpy"),
            ["env.yml:4:5: numpy is here twice, first on line 3; keep one of them"],
        ),
        (
            conda("./built.conda", "-e ."),
            [
                "env.yml:3:5: ./built.conda is no package; publish it as a wheel on an index, or"
                " copy its code beside the entry script",
                "env.yml:4:5: -e . is no package; publish it as a wheel on an index, or"
                " copy its code beside the entry script",
            ],
        ),
        (
            conda("numpy=1.24", "pandas==2.0.1", 'pip: ["numpy==1.25.0", "pandas<2"]'),
            [
                "env.yml:5:11: numpy==1.25.0 contradicts numpy=1.24 of conda on line 3;"
                " keep one of them",
                "env.yml:5:28: pandas<2 contradicts pandas==2.0.1 of conda on line 4;"
                " keep one of them",
            ],
        ),
        (
            conda("numpy", more="platforms: [osx-64]\n"),
            [
                "env.yml:4:13: platforms[0]: the images are for linux-64; add linux-64, or remove"
                " `platforms`"
            ],
        ),
        (
            conda("numpy", more='variables: {A: null, B: [1], 1C: x, PATH: y, D: "a\\nb"}\n'),
            [
                'env.yml:4:16: variables.A: must be text; write "" if it is empty',
                'env.yml:4:25: variables.B: must be text; write "" if it is empty',
                "env.yml:4:30: variables.1C: '1C' is no name of a variable; letters, digits and"
                " _ only",
                "env.yml:4:37: variables.PATH: PATH is set by the image; remove it",
                "env.yml:4:49: variables.D: has a character that a Dockerfile cannot hold, such as"
                " the end of a line",
            ],
        ),
    ],
)
def test_each_error_has_its_place(text: str | bytes, expected: list[str]) -> None:
    found = errors_of(environment, text)
    assert len(found) == len(expected)
    for error, beginning in zip(found, expected, strict=True):
        assert error == beginning or (beginning[-1] == " " and error.startswith(beginning))


def test_errors_of_all_parts_come_at_once() -> None:
    text = conda(
        "python=3.6",
        "numpy=>2",
        'pip: ["-e .", "six=1"]',
        channels="[defaults]",
        more="variables: {PATH: a}\n",
    )
    lines = [int(error.split(":")[1]) for error in errors_of(environment, text)]
    assert lines == [1, 3, 4, 5, 5, 6]


def test_what_agrees_is_no_contradiction() -> None:
    text = conda("numpy=1.24", "pandas>=2", "six==1.16.0", 'pip: ["numpy==1.24.3", "six~=1.16"]')
    assert texts(environment(text).pip) == ["numpy==1.24.3", "six~=1.16"]


def test_file_of_unknown_kind() -> None:
    assert errors_of(environment, "a", "Pipfile") == [
        "Pipfile: is of no known kind; name an env.yml, a requirements.txt or an"
        " inferenceconfig.json"
    ]


@pytest.mark.parametrize(
    ("spec", "packages", "series"),
    [
        ("python=3.11", Packages.PYPI, "3.11"),
        ("python==3.11.4", Packages.PYPI, "3.11"),
        ("python 3.7.16 h7a1cb2a_2", Packages.PYPI, "3.7"),
        ("python=3.10.*", Packages.CONDA, "3.10"),
        ("python", Packages.PYPI, "3.12"),
        ("python=3", Packages.PYPI, "3.12"),
        ("python>=3.8", Packages.CONDA, "3.12"),
        ("python>=3.8,<3.11", Packages.CONDA, "3.10"),
        ("python>=3.9, <3.12.0a0", Packages.PYPI, "3.11"),
        ("python=3.7|3.8", Packages.CONDA, "3.8"),
        ("conda-forge::python=3.13", Packages.PYPI, "3.13"),
        ("\"python[version='>=3.11,<3.12']\"", Packages.PYPI, "3.11"),
        ("numpy", Packages.PYPI, "3.12"),
    ],
)
def test_python_of_an_environment(spec: str, packages: Packages, series: str) -> None:
    assert environment(conda(spec), decided=decisions(packages)).series == series


@pytest.mark.parametrize(
    ("spec", "packages", "error"),
    [
        (
            "python=2.7",
            Packages.CONDA,
            "Python 2.7: the server runs on Python 3.7 to 3.13; write python=3.12",
        ),
        (
            "python>=3.14",
            Packages.PYPI,
            "Python >=3.14: the server runs on Python 3.7 to 3.13; write python=3.12",
        ),
        (
            "python=3.10",
            Packages.PYPI,
            "Python 3.10: images with packages of PyPI have Python 3.7, 3.11, 3.12, 3.13; choose"
            " one of them, or --packages conda, which brings its own Python",
        ),
    ],
)
def test_python_that_there_is_not(spec: str, packages: Packages, error: str) -> None:
    found = errors_of(environment, conda(spec), decided=decisions(packages))
    assert found == [f"env.yml:3:5: {error}"]


def test_patch_of_python_that_no_image_has_is_noted() -> None:
    text = conda("python=3.11.4")
    (note,) = environment(text, decided=decisions(Packages.PYPI)).notes
    assert str(note) == (
        "env.yml:3:5: Python 3.11.4: the image has the newest patch of its Python;"
        " --packages conda has that one"
    )
    assert environment(text).notes == ()


def test_python_of_the_option() -> None:
    asked = decisions(python="3.11")
    assert environment(conda("python>=3.8"), decided=asked).series == "3.11"
    assert environment(conda("numpy"), decided=asked).series == "3.11"
    assert errors_of(environment, conda("python=3.12"), decided=asked) == [
        "env.yml:3:5: Python 3.11 is asked for by --python, and 3.12 here; change one of them"
    ]


def test_build_for_another_python() -> None:
    text = conda("python=3.7", "numpy=1.16=py36h99e49ec_0", "six=1.16=py37_0", "re2=1=h1_0")
    assert errors_of(environment, text) == [
        "env.yml:4:5: numpy=1.16=py36h99e49ec_0 is a build for Python 3.6, and Python 3.7 is asked"
        " for; leave the build out: numpy=1.16"
    ]


def test_defaults_needs_a_decision() -> None:
    text = conda("numpy", "defaults::six", channels="[defaults, pytorch]")
    found = errors_of(environment, text)
    assert [error.split(":", 3)[:3] for error in found] == [
        ["env.yml", "1", "12"],
        ["env.yml", "4", "5"],
    ]
    assert "Anaconda's repository, whose terms of service apply" in found[0]
    assert "--channel defaults=conda-forge" in found[0]
    decided = decisions(channels={"defaults": ("conda-forge", "https://c.example/x")})
    read = environment(text, decided=decided)
    assert texts(read.channels) == ["conda-forge", "https://c.example/x", "pytorch"]
    assert texts(read.conda) == ["numpy", "conda-forge::six"]
    # Nothing is taken from a channel.
    assert texts(environment(text, decided=decisions(Packages.PYPI)).conda)[0] == "numpy"


def test_without_channels_conda_takes_defaults() -> None:
    text = "dependencies: [python=3.11, numpy]\n"
    (error,) = errors_of(environment, text)
    assert error.startswith("env.yml:1:15: names no channel, so conda takes `defaults`;")
    decided = decisions(channels={"defaults": ("conda-forge",)})
    assert texts(environment(text, decided=decided).channels) == ["conda-forge"]


def test_channel_is_named_once_and_nodefaults_is_none() -> None:
    text = conda("numpy", channels="[a, nodefaults, defaults, b]")
    decided = decisions(channels={"defaults": ("b", "a")})
    assert texts(environment(text, decided=decided).channels) == ["a", "b"]


SECRETS = [
    conda("numpy", channels='["https://me:s3cret@c.example/x"]'),
    conda("numpy", channels='["https://c.example/t/s3cret/x"]'),
    conda("https://me:s3cret@c.example/x::numpy"),
    conda("https://s3cret@c.example/linux-64/numpy-1.0-py_0.conda"),
    conda('pip: ["--index-url https://me:s3cret@i.example/simple"]'),
    conda('pip: ["six @ https://me:s3cret@i.example/six-1.0-py3-none-any.whl"]'),
    conda('pip: ["git+https://s3cret@g.example/a/b"]'),
]


@pytest.mark.parametrize("text", SECRETS)
def test_password_in_an_address_is_refused_and_not_repeated(text: str) -> None:
    (error,) = errors_of(environment, text)
    assert "password" in error
    assert "s3cret" not in error


def test_local_channels_are_refused() -> None:
    text = conda("numpy", channels='[./here, /srv/x, ""]')
    found = errors_of(environment, text)
    assert [error.split(":")[2] for error in found] == ["12", "20", "28"]
    (note,) = environment(conda("numpy", channels='["file:///srv/x"]')).notes
    assert str(note) == "env.yml:1:12: only this machine reaches that channel"


def test_requirements_of_the_pip_section_are_beside_the_file() -> None:
    text = conda("python=3.11", 'pip: ["-r pip/all.txt", "six"]')
    others = {"here/pip/all.txt": "# one\nnumpy\n-r more.txt\n", "here/pip/more.txt": "joblib\n"}
    read = environment(text, "here/env.yml", others)
    assert [(entry.text, str(entry.file), entry.line) for entry in read.pip] == [
        ("numpy", "here/pip/all.txt", 2),
        ("joblib", "here/pip/more.txt", 1),
        ("six", "here/env.yml", 4),
    ]


def test_name_depends_on_the_content_only() -> None:
    first = conda("python=3.11", "numpy=1.24", "six", 'pip: ["b==1 ", "A.x>=2,<3"]')
    same = (
        "# a comment\nname: other\ndependencies:\n- six\n- numpy =1.24.*\n- python=3.11\n"
        "- pip: ['a-x<3,>=2', 'b == 1']\nchannels:\n- conda-forge\nprefix: /somewhere\n"
    )
    names = {name_of(environment(text)) for text in (first, same)}
    assert len(names) == 1
    assert names.pop().removeprefix("azureml_").isalnum()


def test_each_part_of_the_content_changes_the_name() -> None:
    whole = conda("python=3.11", "numpy=1.24", 'pip: ["six"]', more="variables: {A: b}\n")
    changed = [
        whole,
        whole.replace("3.11", "3.12"),
        whole.replace("=1.24", "=1.25"),
        whole.replace("conda-forge", "nvidia"),
        whole.replace('"six"', '"six>1"'),
        whole.replace('"six"', f'"six --hash=sha256:{"a" * 64}"'),
        whole.replace('"six"', '"six", "--pre"'),
        whole.replace("A: b", "A: c"),
    ]
    names = [name_of(environment(text)) for text in changed]
    assert len(set(names)) == len(names)
    # Which Python is taken where none is asked for.
    free = conda("numpy")
    assert name_of(environment(free)) != name_of(
        environment(free, decided=decisions(python="3.11"))
    )


def test_order_of_channels_is_content() -> None:
    orders = itertools.permutations(["a", "b"])
    names = {name_of(environment(conda("six", channels=f"[{', '.join(o)}]"))) for o in orders}
    assert len(names) == 2


def test_mutated_specification_is_what_was_used() -> None:
    digest = f"sha256:{'a' * 64}"
    text = FULL.replace("mlflow== 2.4.1", f"mlflow== 2.4.1 --hash={digest}")
    read = environment(text)
    mutated = mutated_specification(read)
    again = environment(mutated)
    assert again.name == name_of(read) == name_of(again)
    assert content_of(again) == content_of(read)
    assert list(yaml.safe_load(mutated)) == ["channels", "dependencies", "name", "variables"]
    assert f"mlflow==2.4.1 --hash={digest}" in mutated


def test_mutated_requirements_name_their_python() -> None:
    read = environment("-c pins.txt\nsix\n", "requirements.txt", {"pins.txt": "idna<4\n"})
    mutated = mutated_specification(read)
    assert mutated.startswith("# constraint: idna<4\n")
    assert yaml.safe_load(mutated)["dependencies"] == ["python=3.12", {"pip": ["six"]}]
