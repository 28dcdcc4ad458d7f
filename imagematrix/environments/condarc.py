"""How this host reaches conda channels: the settings of conda and of rattler, for one use.

None of them reaches a lock, which names the official addresses.
https://docs.conda.io/projects/conda/en/stable/user-guide/configuration/settings.html
"""

import os
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from imagematrix.errors import Diagnostic, InputError
from imagematrix.files import read_text
from imagematrix.host.config import HostConfig

# Where channels are that have a name and no address.
OFFICIAL = "https://conda.anaconda.org/"
DEFAULTS = "https://repo.anaconda.com/pkgs/"


@dataclass(frozen=True)
class CondaSettings:
    """The settings of this host for channels.

    `mirrors` maps the beginning of an official URL to those that replace it, `proxies` a scheme to
    a proxy. `defaults` are the channels that the host has chosen for `defaults`, by their official
    URLs; none if it has chosen none. `ca_bundle` and `netrc` are files, None if there are none.
    """

    mirrors: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    proxies: Mapping[str, str] = field(default_factory=dict)
    defaults: tuple[str, ...] = ()
    ca_bundle: Path | None = None
    netrc: Path | None = None

    @property
    def environ(self) -> dict[str, str]:
        """The same as environment variables, except the mirrors."""
        files = {"SSL_CERT_FILE": self.ca_bundle, "NETRC": self.netrc}
        named = {name: str(path) for name, path in files.items() if path is not None}
        return named | {f"{scheme}_proxy": url for scheme, url in self.proxies.items()}


def read_conda_settings(
    environ: Mapping[str, str], home: Path, host: HostConfig, root: Path = Path("/")
) -> CondaSettings:
    """The settings of this host, of conda's files and of those of rattler and pixi.

    A file that comes later replaces settings of those before. The files are looked for below `root`
    and `home`. Raises InputError for a file that cannot be read.
    """
    settings: dict[str, Any] = {}
    for path in _condarcs(environ, home, root):
        settings |= _mapping(path, yaml.safe_load)
    if alias := environ.get("CONDA_CHANNEL_ALIAS"):
        settings["channel_alias"] = alias
    mirrors = _of_condarc(settings)
    for path in _rattler_files(environ, home, root):
        found = _mapping(path, tomllib.loads).get("mirrors", {})
        mirrors |= {_folder(url): tuple(map(_folder, urls)) for url, urls in found.items()}
    verify = environ.get("CONDA_SSL_VERIFY") or settings.get("ssl_verify")
    bundle = Path(verify).expanduser() if isinstance(verify, str) else None
    netrc = Path(environ.get("NETRC") or home / ".netrc")
    return CondaSettings(
        mirrors=mirrors,
        proxies={
            scheme: url
            for scheme, url in (settings.get("proxy_servers") or {}).items()
            if scheme in ("http", "https")
        },
        defaults=tuple(_default(url) for url in settings.get("default_channels") or ()),
        ca_bundle=bundle if bundle is not None and bundle.is_file() else host.ca_bundle,
        netrc=netrc if netrc.is_file() else None,
    )


def _condarcs(environ: Mapping[str, str], home: Path, root: Path) -> Iterable[Path]:
    config = Path(environ.get("XDG_CONFIG_HOME") or home / ".config")
    named = [root / "etc/conda/.condarc", root / "etc/conda/condarc", config / "conda/.condarc"]
    named += [home / ".conda/.condarc", home / ".conda/condarc", home / ".condarc"]
    if explicit := environ.get("CONDARC"):
        named.append(Path(explicit))
    return [path for path in named if path.is_file()]


def _rattler_files(environ: Mapping[str, str], home: Path, root: Path) -> Iterable[Path]:
    config = Path(environ.get("XDG_CONFIG_HOME") or home / ".config")
    folders = [root / "etc/pixi", config / "rattler", config / "pixi", home / ".pixi"]
    named = [folder / "config.toml" for folder in folders]
    return [path for path in named if path.is_file()]


def _mapping(path: Path, parse: Any) -> dict[str, Any]:
    try:
        document = parse(read_text(path, path)) or {}
    except (yaml.YAMLError, tomllib.TOMLDecodeError) as error:
        message = " ".join(str(error).split())
        raise InputError([Diagnostic(path, 0, 0, "", message)]) from None
    if not isinstance(document, dict):
        raise InputError([Diagnostic(path, 0, 0, "", "holds no settings: `name: value` expected")])
    # As conda, variables of the environment are replaced.
    return {name: _expanded(value) for name, value in document.items()}


def _expanded(value: Any) -> Any:
    if isinstance(value, str):
        return os.path.expandvars(value)
    if isinstance(value, list):
        return [_expanded(each) for each in value]
    if isinstance(value, dict):
        return {name: _expanded(each) for name, each in value.items()}
    return value


def _of_condarc(settings: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """The mirrors that conda's settings amount to."""
    mirrors: dict[str, tuple[str, ...]] = {}
    alias = settings.get("channel_alias")
    if alias and _folder(alias) != OFFICIAL:
        mirrors[OFFICIAL] = (_folder(alias),)
    for url in settings.get("default_channels") or ():
        official = _default(url)
        if _folder(url) != official and "://" in url:
            mirrors[official] = (_folder(url),)
    for name, base in (settings.get("custom_channels") or {}).items():
        mirrors[f"{OFFICIAL}{name}/"] = (f"{_folder(base)}{name}/",)
    for name, urls in (settings.get("mirrored_channels") or {}).items():
        mirrors[f"{OFFICIAL}{name}/"] = tuple(map(_folder, urls))
    return mirrors


def _default(url: str) -> str:
    """The official URL of a channel that takes the place of one of `defaults`, as mirrors name
    them: …/main, …/r."""
    if "://" not in url:
        return f"{OFFICIAL}{url.strip('/')}/"
    name = urlsplit(url).path.rstrip("/").rpartition("/")[2]
    return f"{DEFAULTS}{name}/" if name in ("main", "r", "msys2", "free") else _folder(url)


def _folder(url: str) -> str:
    return url.rstrip("/") + "/"
