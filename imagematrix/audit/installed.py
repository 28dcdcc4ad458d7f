"""What an audit has to know of an image: its Debian release, and the versions of its packages."""

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import docker

from imagematrix.audit.download import CACHE
from imagematrix.console import say
from imagematrix.errors import WorkError
from imagematrix.files import write_atomically
from imagematrix.host.engine import layers_of
from imagematrix.measure.contents import LayerFiles, contents_of, read_image
from imagematrix.plan.content import layers_id

_KNOWN = CACHE / "installed.json"


@dataclass(frozen=True)
class Installed:
    """The versions in an image, by package. `suite` is the Debian release (`trixie`), `python`
    CPython's full version; both are empty where the image does not say it."""

    suite: str
    python: str
    debian: Mapping[str, str]
    distributions: Mapping[str, str]


def installed_in(
    root: Path, client: docker.DockerClient, images: Mapping[str, Mapping[str, Any]]
) -> dict[str, Installed | str]:
    """What is installed in images of the engine, or why that is not known; `images` has its
    descriptions.

    Layers are identified by their content, so an image is read once and then known below the work
    folder of the repository at `root`.
    """
    known, layers = _known(root), dict[str, LayerFiles]()
    found: dict[str, Installed | str] = {}
    used = set()
    for name, description in images.items():
        id_ = layers_id(layers_of(description))
        if id_ not in known:
            say(f"Reading {name} …")
            try:
                known[id_] = _read(client, name, description["Id"], layers)
            except WorkError as error:
                found[name] = str(error)
                continue
        used.add(id_)
        found[name] = known[id_]
    if layers:
        kept = {id_: asdict(installed) for id_, installed in known.items() if id_ in used}
        write_atomically(root / _KNOWN, json.dumps(kept, indent=1, sort_keys=True) + "\n")
    return found


def _read(
    client: docker.DockerClient, name: str, id_: str, layers: dict[str, LayerFiles]
) -> Installed:
    contents = contents_of(read_image(client, id_, layers), name)
    return Installed(
        contents.suite, contents.python, contents.debian_versions, contents.python_versions
    )


def _known(root: Path) -> dict[str, Installed]:
    with suppress(OSError, ValueError, TypeError, AttributeError):
        data = json.loads((root / _KNOWN).read_text(encoding="utf-8"))
        return {id_: Installed(**fields) for id_, fields in data.items()}
    return {}
