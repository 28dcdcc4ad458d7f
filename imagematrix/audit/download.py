"""Downloads for audits, over this host's proxies and with its certificates."""

import hashlib
import json
import re
import time
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from imagematrix.errors import WorkError
from imagematrix.files import WORK_FOLDER, write_bytes_atomically
from imagematrix.host.config import HostConfig
from imagematrix.host.registry_errors import system_words
from imagematrix.host.registry_http import is_loopback

CACHE = WORK_FOLDER / "audit"
# For a connection, and for an answer.
_SECONDS = (10, 30)
_RETRIES = 3
# The statuses of servers that may answer soon.
_BUSY = (429, 502, 503, 504)
_UNUSED_DAYS = 30
# As many as there are requests at a time.
CONNECTIONS = 8


class Downloads:
    """GETs, and a cache of files by their hash below the work folder of the repository at `root`.

    Its methods raise WorkError, with a phrase that begins with the name of the server. It has no
    credentials, which a URL may contain.
    """

    def __init__(self, root: Path, host: HostConfig) -> None:
        self._folder = root / CACHE
        self._trusted = frozenset(host.trusted_hosts)
        # Given with each request: requests would prefer REQUESTS_CA_BUNDLE to that of the session.
        self._verify = str(host.ca_bundle) if host.ca_bundle is not None else True
        self._unreachable: dict[str, str] = {}
        self._sessions = {local: _session(local=local) for local in (True, False)}

    def get(self, url: str) -> bytes | None:
        """The content of a URL, None for "not found". A server that cannot be reached is not asked
        again."""
        parts = urlsplit(url)
        server = parts.hostname or shown(url)
        if server in self._unreachable:
            raise WorkError(self._unreachable[server])
        session = self._sessions[is_loopback(parts.netloc.rpartition("@")[2])]
        verify = False if {parts.hostname, parts.netloc} & self._trusted else self._verify
        try:
            answer = session.get(url, timeout=_SECONDS, verify=verify)
        except requests.RequestException as error:
            self._unreachable[server] = f"{server} cannot be reached ({_reason(error)})"
            raise WorkError(self._unreachable[server]) from None
        if answer.status_code == 404:
            return None
        if answer.status_code != 200:
            raise WorkError(f"{server} answers {answer.status_code} {answer.reason}")
        return answer.content

    def json(self, url: str) -> dict[str, Any] | None:
        """The JSON object at a URL, None for "not found"."""
        content = self.get(url)
        return None if content is None else json_object(content, urlsplit(url).hostname or url)

    def file(self, url: str, sha256: str) -> bytes:
        """The content of a URL, which must have this hash, from the cache if it is there."""
        cached = self._folder / sha256
        with suppress(OSError):
            content = cached.read_bytes()
            if hashlib.sha256(content).hexdigest() == sha256:
                cached.touch()
                return content
        found = self.get(url)
        name = urlsplit(url).path.rpartition("/")[2]
        server = urlsplit(url).hostname
        if found is None:
            raise WorkError(f"{server} has no {name}, which its index names")
        if hashlib.sha256(found).hexdigest() != sha256:
            raise WorkError(f"{server} gives a {name} that has not the hash of its index")
        write_bytes_atomically(cached, found)
        return found

    def prune(self) -> None:
        """Removes the cached files that were not used for a month."""
        oldest = time.time() - _UNUSED_DAYS * 24 * 3600
        with suppress(OSError):
            for path in self._folder.iterdir():
                if path.stat().st_mtime < oldest:
                    path.unlink(missing_ok=True)


def shown(url: str) -> str:
    """A URL without the credentials that it may contain."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def json_object(content: bytes, source: str) -> dict[str, Any]:
    """The JSON object in an answer of `source`. Raises WorkError for anything else."""
    try:
        data = json.loads(content)
    except ValueError:
        data = None
    if not isinstance(data, dict):
        raise WorkError(f"{source} answers with something that is no JSON object")
    return data


def _session(*, local: bool) -> requests.Session:
    session = requests.Session()
    # Requests to loopback must not go through a proxy of the host.
    session.trust_env = not local
    retries = Retry(
        total=_RETRIES,
        backoff_factor=0.3,
        status_forcelist=_BUSY,
        # The time that a server names may be longer than anybody waits.
        respect_retry_after_header=False,
        raise_on_status=False,
    )
    for scheme in ("http://", "https://"):
        session.mount(scheme, HTTPAdapter(max_retries=retries, pool_maxsize=CONNECTIONS))
    return session


def _reason(error: requests.RequestException) -> str:
    refused = re.search(r"certificate verify failed: ([^(\"']+)", str(error))
    if refused:
        return f"its certificate is not accepted: {refused[1].strip()}"
    return system_words(str(error))
