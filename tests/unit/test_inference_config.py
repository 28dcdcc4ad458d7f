"""Inference configurations: every key, each file that they name, each error at its place."""

import json
from pathlib import Path, PurePath
from typing import Any

import pytest

from imagematrix.environments.specification import Packages, Registry
from tests.unit.specifications import conda, decisions, deployment, errors_of, texts

HERE = "its path is relative to the folder of this file"


def config(**keys: Any) -> str:
    """A configuration with one key a line, from line 2 on."""
    lines = [f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in keys.items()]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def serving(**keys: Any) -> str:
    """A configuration that serves score.py; other keys begin on line 3."""
    return config(entryScript="score.py", **keys)


def test_least_that_there_is() -> None:
    read = deployment(serving())
    assert (read.file, read.folder, read.source) == (
        PurePath("inferenceconfig.json"),
        Path(),
        None,
    )
    assert read.script == "score.py"
    assert (read.environment, read.docker_steps, read.base_image) == (None, "", "")
    assert (read.enable_gpu, read.cuda_version, read.registry) == (False, "", None)


@pytest.mark.parametrize("steps", ["extraDockerfileSteps", "extraDockerFileSteps"])
def test_every_key_is_read(steps: str) -> None:
    keys = {
        "entryScript": "code/score.py",
        "runtime": "python",
        "condaFile": "env.yml",
        steps: "steps",
        "sourceDirectory": "src",
        "enableGpu": True,
        "cudaVersion": "12.5",
        "baseImage": "team/base:1",
        "baseImageRegistry": "https://r.example:5000/",
        "description": "Answers.",
    }
    files = {
        "src/code/score.py": "def run(data): return data\n",
        "src/env.yml": conda("python=3.11", "numpy"),
        "src/steps": "RUN true\r\n",
    }
    read = deployment(config(**keys), files)
    assert (read.folder, read.source, read.script) == (Path("src"), Path("src"), "code/score.py")
    assert read.environment is not None
    assert read.environment.series == "3.11"
    assert read.environment.file == PurePath("src/env.yml")
    assert read.docker_steps == "RUN true\n"
    assert (read.enable_gpu, read.cuda_version) == (True, "12.5")
    assert read.base_image == "r.example:5000/team/base:1"
    assert read.registry == Registry("r.example:5000")
    assert (read.description, read.notes) == ("Answers.", ())


def test_every_key_may_be_null() -> None:
    keys = "runtime condaFile extraDockerfileSteps sourceDirectory enableGpu cudaVersion baseImage"
    keys += " baseImageRegistry description environment"
    assert deployment(serving(**dict.fromkeys(keys.split()))) == deployment(serving())


INLINE = {
    "name": "inline",
    "version": "1",
    "environmentVariables": {"LEVEL": "info", "PORTS": 3},
    "python": {
        "baseCondaEnvironment": None,
        "condaDependencies": {
            "channels": ["conda-forge"],
            "dependencies": ["python=3.11", {"pip": ["six", "-r more.txt"]}],
            "name": "project_environment",
            "variables": {"LEVEL": "debug", "A": "b"},
        },
        "condaDependenciesFile": None,
        "interpreterPath": "python",
        "userManagedDependencies": False,
    },
    "docker": {
        "arguments": ["--shm-size=1g"],
        "baseDockerfile": None,
        "baseImage": "r.example/base",
        "baseImageRegistry": {"address": "r.example", "username": "me", "password": "s3cret"},
        "enabled": False,
        "platform": {"os": "Linux", "architecture": "amd64"},
        "sharedVolumes": True,
        "shmSize": "2g",
    },
    "spark": {"packages": [], "precachePackages": True, "repositories": []},
    "databricks": {"jarLibraries": ["a"]},
    "inferencingStackVersion": None,
}


def test_environment_in_the_configuration() -> None:
    read = deployment(serving(environment=INLINE), {"more.txt": "numpy\n"})
    found = read.environment
    assert found is not None
    assert (found.name, found.series) == ("inline", "3.11")
    assert texts(found.pip) == ["six", "numpy"]
    assert [str(entry.file) for entry in found.pip] == ["inferenceconfig.json", "more.txt"]
    assert found.variables == {"LEVEL": "info", "A": "b", "PORTS": "3"}
    assert read.base_image == "r.example/base"
    assert read.registry == Registry("r.example", "me", "s3cret")
    assert "s3cret" not in repr(read)
    assert [note.where.split(".")[-1] for note in read.notes] == [
        "databricks",
        "arguments",
        "shmSize",
        "password",
    ]
    assert all("s3cret" not in str(note) for note in read.notes)


def inline(**python: Any) -> str:
    """A configuration whose environment says this of Python."""
    return serving(environment={"python": python})


def test_packages_of_the_base_image_stay_as_they_are() -> None:
    read = deployment(
        serving(
            environment={
                "environmentVariables": {"A": "b"},
                "python": {
                    "userManagedDependencies": True,
                    "condaDependencies": {"dependencies": ["python=3.6"]},
                },
            }
        )
    )
    assert read.environment is not None
    assert (read.environment.conda, read.environment.variables) == ((), {"A": "b"})
    assert [note.message for note in read.notes] == [
        "the base image has the packages: condaDependencies is ignored"
    ]


def test_environment_of_a_file_that_the_inline_one_names() -> None:
    files = {"env.yml": conda("python=3.13", "six")}
    read = deployment(inline(condaDependenciesFile="env.yml"), files)
    assert read.environment is not None
    assert read.environment.series == "3.13"


@pytest.mark.parametrize(
    ("text", "errors"),
    [
        ("", ["1:1: is empty"]),
        ("{", ["1:2: no valid JSON: expecting property name enclosed in double quotes"]),
        ("{\n'a': 1}", ["2:1: no valid JSON: expecting property name enclosed in double quotes"]),
        (
            '{\n "a": "\\\\ud800 \\udfff"}',
            ["2:16: no valid JSON: \\udfff is one half of a character"],
        ),
        ("[]", ["1:1: must be a mapping of keys to values, is a list"]),
        (
            config(entryscript="score.py"),
            [
                "1:1: the key entryScript is missing; add it",
                "2:3: entryscript: unknown key entryscript; did you mean entryScript?",
            ],
        ),
        (
            serving(enableGpu="yes", cudaVersion=10),
            [
                "3:16: enableGpu: input should be a valid boolean",
                '4:18: cudaVersion: 10 is a number, not text; write "10" in quotes',
            ],
        ),
        (
            serving(runtime="spark-py"),
            ["3:14: runtime: there is no runtime 'spark-py' here; write \"python\""],
        ),
        (
            serving(enableGpu=True, cudaVersion="ten"),
            ["4:18: cudaVersion: 'ten' is no version of CUDA, such as 12.5"],
        ),
        (
            serving(condaFile="a.yml", extraDockerfileSteps="b", environment={}),
            [
                "3:3: condaFile: condaFile and environment exclude each other; keep one of them",
                f"4:27: extraDockerfileSteps: b cannot be read: No such file or directory; {HERE}",
            ],
        ),
        (
            serving(baseImage="a", environment={}),
            ["3:3: baseImage: baseImage and environment exclude each other; keep one of them"],
        ),
        (
            serving(condaFile="a\\b.yml"),
            ["3:16: condaFile: 'a\\\\b.yml' has \\ between its folders; write /"],
        ),
        (
            serving(condaFile="a\0b"),
            ["3:16: condaFile: 'a\\x00b' is no path; its path is relative to the folder of this"
             " file"],
        ),
        (
            config(sourceDirectory="a\\b", entryScript="score.py"),
            [
                "2:22: sourceDirectory: 'a\\\\b' has \\ between its folders; write /",
                "3:18: entryScript: score.py cannot be read: No such file or directory; its path is"
                " relative to sourceDirectory, a\\b",
            ],
        ),
        (
            serving(extraDockerfileSteps="score.py", extraDockerFileSteps="score.py"),
            ["3:3: extraDockerfileSteps: stands here with a second spelling,"
             " extraDockerFileSteps; keep one of them"],
        ),
        (
            inline(condaDependencies={"dependencies": ["six"]}, condaDependenciesFile="a"),
            ["3:78: environment.python.condaDependenciesFile: condaDependencies and"
             " condaDependenciesFile exclude each other; keep one of them"],
        ),
        (
            inline(baseCondaEnvironment="base"),
            ["3:54: environment.python.baseCondaEnvironment: environments of a base image are not"
             " extended; name the packages that it has"],
        ),
        (
            inline(condaDependencies={"channels": [], "dependencis": []}),
            [
                "3:51: environment.python.condaDependencies: the key dependencies is missing;"
                " add it",
                "3:68: environment.python.condaDependencies.dependencis: unknown key dependencis;"
                " did you mean dependencies?",
            ],
        ),
        (
            serving(environment={"docker": {"baseDockerfile": "FROM a"}}),
            ["3:48: environment.docker.baseDockerfile: a Dockerfile as base is not built here;"
             " build it by `docker build -t NAME`, and name that in baseImage"],
        ),
        (
            serving(environment={"docker": {"platform": {"os": "Windows"}}}),
            ["3:42: environment.docker.platform: images are for linux and amd64, not Windows and"
             " amd64; remove it"],
        ),
    ],
)  # fmt: skip
def test_each_error_has_its_place(text: str, errors: list[str]) -> None:
    found = errors_of(deployment, text, decided=decisions(Packages.PYPI))
    assert len(found) == len(errors)
    for error, expected in zip(found, errors, strict=True):
        assert error.startswith(f"inferenceconfig.json:{expected}")


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("/srv/score.py", "'/srv/score.py' is not below the folder of this file"),
        ("../score.py", "'../score.py' is not below the folder of this file"),
        ("", "'' is not below the folder of this file"),
        ("other.py", f"other.py cannot be read: No such file or directory; {HERE}"),
    ],
)
def test_script_that_there_is_not(name: str, error: str) -> None:
    (found,) = errors_of(deployment, config(entryScript=name))
    assert found.startswith(f"inferenceconfig.json:2:18: entryScript: {error}")


def test_files_are_relative_to_the_source_directory() -> None:
    files = {"env.yml": conda("six"), "src/score.py": "def run(data): ..."}
    text = serving(sourceDirectory="src", condaFile="env.yml")
    assert errors_of(deployment, text, files) == [
        "inferenceconfig.json:4:16: condaFile: env.yml cannot be read: No such file or directory;"
        " its path is relative to sourceDirectory, src"
    ]


@pytest.mark.parametrize(
    ("script", "place"),
    [
        ("def run(data):\n    return data +\n", "2:18"),
        ("def run(data):\nreturn data\n", "2:1"),
        ("print 'a'\n", "1:1"),
        ("a = '\n", "1:5"),
        (b"\x00", ""),
        ("# coding: nothing\n", ""),
        (b"# coding: utf-8\na = '\xff'\n", ""),
        ("(" * 300, ""),
    ],
)
def test_script_with_an_error(script: str | bytes, place: str) -> None:
    (error,) = errors_of(deployment, serving(), {"score.py": script})
    assert error.startswith(f"score.py:{place}")
    assert "Python cannot read it: " in error


def test_script_that_is_nested_too_deeply() -> None:
    script = f"a = {'-' * 10_000}1\n"
    (error,) = errors_of(deployment, serving(), {"score.py": script})
    assert error == "score.py: is nested too deeply"


def test_script_is_read_as_its_python_reads_it() -> None:
    files = {"score.py": "match 1:\n    case 1: pass\nrun = print\n"}
    old = decisions(Packages.PYPI, python="3.7")
    (error,) = errors_of(deployment, serving(), files, old)
    assert error.startswith("score.py:")
    assert deployment(serving(), files).script == "score.py"


@pytest.mark.parametrize(
    ("script", "notes"),
    [
        ("def init(): ...\n", ["defines no function run"]),
        ("def run(data): ...\n", []),
        ("async def run(data): ...\n", []),
        ("from model import run\n", []),
        ("from model import *\n", []),
        ("import model\nrun = model.answer\n", []),
    ],
)
def test_script_without_run_is_noted(script: str, notes: list[str]) -> None:
    read = deployment(serving(), {"score.py": script})
    assert [note.message for note in read.notes] == notes


def steps(text: str) -> list[str]:
    """What is wrong with additional steps, without the name of the file."""
    found = errors_of(deployment, serving(extraDockerfileSteps="steps"), {"steps": text})
    return [error.removeprefix("steps:") for error in found]


def test_steps_that_have_no_place() -> None:
    text = (
        '# FROM a\nRUN true \\\n  # a comment\n\n  FROM b\n  from c\nCMD ["a"]\n'
        "ONBUILD ENTRYPOINT a\nHEALTHCHECK CMD true\n"
    )
    assert steps(text) == [
        "6:3: FROM has no place in these steps; it would begin another image; the base image is"
        " `baseImage`",
        "7:1: CMD has no place in these steps; it would replace the server; remove it",
        "8:1: ENTRYPOINT has no place in these steps; it would replace the server; remove it",
    ]


def test_text_behind_an_instruction_is_none() -> None:
    text = "RUN <<EOF cat > a <<-'TWO'\nFROM a\nEOF\nCMD b\n\tTWO\nENV A=b\nRUN <<X\n"
    assert steps(text) == ["7:1: the text behind <<X has no end; add X"]


def test_steps_that_are_no_text() -> None:
    text = serving(extraDockerfileSteps="steps")
    assert errors_of(deployment, text, {"steps": b"RUN \xff"}) == [
        "steps: is not UTF-8: byte 4 is 0xff"
    ]


def test_steps_that_are_none() -> None:
    assert steps("apt-get update\nCOPPY a\nRUN\n") == [
        "1:1: apt-get is no instruction; a command begins with RUN",
        "2:1: COPPY is no instruction; did you mean COPY?",
        "3:1: RUN says nothing; complete or remove it",
    ]


@pytest.mark.parametrize(
    ("image", "registry", "reference"),
    [
        ("team/base", "r.example", "r.example/team/base"),
        ("r.example/team/base:1", "r.example", "r.example/team/base:1"),
        ("localhost:5000/base", None, "localhost:5000/base"),
        ("base@sha256:" + "a" * 64, {"address": "r.example/team"}, "r.example/team/base@sha256:"
         + "a" * 64),
        ("python:3.11", "", "python:3.11"),
    ],
)  # fmt: skip
def test_base_image_is_a_whole_reference(image: str, registry: Any, reference: str) -> None:
    read = deployment(serving(baseImage=image, baseImageRegistry=registry))
    assert read.base_image == reference


@pytest.mark.parametrize(
    ("image", "registry", "error"),
    [
        ("Not An Image", None, "3:16: baseImage: 'Not An Image' is no image; write host/name:tag"),
        (
            "python:3.11-alpine3.19",
            None,
            "3:16: baseImage: python:3.11-alpine3.19 is an image with musl, by its name; wheels and"
            " conda need glibc: take an image of Debian or Ubuntu",
        ),
        (
            "a.example/base",
            "b.example",
            "3:16: baseImage: a.example/base is of a.example, and baseImageRegistry names"
            " b.example; correct one of them",
        ),
        (
            None,
            "b.example",
            "4:24: baseImageRegistry: names a registry, and there is no baseImage; add it, or"
            " remove this",
        ),
        (
            "base",
            {"username": "me"},
            '4:24: baseImageRegistry: the address is missing; add "address"',
        ),
        (
            "base",
            "b.example/A B",
            "4:24: baseImageRegistry.address: 'b.example/A B' is no registry; write host or"
            " host:port",
        ),
    ],
)
def test_base_image_that_cannot_be(image: Any, registry: Any, error: str) -> None:
    text = serving(baseImage=image, baseImageRegistry=registry)
    assert errors_of(deployment, text) == [f"inferenceconfig.json:{error}"]


def test_password_in_an_address_is_refused_and_not_repeated() -> None:
    text = serving(baseImage="base", baseImageRegistry="https://me:s3cret@b.example")
    (error,) = errors_of(deployment, text)
    assert "has a password in it" in error
    assert "s3cret" not in error


def test_errors_of_all_files_come_at_once() -> None:
    files = {"score.py": "def\n", "env.yml": conda("python=3.6", "six=>1"), "steps": "FROM a\n"}
    keys = {"condaFile": "env.yml", "extraDockerfileSteps": "steps", "runtime": "spark-py"}
    found = errors_of(deployment, serving(**keys), files)
    assert [error.split(":")[0] for error in found] == [
        "env.yml",
        "env.yml",
        "inferenceconfig.json",
        "score.py",
        "steps",
    ]


def test_json_as_editors_write_it() -> None:
    text = '\ufeff{\r\n\t"entryScript":\t"score.py",\r\n\t"description":"a\\/\\u00e9"}\r\n'
    assert deployment(text).description == "a/é"
    broken = text.replace("score.py", "other.py")
    (error,) = errors_of(deployment, broken)
    assert error.startswith("inferenceconfig.json:2:17: entryScript: other.py")


def test_json_says_what_yaml_would_read_otherwise() -> None:
    text = '{"entryScript": "score.py", "description": "\\ud83d\\ude00 \\\\ud800 \u2028 \\/ off"}'
    assert deployment(text).description == "😀 \\ud800 \u2028 / off"


def test_version_of_cuda_that_nothing_uses_is_noted() -> None:
    (note,) = deployment(serving(cudaVersion="12.5")).notes
    assert str(note) == (
        "inferenceconfig.json:3:3: cudaVersion: nothing uses CUDA: enableGpu is not true"
    )


def test_key_that_stands_twice() -> None:
    text = '{\n"entryScript": "score.py",\n"entryScript": "score.py"}'
    assert errors_of(deployment, text) == [
        "inferenceconfig.json:3:1: entryScript: duplicate key entryScript, first on line 2; keep"
        " one of them"
    ]
