"""Pulls one image of a registry, with what the engine says where it cannot."""

import contextlib
from collections.abc import Mapping

from imagematrix.host.engine import Engine
from imagematrix.matrix.platforms import PLATFORM

# What engines and registries say where a name or password is missing or wrong; some say the same of
# images that there are not.
_REFUSED = (
    "unauthorized",
    "authentication required",
    "no basic auth",
    "access denied",
    "403",
    "401",
)


def pull(engine: Engine, reference: str, login: Mapping[str, str] | None = None) -> str:
    """Pulls an image into the engine, with this `username` and `password`, else with those of
    `docker login`. Returns why that could not be done, empty where it was."""
    import docker.errors
    from docker.utils import parse_repository_tag

    name, tag = parse_repository_tag(reference)
    try:
        with contextlib.closing(engine.client()) as client:
            events = client.api.pull(
                name,
                tag=tag or "latest",
                platform=PLATFORM,
                auth_config=dict(login) if login else None,
                stream=True,
                decode=True,
            )
            # An engine may answer first, and say afterwards what went wrong.
            error = next((event["error"] for event in events if "error" in event), "")
    except (docker.errors.APIError, OSError) as failure:
        error = getattr(failure, "explanation", None) or failure
    return str(error).strip()


def is_refusal(error: str) -> bool:
    """Whether a registry asks for another log-in, by what `pull` returned."""
    return any(word in error.lower() for word in _REFUSED)
