"""Requests to a registry: over TLS or not, with the credentials of `docker login`, tried again
where that helps."""

import base64
import ipaddress
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import cached_property, partial
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urljoin, urlsplit
from urllib.request import parse_http_list, parse_keqv_list

import docker.auth
import requests
import urllib3
from docker.errors import DockerException

from imagematrix.console import say
from imagematrix.errors import WorkError
from imagematrix.host.registry_errors import (
    PULL,
    Access,
    has_no_room,
    is_page,
    own_words,
    page,
    refused,
    unreachable,
)

# Bytes, a form, or what opens a file.
Body = bytes | Mapping[str, str] | Callable[[], BinaryIO]

# Waits of 0, 1, 2, 4, 8 and 16 seconds, or what the registry asks for. Where no connection can be
# made, that is seldom a matter of seconds.
_RETRY = urllib3.Retry(
    total=6,
    connect=3,
    allowed_methods=None,
    # docker-registry answers 500 where two publishers write a tag at the same time.
    status_forcelist=(429, 500, 502, 503, 504),
    backoff_factor=0.5,
    retry_after_max=120,
)
_DROPPED = (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError)
# For a connection, for an answer, and for one to a layer, which a registry copies or sends on.
_CONNECT_SECONDS, _SECONDS, _LAYER_SECONDS = 20, 60, 600
_PORTS = {"http": 80, "https": 443}
_HUB = "docker.io"
_HUBS = {_HUB, "index.docker.io", "registry-1.docker.io"}
_HUB_SERVER = "registry-1.docker.io"


class Connection:
    """The registry at `host`; `host` is as `docker login` knows it.

    Its methods raise WorkError where the registry cannot be reached or refuses.
    """

    def __init__(self, host: str, ca_bundle: Path | None) -> None:
        self.host = _HUB if host in _HUBS else host
        self._local = is_loopback(host)
        self._session = requests.Session()
        # Requests to loopback must not go through a proxy of the host.
        self._session.trust_env = not self._local
        # Given with each request: requests would prefer REQUESTS_CA_BUNDLE to that of the session.
        self._verify: str | bool = str(ca_bundle) if ca_bundle is not None else True
        self._authorization: dict[Access, str] = {}

    def access(self, repository: str, actions: str = PULL, mount_from: str = "") -> Access:
        """What requests are for; see there."""
        return Access(self._full(repository), actions, self._full(mount_from))

    def _full(self, repository: str) -> str:
        # On Docker Hub, a name of a single part is one in `library`.
        short = self.host == _HUB and repository and "/" not in repository
        return f"library/{repository}" if short else repository

    @cached_property
    def url(self) -> str:
        """The address below which everything is."""
        server = _HUB_SERVER if self.host == _HUB else self.host
        return f"{self._scheme(server) if self._local else 'https'}://{server}/v2/"

    def _scheme(self, server: str) -> str:
        """`https` if the registry on loopback talks TLS.

        Without TLS first: a server with TLS refuses that at once, while one without may wait for
        the end of a handshake.
        """
        for scheme in ("http", "https"):
            try:
                answer = self._once("GET", f"{scheme}://{server}/v2/", {}, "", None)
            except requests.exceptions.SSLError as error:
                # It talks TLS; that the certificate is not accepted is said later.
                return "https" if "CERTIFICATE_VERIFY" in str(error) else "http"
            except requests.RequestException:
                continue
            if answer.status_code != 400:
                return scheme
        return "http"

    def request(
        self,
        method: str,
        path: str,
        access: Access,
        headers: Mapping[str, str] | None = None,
        body: Body | None = None,
        expected: Collection[int] = (200,),
        params: Mapping[str, str] | None = None,
    ) -> requests.Response:
        """The answer to a request, of one of the `expected` statuses.

        `path` is below that of the repository, or as a header of an answer has it. A `body` to open
        is opened for each try.
        """
        return self.tried(
            lambda: self.send(method, path, access, headers, body, params), access, expected
        )

    def tried(
        self, send: Callable[[], requests.Response], access: Access, expected: Collection[int]
    ) -> requests.Response:
        """The answer that `send` gets, after several tries where that helps."""
        retry = _RETRY
        while True:
            try:
                answer = send()
            except _DROPPED as error:
                if isinstance(error, requests.exceptions.SSLError):
                    raise unreachable(error, self.host) from None
                try:
                    retry = retry.increment("", self.host, error=_cause(error))
                except urllib3.exceptions.MaxRetryError:
                    raise unreachable(error, self.host) from None
                say(f"The connection to the registry {self.host} failed; trying again.")
                retry.sleep()
                continue
            except requests.RequestException as error:
                raise unreachable(error, self.host) from None
            if answer.status_code in expected:
                return answer
            tries = len(retry.history) + 1
            if not retry.is_retry("", answer.status_code) or has_no_room(answer):
                raise self._refused(answer, access, tries)
            try:
                retry = retry.increment("", self.host, response=answer.raw)
            except urllib3.exceptions.MaxRetryError:
                raise self._refused(answer, access, tries) from None
            say(f"The registry {self.host} answers {answer.status_code}; trying again.")
            try:
                retry.sleep(answer.raw)
            except urllib3.exceptions.InvalidHeader:
                retry.sleep()

    def send(
        self,
        method: str,
        path: str,
        access: Access,
        headers: Mapping[str, str] | None = None,
        body: Body | None = None,
        params: Mapping[str, str] | None = None,
    ) -> requests.Response:
        """The answer to one request, with a token that is fetched where there is none or where it
        has expired. Raises requests.RequestException too."""
        url = urljoin(f"{self.url}{access.repository}/", path)
        headers = dict(headers or {})
        if _server(url) != _server(self.url):
            # Another server, to which the registry sent the upload, has no use for the password.
            return self._once(method, url, headers, "", body, params=params)
        known = self._authorization.get(access, "")
        answer = self._once(method, url, headers, known, body, params=params)
        if answer.status_code == 401:
            known = self._authorize(answer, access)
            self._authorization[access] = known
            answer = self._once(method, url, headers, known, body, params=params)
        return answer

    def _once(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        authorization: str,
        body: Body | None,
        **more: Any,
    ) -> requests.Response:
        given = {**headers, **({"Authorization": authorization} if authorization else {})}
        opened: AbstractContextManager[Any] = body() if callable(body) else nullcontext(body)
        with opened as content:
            return self._session.request(
                method,
                url,
                headers=given,
                data=content,
                timeout=(_CONNECT_SECONDS, _LAYER_SECONDS if callable(body) else _SECONDS),
                auth=_as_given,
                verify=self._verify,
                **more,
            )

    def _authorize(self, answer: requests.Response, access: Access) -> str:
        """The value of Authorization for the challenge of an answer; "" without credentials.

        https://distribution.github.io/distribution/spec/auth/token/
        """
        challenge = answer.headers.get("WWW-Authenticate", "")
        scheme, _, rest = challenge.partition(" ")
        basic = _basic(self._credentials)
        if scheme.lower() == "basic":
            return basic
        parameters = parse_keqv_list(parse_http_list(rest)) if rest else {}
        realm = parameters.get("realm")
        if scheme.lower() != "bearer" or not realm:
            raise WorkError(
                f"the registry {self.host} asks for {challenge or own_words(answer)} for"
                f" {access.repository}, which is no known way to log in"
            )
        service = {"service": parameters["service"]} if "service" in parameters else {}
        if identity := self._credentials.get("IdentityToken"):
            form = {**service, "grant_type": "refresh_token", "refresh_token": identity}
            form |= {"client_id": "imagematrix", "scope": " ".join(access.scopes)}
            send = partial(self._once, "POST", realm, {}, "", form)
        else:
            query = {**service, "scope": access.scopes}
            send = partial(self._once, "GET", realm, {}, basic, None, params=query)
        granted = self.tried(send, access, (200,))
        grant = self.document(granted, access.repository)
        return f"Bearer {grant.get('token') or grant.get('access_token')}"

    @cached_property
    def _credentials(self) -> Mapping[str, str]:
        try:
            found = docker.auth.load_config().resolve_authconfig(self.host)
        # A configuration of another form is not explained by docker-py.
        except (DockerException, AttributeError, TypeError, ValueError) as error:
            raise WorkError(
                f"the credentials of `docker login` for {self.host} cannot be read: {error}"
            ) from None
        # Keys from a credential store are capitalized, keys in the file itself are not.
        return {key[:1].upper() + key[1:]: value for key, value in (found or {}).items() if value}

    def _refused(self, answer: requests.Response, access: Access, tries: int) -> WorkError:
        return refused(answer, self.host, access, logged_in=bool(self._credentials), tries=tries)

    def document(self, answer: requests.Response, what: str) -> dict[str, Any]:
        """The JSON object that an answer is."""
        if is_page(answer):
            raise page(self.host, what, answer)
        data = None
        with suppress(ValueError):
            data = answer.json()
        if not isinstance(data, dict):
            raise self.strange(what, "it answers with something that is no JSON object")
        return data

    def strange(self, what: str, why: str) -> WorkError:
        """The error for an answer that makes no sense."""
        return WorkError(f"the registry {self.host} has no usable image {what}: {why}")


def _cause(error: requests.RequestException) -> Exception:
    """The error of urllib3 in one of requests."""
    inner = error.args[0] if error.args else error
    if isinstance(inner, urllib3.exceptions.MaxRetryError) and inner.reason is not None:
        return inner.reason
    return inner if isinstance(inner, Exception) else error


def _server(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or _PORTS.get(parts.scheme)


def _as_given(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Keeps Authorization as it is; requests would set it from ~/.netrc."""
    return request


def _basic(credentials: Mapping[str, str]) -> str:
    if "Username" not in credentials or "Password" not in credentials:
        return ""
    pair = f"{credentials['Username']}:{credentials['Password']}"
    return f"Basic {base64.b64encode(pair.encode()).decode()}"


def is_loopback(host: str) -> bool:
    """Whether `host` (or `host:port`) is this machine."""
    name = urlsplit(f"//{host}").hostname or ""
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost"
