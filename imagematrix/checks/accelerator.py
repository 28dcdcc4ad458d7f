"""What an image's framework, its libraries and its GPU say of CUDA; runs inside of the image.

    python3 accelerator.py FRAMEWORK                    # what the framework says
    python3 accelerator.py FRAMEWORK --libraries        # and the libraries; needs no GPU
    python3 accelerator.py FRAMEWORK --device EXAMPLE   # and a kernel and a model on the GPU

Prints one JSON object. EXAMPLE is the folder of the framework's example (its score.py and model).
Needs nothing but the image's own Python (3.7 or newer), so that it also runs where there is no
Docker: in the root file system of an unpacked image, on a machine with a GPU. See docs/gpu.md.
"""

from __future__ import annotations

import argparse
import ctypes
import importlib
import json
import os
import re
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

# Brought by the driver, or put into the container by NVIDIA's runtime: never in an image.
DRIVER_LIBRARIES = {"libcuda.so.1", "libnvidia-ml.so.1"}
INSUFFICIENT_DRIVER = 35


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("framework")
    parser.add_argument("--libraries", action="store_true")
    parser.add_argument("--device", metavar="EXAMPLE", type=Path)
    options = parser.parse_args()
    # What frameworks print while they are imported is no part of the answer.
    answer = os.dup(1)
    os.dup2(2, 1)
    started = time.perf_counter()
    facts: dict[str, Any] = {"framework": framework_facts(options.framework)}
    # All but a few milliseconds is the import.
    facts["loading_seconds"] = time.perf_counter() - started
    if options.libraries or options.device is not None:
        facts["cudart"] = library_version("libcudart.so", "cudaRuntimeGetVersion")
        facts["cudnn"] = library_version("libcudnn.so", "cudnnGetVersion")
        every = libraries()
        facts["libraries"] = len(every)
        facts["unresolved"] = unresolved(every)
    if options.device is not None:
        facts["kernel"] = kernel()
        facts["model"] = on_device(options.framework, options.device.resolve())
    with os.fdopen(answer, "w") as file:
        file.write(json.dumps(facts, indent=2) + "\n")
    # Some frameworks take a second to take themselves down.
    sys.stderr.flush()
    os._exit(0)


# --- without a GPU --------------------------------------------------------------------------------


def framework_facts(framework: str) -> dict[str, Any]:
    """What the framework says: `built_with_cuda` is None where it has no way to tell; `cuda` and
    `cudnn` are the versions it was built with as far as it says, `backends` what it can use."""
    facts: dict[str, Any] = {"built_with_cuda": None, "cuda": None, "cudnn": None, "backends": []}
    if framework == "pytorch":
        torch: Any = importlib.import_module("torch")
        facts["built_with_cuda"] = torch.version.cuda is not None
        facts["cuda"] = torch.version.cuda
        if torch.version.cuda is not None:
            number = torch.backends.cudnn.version()
            facts["cudnn"] = cudnn_text(number) if number else None
            facts["backends"] = torch.__config__.show().split()
    elif framework == "tensorflow":
        tf: Any = importlib.import_module("tensorflow")
        facts["built_with_cuda"] = tf.test.is_built_with_cuda()
        # Since 2.3.
        info: Any = getattr(tf.sysconfig, "get_build_info", dict)()
        if facts["built_with_cuda"]:
            facts["cuda"] = ".".join(info["cuda_version"].split(".")[:2])
            facts["cudnn"] = info["cudnn_version"]
    elif framework == "onnxruntime":
        onnxruntime: Any = importlib.import_module("onnxruntime")
        # Before 1.2 (or so) the device of the build is all that is known.
        providers: list[str] = getattr(onnxruntime, "get_available_providers", list)()
        facts["backends"] = providers or [onnxruntime.get_device()]
        facts["built_with_cuda"] = "CUDAExecutionProvider" in providers or "GPU" in providers
        if facts["built_with_cuda"]:
            facts["cuda"] = onnxruntime.cuda_version
    elif framework == "xgboost":
        xgboost: Any = importlib.import_module("xgboost")
        info = getattr(xgboost, "build_info", dict)()
        if info:
            facts["built_with_cuda"] = info["USE_CUDA"]
        if info.get("USE_CUDA"):
            facts["cuda"] = ".".join(map(str, info["CUDA_VERSION"][:2]))
        if not info:
            # Before 1.6 only the NCCL inside the library is known.
            library = Path(importlib.import_module("xgboost.core").find_lib_path()[0])
            nccl = re.search(rb"NCCL version \S+\+cuda([\d.]+)", library.read_bytes())
            facts["built_with_cuda"] = nccl is not None
            facts["cuda"] = nccl.group(1).decode() if nccl else None
    return facts


def library_version(name: str, function: str) -> str | None:
    """The version that a CUDA library reports, None where the loader finds none."""
    library = load(name)
    if library is None:
        return None
    if name == "libcudnn.so":
        library.cudnnGetVersion.restype = ctypes.c_size_t
        return cudnn_text(library.cudnnGetVersion())
    number = ctypes.c_int()
    status = getattr(library, function)(ctypes.byref(number))
    path = library_path(name)
    if status == INSUFFICIENT_DRIVER and path is not None:
        # Before 11.1 or so it does not answer without a driver; its file is named by its version.
        return ".".join(path.name.split(".so.")[1].split(".")[:2])
    if status != 0:
        raise SystemExit(f"{function} of {name} gave the error {status}")
    return f"{number.value // 1000}.{number.value % 1000 // 10}"


def cudnn_text(number: int) -> str:
    """9.20.0 for 92000, 8.0.5 for 8005: the digits moved with version 9."""
    major = 1000 if number < 90000 else 10000
    return f"{number // major}.{number % major // 100}.{number % 100}"


def load(name: str) -> Any:
    """A library by its name, of whatever version the loader knows; None where it knows none."""
    path = library_path(name)
    return ctypes.CDLL(str(path)) if path else None


def library_path(name: str) -> Path | None:
    """The file of a library by its name, of whatever version the loader knows."""
    cache = subprocess.run(
        ["/sbin/ldconfig", "-p"], stdout=subprocess.PIPE, text=True, check=True
    ).stdout
    found = [line.split()[-1] for line in cache.splitlines() if line.strip().startswith(name)]
    return Path(found[0]).resolve() if found else None


def libraries() -> list[str]:
    """Every shared library of the installed distributions and of CUDA."""
    folders = [Path(sysconfig.get_paths()["purelib"]), Path("/usr/local/cuda")]
    found = [path for folder in folders for path in folder.rglob("*.so*")]
    return sorted(str(path) for path in found if path.is_file() and is_elf(path))


def is_elf(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"\x7fELF"


def unresolved(every: list[str]) -> dict[str, str]:
    """Libraries that the loader does not find, and the first that asks for each; those of the
    driver are left out, and those that lie beside: a package loads its own before it needs them."""
    missing: dict[str, str] = {}
    present = {Path(path).name for path in every} | DRIVER_LIBRARIES
    # What ldd does, which starts a few shells more for each file.
    trace = "LD_TRACE_LOADED_OBJECTS=1 /lib64/ld-linux-x86-64.so.2"
    output = subprocess.run(
        ["sh", "-c", f'for file; do echo "$file:"; {trace} "$file"; done', "sh", *every],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ).stdout
    asking = ""
    for line in output.splitlines():
        if not line.startswith("\t"):
            asking = line.rstrip(":")
        elif "not found" in line and line.split()[0] not in present:
            missing.setdefault(line.split()[0], asking)
    return missing


# --- with a GPU -----------------------------------------------------------------------------------

# Adds two vectors. PTX (https://docs.nvidia.com/cuda/parallel-thread-execution/) is compiled by the
# driver, so that no compiler is needed in the image.
PTX = b"""
.version 6.0
.target sm_50
.address_size 64
.visible .entry add(.param .u64 a, .param .u64 b, .param .u64 c, .param .u32 n)
{
    .reg .pred %p; .reg .f32 %f<4>; .reg .b32 %r<6>; .reg .b64 %d<8>;
    ld.param.u64 %d1, [a]; ld.param.u64 %d2, [b]; ld.param.u64 %d3, [c]; ld.param.u32 %r1, [n];
    mov.u32 %r2, %ctaid.x; mov.u32 %r3, %ntid.x; mov.u32 %r4, %tid.x;
    mad.lo.s32 %r5, %r2, %r3, %r4;
    setp.ge.u32 %p, %r5, %r1;
    @%p bra DONE;
    mul.wide.u32 %d4, %r5, 4;
    add.s64 %d5, %d1, %d4; add.s64 %d6, %d2, %d4; add.s64 %d7, %d3, %d4;
    ld.global.f32 %f1, [%d5]; ld.global.f32 %f2, [%d6];
    add.f32 %f3, %f1, %f2;
    st.global.f32 [%d7], %f3;
DONE:
    ret;
}
"""


def kernel() -> float:
    """Adds two vectors with the image's runtime and a kernel made here; the largest difference
    from what the host computes."""
    runtime, driver = load("libcudart.so"), ctypes.CDLL("libcuda.so.1")
    count, size = 4096, 4096 * 4

    def must(status: int, call: str) -> None:
        if status != 0:
            raise SystemExit(f"{call} gave the error {status}")

    left = (ctypes.c_float * count)(*range(count))
    right = (ctypes.c_float * count)(*(0.5 * i for i in range(count)))
    result = (ctypes.c_float * count)()
    memory = [ctypes.c_void_p() for _ in range(3)]
    for pointer in memory:
        must(runtime.cudaMalloc(ctypes.byref(pointer), ctypes.c_size_t(size)), "cudaMalloc")
    for pointer, values in zip(memory, (left, right)):
        must(runtime.cudaMemcpy(pointer, values, ctypes.c_size_t(size), 1), "cudaMemcpy")
    module, function = ctypes.c_void_p(), ctypes.c_void_p()
    must(driver.cuModuleLoadData(ctypes.byref(module), PTX), "cuModuleLoadData")
    must(driver.cuModuleGetFunction(ctypes.byref(function), module, b"add"), "cuModuleGetFunction")
    arguments = [*memory, ctypes.c_uint(count)]
    addresses = (ctypes.c_void_p * 4)(*(ctypes.addressof(argument) for argument in arguments))
    must(
        driver.cuLaunchKernel(function, count // 256, 1, 1, 256, 1, 1, 0, None, addresses, None),
        "cuLaunchKernel",
    )
    must(runtime.cudaDeviceSynchronize(), "cudaDeviceSynchronize")
    must(runtime.cudaMemcpy(result, memory[2], ctypes.c_size_t(size), 2), "cudaMemcpy")
    return max(abs(result[i] - (left[i] + right[i])) for i in range(count))


def on_device(framework: str, example: Path) -> dict[str, Any] | None:
    """Scores the example's request on the host and on the GPU; the largest difference, and the
    device as the framework names it. None for an image without a framework."""
    if framework == "minimal":
        return None
    sys.path.insert(0, str(example))
    os.environ["AZUREML_MODEL_DIR"] = str(example)
    data = (example / "request.json").read_text()
    host, device, name = SCORERS[framework](importlib.import_module("score"), data, example)
    if host.shape != device.shape:
        raise SystemExit(f"shapes differ: {host.shape} and {device.shape}")
    return {"difference": float(abs(host - device).max()), "device": name, "values": host.size}


def pytorch_scores(score: ModuleType, data: str, _example: Path) -> tuple[Any, Any, str]:
    torch: Any = importlib.import_module("torch")
    score.init()
    images = score.parse(data).unsqueeze(1)
    with torch.no_grad():
        host = score.model(images)
        device = score.model.to("cuda")(images.to("cuda"))
    name = torch.cuda.get_device_name(device.device)
    return host.numpy(), device.cpu().numpy(), name


def tensorflow_scores(score: ModuleType, data: str, _example: Path) -> tuple[Any, Any, str]:
    tf: Any = importlib.import_module("tensorflow")
    images = score.parse(data)[..., None]
    results = {}
    for place in ("/CPU:0", "/GPU:0"):
        with tf.device(place):
            score.init()
            # Models of Keras 2 have no method for it.
            serve = getattr(score.model, "serve", None)
            if serve is None:
                signature = score.model.signatures["serving_default"]
                results[place] = signature(images=tf.constant(images))["probabilities"]
            else:
                results[place] = serve(tf.constant(images))
    name = tf.config.experimental.list_physical_devices("GPU")[0].name
    if "GPU" not in results["/GPU:0"].device:
        raise SystemExit("the model ran on {}".format(results["/GPU:0"].device))
    return results["/CPU:0"].numpy(), results["/GPU:0"].numpy(), name


def onnxruntime_scores(score: ModuleType, data: str, example: Path) -> tuple[Any, Any, str]:
    onnxruntime: Any = importlib.import_module("onnxruntime")
    images = score.parse(data)[:, None]
    results = []
    for provider in ("CPUExecutionProvider", "CUDAExecutionProvider"):
        session = onnxruntime.InferenceSession(str(example / "model.onnx"), providers=[provider])
        if session.get_providers()[0] != provider:
            raise SystemExit(f"{provider} is not used: {session.get_providers()}")
        results.append(session.run(None, {session.get_inputs()[0].name: images})[0])
    return results[0], results[1], "CUDAExecutionProvider"


def xgboost_scores(score: ModuleType, data: str, _example: Path) -> tuple[Any, Any, str]:
    xgboost: Any = importlib.import_module("xgboost")
    score.init()
    rows = xgboost.DMatrix(score.parse(data))
    results = []
    for place in ("cpu", "cuda"):
        score.model.set_param({"device": place})
        results.append(score.model.predict(rows, validate_features=False))
    used = json.loads(score.model.save_config())["learner"]["generic_param"]["device"]
    if not used.startswith("cuda"):
        raise SystemExit(f"the model ran on {used}")
    return results[0], results[1], used


SCORERS: dict[str, Callable[[ModuleType, str, Path], tuple[Any, Any, str]]] = {
    "pytorch": pytorch_scores,
    "tensorflow": tensorflow_scores,
    "onnxruntime": onnxruntime_scores,
    "xgboost": xgboost_scores,
}

if __name__ == "__main__":
    main()
