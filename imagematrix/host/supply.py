"""Whether the packages of an image can be had on this machine, and from where."""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from urllib.parse import urlsplit

from packaging.tags import Tag
from packaging.utils import (
    InvalidWheelFilename,
    NormalizedName,
    canonicalize_name,
    parse_wheel_filename,
)
from packaging.version import Version

from imagematrix.host.config import HostConfig
from imagematrix.matrix.lockfile import Lock
from imagematrix.matrix.variant import Index, Variant


@dataclass(frozen=True)
class Supply:
    """What a build of an image is given beside the lock.

    `wheels` are files of this host that the lock admits. `index` is the image's own index, None
    when the wheels make it needless; `asked` is the page of it that was asked for, and its answer
    where it is of no use. `unavailable` says why the image cannot be built, or nothing.
    """

    wheels: tuple[Path, ...] = ()
    index: Index | None = None
    unavailable: str = ""
    asked: tuple[str, str] | None = None


def find_supplies(
    locks: Mapping[str, Lock], variants: Iterable[Variant], host: HostConfig
) -> dict[str, Supply]:
    """The supply of each image, under its name. Each index is asked once."""
    answers: dict[str, str] = {}

    def ask(url: str) -> str:
        if url not in answers:
            answers[url] = why_unreachable(url, host.ca_bundle)
        return answers[url]

    files = wheel_files(host)
    digests: dict[Path, str] = {}
    return {
        variant.name: find_supply(variant, locks[variant.name], files, digests, ask)
        for variant in variants
    }


def find_supply(
    variant: Variant,
    lock: Lock,
    files: Iterable[Path],
    digests: dict[Path, str],
    why_not: Callable[[str], str],
) -> Supply:
    """The supply of one image, from wheel `files` of this host and `why_not` an index is of no use.

    `digests` remembers the sha256 of files that were read.
    """
    wheels = tuple(path for path in files if _admitted(path, variant.python, lock, digests))
    if variant.index is None:
        return Supply(wheels)
    here = {canonicalize_name(parse_wheel_filename(path.name)[0]) for path in wheels}
    wanted = {canonicalize_name(name) for name in variant.index.packages} & lock.keys()
    missing = sorted(wanted - here)
    if not missing:
        return Supply(wheels)
    page = f"{variant.index.url}/{missing[0]}/"
    answer = why_not(page)
    if not answer:
        return Supply(wheels, variant.index)
    named = ", ".join(f"{name} {lock[name].version}" for name in missing)
    reason = f"{named} is only on {variant.index.url}, which {answer}"
    return Supply(wheels, variant.index, reason, (page, answer))


# Each wheel of this host is held against the lock of every image.
@lru_cache(maxsize=4096)
def _parsed(wheel: str) -> tuple[NormalizedName, Version, frozenset[Tag]] | None:
    try:
        name, version, _, tags = parse_wheel_filename(wheel)
    except InvalidWheelFilename:
        return None
    return name, version, tags


def _admitted(path: Path, python: str, lock: Lock, digests: dict[Path, str]) -> bool:
    told = _parsed(path.name)
    if told is None:
        return False
    name, version, tags = told
    locked = lock.get(name)
    if locked is None or locked.version != version:
        return False
    # One for another Python need not be read, which takes a while for some.
    own = f"cp{python.replace('.', '')}"
    if not any(t.interpreter in (own, "py3") or t.abi == "abi3" for t in tags):
        return False
    if path not in digests:
        with path.open("rb") as file:
            digests[path] = hashlib.file_digest(file, "sha256").hexdigest()
    return digests[path] in locked.sha256


def wheel_files(host: HostConfig) -> list[Path]:
    """The wheels in the folders that this host's configuration of pip names."""
    found = (path for folder in host.wheel_folders for path in sorted(folder.glob("*.whl")))
    return [path for path in found if path.is_file()]


def why_unreachable(url: str, ca_bundle: Path | None, timeout: float = 10) -> str:
    """Why `url` cannot be read, as the end of a sentence that begins with it; nothing if it can."""
    # Not for a plan of fresh images, which asks no index.
    import http.client
    import ssl
    import urllib.error
    import urllib.request

    request = urllib.request.Request(url, method="HEAD")
    try:
        context = ssl.create_default_context(cafile=str(ca_bundle) if ca_bundle else None)
        with urllib.request.urlopen(request, timeout=timeout, context=context):
            return ""
    except urllib.error.HTTPError as error:
        return f"answers {error.code} {error.reason}"
    except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
        reason = getattr(error, "reason", error)
        return f"cannot be reached from here ({urlsplit(url).hostname}: {reason})"
