"""Solving and installing conda packages, by py-rattler: the one module that uses it.

It runs as a program in a Python that has py-rattler, and imports nothing else of this repository.
On this host that is the environment of `conda.rattler_python`; in the build of an image it is a
stage that no image keeps. Both take a request as JSON on standard input and print the answer as
JSON:

    python rattler.py solve < REQUEST
    python rattler.py install LOCK PREFIX CACHE [PACKAGES [MIRRORS]]

Certificates, proxies and passwords come from SSL_CERT_FILE, the usual variables of proxies, and
NETRC.

Locks have the format of rattler and pixi:
https://conda.github.io/rattler/ and https://pixi.sh/latest/workspace/lockfile/
"""

import asyncio
import hashlib
import json
import os
import re
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from rattler import (
    BuildString,
    Channel,
    Client,
    Gateway,
    GenericVirtualPackage,
    LockChannel,
    LockFile,
    LockPlatform,
    MatchSpec,
    PackageCache,
    PackageCacheLayer,
    PackageName,
    RepoDataRecord,
    SourceConfig,
    Subdir,
    ValidationMode,
    Version,
    install,
    solve,
)
from rattler.exceptions import GatewayError, InstallerError, InvalidMatchSpecError, SolverError
from rattler.networking import AuthenticationMiddleware, MirrorMiddleware, RetryMiddleware

PLATFORM = "linux-64"
_SUBDIRS = (PLATFORM, "noarch")
_RETRIES = 2
# How many versions or builds a message names.
_NAMED = 6
# What a package may bring that runs code when it is installed, or when a shell activates it.
_LINK_SCRIPTS = re.compile(r"bin/\.[^/]+-(post-link|pre-link|pre-unlink)\.sh")
_ACTIVATION = re.compile(r"etc/conda/(activate\.d/|env_vars\.d/)[^/]+")
# It fails here with the same words whatever the channel.
_MISMATCH = re.compile(r"hash mismatch when extracting (\S+) to .*?: expected (\w+), got (\w+)")


class RattlerError(Exception):
    """What is wrong, for people. `kind` says of which kind it is; `place` is the number of the spec
    that is to blame, None if no single one is."""

    def __init__(self, *errors: Mapping[str, Any]) -> None:
        super().__init__()
        self.errors = list(errors)


def failure(kind: str, message: str, place: int | None = None, hint: str = "") -> dict[str, Any]:
    """One error of an answer."""
    return {"kind": kind, "message": message, "spec": place, "hint": hint}


async def answer_solve(request: Mapping[str, Any]) -> dict[str, Any]:
    """Chooses packages and locks them.

    The request has `channels` (URLs), `specs` (texts), `virtual` (version and build by name),
    `mirrors` (URLs by the beginning of what they replace), and `present` (the text of a lock whose
    packages are kept where they fit, empty if there is none). The answer has `lock`, a text, and
    `packages`. Channels are asked in their order, and only the first that has a package of a name
    is taken for it, as conda does with `channel_priority: strict`.
    """
    specs = _parsed(request["specs"])
    channels = [Channel(url) for url in request["channels"]]
    known = {channel.base_url for channel in channels}
    for spec in specs:
        if spec.channel is not None and spec.channel.base_url not in known:
            known.add(spec.channel.base_url)
            channels.append(spec.channel)
    with tempfile.TemporaryDirectory() as scratch:
        # Shards are packed by days; one index tells which packages a channel has.
        source = SourceConfig(sharded_enabled=False)
        gateway = Gateway(
            cache_dir=Path(scratch), default_config=source, client=_client(request["mirrors"])
        )
        found = await _candidates(gateway, channels, [_name(spec) for spec in specs])
        _require_candidates(specs, request["specs"], found)
        virtual = [
            GenericVirtualPackage(PackageName(name), Version(version), BuildString(build))
            for name, (version, build) in request["virtual"].items()
        ]
        present = _present(request.get("present", ""), Path(scratch))
        try:
            records = await solve(
                channels,
                specs,
                gateway=gateway,
                platforms=_SUBDIRS,
                virtual_packages=virtual,
                locked_packages=present,
            )
        except SolverError as error:
            text = str(error).removeprefix("Cannot solve the request because of: ")
            raise RattlerError(failure("unsolvable", text.strip())) from None
        records.sort(key=lambda record: record.name.normalized)
        await _require_priority(gateway, channels, specs, records)
        without = [r.file_name for r in records if r.sha256 is None]
        if without:
            message = f"the channel gives no sha256 of {', '.join(without)}"
            raise RattlerError(failure("unhashed", message))
        lock = _lock(records, channels, request["virtual"], Path(scratch))
    return {"lock": lock, "packages": [_package(record) for record in records]}


def _client(mirrors: Mapping[str, Sequence[str]]) -> Client:
    """A client that reads what mirrors have in the place of the official URLs."""
    through = {official: list(instead) for official, instead in mirrors.items()}
    # rattler's own order gives no mirror the password that netrc has for it.
    return Client(
        [RetryMiddleware(_RETRIES), MirrorMiddleware(through), AuthenticationMiddleware()]
    )


def _parsed(texts: Sequence[str]) -> list[MatchSpec]:
    specs, errors = [], []
    for place, text in enumerate(texts):
        try:
            # Not strict: it refuses what `conda env export` writes.
            spec = MatchSpec(text, strict=False)
        except InvalidMatchSpecError as error:
            reason = str(error).splitlines()[0]
            errors.append(failure("invalid", f"{text} is no conda package: {reason}", place))
            continue
        specs.append(spec)
        if spec.name.as_package_name() is None:
            errors.append(failure("invalid", f"{text} names no package, but a pattern", place))
    if errors:
        raise RattlerError(*errors)
    return specs


def _name(spec: MatchSpec) -> str:
    name = spec.name.as_package_name()
    # `_parsed` refuses patterns.
    assert name is not None
    return str(name.normalized)


# The records of each name, by the URL of their channel in the order of channels.
_Candidates = dict[str, dict[str, list[RepoDataRecord]]]


async def _candidates(
    gateway: Gateway, channels: Sequence[Channel], names: Iterable[str]
) -> _Candidates:
    wanted = [MatchSpec(name) for name in dict.fromkeys(names) if not name.startswith("__")]
    found: _Candidates = {}
    errors = []
    for channel in channels:
        try:
            answers = await gateway.query([channel], _SUBDIRS, wanted, recursive=False)
        except GatewayError as error:
            errors.append(_channel_failure(channel, str(error)))
            continue
        for record in (record for records in answers for record in records):
            of_name = found.setdefault(record.name.normalized, {})
            of_name.setdefault(channel.base_url, []).append(record)
    if errors:
        raise RattlerError(*errors)
    return found


def _channel_failure(channel: Channel, text: str) -> dict[str, Any]:
    """Whether a channel does not exist, wants a log-in, or cannot be reached."""
    url = without_credentials(channel.base_url).rstrip("/")
    through = re.search(r"for url \((\S+)\)", text)
    asked = without_credentials(through[1]) if through else url
    reason = text.rpartition("Caused by: ")[2].partition(" for url (")[0].strip()
    place = "" if asked.startswith(url) else f" (asked: {asked})"
    status = re.search(r"\b([45]\d\d)\b", reason)
    if "could not find subdir" in text or (status and status[1] in ("404", "410")):
        return failure("not-found", f"there is no channel {url}{place}")
    if status and status[1] in ("401", "403"):
        hint = "a user name and a password for this host belong in a netrc file"
        return failure("forbidden", f"the channel {url} wants a log-in{place}", hint=hint)
    return failure("unavailable", f"the channel {url} cannot be reached: {reason}{place}")


def without_credentials(url: str) -> str:
    """A URL without user, password and token (https://host/t/<token>/channel)."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return parts._replace(netloc=host, path=re.sub(r"^/t/[^/]+/", "/", parts.path)).geturl()


def _require_candidates(
    specs: Sequence[MatchSpec], texts: Sequence[str], found: _Candidates
) -> None:
    """Reports every spec that no package fulfils at once."""
    errors = []
    for place, (spec, text) in enumerate(zip(specs, texts, strict=True)):
        name = _name(spec)
        if name.startswith("__"):
            continue
        by_channel = found.get(name, {})
        if spec.channel is not None:
            own = spec.channel.base_url
            by_channel = {url: r for url, r in by_channel.items() if url == own}
        records = [record for of_channel in by_channel.values() for record in of_channel]
        if not records:
            errors.append(failure("missing", f"{name}: no channel has it for {PLATFORM}", place))
        elif not any(spec.matches(record) for record in records):
            errors.append(_unfulfilled(spec, text, name, records, place))
    if errors:
        raise RattlerError(*errors)


def _unfulfilled(
    spec: MatchSpec, text: str, name: str, records: Sequence[RepoDataRecord], place: int
) -> dict[str, Any]:
    version = MatchSpec(f"{name} {spec.version or '*'}", strict=False)
    of_version = [record for record in records if version.matches(record)]
    if of_version and spec.build is not None:
        builds = sorted({str(record.build) for record in of_version})
        hint = f"there are {_some(builds)}; leave the build out to let the solver choose"
        message = f"{text}: no such build of {name} {spec.version or ''}".rstrip()
        return failure("build", message, place, hint)
    newest = sorted({record.version for record in records}, reverse=True)
    hint = f"there are {_some(list(map(str, newest)))}"
    return failure("version", f"{text}: no such version for {PLATFORM}", place, hint)


def _some(words: Sequence[str]) -> str:
    more = f" and {len(words) - _NAMED} more" if len(words) > _NAMED else ""
    return ", ".join(words[:_NAMED]) + more


async def _require_priority(
    gateway: Gateway,
    channels: Sequence[Channel],
    specs: Sequence[MatchSpec],
    records: Sequence[RepoDataRecord],
) -> None:
    """rattler takes a version that only a later channel has where conda refuses it."""
    free = {_name(spec) for spec in specs if spec.channel is not None}
    wanted = {record.name.normalized: record for record in records}
    found = await _candidates(gateway, channels, wanted.keys() - free)
    errors = []
    for name, by_channel in sorted(found.items()):
        record = wanted[name]
        first, taken = next(iter(by_channel)), str(record.channel)
        if first != taken:
            message = (
                f"{name} {record.version} is only in {taken.rstrip('/')}, but {first.rstrip('/')},"
                " which comes first, has other versions; as conda, channels are strict"
            )
            hint = f"put that channel first, or write {taken.rstrip('/')}::{name}"
            errors.append(failure("priority", message, hint=hint))
    if errors:
        raise RattlerError(*errors)


def _present(text: str, scratch: Path) -> list[RepoDataRecord]:
    if not text:
        return []
    path = scratch / "present.lock"
    path.write_text(text, encoding="utf-8")
    return _records(path)


def _records(lock: Path) -> list[RepoDataRecord]:
    file = LockFile.from_path(lock)
    platforms = [platform for platform in file.platforms() if str(platform.subdir) == PLATFORM]
    environment = file.default_environment()
    if not platforms or environment is None:
        raise RattlerError(failure("lock", f"{lock.name} locks nothing for {PLATFORM}"))
    return environment.conda_repodata_records_for_platform(platforms[0]) or []


def _lock(
    records: Sequence[RepoDataRecord],
    channels: Sequence[Channel],
    virtual: Mapping[str, Sequence[str]],
    scratch: Path,
) -> str:
    names = [f"{name}={version}" for name, (version, _) in virtual.items()]
    platform = LockPlatform(PLATFORM, virtual_packages=names)
    lock = LockFile([platform])
    lock.set_channels("default", [LockChannel(channel.base_url) for channel in channels])
    for record in records:
        lock.add_conda_package("default", platform, record)
    path = scratch / "lock"
    lock.to_path(path)
    return path.read_text(encoding="utf-8")


def _package(record: RepoDataRecord) -> dict[str, Any]:
    return {
        "name": record.name.normalized,
        "version": str(record.version),
        "build": str(record.build),
        "url": record.url,
        "sha256": record.sha256.hex() if record.sha256 else "",
        "size": record.size or 0,
        "depends": list(record.depends),
    }


async def answer_install(
    lock: str, prefix: str, cache: str, packages: str = "", mirrors: str = ""
) -> dict[str, Any]:
    """Installs what a lock holds, and solves nothing.

    `cache` keeps what is downloaded and unpacked. What is in the folder `packages` is taken from
    there. `mirrors` is the path of a file with mirrors as JSON, which may be missing. Each package
    is compared with its sha256, whatever it comes from. The answer has `packages`, and the names of
    those with scripts that are not run: `link_scripts` and `activation`.
    """
    records = _records(Path(lock))
    mismatches = []
    for record in records:
        local = _local_file(record, packages)
        if local is None:
            continue
        # rattler compares only what comes from the network.
        found = hashlib.sha256(local.read_bytes()).hexdigest() if local.is_file() else "no file"
        wanted = record.sha256.hex() if record.sha256 else ""
        if found != wanted:
            mismatches.append(_mismatch(str(local), wanted, found))
        record.url = local.absolute().as_uri()
    if mismatches:
        raise RattlerError(*mismatches)
    known = Path(mirrors).is_file()
    client = _client(json.loads(Path(mirrors).read_text(encoding="utf-8")) if known else {})
    layer = PackageCacheLayer(cache).with_validation_mode(ValidationMode.full())
    try:
        await install(
            records,
            prefix,
            package_cache=PackageCache.from_layers([layer]),
            client=client,
            platform=Subdir(PLATFORM),
            execute_link_scripts=False,
            show_progress=False,
        )
    except InstallerError as error:
        differs = _MISMATCH.search(str(error))
        if differs:
            raise RattlerError(_mismatch(*differs.groups())) from None
        raise RattlerError(failure("unavailable", without_paths(str(error)))) from None
    return _scripts(Path(prefix)) | {"packages": [_package(record) for record in records]}


def _local_file(record: RepoDataRecord, packages: str) -> Path | None:
    path = Path(packages, str(record.file_name))
    if packages and path.is_file():
        return path
    url = urlsplit(record.url)
    return Path(unquote(url.path)) if url.scheme == "file" else None


def _mismatch(file: str, wanted: str, found: str) -> dict[str, Any]:
    message = f"{file} is not the package that is locked: sha256 {found}, locked is {wanted}"
    return failure("mismatch", message)


def without_paths(text: str) -> str:
    """The lines of an error of rattler as one, with the deepest cause last."""
    return ": ".join(line.removeprefix("Caused by: ").strip() for line in text.splitlines())


def _scripts(prefix: Path) -> dict[str, list[str]]:
    """The packages in a prefix with scripts that are not run here, by what those are for."""
    link, activation = set(), set()
    for path in sorted(prefix.glob("conda-meta/*.json")):
        document = json.loads(path.read_text(encoding="utf-8"))
        for file in document["files"]:
            if _LINK_SCRIPTS.fullmatch(file):
                link.add(document["name"])
            elif _ACTIVATION.fullmatch(file):
                activation.add(document["name"])
    return {"link_scripts": sorted(link), "activation": sorted(activation)}


def main(command: str, *arguments: str) -> int:
    """Runs a command, prints its answer or `{"errors": …}`; 1 if it failed."""
    try:
        if command == "solve":
            answer = asyncio.run(answer_solve(json.load(sys.stdin)))
        else:
            answer = asyncio.run(answer_install(*arguments))
    except RattlerError as problem:
        json.dump({"errors": problem.errors}, sys.stdout)
        return 1
    json.dump(answer, sys.stdout)
    return 0


if __name__ == "__main__":
    status = main(*sys.argv[1:])
    sys.stdout.flush()
    # Its threads may still run, and have no interpreter when that has ended.
    os._exit(status)
