"""Reads labels and layers of the images in a registry.

Over its HTTP API (https://distribution.github.io/distribution/spec/api/), with the credentials of
`docker login`. No engine is needed.
"""

import base64
import ipaddress
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import parse_http_list, parse_keqv_list

import docker.auth
import requests
from docker.errors import DockerException

from imagematrix.errors import WorkError
from imagematrix.matrix.platforms import PLATFORM
from imagematrix.plan.content import Present

_INDEXES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
_MANIFESTS = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
_SECONDS = 30


class Registry:
    """The registry at `host` (`ghcr.io`, `127.0.0.1:5000`); on loopback it is used without TLS.

    Its methods raise WorkError, with the registry's message, for requests that it refuses and for
    answers of another form.
    """

    def __init__(self, host: str, ca_bundle: Path | None) -> None:
        self.host = host
        local = _is_loopback(host)
        self._url = f"{'http' if local else 'https'}://{host}/v2"
        self._session = requests.Session()
        # Requests to loopback must not go through a proxy of the host.
        self._session.trust_env = not local
        if ca_bundle is not None:
            self._session.verify = str(ca_bundle)
        self._authorization: dict[str, str] = {}

    def image(self, repository: str, tag: str) -> Present | None:
        """The linux/amd64 image of a tag; None if there is no such tag."""
        manifest = self._manifest(repository, tag)
        if manifest is not None and manifest.get("mediaType") in _INDEXES:
            manifest = self._manifest(repository, self._for_platform(manifest, repository, tag))
        if manifest is None:
            return None
        try:
            digest = manifest["config"]["digest"]
        except (KeyError, TypeError):
            raise self._strange(f"{repository}:{tag}", "its manifest names no config") from None
        answer = self._get(f"{repository}/blobs/{digest}", repository)
        if answer is None:
            raise self._strange(f"{repository}:{tag}", "its config is missing")
        config = self._json(answer, repository)
        layers = (config.get("rootfs") or {}).get("diff_ids")
        labels = (config.get("config") or {}).get("Labels") or {}
        return Present(labels, tuple(layers) if layers else None)

    def _manifest(self, repository: str, reference: str) -> dict[str, Any] | None:
        accept = ", ".join((*_INDEXES, *_MANIFESTS))
        answer = self._get(f"{repository}/manifests/{reference}", repository, accept)
        if answer is None:
            return None
        # An OCI manifest may lack its media type; the header has it.
        kind = answer.headers.get("Content-Type", "").split(";")[0]
        return {"mediaType": kind, **self._json(answer, repository)}

    def _for_platform(self, index: Mapping[str, Any], repository: str, tag: str) -> str:
        for entry in index.get("manifests") or []:
            platform = entry.get("platform") or {}
            if f"{platform.get('os')}/{platform.get('architecture')}" == PLATFORM:
                digest: str = entry["digest"]
                return digest
        raise self._strange(f"{repository}:{tag}", f"it is not there for {PLATFORM}")

    def _get(self, path: str, repository: str, accept: str = "*/*") -> requests.Response | None:
        """The answer to a GET, None for "not found"."""
        url = f"{self._url}/{path}"
        known = self._authorization.get(repository)
        answer = self._request("GET", url, {"Accept": accept}, known)
        if answer.status_code == 401:
            challenge = answer.headers.get("WWW-Authenticate", "")
            known = self._authorize(challenge, repository)
            self._authorization[repository] = known
            answer = self._request("GET", url, {"Accept": accept}, known)
        if answer.status_code == 404:
            return None
        if answer.status_code != 200:
            reason = f"{answer.status_code} {answer.reason}"
            hint = "; run `docker login`" if answer.status_code in (401, 403) else ""
            raise WorkError(f"the registry {self.host} answers {reason} for {repository}{hint}")
        return answer

    def _authorize(self, challenge: str, repository: str) -> str:
        """The value of Authorization for a challenge.

        https://distribution.github.io/distribution/spec/auth/token/
        """
        scheme, _, rest = challenge.partition(" ")
        credentials = _credentials(self.host)
        basic = _basic(credentials)
        if scheme.lower() == "basic":
            return basic
        parameters = parse_keqv_list(parse_http_list(rest))
        realm = parameters.pop("realm", None)
        if scheme.lower() != "bearer" or not realm:
            raise self._strange(repository, f"it asks for {challenge or 'credentials'}")
        parameters.setdefault("scope", f"repository:{repository}:pull")
        if identity := credentials.get("IdentityToken"):
            form = {**parameters, "grant_type": "refresh_token", "refresh_token": identity}
            form["client_id"] = "imagematrix"
            answer = self._request("POST", realm, {}, None, data=form)
        else:
            answer = self._request("GET", realm, {}, basic, params=parameters)
        if answer.status_code != 200:
            reason = f"{answer.status_code} {answer.reason}"
            raise WorkError(f"{realm} answers {reason} for {repository}; run `docker login`")
        grant = self._json(answer, repository)
        return f"Bearer {grant.get('token') or grant.get('access_token')}"

    def _request(
        self,
        method: str,
        url: str,
        headers: dict[str, str],
        authorization: str | None,
        **more: Any,
    ) -> requests.Response:
        if authorization:
            headers = {**headers, "Authorization": authorization}
        try:
            return self._session.request(
                method, url, headers=headers, timeout=_SECONDS, auth=_as_given, **more
            )
        except requests.RequestException as error:
            raise WorkError(f"the registry {self.host} cannot be reached: {error}") from None

    def _json(self, answer: requests.Response, repository: str) -> dict[str, Any]:
        try:
            data = answer.json()
        except ValueError:
            data = None
        if not isinstance(data, dict):
            raise self._strange(repository, "it answers with something that is no JSON object")
        return data

    def _strange(self, what: str, why: str) -> WorkError:
        return WorkError(f"the registry {self.host} has no usable image {what}: {why}")


def _as_given(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Keeps Authorization as it is; requests would set it from ~/.netrc."""
    return request


def _credentials(host: str) -> Mapping[str, str]:
    try:
        found = docker.auth.load_config().resolve_authconfig(host)
    except DockerException as error:
        raise WorkError(f"the credentials for {host} cannot be read: {error}") from None
    # Keys from a credential store are capitalized, keys in the file itself are not.
    return {key[:1].upper() + key[1:]: value for key, value in (found or {}).items() if value}


def _basic(credentials: Mapping[str, str]) -> str:
    if "Username" not in credentials or "Password" not in credentials:
        return ""
    pair = f"{credentials['Username']}:{credentials['Password']}"
    return f"Basic {base64.b64encode(pair.encode()).decode()}"


def _is_loopback(host: str) -> bool:
    name = urlsplit(f"//{host}").hostname or ""
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost"
