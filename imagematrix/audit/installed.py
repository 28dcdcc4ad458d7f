"""What an audit has to know of an image: its Debian release, and the versions of its packages."""

import json
import re
import tarfile
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from email.parser import HeaderParser
from pathlib import Path
from typing import Any

import docker
from packaging.utils import canonicalize_name

from imagematrix.audit.download import CACHE
from imagematrix.console import say
from imagematrix.files import write_atomically
from imagematrix.host.engine import layers_of
from imagematrix.measure.layers import read_layers
from imagematrix.plan.content import PYTHON_LABEL, layers_id

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
) -> dict[str, Installed]:
    """What is installed in images of the engine; `images` has its descriptions.

    Layers are identified by their content, so an image is read once and then known below the work
    folder of the repository at `root`.
    """
    known, layers = _known(root), dict[str, "_Layer"]()
    found, ids = {}, set()
    for name, description in images.items():
        id_ = layers_id(layers_of(description))
        ids.add(id_)
        if id_ not in known:
            say(f"Reading {name} …")
            known[id_] = _read(client, description, layers)
        found[name] = known[id_]
    if layers:
        kept = {id_: asdict(installed) for id_, installed in known.items() if id_ in ids}
        write_atomically(root / _KNOWN, json.dumps(kept, indent=1, sort_keys=True) + "\n")
    return found


def _known(root: Path) -> dict[str, Installed]:
    with suppress(OSError, ValueError, TypeError, AttributeError):
        data = json.loads((root / _KNOWN).read_text(encoding="utf-8"))
        return {id_: Installed(**fields) for id_, fields in data.items()}
    return {}


# --- reading, until measure/contents.py does it ---------------------------------------------------

_STATUS = "var/lib/dpkg/status"
_DIST_INFO = re.compile(r"usr/local/lib/python3\.\d+/site-packages/([^/]+)-([^/]+)\.dist-info")


@dataclass(frozen=True)
class _Layer:
    status: str
    suite: str
    distributions: frozenset[str]
    gone: frozenset[str]


def _read(
    client: docker.DockerClient, description: Mapping[str, Any], layers: dict[str, _Layer]
) -> Installed:
    digests = layers_of(description)
    if lacking := set(digests) - layers.keys():
        layers |= read_layers(client, description["Id"], lacking, _read_layer)
    status = suite = ""
    distributions: set[str] = set()
    for layer in (layers[digest] for digest in digests):
        status, suite = layer.status or status, layer.suite or suite
        distributions = (distributions - layer.gone) | layer.distributions
    pairs = (name.rpartition("-") for name in distributions)
    labels = description["Config"].get("Labels") or {}
    return Installed(
        suite,
        labels.get(PYTHON_LABEL, ""),
        dict(sorted(_packages(status))),
        dict(sorted((canonicalize_name(name), version) for name, _, version in pairs)),
    )


def _packages(status: str) -> Iterable[tuple[str, str]]:
    for stanza in status.split("\n\n"):
        fields = HeaderParser().parsestr(stanza)
        if fields.get("Status", "").endswith(" installed"):
            yield fields["Package"], fields["Version"]


def _read_layer(content: Any) -> _Layer:
    status = suite = ""
    distributions, gone = set[str](), set[str]()
    with suppress(tarfile.ReadError), tarfile.open(fileobj=content, mode="r|") as archive:
        for member in archive:
            path = member.name.removeprefix("./")
            if path in (_STATUS, "usr/lib/os-release") and (file := archive.extractfile(member)):
                text = file.read().decode()
                if path == _STATUS:
                    status = text
                elif match := re.search(r"^VERSION_CODENAME=(.+)$", text, re.M):
                    suite = match[1]
            elif match := _DIST_INFO.fullmatch(path.replace("/.wh.", "/")):
                named = f"{match[1]}-{match[2]}"
                (gone if "/.wh." in path else distributions).add(named)
    return _Layer(status, suite, frozenset(distributions), frozenset(gone))
