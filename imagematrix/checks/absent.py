"""What it must not hold."""

import re
from pathlib import PurePosixPath

from imagematrix.checks.check import layer, listing
from imagematrix.checks.running import RunningImage
from imagematrix.host.config import PROXY_VARIABLES
from imagematrix.matrix.schema import MINIMAL

_COMPILER = re.compile(
    r"(.*-)?(gcc|g\+\+|cc|c\+\+|cpp|clang|clang\+\+|ld|as|make|cmake|nvcc|rustc|tcc|gfortran)(-[\d.]+)?"
)


@layer(MINIMAL)
def no_compiler(image: RunningImage) -> None:
    """There is no compiler, assembler, linker or make."""
    folders = (
        *("/bin/", "/sbin/", "/usr/bin/", "/usr/sbin/", "/usr/local/bin/", "/usr/lib/gcc"),
        # Where Python is conda's, that brings a linker.
        *(f"{image.interpreter.prefix}/{name}/" for name in ("bin", "compiler_compat")),
    )
    programs = [e.path for e in image.entries if e.kind in "fl" and e.path.startswith(folders)]
    assert len(programs) > 50, f"only {len(programs)} programs: the scan saw nothing"
    found = [path for path in programs if _COMPILER.fullmatch(PurePosixPath(path).name)]
    assert not found, f"compilers: {listing(found)}"


_TOOLS = {"curl", "git", "conda"}


@layer(MINIMAL)
def no_tool_of_developers(image: RunningImage) -> None:
    """There is no curl, git or conda, and no header of the C library."""
    paths = [PurePosixPath(e.path) for e in image.entries if e.kind in "fl"]
    found = [str(p) for p in paths if p.parent.name == "bin" and p.name in _TOOLS]
    found += [str(p) for p in paths if p.is_relative_to("/usr/include")]
    assert not found, f"tools and headers: {listing(found)}"


_CACHES = re.compile(
    r"/var/lib/apt/lists/.+|/var/cache/apt/.+|.*\.deb|.*/\.cache/.+|.*/pip/(http|wheels|selfcheck)/.*"
    r"|/var/log/.+|/mnt/.+"
)


@layer(MINIMAL)
def no_package_cache(image: RunningImage) -> None:
    """Nothing is left of apt, pip or uv but what they installed."""
    files = [e.path for e in image.entries if e.kind == "f"]
    found = [path for path in files if _CACHES.fullmatch(path)]
    assert not found, f"caches: {listing(found)}"


@layer(MINIMAL)
def no_setuid_file(image: RunningImage) -> None:
    """No program changes the user or group that runs it."""
    found = [e.path for e in image.entries if e.kind == "f" and e.mode & 0o6000]
    assert not found, f"setuid or setgid: {listing(found)}"


@layer(MINIMAL)
def no_world_writable_path(image: RunningImage) -> None:
    """Everybody may write to /tmp alone."""
    found = [
        e.path
        for e in image.entries
        if e.mode & 0o002 and e.kind != "l" and e.path != "/tmp" and not e.path.startswith("/tmp/")
    ]
    assert not found, f"writable by everybody: {listing(found)}"


_BUILD_FILES = ("/etc/pip.conf", "/etc/uv", "/run/secrets", "/etc/apt/apt.conf.d/99host")


@layer(MINIMAL)
def no_build_secret(image: RunningImage) -> None:
    """Nothing that a build is given stays: no mounted file, no proxy, no setting of an index."""
    found = [e.path for e in image.entries if e.path in _BUILD_FILES]
    assert not found, f"left by the build: {listing(found)}"
    names = [item.split("=", 1)[0] for item in image.config["Env"]]
    of_the_host = [
        n for n in names if n in PROXY_VARIABLES or n.startswith(("PIP_", "UV_", "SSL_"))
    ]
    assert not of_the_host, f"the environment names the build host: {listing(of_the_host)}"


_SECRET_FILES = re.compile(
    r".*/(\.netrc|\.pypirc|\.git-credentials|\.docker/config\.json|\.aws/credentials|\.condarc"
    r"|\.ssh/id_[^./]+|\.kube/config)|/run/secrets/.+|/etc/pip\.conf"
)
_SECRET_NAME = re.compile(
    r".*(PASSWORD|PASSWD|SECRET|TOKEN|API_?KEY|CREDENTIAL|PRIVATE_KEY).*", re.I
)
# user:password@ in a URL; what a variable is put into is no password.
_IN_URL = re.compile(r"[a-z][a-z0-9+.-]*://[^\s/:@]+:(?!\$)[^\s/@]+@")
_IN_COMMAND = re.compile(
    r"\b([A-Za-z_]*(?:PASSWORD|PASSWD|SECRET|TOKEN|API_?KEY))=(?![\s$\"'])\S+", re.I
)


def no_credential(image: RunningImage) -> None:
    """No password, token or key is in its files, its environment, its labels or its history."""
    found = [e.path for e in image.entries if e.kind == "f" and _SECRET_FILES.fullmatch(e.path)]
    variables = image.environment.items()
    found += [f"the variable {n}" for n, value in variables if value and _SECRET_NAME.fullmatch(n)]
    found += [f"a URL in the variable {n}" for n, value in variables if _IN_URL.search(value)]
    labels = image.labels.items()
    found += [f"a URL in the label {name}" for name, value in labels if _IN_URL.search(value)]
    client = image.container.client
    assert client is not None
    for step in client.api.history(image.reference):
        command = step.get("CreatedBy") or ""
        if _IN_URL.search(command):
            found.append("a URL in the history")
        # The value of a build argument is before the command of each step.
        found += [f"{name} in the history" for name in _IN_COMMAND.findall(command)]
    assert not found, f"secrets: {listing(set(found))}"
