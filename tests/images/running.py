"""What tests of images share: the images as they are now, and what one process does at a time."""

import fcntl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import docker.errors

from imagematrix.files import WORK_FOLDER
from imagematrix.host.engine import Engine

ROOT = Path(__file__).resolve().parents[2]


@contextmanager
def one_at_a_time() -> Iterator[None]:
    """Waits for the other processes of a test run that are in this, and keeps them out."""
    lock = ROOT / WORK_FOLDER / "tests.lock"
    lock.parent.mkdir(exist_ok=True)
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield


def build_images(engine: Engine, *names: str) -> None:
    """Makes sure that the engine has these images as they are now; what is fresh is not built."""
    command = [sys.executable, "-m", "imagematrix", "build", *names]
    # The next process finds fresh what both need.
    with one_at_a_time():
        result = subprocess.run(
            command,
            cwd=ROOT,
            env=engine.environ(),
            capture_output=True,
            text=True,
            check=False,
        )
    assert result.returncode == 0, f"{result.stdout}\n{result.stderr[-3000:]}"


def image_id(engine: Engine, reference: str) -> str:
    """The ID of an image in the engine; empty where the engine does not have it."""
    client = engine.client()
    try:
        found: str = client.api.inspect_image(reference)["Id"]
    except docker.errors.ImageNotFound:
        return ""
    finally:
        client.close()
    return found


def is_present(engine: Engine, reference: str) -> bool:
    """Whether the engine has the image."""
    return bool(image_id(engine, reference))
