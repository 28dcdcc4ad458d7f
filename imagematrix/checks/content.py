"""What it holds: a Python, and the distributions and Debian packages of its lock, whole."""

import re
from collections import Counter
from fnmatch import fnmatchcase, translate

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from imagematrix.checks.check import layer, listing
from imagematrix.checks.running import RunningImage, RunningVariant
from imagematrix.matrix.schema import MINIMAL


@layer(MINIMAL)
def python_version(image: RunningVariant) -> None:
    """`python` and `python3` are the Python of the variant, and with `pip` in /usr/local."""
    command = "for name in python python3 pip; do command -v $name; done; python -V; python3 -V"
    reported = image.host.run(command).stdout.splitlines()
    places, versions = reported[:-2], reported[-2:]
    expected = f"Python {image.variant.python}."
    assert len(versions) == 2, f"python and python3 report {reported}"
    for command, version in zip(("python", "python3"), versions, strict=True):
        assert version.startswith(expected), f"{command} is {version!r}, expected {expected}…"
    where = [f"/usr/local/bin/{name}" for name in ("python", "python3", "pip")]
    assert places == where, f"on the path: {places}, expected {where}"


@layer(MINIMAL)
def distributions_equal_the_lock(image: RunningVariant) -> None:
    """What is installed is what is locked, no more and no less."""
    names = Counter(canonicalize_name(found.name) for found in image.distributions)
    twice = [name for name, count in names.items() if count > 1]
    assert not twice, f"installed in two places: {listing(twice)}"
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
    found = "; ".join(f"{kind}: {listing(names)}" for kind, names in parts.items() if names)
    assert not found, found


@layer(MINIMAL)
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
    assert not found, f"requirements: {listing(found)}"


@layer(MINIMAL)
def promised_pins_are_kept(image: RunningVariant) -> None:
    """Each pin of the matrix admits the version that is installed."""
    assert image.variant.pins, "the variant promises nothing"
    installed = {canonicalize_name(n): v for n, v in image.installed.items()}
    for pin in image.variant.pins:
        requirement = Requirement(pin)
        version = installed.get(canonicalize_name(requirement.name))
        assert version is not None, f"promised {pin}, but it is not installed"
        admitted = requirement.specifier.contains(version, prereleases=True)
        assert admitted, f"promised {pin}, but {version} is installed"


@layer(MINIMAL)
def extension_modules_resolve(image: RunningImage) -> None:
    """Every library that the interpreter's own extension modules link to is there."""
    folder = f"{image.interpreter.library}/lib-dynload"
    modules = [
        e.path for e in image.entries if e.path.startswith(folder) and e.path.endswith(".so")
    ]
    assert len(modules) > 20, f"only {len(modules)} modules in {folder}: the scan saw nothing"
    # What ldd does, which starts a few shells more for each file.
    trace = "LD_TRACE_LOADED_OBJECTS=1 /lib64/ld-linux-x86-64.so.2"
    output = image.host.run(f"for m in {' '.join(modules)}; do {trace} $m; done").stdout
    assert output.count("libc.so.6 =>") >= 20, f"the loader reported nothing: {output[:200]!r}"
    missing = [line.strip() for line in output.splitlines() if "not found" in line]
    assert not missing, f"not found: {listing(missing)}"


# What dpkg leaves out, beside what Debian's own slim images leave out.
_EXCLUDES = "/etc/dpkg/dpkg.cfg.d/inference-images"


@layer(MINIMAL)
def what_dpkg_leaves_out_is_gone(image: RunningImage) -> None:
    """No file is there of those that the image's own settings of dpkg leave out."""
    prefix = "path-exclude="
    lines = image.host.run(f"cat {_EXCLUDES}").stdout.splitlines()
    patterns = [line.removeprefix(prefix) for line in lines if line.startswith(prefix)]
    assert len(patterns) > 5, f"{_EXCLUDES} leaves out {patterns}"
    excluded = re.compile("|".join(map(translate, patterns)))
    found = [e.path for e in image.entries if e.kind in "fl" and excluded.match(e.path)]
    assert not found, f"left out, but there: {listing(found)}"


# What a build empties; apt makes these folders again.
_EMPTIED = ("/var/cache/apt", "/var/lib/apt/lists", "/var/log")


def _below_usr(path: str) -> str:
    """Where a file is: packages of bookworm name some by their place before /usr was merged."""
    return f"/usr{path}" if path.startswith(("/bin/", "/lib/", "/sbin/")) else path


@layer(MINIMAL)
def debian_packages_are_whole(image: RunningImage) -> None:
    """dpkg misses nothing but what its own settings leave out, and no package is half installed."""
    # Each command that a container is given takes as long as these do.
    commands = "dpkg --audit; echo $?; cat /etc/dpkg/dpkg.cfg.d/*; echo ----; dpkg --verify"
    reported = image.host.run(commands).stdout
    assert reported.startswith("0\n"), f"dpkg --audit: {reported[:300]}"
    settings, lines = (part.splitlines() for part in reported.rsplit("----\n", 1))
    excluded = [s.removeprefix("path-exclude=") for s in settings if s.startswith("path-exclude=")]
    assert len(excluded) > 5, f"dpkg leaves out {excluded}"
    assert len(lines) > 50, f"dpkg --verify reported {len(lines)} lines: it saw nothing"
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
    assert not found, f"not as installed: {listing(found)}"


@layer(MINIMAL)
def time_zones_have_their_old_names(image: RunningImage) -> None:
    """Also those that Debian keeps in a package of their own."""
    names = ("Europe/Berlin", "US/Pacific", "EST")
    reported = image.host.run("; ".join(f"TZ={name} date +%z" for name in names)).stdout.split()
    assert len(reported) == 3, f"date reports {reported}"
    known = (("+0100", "+0200"), ("-0800", "-0700"), ("-0500",))
    wrong = [
        name for name, zone, right in zip(names, reported, known, strict=True) if zone not in right
    ]
    assert not wrong, f"unknown time zones: {listing(wrong)}"
