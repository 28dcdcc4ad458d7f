"""What every image must be, as functions that raise AssertionError when it is not.

Expectations come from the Variant and its lock alone. A check belongs to a layer; an image has the
checks of its own layer and of those that it is layered on.
"""

import json
import math
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase, translate
from functools import cache
from pathlib import PurePosixPath
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from imagematrix.files import file_hash
from imagematrix.host.bases import bases_of
from imagematrix.host.config import PROXY_VARIABLES
from imagematrix.matrix.schema import MINIMAL, Accelerator
from imagematrix.matrix.slim import Verb
from imagematrix.matrix.variant import Variant
from imagematrix.measure.budget import Kind, compare, growth_report
from imagematrix.measure.layers import image_sizes
from imagematrix.plan.bake import image_tag
from imagematrix.plan.content import (
    INPUTS_LABEL,
    KEY_LABEL,
    PARENT,
    decode_inputs,
    image_key,
    versions_from_labels,
)
from imagematrix.repository.sizes import UPDATE, read_budgets
from tests.images.running import APP_ROOT, RunningImage

Check = Callable[[RunningImage], None]


class NoGpuError(Exception):
    """The check needs a GPU, and there is none: it is skipped, and counted."""


_BY_LAYER: dict[str, list[Check]] = {MINIMAL: [], "framework": [], "cpu": [], "cuda": []}


def checks_of(variant: Variant) -> tuple[Check, ...]:
    """The checks of an image: those of its layer and its accelerator, after those of the layers
    below it."""
    layers = [MINIMAL] if variant.parent is None else [MINIMAL, "framework"]
    layers.append("cpu" if variant.accelerator is Accelerator.CPU else "cuda")
    return tuple(check for layer in layers for check in _BY_LAYER[layer])


def _layer(name: str) -> Callable[[Check], Check]:
    def add(check: Check) -> Check:
        _BY_LAYER[name].append(check)
        return check

    return add


def _listing(paths: Iterable[str]) -> str:
    found = sorted(paths)
    more = f" and {len(found) - 8} more" if len(found) > 8 else ""
    return ", ".join(found[:8]) + more


# --- who it runs as -------------------------------------------------------------------------------


@_layer(MINIMAL)
def user_is_dockeruser(image: RunningImage) -> None:
    """It runs as uid and gid 1000, with a home of its own."""
    user = image.config["User"]
    assert user not in ("", "0", "root"), f"the image's user is {user or 'root'}"
    command = "id -u && id -g && id -un && echo ~ && stat -c %U ~ && test -w ~ && echo writable"
    told = image.host.run(command).stdout.split()
    who, home = told[:3], told[3:]
    assert who == ["1000", "1000", "dockeruser"], f"the user is {who}"
    assert home == ["/home/dockeruser", "dockeruser", "writable"], f"its home is {home}"


@_layer(MINIMAL)
def any_user_of_the_group_0_has_a_home(image: RunningImage) -> None:
    """Under an id that the image does not know, as OpenShift gives out: a name, and a home to write
    to and to find packages in."""
    code = """
import getpass, json, os, site
# Asked and not tried: what is written would be found as written while serving.
may_write = os.access(os.path.expanduser("~"), os.W_OK | os.X_OK)
print(json.dumps([os.getuid(), getpass.getuser(), may_write, site.getuserbase()]))
"""
    command = ["python3", "-c", code]
    status, output = image.container.exec_run(command, user="1000680000:0")
    assert isinstance(output, bytes)
    assert status == 0, f"python3 ended with {status}: {output[-800:]!r}"
    expected = [1000680000, "dockeruser", True, "/home/dockeruser/.local"]
    found = json.loads(output)
    assert found == expected, f"uid, name, home, user base: {found} and not {expected}"


@_layer(MINIMAL)
def nothing_runs_as_root(image: RunningImage) -> None:
    """Every process of the container has the uid 1000."""
    # As the kernel tells it: `docker top` runs the ps of the engine's host, which may have none.
    told = image.host.run("grep -H -E '^(Name|Uid):' /proc/[0-9]*/status").stdout
    rows = re.findall(r"^/proc/(\d+)/status:Name:\t(.*)\n.*:Uid:\t(.*)$", told, re.MULTILINE)
    running = {int(pid): (name, set(uids.split())) for pid, name, uids in rows}
    assert 1 in running, f"only {running} run: the scan saw nothing"
    others = [f"{pid} {name}" for pid, (name, uids) in running.items() if uids != {"1000"}]
    assert not others, f"not as uid 1000: {others}"


# --- what it holds --------------------------------------------------------------------------------


@_layer(MINIMAL)
def python_version(image: RunningImage) -> None:
    """`python` and `python3` are the Python of the variant."""
    told = image.host.run("python -V; python3 -V").stdout.splitlines()
    expected = f"Python {image.variant.python}."
    assert len(told) == 2, f"python and python3 tell {told}"
    for command, version in zip(("python", "python3"), told, strict=True):
        assert version.startswith(expected), f"{command} is {version!r}, expected {expected}…"


@_layer(MINIMAL)
def distributions_equal_the_lock(image: RunningImage) -> None:
    """What is installed is what is locked, no more and no less."""
    names = Counter(canonicalize_name(found.name) for found in image.distributions)
    twice = [name for name, count in names.items() if count > 1]
    assert not twice, f"installed in two places: {_listing(twice)}"
    installed = {canonicalize_name(n): Version(v) for n, v in image.installed.items()}
    locked = {name: package.version for name, package in image.lock.items()}
    extra = [f"{n} {installed[n]}" for n in installed.keys() - locked.keys()]
    missing = [f"{n} {locked[n]}" for n in locked.keys() - installed.keys()]
    other = [
        f"{n} {installed[n]} (locked: {locked[n]})"
        for n in installed.keys() & locked.keys()
        if installed[n] != locked[n]
    ]
    parts = {"extra": extra, "missing": missing, "of another version": other}
    found = "; ".join(f"{kind}: {_listing(names)}" for kind, names in parts.items() if names)
    assert not found, found


@_layer(MINIMAL)
def requirements_are_consistent(image: RunningImage) -> None:
    """Each requirement of what is installed is met."""
    installed = {canonicalize_name(n): v for n, v in image.installed.items()}
    environment = {**image.marker_environment, "extra": ""}
    found = []
    for own in image.distributions:
        for requirement in map(Requirement, own.requires):
            if requirement.marker and not requirement.marker.evaluate(environment):
                continue
            version = installed.get(canonicalize_name(requirement.name))
            if version is None:
                found.append(f"{own.name} requires {requirement.name}, which is not installed")
            elif not requirement.specifier.contains(version, prereleases=True):
                found.append(f"{own.name} requires {requirement}, but {version} is installed")
    assert not found, f"requirements: {_listing(found)}"


@_layer(MINIMAL)
def promised_pins_are_kept(image: RunningImage) -> None:
    """Each pin of the matrix admits the version that is installed."""
    assert image.variant.pins, "the variant promises nothing"
    installed = {canonicalize_name(n): v for n, v in image.installed.items()}
    for pin in image.variant.pins:
        requirement = Requirement(pin)
        version = installed.get(canonicalize_name(requirement.name))
        assert version is not None, f"promised {pin}, but it is not installed"
        admitted = requirement.specifier.contains(version, prereleases=True)
        assert admitted, f"promised {pin}, but {version} is installed"


@_layer(MINIMAL)
def extension_modules_resolve(image: RunningImage) -> None:
    """Every library that the interpreter's own extension modules link to is there."""
    folder = f"/usr/local/lib/python{image.variant.python}/lib-dynload"
    modules = [
        e.path for e in image.entries if e.path.startswith(folder) and e.path.endswith(".so")
    ]
    assert len(modules) > 20, f"only {len(modules)} modules in {folder}: the scan saw nothing"
    # What ldd does, which starts a few shells more for each file.
    trace = "LD_TRACE_LOADED_OBJECTS=1 /lib64/ld-linux-x86-64.so.2"
    output = image.host.run(f"for m in {' '.join(modules)}; do {trace} $m; done").stdout
    assert output.count("libc.so.6 =>") >= 20, f"the loader told nothing: {output[:200]!r}"
    missing = [line.strip() for line in output.splitlines() if "not found" in line]
    assert not missing, f"not found: {_listing(missing)}"


@_layer(MINIMAL)
def bytecode_is_there(image: RunningImage) -> None:
    """Modules are compiled, but for those that the matrix leaves without, all of them, and for the
    few that hold sources of another Python than this one."""
    library = f"/usr/local/lib/python{image.variant.python}/"
    files = {
        e.path for e in image.entries if e.kind == "f" and e.path.startswith("/usr/local/lib/")
    }
    sources = [PurePosixPath(path) for path in files if path.endswith(".py")]
    assert len(sources) > 500, f"only {len(sources)} modules: the scan saw nothing"
    tag = f"cpython-{image.variant.python.replace('.', '')}"
    without = image.variant.patterns(Verb.SOURCE)
    bare: list[str] = []
    needless: list[str] = []
    for source in sources:
        compiled = str(source.parent / "__pycache__" / f"{source.stem}.{tag}.pyc") in files
        below = str(source).removeprefix(library)
        if _any_of(without).match(below):
            if compiled:
                needless.append(str(source))
        elif not compiled:
            bare.append(str(source))
    share = len(bare) / len(sources)
    assert share < 0.01, f"{len(bare)} of {len(sources)} modules lack bytecode: {_listing(bare)}"
    assert not needless, f"with bytecode in spite of the matrix: {_listing(needless)}"


@_layer(MINIMAL)
def bytecode_follows_its_source(image: RunningImage) -> None:
    """It is by the content of the source, and compared with it on import, so that a source which
    somebody changes runs (PEP 552): the flags say 3; 1 where it is not compared, and 0 where it is
    by the time of the source."""
    code = """
import json, os
flags = {}
for top in ("/usr/local/lib", "/opt"):
    for folder, _, names in os.walk(top):
        for path in (f"{folder}/{name}" for name in names if name.endswith(".pyc")):
            with open(path, "rb", buffering=0) as file:
                flags[path] = int.from_bytes(file.read(8)[4:], "little")
print(json.dumps([len(flags), sorted(path for path, flag in flags.items() if flag != 3)]))
"""
    count, others = image.python(code)
    assert count > 300, f"only {count} compiled modules: the scan saw nothing"
    assert not others, f"by time, or not compared: {_listing(others)}"


_LIBRARY = re.compile(r"/usr/local/lib/python[\d.]+/(.+)")


@cache
def _any_of(patterns: tuple[str, ...]) -> re.Pattern[str]:
    """Matches what a pattern names; nothing where there is none."""
    return re.compile("|".join(f"(?:{translate(pattern)})" for pattern in patterns) or "(?!)")


@cache
def _is_named(path: str, patterns: tuple[str, ...]) -> bool:
    """Whether a pattern names a path below the interpreter's library, or a folder that it is in."""
    if _any_of(patterns).match(path):
        return True
    folder, slash, _ = path.rpartition("/")
    return bool(slash) and _is_named(folder, patterns)


@_layer(MINIMAL)
def files_of_the_records_are_there(image: RunningImage) -> None:
    """Each file that a distribution's RECORD names is there, unless a slim rule removes it."""
    recorded = [path for found in image.distributions for path in found.files]
    assert len(recorded) > 300, f"only {len(recorded)} files are recorded: the scan saw nothing"
    without = [found.name for found in image.distributions if not found.files]
    assert not without, f"without a RECORD, by which pip replaces them: {_listing(without)}"
    there = {entry.path for entry in image.entries}
    removed = image.variant.patterns(Verb.REMOVE)
    missing = (path for path in recorded if path not in there)
    found = [
        path
        for path in missing
        if not ((below := _LIBRARY.fullmatch(path)) and _is_named(below[1], removed))
    ]
    assert not found, f"recorded, but missing: {_listing(found)}"


@_layer(MINIMAL)
def what_is_removed_is_gone(image: RunningImage) -> None:
    """Nothing is left of the interpreter and its packages that a slim rule removes."""
    below = [match[1] for e in image.entries if (match := _LIBRARY.fullmatch(e.path))]
    packaged = sum(path.startswith("site-packages/") for path in below)
    assert packaged > 500, f"only {packaged} paths below site-packages: the scan saw nothing"
    assert len(below) - packaged > 500, "few paths of the standard library: the scan saw nothing"
    found = [path for path in below if _is_named(path, image.variant.patterns(Verb.REMOVE))]
    assert not found, f"removed by a rule, but there: {_listing(found)}"


@_layer(MINIMAL)
def what_is_stripped_has_no_symbols(image: RunningImage) -> None:
    """The libraries that a slim rule strips have no table of symbols but that of the loader."""
    strip = image.variant.patterns(Verb.STRIP)
    if not strip:
        return
    found = (_LIBRARY.fullmatch(e.path) for e in image.entries if e.kind == "f")
    files = [m[0] for m in found if m and _is_named(m[1], strip) and ".libs/" not in m[0]]
    assert files, f"nothing matches {_listing(strip)}"
    # The kinds of the sections of an ELF file: man 5 elf, "Section header (Shdr)".
    found = image.python(
        "import json, struct\n"
        "def symbols(path):\n"
        "    with open(path, 'rb') as file:\n"
        "        head = file.read(64)\n"
        "        if head[:4] != b'\\x7fELF':\n"
        "            return False\n"
        "        start, size, count = struct.unpack_from('<Q10xHH', head, 40)\n"
        "        file.seek(start)\n"
        "        table = file.read(size * count)\n"
        "    return 2 in (struct.unpack_from('<I', table, i * size + 4)[0] for i in range(count))\n"
        f"print(json.dumps([path for path in {files!r} if symbols(path)]))"
    )
    assert not found, f"not stripped: {_listing(found)}"


# What a build empties; apt makes these folders anew.
_EMPTIED = ("/var/cache/apt", "/var/lib/apt/lists", "/var/log")


def _below_usr(path: str) -> str:
    """Where a file is: packages of bookworm name some by their place before /usr was merged."""
    return f"/usr{path}" if path.startswith(("/bin/", "/lib/", "/sbin/")) else path


@_layer(MINIMAL)
def debian_packages_are_whole(image: RunningImage) -> None:
    """dpkg misses nothing but what its own settings leave out, and no package is half installed."""
    # Each command that a container is given takes as long as these do.
    commands = "dpkg --audit; echo $?; cat /etc/dpkg/dpkg.cfg.d/*; echo ----; dpkg --verify"
    told = image.host.run(commands).stdout
    assert told.startswith("0\n"), f"dpkg --audit: {told[:300]}"
    settings, lines = (part.splitlines() for part in told.rsplit("----\n", 1))
    excluded = [s.removeprefix("path-exclude=") for s in settings if s.startswith("path-exclude=")]
    assert len(excluded) > 5, f"dpkg leaves out {excluded}"
    assert len(lines) > 50, f"dpkg --verify told {len(lines)} lines: it saw nothing"
    differing = [(line.split()[0], _below_usr(line[line.index("/") :])) for line in lines]
    found = [
        f"{path} ({kind})"
        for kind, path in differing
        if kind != "missing"
        or not (
            path.startswith(_EMPTIED)
            # A folder goes when all that was in it is left out.
            or any(fnmatchcase(path, p) or fnmatchcase(f"{path}/", p) for p in excluded)
        )
    ]
    assert not found, f"not as installed: {_listing(found)}"


# --- what it says of itself -----------------------------------------------------------------------


@_layer(MINIMAL)
def port_is_5001(image: RunningImage) -> None:
    """5001 is exposed, nothing else, and the server is healthy there."""
    exposed = list(image.config.get("ExposedPorts") or {})
    assert exposed == ["5001/tcp"], f"exposed: {exposed}"
    status, headers, body = image.request("/")
    assert (status, body) == (200, b"Healthy"), f"GET / gave {status} {body[:200]!r}"
    kind = headers.get("Content-Type", headers.get("content-type", ""))
    assert kind.startswith("text/html"), f"GET / has the type {kind!r}"


@_layer(MINIMAL)
def configuration_keeps_the_contract(image: RunningImage) -> None:
    """Working directory, environment, init and health check are as consumers rely on."""
    config = image.config
    assert config["WorkingDir"] == "/var/azureml-app", f"workdir is {config['WorkingDir']!r}"
    environment = dict(item.split("=", 1) for item in config["Env"])
    expected = {
        "AML_APP_ROOT": "/var/azureml-app",
        "LANG": "C.UTF-8",
        "LC_ALL": "C.UTF-8",
        "HOME": "/home/dockeruser",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    differing = {n: environment.get(n) for n, v in expected.items() if environment.get(n) != v}
    assert not differing, f"the environment has {differing}, expected {expected}"
    first = environment["PATH"].split(":")[0]
    assert first == "/home/dockeruser/.local/bin", f"PATH begins with {first}"
    assert config["Entrypoint"] == ["tini", "-s", "--"], f"entrypoint is {config['Entrypoint']}"
    start = ["/usr/local/bin/python3", "-I", "-m", "inference_server"]
    assert config["Cmd"] == start, f"command is {config['Cmd']}"
    health = config.get("Healthcheck") or {}
    test = health.get("Test")
    assert test == ["CMD", *start[:-1], "inference_server.health"], f"health check is {test}"
    # In nanoseconds; init() may take as long as WORKER_TIMEOUT.
    starting = health.get("StartPeriod", 0) / 1e9
    assert starting > 300, f"the health check gives the start {starting:g} s"


@_layer(MINIMAL)
def time_zones_have_their_old_names(image: RunningImage) -> None:
    """Also those that Debian keeps in a package of their own."""
    names = ("Europe/Berlin", "US/Pacific", "EST")
    told = image.host.run("; ".join(f"TZ={name} date +%z" for name in names)).stdout.split()
    assert len(told) == 3, f"date tells {told}"
    known = (("+0100", "+0200"), ("-0800", "-0700"), ("-0500",))
    wrong = [
        name for name, zone, right in zip(names, told, known, strict=True) if zone not in right
    ]
    assert not wrong, f"unknown time zones: {_listing(wrong)}"


@_layer(MINIMAL)
def labels_tell_the_variant(image: RunningImage) -> None:
    """OCI annotations and our own labels say what the variant says."""
    variant = image.variant
    expected = {
        "org.opencontainers.image.title": variant.name,
        "org.opencontainers.image.description": variant.description,
        "org.opencontainers.image.base.name": variant.parent or f"debian:{variant.suite}-slim",
        "inference.framework": variant.framework,
        "inference.python": variant.python,
        "inference.accelerator": str(variant.accelerator),
        "inference.cuda": variant.cuda.version if variant.cuda else "",
        "inference.track": str(variant.track),
        "inference.support": variant.track.support,
    }
    if variant.cuda and variant.cuda.cudnn:
        expected["inference.cudnn"] = variant.cuda.cudnn
    if variant.bundled_cuda:
        expected["inference.bundled-cuda"] = variant.bundled_cuda
    if variant.version is not None:
        expected["org.opencontainers.image.version"] = variant.version
    wrong = {n: image.labels.get(n) for n, v in expected.items() if image.labels.get(n) != v}
    assert not wrong, f"labels: {wrong}, expected { ({n: expected[n] for n in wrong}) }"


@_layer(MINIMAL)
def key_is_that_of_the_tree(image: RunningImage) -> None:
    """Its key is the hash of its inputs, and these are the files that stand here now."""
    inputs = decode_inputs(image.labels.get(INPUTS_LABEL, ""))
    assert inputs, f"the label {INPUTS_LABEL} tells no inputs"
    key = image.labels.get(KEY_LABEL)
    assert key == image_key(inputs), f"{KEY_LABEL} is {key}, its inputs give {image_key(inputs)}"
    variant = image.variant
    files = {name: digest for name, digest in inputs.items() if ":" not in name and name != PARENT}
    own = {str(variant.dockerfile), str(variant.lock)}
    lacking = own - files.keys()
    assert not lacking, f"its {len(files)} inputs lack {_listing(lacking)}"
    moved = [n for n, digest in files.items() if _hash_now(image, n) != digest]
    assert not moved, f"built from other contents of {_listing(moved)}; run `nox -s build`"


def _hash_now(image: RunningImage, name: str) -> str:
    path = image.root / PurePosixPath(name)
    return file_hash(path) if path.is_file() else "no such file"


# --- what it must not hold ------------------------------------------------------------------------

_COMPILER = re.compile(
    r"(.*-)?(gcc|g\+\+|cc|c\+\+|cpp|clang|clang\+\+|ld|as|make|cmake|nvcc|rustc|tcc|gfortran)(-[\d.]+)?"
)


@_layer(MINIMAL)
def no_compiler(image: RunningImage) -> None:
    """There is no compiler, assembler, linker or make."""
    folders = ("/bin/", "/sbin/", "/usr/bin/", "/usr/sbin/", "/usr/local/bin/", "/usr/lib/gcc")
    programs = [e.path for e in image.entries if e.kind in "fl" and e.path.startswith(folders)]
    assert len(programs) > 50, f"only {len(programs)} programs: the scan saw nothing"
    found = [path for path in programs if _COMPILER.fullmatch(PurePosixPath(path).name)]
    assert not found, f"compilers: {_listing(found)}"


_CACHES = re.compile(
    r"/var/lib/apt/lists/.+|/var/cache/apt/.+|.*\.deb|.*/\.cache/.+|.*/pip/(http|wheels|selfcheck)/.*"
    r"|/var/log/.+|/mnt/.+"
)


@_layer(MINIMAL)
def no_package_cache(image: RunningImage) -> None:
    """Nothing is left of apt, pip or uv but what they installed."""
    files = [e.path for e in image.entries if e.kind == "f"]
    found = [path for path in files if _CACHES.fullmatch(path)]
    assert not found, f"caches: {_listing(found)}"


@_layer(MINIMAL)
def no_setuid_file(image: RunningImage) -> None:
    """No program changes the user or group that runs it."""
    found = [e.path for e in image.entries if e.kind == "f" and e.mode & 0o6000]
    assert not found, f"setuid or setgid: {_listing(found)}"


@_layer(MINIMAL)
def no_world_writable_path(image: RunningImage) -> None:
    """Everybody may write to /tmp alone."""
    found = [
        e.path
        for e in image.entries
        if e.mode & 0o002 and e.kind != "l" and e.path != "/tmp" and not e.path.startswith("/tmp/")
    ]
    assert not found, f"writable by everybody: {_listing(found)}"


_BUILD_FILES = ("/etc/pip.conf", "/etc/uv", "/run/secrets", "/etc/apt/apt.conf.d/99host")


@_layer(MINIMAL)
def no_build_secret(image: RunningImage) -> None:
    """Nothing that a build is given stays: no mounted file, no proxy, no setting of an index."""
    found = [e.path for e in image.entries if e.path in _BUILD_FILES]
    assert not found, f"left by the build: {_listing(found)}"
    names = [item.split("=", 1)[0] for item in image.config["Env"]]
    told = [n for n in names if n in PROXY_VARIABLES or n.startswith(("PIP_", "UV_", "SSL_"))]
    assert not told, f"the environment tells of the build host: {_listing(told)}"


_CUDA_LIBRARY = re.compile(
    r"lib(cuda|cudart|cublas|cublasLt|cudnn|cufft|cufile|cupti|curand|cusolver|cusparse|cusparseLt"
    r"|nccl|nvJitLink|nvrtc|nvToolsExt|nvinfer|nvshmem)([-_.\d].*)?\.so(\.\d+)*"
    r"|lib(onnxruntime_providers|torch|c10)_(cuda|tensorrt).*\.so"
)
_CUDA_DISTRIBUTION = re.compile(r"nvidia-.*|cuda-.*|cupy.*|.*-cu1\d|.*-cuda1\d.*|triton|tensorrt.*")


_CPU_DISTRIBUTION = re.compile(r".*-cpu|onnxruntime|faiss-cpu")


@_layer("cpu")
def cuda_only_where_declared(image: RunningImage) -> None:
    """A CPU image holds no distribution that brings CUDA, and no CUDA library but what a package is
    declared to carry."""
    libraries = [e.path for e in image.entries if ".so" in e.path and e.kind in "fl"]
    assert len(libraries) > 100, f"only {len(libraries)} libraries: the scan saw nothing"
    found = [path for path in libraries if _CUDA_LIBRARY.fullmatch(PurePosixPath(path).name)]
    if image.variant.bundled_cuda is None:
        assert not found, f"CUDA libraries in a CPU image: {_listing(found)}"
    brought = [name for name in image.installed if _CUDA_DISTRIBUTION.fullmatch(name)]
    assert not brought, f"CUDA distributions in a CPU image: {_listing(brought)}"


@_layer("cpu")
def framework_was_built_without_cuda(image: RunningImage) -> None:
    """The framework says so, or that it carries the CUDA that is declared; some tell neither."""
    told = image.accelerator["framework"]
    declared = image.variant.bundled_cuda
    if declared is not None:
        assert told["cuda"] == declared, f"carries CUDA {declared} by the matrix, but tells {told}"
    assert told["built_with_cuda"] in (None, declared is not None), f"tells {told}"


@_layer("cuda")
def no_cpu_build(image: RunningImage) -> None:
    """An image with CUDA holds no distribution that was built for the CPU alone."""
    found = [
        f"{name} {version}"
        for name, version in image.installed.items()
        if _CPU_DISTRIBUTION.fullmatch(canonicalize_name(name)) or version.endswith("+cpu")
    ]
    assert not found, f"CPU builds in an image with CUDA: {_listing(found)}"


@_layer("cuda")
def cuda_versions_agree(image: RunningImage) -> None:
    """The lock, the label, the runtime itself and the framework name one version of CUDA; and of
    cuDNN, as far as each is told."""
    declared = image.variant.cuda
    assert declared is not None, "the lock holds no CUDA runtime"
    facts = image.accelerator
    told = {
        "the label": image.labels.get("inference.cuda"),
        "cudaRuntimeGetVersion": facts["cudart"],
        image.variant.framework: facts["framework"]["cuda"] or declared.version,
    }
    differing = {who: version for who, version in told.items() if version != declared.version}
    assert not differing, f"CUDA is {declared.version} by the lock; {differing}"
    if declared.cudnn is None:
        assert facts["cudnn"] is None, f"cuDNN {facts['cudnn']} is not in the lock"
        return
    told = {
        "the label": image.labels.get("inference.cudnn"),
        "cudnnGetVersion": facts["cudnn"],
        image.variant.framework: facts["framework"]["cudnn"] or declared.cudnn,
    }
    differing = {who: v for who, v in told.items() if not _same_release(v, declared.cudnn)}
    assert not differing, f"cuDNN is {declared.cudnn} by the lock; {differing}"


def _same_release(one: str | None, other: str) -> bool:
    """Whether two versions agree in the parts that both tell."""
    parts = zip((one or "none").split("."), other.split("."), strict=False)
    return all(left == right for left, right in parts)


@_layer("cuda")
def cuda_libraries_resolve(image: RunningImage) -> None:
    """Every library that a shared library of the image asks for is there, but for the driver's."""
    facts = image.accelerator
    assert facts["libraries"] > 0, "no shared library was found: the scan saw nothing"
    missing = [f"{library} (for {asking})" for library, asking in facts["unresolved"].items()]
    assert not missing, f"not found: {_listing(missing)}"


@_layer("cuda")
def cuda_backend_is_compiled_in(image: RunningImage) -> None:
    """The framework was built with CUDA, and says so; `minimal` is one without a framework."""
    told = image.accelerator["framework"]
    expected = None if image.variant.framework == MINIMAL else True
    assert told["built_with_cuda"] is expected, f"{image.variant.framework} tells {told}"
    if image.variant.accelerator is Accelerator.TENSORRT:
        assert "TensorrtExecutionProvider" in told["backends"], f"backends: {told['backends']}"


@_layer("cuda")
def driver_is_asked_for(image: RunningImage) -> None:
    """NVIDIA's container runtime is told what to bring: every GPU, computing, a driver that will
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


@_layer("cuda")
def gpu_computes_as_the_host_does(image: RunningImage) -> None:
    """A kernel, and the example's model, give on the GPU what they give on the host."""
    if not image.has_gpu:
        raise NoGpuError("no GPU that containers can use")
    facts = image.accelerator
    assert facts["kernel"] == 0, f"the sum of two vectors is {facts['kernel']} off"
    model = facts["model"]
    if image.variant.framework != MINIMAL:
        assert model["values"] > 0, "the model gave no values"
        assert model["difference"] < 1e-4, f"the model's values differ: {model}"


@_layer(MINIMAL)
def size_is_within_budget(image: RunningImage) -> None:
    """It adds no more to its parent than it did when its size was recorded."""
    variant, client = image.variant, image.container.client
    assert client is not None
    references = {variant.name: image.reference}
    if variant.parent is not None:
        references[variant.parent] = image_tag(variant.parent)
    measured = image_sizes(image.root, client, references.values())
    sizes = {name: measured[reference] for name, reference in references.items()}
    budgets = read_budgets(image.root)
    bases = bases_of(client, variant, image.labels)
    verdict = compare(variant.name, variant.parent, sizes, bases, budgets)
    assert verdict.kind is not Kind.UNKNOWN, verdict.text
    if verdict.kind is Kind.GREW:
        recorded = budgets.measured[variant.name].packages
        report = (recorded, versions_from_labels(image.labels), image.file_sizes)
        raise AssertionError(growth_report(variant.name, verdict, *report))
    if verdict.kind is Kind.SHRANK:
        warnings.warn(f"{variant.name} {verdict.text}; `{UPDATE}` records that", stacklevel=2)
    if verdict.kind is Kind.OTHER_BASES:
        warnings.warn(f"the size of {variant.name} was not checked: {verdict.text}", stacklevel=2)


# --- what it is for -------------------------------------------------------------------------------


@_layer(MINIMAL)
def example_is_scored(image: RunningImage) -> None:
    """The example's real model answers over HTTP what was computed without its framework."""
    folder = image.root / image.variant.example
    request = (folder / "request.json").read_bytes()
    expected = json.loads((folder / "response.json").read_bytes())
    assert expected, f"{folder}/response.json expects nothing"
    status, _, body = image.request("/score", request)
    log = image.container.logs(tail=20).decode(errors="replace")
    assert status == 200, f"POST /score gave {status} {body[:300]!r}; the log:\n{log}"
    differences = list(_differences(json.loads(body), expected, "response"))
    assert not differences, f"not as computed another way: {'; '.join(differences[:5])}"


def _differences(told: Any, expected: Any, where: str) -> Iterable[str]:
    """What differs, with numbers compared to 1e-5 of their size: models compute in 32 bits."""
    if isinstance(expected, dict) and isinstance(told, dict) and told.keys() == expected.keys():
        for key, value in expected.items():
            yield from _differences(told[key], value, f"{where}.{key}")
    elif isinstance(expected, list) and isinstance(told, list) and len(told) == len(expected):
        for i, (left, right) in enumerate(zip(told, expected, strict=True)):
            yield from _differences(left, right, f"{where}[{i}]")
    elif isinstance(expected, float) and isinstance(told, int | float):
        if not math.isclose(told, expected, rel_tol=1e-5, abs_tol=1e-6):
            yield f"{where} is {told}, expected {expected}"
    elif told != expected:
        yield f"{where} is {told!r}, expected {expected!r}"


# Where serving may leave something: /tmp, and the folder that the example was put into.
_WRITABLE = ("/tmp", "/var", APP_ROOT)


@_layer(MINIMAL)
def serving_writes_nothing(image: RunningImage) -> None:
    """Scoring leaves no bytecode, cache or telemetry behind: it works on a read-only root."""
    example_is_scored(image)
    found = [
        p
        for p in image.written
        if p not in _WRITABLE and not p.startswith(("/tmp/", f"{APP_ROOT}/"))
    ]
    assert not found, f"written while serving: {_listing(found)}"


@_layer("framework")
def layers_of_the_parent_are_shared(image: RunningImage) -> None:
    """The first layers are the parent's, so that a host holds them once."""
    layers = tuple(image.image["RootFS"]["Layers"])
    assert image.parent_layers, "the parent has no layers"
    shared = layers[: len(image.parent_layers)]
    assert shared == image.parent_layers, f"not layered on the {image.variant.parent} of this host"
    assert len(layers) > len(shared), "adds no layer to its parent"
