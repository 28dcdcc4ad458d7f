"""Which CUDA an image holds, and what follows from that."""

from pathlib import Path

import pytest

from imagematrix.matrix.cuda import Cuda, cuda_of_image, cuda_of_lock
from imagematrix.matrix.schema import Accelerator
from imagematrix.matrix.variant import Variant
from tests.unit.helpers import MATRIX, Repository, changed, errors_of, lock_of, lock_text

RELEASE = (
    "        accelerators: [cpu]\n        pins: [xgboost-cpu==3.4.1, numpy>=2]\n",
    "        accelerators: [cpu, cuda]\n        pins: [xgboost-cpu==3.4.1, numpy>=2]\n",
)


@pytest.mark.parametrize(
    ("requirements", "cuda"),
    [
        (["numpy==2.0"], None),
        (["nvidia-cudnn-cu13==9.20.0.48"], None),
        (["nvidia-cuda-runtime==13.0.96"], Cuda("13.0")),
        (
            ["nvidia-cuda-runtime-cu12==12.5.82", "nvidia-cudnn-cu12==9.28.0.42"],
            Cuda("12.5", "9.28.0"),
        ),
        (
            ["nvidia-cuda-runtime==13.0.96", "tensorrt-cu13-libs==10.14.1.48"],
            Cuda("13.0", None, "10.14"),
        ),
    ],
)
def test_lock_gives_the_version_of_cuda(requirements: list[str], cuda: Cuda | None) -> None:
    assert cuda_of_lock(lock_of(*requirements)) == cuda


def test_tag_of_an_image_gives_the_version_of_cuda() -> None:
    assert cuda_of_image("nvidia/cuda:11.0.3-cudnn8-runtime-ubuntu20.04") == Cuda("11.0", "8")
    assert cuda_of_image("nvidia/cuda:12.4.1-runtime-ubuntu22.04") == Cuda("12.4")


def test_driver_of_the_same_major_version_will_do() -> None:
    assert Cuda("12.5").oldest_driver == "12.0"


def with_cuda(repository: Repository, *requirements: str) -> Variant:
    """The repository's XGBoost with CUDA, whose lock holds the requirements."""
    repository.put("matrix.yaml", changed(MATRIX, RELEASE))
    repository.put(
        "frameworks/xgboost/xgboost3.4-py312-cuda-inference/requirements.txt",
        lock_text(["httptools==2.0", "numpy==2.1", "xgboost-cpu==3.4.1", *requirements]),
    )
    (variant,) = (v for v in repository.project.variants if v.accelerator is Accelerator.CUDA)
    return variant


def test_name_has_the_version_that_the_lock_installs(repository: Repository) -> None:
    variant = with_cuda(repository, "nvidia-cuda-runtime==13.3.29")

    assert variant.name == "xgboost3.4-py312-cuda13.3-inference"
    assert variant.folder.name == "xgboost3.4-py312-cuda-inference"
    assert variant.parent == "minimal-py312-inference"
    repository.render()
    assert repository.problems() == []


def test_bump_of_the_runtime_renames_the_image_and_moves_no_file(repository: Repository) -> None:
    before = with_cuda(repository, "nvidia-cuda-runtime==13.3.29")
    after = with_cuda(repository, "nvidia-cuda-runtime==13.4.49")

    assert after.name == "xgboost3.4-py312-cuda13.4-inference"
    assert after.folder == before.folder


def test_lock_without_cuda_is_an_error_for_an_image_with_it(repository: Repository) -> None:
    variant = with_cuda(repository)

    assert variant.name == "xgboost3.4-py312-cuda-inference"
    repository.render()
    (problem,) = repository.problems()
    assert "is for cuda, but" in problem
    assert "holds no nvidia-cuda-runtime; pin it, and run `nox -s lock -- xgboost" in problem


@pytest.mark.parametrize(
    ("key", "error"),
    [
        (
            "cuda_image: nvidia/cuda:11.0.3-runtime-ubuntu20.04",
            "CUDA libraries are of no use to an image on the CPU",
        ),
        ("cuda_image: cuda11", "is not of the form of nvidia/cuda:"),
        ("bundled_cuda: ten", 'is not of the form of "10.2"'),
        ("debian: [Not A Package]", "is not of the form of libgomp1"),
        ("example: other", 'is not of the form of "1.9"'),
    ],
)
def test_wrong_key_is_an_error(key: str, error: str, tmp_path: Path) -> None:
    pins = "        pins: [xgboost-cpu==3.4.1, numpy>=2]\n"
    (message,) = errors_of(changed(MATRIX, (pins, f"        {key}\n{pins}")), tmp_path)
    assert error in message


def test_bundled_cuda_is_reported_for_cpu_images_only(tmp_path: Path) -> None:
    text = changed(MATRIX, ("[cpu]\n        pins: [xgboost", "[cuda]\n        pins: [xgboost"))
    pins = "        pins: [xgboost-cpu==3.4.1, numpy>=2]\n"
    text = changed(text, (pins, f'        bundled_cuda: "10.2"\n{pins}'))
    (message,) = errors_of(text, tmp_path)
    assert "is for images on the CPU" in message
