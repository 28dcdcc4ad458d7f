"""Whether the packages of an image are available on this machine, and from where."""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
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
    """Where a build of an image gets packages from, besides the usual index.

    `wheels` are files of this host that the lock admits. `index` is the image's own index, None if
    the wheels replace it. `unavailable` is why the image cannot be built, "" if it can.
    """

    wheels: tuple[Path, ...] = ()
    index: Index | None = None
    unavailable: str = ""


def resolve_supplies(
    locks: Mapping[str, Lock], variants: Iterable[Variant], host: HostConfig
) -> dict[str, Supply]:
    """The supply of each image, by its name. Each index is requested once."""

    @cache
    def why_not(url: str) -> str:
        return why_unreachable(url, host.ca_bundle)

    files = wheel_files(host)
    digests: dict[Path, str] = {}
    return {
        variant.name: resolve_supply(variant, locks[variant.name], files, digests, why_not)
        for variant in variants
    }


def resolve_supply(
    variant: Variant,
    lock: Lock,
    files: Iterable[Path],
    digests: dict[Path, str],
    why_not: Callable[[str], str],
) -> Supply:
    """The supply of one image, from wheel `files` of this host.

    `why_not` returns why a URL of an index cannot be read, "" if it can; `digests` caches the
    SHA-256 of files.
    """
    wheels = tuple(path for path in files if _admitted(path, variant.python, lock, digests))
    if variant.index is None:
        return Supply(wheels)
    if not variant.index.packages:
        problems = [f"{url} {why}" for url in variant.index.urls if (why := why_not(f"{url}/"))]
        reason = f"the index {problems[0]}" if problems else ""
        return Supply(wheels, variant.index, reason)
    here = {canonicalize_name(parse_wheel_filename(path.name)[0]) for path in wheels}
    wanted = {canonicalize_name(name) for name in variant.index.packages} & lock.keys()
    missing = sorted(wanted - here)
    if not missing:
        return Supply(wheels)
    page = f"{variant.index.url}/{missing[0]}/"
    problem = why_not(page)
    if not problem:
        return Supply(wheels, variant.index)
    named = ", ".join(f"{name} {lock[name].version}" for name in missing)
    reason = f"{named} is only on {variant.index.url}, which {problem}"
    return Supply(wheels, variant.index, reason)


# Each wheel of this host is compared with the lock of every image.
@lru_cache(maxsize=4096)
def _parsed(wheel: str) -> tuple[NormalizedName, Version, frozenset[Tag]] | None:
    try:
        name, version, _, tags = parse_wheel_filename(wheel)
    except InvalidWheelFilename:
        return None
    return name, version, tags


def _admitted(path: Path, python: str, lock: Lock, digests: dict[Path, str]) -> bool:
    parsed = _parsed(path.name)
    if parsed is None:
        return False
    name, version, tags = parsed
    locked = lock.get(name)
    if locked is None or locked.version != version:
        return False
    # Reading takes a while, and is not needed for wheels of other Pythons.
    own = f"cp{python.replace('.', '')}"
    if not any(t.interpreter in (own, "py3") or t.abi == "abi3" for t in tags):
        return False
    if path not in digests:
        with path.open("rb") as file:
            digests[path] = hashlib.file_digest(file, "sha256").hexdigest()
    return digests[path] in locked.sha256


def wheel_files(host: HostConfig) -> list[Path]:
    """The wheels in the folders of this host's pip configuration."""
    found = (path for folder in host.wheel_folders for path in sorted(folder.glob("*.whl")))
    return [path for path in found if path.is_file()]


def why_unreachable(url: str, ca_bundle: Path | None, timeout: float = 10) -> str:
    """Why `url` cannot be read, as the end of a sentence that begins with it; "" if it can."""
    # Imported here because most plans request no index.
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
