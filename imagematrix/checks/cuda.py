"""CUDA: which one it has, or that it has none."""

import re
from pathlib import PurePosixPath

from packaging.utils import canonicalize_name

from imagematrix.checks.check import NoGpuError, layer, listing
from imagematrix.checks.running import RunningImage, RunningVariant
from imagematrix.matrix.schema import MINIMAL, Accelerator

_CUDA_LIBRARY = re.compile(
    r"lib(cuda|cudart|cublas|cublasLt|cudnn|cufft|cufile|cupti|curand|cusolver|cusparse|cusparseLt"
    r"|nccl|nvJitLink|nvrtc|nvToolsExt|nvinfer|nvshmem)([-_.\d].*)?\.so(\.\d+)*"
    r"|lib(onnxruntime_providers|torch|c10)_(cuda|tensorrt).*\.so"
)
_CUDA_DISTRIBUTION = re.compile(r"nvidia-.*|cuda-.*|cupy.*|.*-cu1\d|.*-cuda1\d.*|triton|tensorrt.*")


_CPU_DISTRIBUTION = re.compile(r".*-cpu|onnxruntime|faiss-cpu")


def _cuda_libraries(image: RunningImage) -> list[str]:
    libraries = [e.path for e in image.entries if ".so" in e.path and e.kind in "fl"]
    assert len(libraries) > 100, f"only {len(libraries)} libraries: the scan saw nothing"
    return [path for path in libraries if _CUDA_LIBRARY.fullmatch(PurePosixPath(path).name)]


@layer("cpu")
def cuda_only_where_declared(image: RunningImage) -> None:
    """A CPU image holds no distribution that brings CUDA, and no CUDA library but what a package is
    declared to carry."""
    found = _cuda_libraries(image)
    if not image.carries_cuda:
        assert not found, f"CUDA libraries in a CPU image: {listing(found)}"
    brought = [name for name in image.installed if _CUDA_DISTRIBUTION.fullmatch(name)]
    assert not brought, f"CUDA distributions in a CPU image: {listing(brought)}"


@layer("cpu")
def framework_was_built_without_cuda(image: RunningVariant) -> None:
    """The framework says so, or that it carries the CUDA that is declared; some tell neither."""
    reported = image.accelerator["framework"]
    declared = image.variant.bundled_cuda
    if declared is not None:
        assert reported["cuda"] == declared, (
            f"carries CUDA {declared} by the matrix, but reports {reported}"
        )
    assert reported["built_with_cuda"] in (None, declared is not None), f"reports {reported}"


@layer("cuda")
def no_cpu_build(image: RunningVariant) -> None:
    """An image with CUDA holds no distribution that was built for the CPU alone."""
    found = [
        f"{name} {version}"
        for name, version in image.installed.items()
        if _CPU_DISTRIBUTION.fullmatch(canonicalize_name(name)) or version.endswith("+cpu")
    ]
    assert not found, f"CPU builds in an image with CUDA: {listing(found)}"


@layer("cuda")
def cuda_versions_agree(image: RunningVariant) -> None:
    """The lock, the label, the runtime itself and the framework name one version of CUDA; and of
    cuDNN, as far as each is known."""
    declared = image.variant.cuda
    assert declared is not None, "the lock holds no CUDA runtime"
    facts = image.accelerator
    reported = {
        "the label": image.labels.get("inference.cuda"),
        "cudaRuntimeGetVersion": facts["cudart"],
        image.variant.framework: facts["framework"]["cuda"] or declared.version,
    }
    differing = {who: version for who, version in reported.items() if version != declared.version}
    assert not differing, f"CUDA is {declared.version} by the lock; {differing}"
    if declared.cudnn is None:
        assert facts["cudnn"] is None, f"cuDNN {facts['cudnn']} is not in the lock"
        return
    reported = {
        "the label": image.labels.get("inference.cudnn"),
        "cudnnGetVersion": facts["cudnn"],
        image.variant.framework: facts["framework"]["cudnn"] or declared.cudnn,
    }
    differing = {who: v for who, v in reported.items() if not _same_release(v, declared.cudnn)}
    assert not differing, f"cuDNN is {declared.cudnn} by the lock; {differing}"


def _same_release(one: str | None, other: str) -> bool:
    """Whether two versions agree in the parts that both tell."""
    parts = zip((one or "none").split("."), other.split("."), strict=False)
    return all(left == right for left, right in parts)


@layer("cuda")
def cuda_libraries_resolve(image: RunningImage) -> None:
    """Every library that a shared library of the image asks for is there, but for the driver's."""
    facts = image.accelerator
    assert facts["libraries"] > 0, "no shared library was found: the scan saw nothing"
    missing = [f"{library} (for {asking})" for library, asking in facts["unresolved"].items()]
    assert not missing, f"not found: {listing(missing)}"


def declared_cuda_is_there(image: RunningImage) -> None:
    """An image that says that it is for GPUs holds a CUDA library."""
    assert _cuda_libraries(image), "it asks for GPUs, and holds no CUDA library"


@layer("cuda")
def cuda_backend_is_compiled_in(image: RunningVariant) -> None:
    """The framework was built with CUDA, and says so; `minimal` is one without a framework."""
    reported = image.accelerator["framework"]
    expected = None if image.variant.framework == MINIMAL else True
    assert reported["built_with_cuda"] is expected, f"{image.variant.framework} reports {reported}"
    if image.variant.accelerator is Accelerator.TENSORRT:
        assert "TensorrtExecutionProvider" in reported["backends"], (
            f"backends: {reported['backends']}"
        )


@layer("cuda")
def driver_is_asked_for(image: RunningVariant) -> None:
    """NVIDIA's container runtime is asked for: every GPU, computing, a driver that will
    do."""
    declared = image.variant.cuda
    assert declared is not None, "the lock holds no CUDA runtime"
    environment = dict(item.split("=", 1) for item in image.config["Env"])
    expected = {
        "NVIDIA_VISIBLE_DEVICES": "all",
        "NVIDIA_DRIVER_CAPABILITIES": "compute,utility",
        "NVIDIA_REQUIRE_CUDA": f"cuda>={declared.oldest_driver}",
    }
    wrong = {n: environment.get(n) for n, v in expected.items() if environment.get(n) != v}
    assert not wrong, f"the environment has {wrong}, expected {expected}"


@layer("cuda")
def gpu_computes_as_the_host_does(image: RunningVariant) -> None:
    """A kernel, and the example's model, give on the GPU what they give on the host."""
    if not image.has_gpu:
        raise NoGpuError("no GPU that containers can use")
    facts = image.accelerator
    assert facts["kernel"] == 0, f"the sum of two vectors is {facts['kernel']} off"
    model = facts["model"]
    if image.variant.framework != MINIMAL:
        assert model["values"] > 0, "the model gave no values"
        assert model["difference"] < 1e-4, f"the model's values differ: {model}"
