"""Sessions that build, test and check the images. `nox -l` lists them."""

import hashlib
import os
import shlex
import shutil
import sys
from pathlib import Path
from typing import TextIO

import nox
from nox.command import CommandFailed

# nox itself runs in older ones, in which the lock of the tools has no solution.
if sys.version_info < (3, 11):  # noqa: UP036
    sys.exit(
        f"Python 3.11 or newer is needed; nox runs in {sys.version.split()[0]} ({sys.prefix}).\n"
        "Name a newer one when you make its environment (python3.12 -m venv --clear .venv), or"
        " let\nuv bring one: uvx --python 3.12 nox -s build"
    )

nox.needs_version = ">=2024.4.15"
# All sessions have one environment, which nox cannot give them: `install` makes it.
nox.options.default_venv_backend = "none"
nox.options.sessions = ["test"]

ENVIRONMENT = Path(os.environ.get("NOX_ENVDIR") or ".nox", "tools").absolute()
PROGRAMS = ENVIRONMENT / ("Scripts" if os.name == "nt" else "bin")
TOOLS = Path("requirements.txt")
WRONG_REQUEST = 2


def install(session: nox.Session) -> None:
    """Installs the lock of the tools into the environment, unless that is up to date."""
    stamp = ENVIRONMENT / "tools.sha256"
    # Another Python needs other files.
    wanted = hashlib.sha256(TOOLS.read_bytes() + sys.version.encode()).hexdigest()
    if stamp.is_file() and stamp.read_text() == wanted:
        return
    # Virtualenv comes with nox; Debian has venv in a package of its own.
    session.run(sys.executable, "-m", "virtualenv", "--quiet", "--clear", str(ENVIRONMENT))
    python = str(PROGRAMS / "python")
    what = ("--require-hashes", "--requirement", str(TOOLS))
    if uv := shutil.which("uv"):
        # Where Python writes no bytecode, each command would compile all tools again, for a second.
        compiled = {"UV_COMPILE_BYTECODE": "1"}
        session.run(uv, "pip", "install", "--python", python, *what, env=compiled, external=True)
    else:
        pip = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check")
        session.run(python, *pip, *what, external=True)
    stamp.write_text(wanted)


def run(session: nox.Session, program: str, *arguments: str, stderr: TextIO | None = None) -> None:
    """Runs a program of the environment, with the others on its PATH."""
    path = os.pathsep.join([str(PROGRAMS), os.environ.get("PATH", os.defpath)])
    environ = {"PATH": path, "VIRTUAL_ENV": str(ENVIRONMENT)}
    command = (str(PROGRAMS / program), *arguments)
    session.run(*command, env=environ, external=True, stderr=stderr)


def imagematrix(session: nox.Session, command: str, *arguments: str) -> None:
    """Runs one command of the build tooling, with the arguments after `--`."""
    install(session)
    try:
        # By default, nox writes both streams to standard output, which is for results here.
        given = ("-m", "imagematrix", command, *arguments, *session.posargs)
        run(session, "python", *given, stderr=sys.stderr)
    except CommandFailed as failure:
        # nox only has exit status 1; here, 2 is for an invalid request or input.
        if getattr(failure, "return_code", None) == WRONG_REQUEST:
            sys.exit(WRONG_REQUEST)
        raise


def pytest(session: nox.Session, *arguments: str) -> None:
    """Runs pytest with the tools' lock installed and this repository's package importable."""
    install(session)
    run(session, "python", "-m", "pytest", *arguments)


@nox.session
def build(session: nox.Session) -> None:
    """Build the current CPU images, or those chosen: -- PATTERN… --all --track --accelerator."""
    imagematrix(session, "build")


@nox.session(tags=["cuda"])
def build_cuda(session: nox.Session) -> None:
    """Build the current images with CUDA; `nox -t cuda` does that too."""
    imagematrix(session, "build", "--accelerator", "cuda", "--accelerator", "tensorrt")


@nox.session(tags=["historical"])
def build_historical(session: nox.Session) -> None:
    """Build the historical images; `nox -t historical` does that too."""
    imagematrix(session, "build", "--track", "historical")


@nox.session
def publish(session: nox.Session) -> None:
    """Push images that are built and up to date: -- --registry HOST/NAMESPACE PATTERN…."""
    imagematrix(session, "publish")


@nox.session
def verify(session: nox.Session) -> None:
    """Check whether an image from anywhere is fit to serve: -- IMAGE --wait SECONDS --json."""
    imagematrix(session, "verify")


@nox.session
def verify_published(session: nox.Session) -> None:
    """Verify published images: -- HOST/NAMESPACE/NAME[:TAG|@DIGEST]… and --key FILE or …-regexp."""
    imagematrix(session, "verify_published")


@nox.session
def tags(session: nox.Session) -> None:
    """List the tags of published images: -- --registry HOST/NAMESPACE PATTERN… --prune."""
    imagematrix(session, "tags")


@nox.session
def plan(session: nox.Session) -> None:
    """Show which images would be built, and why: takes what `build` takes, and --json."""
    imagematrix(session, "plan")


@nox.session
def test(session: nox.Session) -> None:
    """Unit and server tests, then build and check the images that `build` would: takes the same."""
    pytest(session, "tests/unit", "tests/server", "-m", "not reference", "--numprocesses=2")
    test_images(session)
    # Some of these measure how long an answer takes: no engine is started beside them.
    pytest(session, "tests/derived", "--numprocesses=2", "--dist=loadscope")
    # These wait for engines, mirrors and indexes more than they compute.
    waiting = ("tests/broken", "tests/catalogue", "tests/engine")
    pytest(session, *waiting, "--numprocesses=3", "--dist=loadscope")


@nox.session
def unit(session: nox.Session) -> None:
    """The tests that need no Docker; arguments after -- go to pytest."""
    pytest(session, "tests/unit", "tests/server", "-m", "not reference", *session.posargs)


@nox.session
def test_images(session: nox.Session) -> None:
    """Build images and check each in its running container: takes what `build` takes."""
    imagematrix(session, "build")
    selection = f"--selection={shlex.join(session.posargs)}"
    pytest(session, "tests/images", selection, "--numprocesses=2", "--dist=loadscope")


@nox.session
def examples(session: nox.Session) -> None:
    """Make examples in their images, compare them with what is committed: -- PATTERN… --write."""
    imagematrix(session, "examples")


@nox.session
def budget(session: nox.Session) -> None:
    """Compare the sizes of the images with their record; `-- --update` records the present ones."""
    imagematrix(session, "budget")


@nox.session
def audit(session: nox.Session) -> None:
    """List the security fixes that images lack: -- PATTERN…, or --registry HOST/NAMESPACE."""
    imagematrix(session, "audit")


@nox.session
def reproduce(session: nox.Session) -> None:
    """Build images twice without cache and compare them; with --compare, two existing images."""
    imagematrix(session, "reproduce")


@nox.session
def bench(session: nox.Session) -> None:
    """Compare builds, sizes and starts with plain Dockerfiles; needs root, and an hour."""
    install(session)
    run(session, "python", "-m", "benchmarks.builds", *session.posargs)


@nox.session
def check(session: nox.Session) -> None:
    """Prove that the files agree with the matrix; lint, types and format of everything."""
    imagematrix(session, "check")
    dockerfiles = (path for top in ("base", "frameworks") for path in Path(top).rglob("Dockerfile"))
    run(session, "hadolint", *map(str, sorted(dockerfiles)))
    # What would fail in a workflow, and what would be a risk there.
    run(session, "jactionlint", "--profile=correctness", "--shellcheck=", "--pyflakes=")
    run(session, "zizmor", "--offline", "--quiet", "--strict-collection", ".github")
    session.log("`nox -s format` fixes what ruff can fix by itself")
    run(session, "ruff", "check", ".")
    run(session, "ruff", "format", "--check", ".")
    run(session, "mypy")
    # The server is checked by itself: its package names start in its own folder.
    run(session, "mypy", "--package", "inference_server")


@nox.session
def format(session: nox.Session) -> None:
    """Format the Python code, and fix what the linter can fix by itself."""
    install(session)
    run(session, "ruff", "check", "--fix", ".")
    run(session, "ruff", "format", ".")


@nox.session
def environment(session: nox.Session) -> None:
    """Build the image of an environment: -- SPEC, or show how one was made: -- --show IMAGE."""
    imagematrix(session, "environment")


@nox.session
def render(session: nox.Session) -> None:
    """Write the Dockerfiles, the README's table and the names in the pages from matrix.yaml."""
    imagematrix(session, "render")


@nox.session
def lock(session: nox.Session) -> None:
    """Resolve the requirements of the images, or of those chosen; of the tools with --tools."""
    imagematrix(session, "lock")


@nox.session
def engine(session: nox.Session) -> None:
    """Show the Docker engine, or `-- start` or `-- stop` the one that nox set up."""
    imagematrix(session, "engine")


@nox.session
def catalogue(session: nox.Session) -> None:
    """Write the catalogue of the images, a static site: -- --registry HOST/NAMESPACE."""
    imagematrix(session, "catalogue")


@nox.session
def save(session: nox.Session) -> None:
    """Write images and the records of their checks to files: -- --output FOLDER PATTERN…."""
    imagematrix(session, "save")


@nox.session
def load(session: nox.Session) -> None:
    """Read the files that `save` wrote into the engine: -- FOLDER."""
    imagematrix(session, "load")


@nox.session
def pull(session: nox.Session) -> None:
    """Get published images into the engine: -- --registry HOST/NAMESPACE PATTERN…."""
    imagematrix(session, "pull")


@nox.session
def release_notes(session: nox.Session) -> None:
    """Print the section of CHANGELOG.md for a release of this repository: -- TAG."""
    imagematrix(session, "release_notes")


@nox.session
def names(session: nox.Session) -> None:
    """Print the names of the selected images; `-- --json` for programs."""
    imagematrix(session, "names")
