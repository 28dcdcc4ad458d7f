"""What an image from anywhere has to be, so that the server runs on it."""

import io
import re
import shlex
import tarfile

import docker.errors
from packaging.version import InvalidVersion, Version

from imagematrix.checks.running import RunningImage

# The Pythons that the server is tested on, by its own tests.
OLDEST_PYTHON, NEWEST_PYTHON = Version("3.7"), Version("3.13")
OLDEST_UBUNTU = Version("16.04")
OLDEST_CONDA = Version("4.5")
# man 5 os-release
_OS_RELEASE = ("/usr/lib/os-release", "/etc/os-release")


def is_debian_or_ubuntu(image: RunningImage) -> str:
    """Its system is Debian or Ubuntu, and no Ubuntu before 16.04; by its os-release."""
    release = _os_release(image)
    assert release, f"it has no {_OS_RELEASE[0]}, by which systems tell what they are"
    name = release.get("PRETTY_NAME") or release.get("ID") or "a system without a name"
    kinds = {release.get("ID", ""), *release.get("ID_LIKE", "").split()}
    assert kinds & {"debian", "ubuntu"}, f"it is {name}"
    if release.get("ID") == "ubuntu":
        assert _version(release.get("VERSION_ID", "")) >= OLDEST_UBUNTU, f"it is {name}"
    return name


def _os_release(image: RunningImage) -> dict[str, str]:
    for path in _OS_RELEASE:
        # Not by a command: an image may have no shell.
        try:
            parts, _ = image.container.get_archive(path)
        except docker.errors.NotFound:
            continue
        with tarfile.open(fileobj=io.BytesIO(b"".join(parts))) as tar:
            member = tar.next()
            file = tar.extractfile(member) if member is not None and member.isreg() else None
            text = file.read().decode(errors="replace") if file else ""
        try:
            words = shlex.split(text, comments=True)
        except ValueError:
            # A quote that is not closed.
            continue
        if words:
            return dict(word.split("=", 1) for word in words if "=" in word)
    return {}


def a_shell_runs(image: RunningImage) -> None:
    """/bin/sh runs in it: everything else is asked by it, and start scripts need one."""
    image.container.reload()
    error = image.container.attrs["State"].get("Error") or "it ended at once"
    assert image.container.status == "running", f"/bin/sh does not run: {error}"


def c_library_is_glibc(image: RunningImage) -> str:
    """Its C library is glibc, which the wheels of PyPI for Linux are built for; musl is another."""
    musl = image.host.run("ls /lib/ld-musl-*.so.1").stdout.split()
    reported = image.host.run("getconf GNU_LIBC_VERSION").stdout.strip()
    assert reported.startswith("glibc "), "it is musl" if musl else "no glibc was found"
    return str(reported)


def python_is_one_that_the_server_runs_on(image: RunningImage) -> str:
    """`python3`, or else `python`, is a CPython that the server runs on."""
    assert image.python_command, "there is no python3 and no python on its PATH"
    found = image.interpreter
    version = _version(found.version)
    minor = Version(f"{version.major}.{version.minor}")
    assert OLDEST_PYTHON <= minor <= NEWEST_PYTHON, (
        f"it is Python {found.version} (in {found.prefix});"
        f" the server runs on {OLDEST_PYTHON} to {NEWEST_PYTHON}"
    )
    return f"Python {found.version} in {found.prefix}"


def has_conda(image: RunningImage) -> bool:
    """Whether it claims to have conda: a program of that name, or conda's variables."""
    return bool(_conda(image)) or "CONDA_DIR" in image.environment


def conda_is_new_enough(image: RunningImage) -> str:
    """Its conda is 4.5 or newer."""
    program = _conda(image)
    assert program, f"CONDA_DIR is {image.environment['CONDA_DIR']}, and there is no conda"
    result = image.host.run("%s --version", program)
    # Old ones write it to standard error.
    said = f"{result.stdout}{result.stderr}".strip()
    assert result.rc == 0, f"{program} --version ended with {result.rc}: {said[-200:]}"
    found = re.search(r"conda (\S+)", said)
    assert found, f"{program} --version says {said[-200:]!r}"
    assert _version(found[1]) >= OLDEST_CONDA, f"conda is {found[1]} ({program})"
    return f"conda {found[1]} ({program})"


def _conda(image: RunningImage) -> str:
    """The program conda: on the path, or where installers put it; empty for none."""
    places = " ".join(f"{top}/bin/conda" for top in ("/opt/*", "/root/*", "/usr/local/*"))
    command = f"command -v conda || for f in {places}; do test -x $f && echo $f; done"
    return str(next(iter(image.host.run(command).stdout.split()), ""))


def _version(text: str) -> Version:
    """The version, or one before all others where it is none."""
    try:
        return Version(text)
    except InvalidVersion:
        return Version("0")
