"""Sessions that build, test and check the images. `nox -l` lists them."""

import hashlib
from pathlib import Path

import nox

nox.needs_version = ">=2024.4.15"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.reuse_venv = "yes"
nox.options.sessions = ["test"]

TOOLS = Path("requirements.txt")


def install(session: nox.Session) -> None:
    """Brings the session's environment to what the lock of the tools says, if it is not there."""
    stamp = Path(session.virtualenv.location) / "tools.sha256"
    wanted = hashlib.sha256(TOOLS.read_bytes()).hexdigest()
    if stamp.is_file() and stamp.read_text() == wanted:
        return
    session.install("--require-hashes", "--requirement", str(TOOLS))
    stamp.write_text(wanted)


def imagematrix(session: nox.Session, command: str, *arguments: str) -> None:
    """Runs one command of the machinery, with what stands behind `--` on nox's command line."""
    install(session)
    session.run("python", "-m", "imagematrix", command, *arguments, *session.posargs)


@nox.session
def build(session: nox.Session) -> None:
    """Build the current CPU images, or those chosen: -- PATTERN… --all --track --accelerator."""
    imagematrix(session, "build")


@nox.session
def plan(session: nox.Session) -> None:
    """Say which images would be built, and why."""
    imagematrix(session, "plan")


@nox.session
def render(session: nox.Session) -> None:
    """Write the Dockerfiles and the README's table from matrix.yaml."""
    imagematrix(session, "render")


@nox.session
def lock(session: nox.Session) -> None:
    """Resolve the hash-locked requirements of the images, or of those chosen."""
    imagematrix(session, "lock")


@nox.session
def engine(session: nox.Session) -> None:
    """Show the Docker engine, or `-- start` or `-- stop` the one of ours."""
    imagematrix(session, "engine")


@nox.session
def names(session: nox.Session) -> None:
    """Print the names of the images that a selection holds; `-- --json` for programs."""
    imagematrix(session, "names")
