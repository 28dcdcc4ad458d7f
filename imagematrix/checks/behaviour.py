"""How an image serves: its container gets healthy, is locked down, fails and stops as the contract
says. The last checks start containers of their own."""

from collections.abc import Mapping
from typing import Any

import requests

from imagematrix.checks.foreign import ForeignImage
from imagematrix.checks.running import ENTRY_SCRIPT, RunningImage
from imagematrix.checks.serving import example_is_scored

# Seconds that orchestrators give a container to stop by default are 10 (Docker) to 30 (Kubernetes).
_GRACE = 10
# By SIGTERM as a command without a handler ends.
_STOPPED = (0, 143)
# Exit codes of the contract, by what is wrong.
_FAULTS: Mapping[int, tuple[str, Mapping[str, str]]] = {
    3: ("the script is missing", {"AZUREML_ENTRY_SCRIPT": "absent.py"}),
    97: ("the folder of packages is missing", {"AZUREML_EXTRA_PYTHON_LIB_PATH": "absent"}),
    99: ("the requirements file is missing", {"AZUREML_EXTRA_REQUIREMENTS_TXT": "absent.txt"}),
}


def has_a_command(image: RunningImage) -> None:
    """The image says what its containers run."""
    command = [*(image.config.get("Entrypoint") or []), *(image.config.get("Cmd") or [])]
    assert command, "it has no CMD and no ENTRYPOINT"


def becomes_healthy(image: ForeignImage) -> None:
    """Its container answers 200 on port 5001 in time, with the example as its application."""
    why = image.await_healthy()
    assert not why, f"it is not healthy: {why}"


def serves_on_a_read_only_root(image: ForeignImage) -> None:
    """It scores with a read-only root file system, /tmp alone writable, and no capabilities."""
    _scores(
        image,
        read_only=True,
        tmpfs={"/tmp": ""},
        cap_drop=["ALL"],
        security_opt=["no-new-privileges"],
    )


def serves_as_any_user(image: ForeignImage) -> None:
    """It scores under a user ID that the image does not know, of the group 0."""
    _scores(image, user="12345:0")


def _scores(image: ForeignImage, **options: Any) -> None:
    with image.again(**options) as other:
        why = other.await_healthy()
        assert not why, f"it is not healthy: {why}"
        example_is_scored(other)


def faults_have_their_exit_codes(image: ForeignImage) -> None:
    """It ends with the contract's exit code where its start fails."""
    found = []
    for code, (fault, environment) in _FAULTS.items():
        with image.again({"AZUREML_ENTRY_SCRIPT": ENTRY_SCRIPT, **environment}) as other:
            ended = _ended(other)
        if ended != code:
            how = "does not end" if ended is None else f"ends with {ended}"
            found.append(f"where {fault}, it {how}, not {code}")
    assert not found, "; ".join(found)


def _ended(image: ForeignImage) -> int | None:
    try:
        code: int = image.container.wait(timeout=image.patience)["StatusCode"]
    except requests.exceptions.RequestException:
        # The engine's answer comes when the container ends, and did not come in time.
        return None
    return code


def stops_when_asked(image: ForeignImage) -> str:
    """It ends by itself on SIGTERM, within the time that orchestrators give it."""
    with image.again() as other:
        why = other.await_healthy()
        assert not why, f"it is not healthy: {why}"
        other.container.stop(timeout=_GRACE)
        other.container.reload()
        code = other.container.attrs["State"]["ExitCode"]
    assert code != 137, f"it had to be killed after {_GRACE} s"
    assert code in _STOPPED, f"it ended with {code}"
    return f"exit code {code}"
