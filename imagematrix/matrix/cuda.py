"""Which CUDA does an image hold? By its lock, or by the image that it copies from."""

import re
from dataclasses import dataclass

from imagematrix.matrix.lockfile import Lock

# The names that NVIDIA's wheels have on PyPI; since CUDA 13 some go without the suffix.
_RUNTIME = re.compile(r"nvidia-cuda-runtime(-cu\d+)?")
_CUDNN = re.compile(r"nvidia-cudnn-cu\d+")
_TENSORRT = re.compile(r"tensorrt-cu\d+-libs")
_IMAGE_TAG = re.compile(r"[^:]+:(?P<cuda>\d+\.\d+)\.\d+-(cudnn(?P<cudnn>\d+)-)?.*")


@dataclass(frozen=True)
class Cuda:
    """`version` is x.y; `cudnn` x.y.z, or as much of it as is known; both of what is installed."""

    version: str
    cudnn: str | None = None
    tensorrt: str | None = None

    @property
    def oldest_driver(self) -> str:
        """The CUDA version that a driver must have: the first of the same major version
        (https://docs.nvidia.com/deploy/cuda-compatibility/, minor version compatibility)."""
        return f"{self.version.split('.')[0]}.0"


def cuda_of_lock(lock: Lock) -> Cuda | None:
    """What the packages of a lock install, None without a CUDA runtime among them."""
    runtime = _version(lock, _RUNTIME, 2)
    if runtime is None:
        return None
    return Cuda(runtime, _version(lock, _CUDNN, 3), _version(lock, _TENSORRT, 2))


def cuda_of_image(reference: str) -> Cuda | None:
    """What the tag of an image of nvidia/cuda says: `11.0.3-cudnn8-runtime-ubuntu20.04`."""
    match = _IMAGE_TAG.fullmatch(reference)
    return Cuda(match["cuda"], match["cudnn"]) if match else None


def _version(lock: Lock, name: re.Pattern[str], parts: int) -> str | None:
    found = [package.version for package in lock.values() if name.fullmatch(package.name)]
    return ".".join(map(str, found[0].release[:parts])) if found else None
