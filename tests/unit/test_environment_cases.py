"""Specifications from the field: what reading them decides. What a solver decides is elsewhere."""

from pathlib import Path, PurePath
from typing import Any

import pytest

from imagematrix.environments.specification import (
    Environment,
    Packages,
    read_deployment,
    read_environment,
)
from imagematrix.matrix.rules import load_matrix
from tests.unit.helpers import REPOSITORY
from tests.unit.specifications import PYTHONS, decisions, errors_of, texts

CASES = Path(__file__).parent / "environments"
CONDA, PYPI = Packages.CONDA, Packages.PYPI
NO_PYTHON = "Python 3.6.2: the server runs on Python 3.7 to 3.13; write python=3.12"
NO_IMAGE = (
    "images with packages of PyPI have Python 3.7, 3.11, 3.12, 3.13; choose one of them, or"
    " --packages conda, which brings its own Python"
)
# Case, where packages come from, and the errors, each by its beginning.
OUTCOMES: list[tuple[str, Packages, list[str]]] = [
    ("case01-defaults.yml", CONDA, ["3:5: `defaults` needs a decision; "]),
    ("case01-defaults.yml", PYPI, []),
    ("case02-old-python.yml", CONDA, [f"4:5: {NO_PYTHON}"]),
    ("case02-old-python.yml", PYPI, [f"4:5: {NO_PYTHON}"]),
    ("case03-pins.yml", CONDA, []),
    ("case03-pins.yml", PYPI, [f"5:5: Python 3.8: {NO_IMAGE}"]),
    ("case04-mlflow.yml", CONDA, []),
    ("case04-mlflow.yml", PYPI, [f"4:3: Python 3.10.11: {NO_IMAGE}"]),
    ("case05-export.yml", CONDA, []),
    # That linux-64 has no libcxx=4.0.1 and no appnope, a channel says.
    ("case06-macos.yml", CONDA, []),
    # That no channel has the build of cudatoolkit, it says as well.
    (
        "case07-faults.yml",
        CONDA,
        [
            "7:5: numpy=1.16.4=py36h99e49ec_0 is a build for Python 3.6, and Python 3.7 is asked"
            " for; leave the build out: numpy=1.16.4",
            "9:9: azureml-samples==0+unknown: this version is that of a working copy, and on no"
            " index; ",
        ],
    ),
    ("case08-cuda.yml", CONDA, []),
    ("case09/inferenceconfig.json", CONDA, []),
    ("case10/inferenceconfig.json", CONDA, [f"16:21: {NO_PYTHON}"]),
]


@pytest.mark.parametrize(("case", "packages", "expected"), OUTCOMES)
def test_outcome(case: str, packages: Packages, expected: list[str]) -> None:
    read = read_deployment if case.endswith(".json") else read_environment
    shown_as = PurePath("spec")
    found = errors_of(read, CASES / case, decisions(packages), shown_as=shown_as)
    assert len(found) == len(expected)
    for error, beginning in zip(found, expected, strict=True):
        assert error.startswith(f"spec:{beginning}")


def read(case: str, **decided: Any) -> Environment:
    return read_environment(CASES / case, decisions(**decided))


def test_defaults_are_replaced_as_decided() -> None:
    decided = read("case01-defaults.yml", channels={"defaults": ("conda-forge",)})
    assert texts(decided.channels) == ["conda-forge", "pytorch"]
    assert decided.series == "3.7"


def test_pin_with_a_space_is_a_pin() -> None:
    pinned = read("case03-pins.yml")
    assert pinned.series == "3.8"
    assert texts(pinned.pip)[0] == "mlflow==2.4.1"


def test_model_of_mlflow() -> None:
    model = read("case04-mlflow.yml")
    assert (model.python, model.series) == ("3.10.11", "3.10")
    assert texts(model.conda) == ["python=3.10.11", "pip<=23.1.2"]


def test_export_keeps_its_builds_and_not_its_prefix() -> None:
    export = read("case05-export.yml")
    assert "python=3.11.4=hab00c5b_0_cpython" in texts(export.conda)
    assert texts(export.channels) == [
        "https://mirrors.example/anaconda/cloud/conda-forge",
        "https://mirrors.example/anaconda/pkgs/main",
    ]
    assert [(note.line, note.hint) for note in export.notes] == [(15, "ignored")]


def test_channels_and_builds_of_single_packages_are_kept() -> None:
    assert texts(read("case08-cuda.yml").conda) == [
        "python=3.11",
        "pytorch::pytorch-mutex=*=*cuda*",
        "nvidia/label/cuda-11.8.0::cuda-nvcc",
    ]


def test_configuration_of_2019() -> None:
    deployment = read_deployment(CASES / "case09/inferenceconfig.json", decisions())
    reference = "mcr.microsoft.com/azureml/o16n-sample-user-base/ubuntu-miniconda"
    assert deployment.base_image == reference
    assert deployment.registry is not None
    assert deployment.registry.address == "mcr.microsoft.com"
    assert deployment.environment is not None
    assert texts(deployment.environment.pip) == ["azureml-defaults", "scikit-learn==0.24.1"]


def test_inline_environment_with_a_python_that_there_is(tmp_path: Path) -> None:
    text = (CASES / "case10/inferenceconfig.json").read_text(encoding="utf-8")
    config = tmp_path / "inferenceconfig.json"
    config.write_text(text.replace("3.6.2", "3.11"), encoding="utf-8")
    (tmp_path / "score.py").write_text("def run(data): ...\n", encoding="utf-8")
    environment = read_deployment(config, decisions()).environment
    assert environment is not None
    assert environment.name == "my-deploy-env"
    assert environment.variables == {"EXAMPLE_ENV_VAR": "EXAMPLE_VALUE"}
    assert texts(environment.pip)[-1] == "inference-schema[numpy-support]"


def test_pythons_are_those_of_the_matrix() -> None:
    minimal = load_matrix(REPOSITORY / "matrix.yaml").spec.debian.values()
    found = {python for pythons in minimal for python in pythons}
    assert tuple(sorted(found, key=lambda series: int(series.split(".")[1]))) == PYTHONS
