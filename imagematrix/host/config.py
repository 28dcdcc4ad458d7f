"""How this host reaches package indexes: CA bundle, proxies, pip configuration, wheel folders.

Builds use these settings, and none may stay in an image.
"""

import configparser
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

PYPI = "https://pypi.org/simple"

# The variables of pip, OpenSSL, requests and curl, the most specific first.
_CA_VARIABLES = ("PIP_CERT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
_CA_BUNDLES = (
    Path("/etc/ssl/certs/ca-certificates.crt"),  # Debian, Alpine
    Path("/etc/pki/tls/certs/ca-bundle.crt"),  # Fedora
    Path("/etc/ssl/cert.pem"),  # macOS
)
PROXY_VARIABLES = tuple(
    variant
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY")
    for variant in (name, name.lower())
)


@dataclass(frozen=True)
class HostConfig:
    """The settings of this host. `ignored` has a phrase for each that builds cannot use."""

    ca_bundle: Path | None
    index_url: str
    extra_index_urls: tuple[str, ...]
    find_links: tuple[str, ...]
    wheel_folders: tuple[Path, ...]
    proxies: tuple[str, ...]
    ignored: tuple[str, ...]
    trusted_hosts: tuple[str, ...] = ()


def read_host_config(environ: Mapping[str, str], home: Path, root: Path = Path("/")) -> HostConfig:
    """Reads the settings of this host from the environment and pip's configuration files.

    Files and their order are pip's: https://pip.pypa.io/en/stable/topics/configuration/
    They are looked for below `root` and `home`.
    """
    settings = _pip_settings(environ, home, root)
    indexes = settings.get("extra-index-url", "").split()
    reachable, ignored = [], []
    for url in indexes:
        if urlsplit(url).scheme in ("http", "https"):
            reachable.append(url)
        else:
            ignored.append(f"the index {url} is a folder of this host, which a build cannot ask")
    index = settings.get("index-url", "").strip() or PYPI
    if urlsplit(index).scheme not in ("http", "https"):
        ignored.append(f"the index {index} is a folder of this host, which a build cannot ask")
        index = PYPI
    links, folders = [], []
    for link in settings.get("find-links", "").split():
        if urlsplit(link).scheme in ("http", "https"):
            links.append(link)
        else:
            path = unquote(urlsplit(link).path) if link.startswith("file:") else link
            folder = home / path[2:] if path.startswith("~/") else Path(path)
            if folder.is_dir():
                folders.append(folder)
            else:
                ignored.append(f"the wheel folder {link} is no folder of this host")
    return HostConfig(
        ca_bundle=_ca_bundle(environ, settings, root),
        index_url=index,
        extra_index_urls=tuple(reachable),
        find_links=tuple(links),
        wheel_folders=tuple(folders),
        trusted_hosts=tuple(settings.get("trusted-host", "").split()),
        proxies=tuple(name for name in PROXY_VARIABLES if environ.get(name)),
        ignored=tuple(ignored),
    )


def _pip_settings(environ: Mapping[str, str], home: Path, root: Path) -> dict[str, str]:
    files = [root / "etc/xdg/pip/pip.conf", root / "etc/pip.conf"]
    config_home = environ.get("XDG_CONFIG_HOME")
    explicit = environ.get("PIP_CONFIG_FILE")
    # PIP_CONFIG_FILE replaces the user's own file.
    if not explicit or not Path(explicit).exists():
        files += [home / ".pip/pip.conf"]
        files += [(Path(config_home) if config_home else home / ".config") / "pip/pip.conf"]
    if explicit == os.devnull:
        files = []
    elif explicit:
        files.append(Path(explicit))
    settings: dict[str, str] = {}
    for file in files:
        parser = configparser.RawConfigParser()
        try:
            parser.read(file, encoding="utf-8")
        except (configparser.Error, UnicodeDecodeError):
            # pip itself reports an invalid file when it is run.
            continue
        for section in ("global", "install"):
            if parser.has_section(section):
                settings.update({k.replace("_", "-"): v for k, v in parser.items(section)})
    for name, value in environ.items():
        if name.startswith("PIP_") and value:
            settings[name.removeprefix("PIP_").lower().replace("_", "-")] = value
    return settings


def _ca_bundle(environ: Mapping[str, str], settings: Mapping[str, str], root: Path) -> Path | None:
    named = [settings.get("cert", ""), *(environ.get(name, "") for name in _CA_VARIABLES)]
    candidates = [Path(value) for value in named if value]
    candidates += [root / bundle.relative_to("/") for bundle in _CA_BUNDLES]
    return next((path for path in candidates if path.is_file()), None)
