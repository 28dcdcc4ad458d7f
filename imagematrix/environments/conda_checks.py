"""What the image of a conda environment must be, beside what every image must be."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name

from imagematrix.checks.check import Check, listing
from imagematrix.checks.content import (
    distributions_equal_the_lock,
    extension_modules_resolve,
    python_version,
)
from imagematrix.checks.labels import configuration_keeps_the_contract
from imagematrix.checks.running import RunningVariant
from imagematrix.checks.sbom import every_file_belongs_to_a_package, sbom_equals_what_is_installed
from imagematrix.checks.slim import bytecode_is_there, files_of_the_records_are_there
from imagematrix.environments.conda import read_conda_lock
from imagematrix.environments.conda_image import CONDA_LOCK
from imagematrix.matrix.variant import Conda

_REPORT = """
import glob, json, os, sys

def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()

records = [json.loads(read(path)) for path in glob.glob(sys.prefix + "/conda-meta/*-*-*.json")]
site = os.path.dirname(os.path.dirname(json.__file__)) + "/site-packages"
owned = {os.path.realpath(os.path.join(sys.prefix, f)) for r in records for f in r["files"]}
found = []
for folder in glob.glob(site + "/*.dist-info"):
    if os.path.realpath(folder + "/METADATA") not in owned:
        head = dict(
            line.split(": ", 1)
            for line in read(folder + "/METADATA").split("\\n\\n")[0].splitlines()
            if line.startswith(("Name: ", "Version: "))
        )
        found.append([head["Name"], head["Version"]])
print(json.dumps({
    "prefix": sys.prefix,
    "conda": ["{name} {version} {build}".format(**record) for record in records],
    "pip": found,
    "variables": dict(os.environ),
}))
"""


def checks_instead() -> tuple[tuple[Check, ...], tuple[Check, ...]]:
    """The checks of other images that take all packages for those of the image's own Python, and
    what takes their place here."""
    others = (
        bytecode_is_there,
        configuration_keeps_the_contract,
        distributions_equal_the_lock,
        every_file_belongs_to_a_package,
        extension_modules_resolve,
        files_of_the_records_are_there,
        python_version,
        sbom_equals_what_is_installed,
    )
    own = (
        conda_environment_is_active,
        conda_packages_equal_the_lock,
        pip_adds_what_is_locked,
        configuration_is_that_of_the_parent,
        no_linker_is_left,
        standard_library_is_whole,
    )
    return others, own


def conda_environment_is_active(image: RunningVariant) -> None:
    """`python3` is that of the environment, without a shell that activates it."""
    prefix, report = _prefix(image), _report(image)
    assert report["prefix"] == prefix, f"python3 is that of {report['prefix']}, not of {prefix}"
    variables = report["variables"]
    assert variables.get("CONDA_PREFIX") == prefix, "CONDA_PREFIX is not set to it"
    assert "LD_LIBRARY_PATH" not in variables, "LD_LIBRARY_PATH is set: Debian's programs break"
    version = image.host.run("python3 -V").stdout.strip()
    expected = f"Python {image.variant.python}."
    assert version.startswith(expected), f"python3 is {version}, expected {expected}…"


def conda_packages_equal_the_lock(image: RunningVariant) -> None:
    """What conda's records name is what is locked, no more and no less."""
    path = image.root / image.variant.folder / CONDA_LOCK
    locked = read_conda_lock(path.read_text(encoding="utf-8"), "").packages
    wanted = {f"{one.name} {one.version} {one.build}" for one in locked}
    _require_equal(wanted, set(_report(image)["conda"]))


def pip_adds_what_is_locked(image: RunningVariant) -> None:
    """The distributions that no conda package brought are those of the lock."""
    found = {f"{canonicalize_name(name)} {version}" for name, version in _report(image)["pip"]}
    _require_equal({f"{name} {one.version}" for name, one in image.lock.items()}, found)


def configuration_is_that_of_the_parent(image: RunningVariant) -> None:
    """Nothing but the command and the environment is other than in the minimal image."""
    client = image.container.client
    assert client is not None
    parent = client.api.inspect_image(image.variant.parent)["Config"]
    for name in ("User", "WorkingDir", "Entrypoint", "ExposedPorts", "Healthcheck", "StopSignal"):
        mine, theirs = image.config.get(name), parent.get(name)
        assert mine == theirs, f"{name} is {mine}, in the parent {theirs}"
    start = [f"{_prefix(image)}/bin/python3", "-I", "-m", "inference_server"]
    assert image.config["Cmd"] == start, f"command is {image.config['Cmd']}"
    lost = [one for one in parent["Env"] if not one.startswith("PATH=") and one not in _env(image)]
    assert not lost, f"variables of the parent are lost: {listing(lost)}"
    (path,) = (one for one in parent["Env"] if one.startswith("PATH="))
    wanted = path.replace("PATH=", f"PATH={_prefix(image)}/bin:", 1)
    assert wanted in _env(image), f"PATH is not {wanted.removeprefix('PATH=')}"


def no_linker_is_left(image: RunningVariant) -> None:
    """conda-forge's Python brings a linker, which belongs into no image that serves."""
    found = [
        entry.path
        for entry in image.entries
        if entry.path.startswith(f"{_prefix(image)}/bin/") and _is_linker(Path(entry.path).name)
    ]
    assert not found, f"a linker is there: {listing(found)}"


def standard_library_is_whole(image: RunningVariant) -> None:
    """Modules that need libraries can be imported, and nearly all modules have bytecode."""
    code = """
import bz2, ctypes, hashlib, importlib.util, json, lzma, os, sqlite3, ssl, zlib

library = os.path.dirname(os.__file__)
modules = [
    os.path.join(folder, name)
    for folder, folders, names in os.walk(library)
    for name in names
    if name.endswith(".py")
]
without = [p for p in modules if not os.path.exists(importlib.util.cache_from_source(p))]
print(json.dumps([len(modules), len(without)]))
"""
    modules, without = image.python(code)
    # Some are left without it on purpose: the rules `source` of slim.txt.
    assert without < modules / 2, f"{without} of {modules} modules lack bytecode"


def _is_linker(name: str) -> bool:
    return name == "ld" or name.endswith("-ld")


def _env(image: RunningVariant) -> Sequence[str]:
    variables: Sequence[str] = image.config["Env"]
    return variables


def _prefix(image: RunningVariant) -> str:
    conda = image.variant.conda
    assert isinstance(conda, Conda)
    return conda.prefix


def _report(image: RunningVariant) -> Any:
    return image.python(_REPORT)


def _require_equal(wanted: set[str], found: set[str]) -> None:
    parts = {"missing": wanted - found, "extra": found - wanted}
    text = "; ".join(f"{kind}: {listing(names)}" for kind, names in parts.items() if names)
    assert not text, text
