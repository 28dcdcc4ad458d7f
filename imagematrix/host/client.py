"""docker-py's client, which verifies the engine's certificate by the engine's own CA alone.

Importing docker-py takes as long as the rest of a plan, so this is imported where it is needed.
"""

import contextlib
import ssl
from collections.abc import MutableMapping
from typing import Any

import docker
from docker.tls import TLSConfig
from requests.adapters import BaseAdapter, HTTPAdapter
from urllib3.util import create_urllib3_context

from imagematrix.host.endpoint import Endpoint


class _Adapter(HTTPAdapter):
    """Accepts the certificates that the docker command accepts. From 3.13 on, Python's default is
    stricter, and rejects those that are made by Docker's manual."""

    def init_poolmanager(self, *given: Any, **named: Any) -> None:
        context = create_urllib3_context()
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        # urllib3 checks the name itself if certificates are verified.
        context.check_hostname = False
        super().init_poolmanager(*given, ssl_context=context, **named)


class _Api(docker.APIClient):
    def mount(self, prefix: str | bytes, adapter: BaseAdapter) -> None:
        """Replaces the adapter for https://, which requests mounts first."""
        super().mount(prefix, _Adapter() if prefix == "https://" else adapter)

    def merge_environment_settings(
        self,
        url: str | bytes | None,
        proxies: MutableMapping[str, str] | None,
        stream: bool | None,
        verify: bool | str | None,
        cert: str | tuple[str, str] | None,
    ) -> Any:
        """As in requests, without REQUESTS_CA_BUNDLE, which is meant for indexes:
        https://github.com/psf/requests/issues/3829"""
        own = self.verify if verify is None else verify
        return super().merge_environment_settings(url, proxies, stream, own, cert)


class _Client(docker.DockerClient):
    def __init__(self, **given: Any) -> None:
        self.api = _Api(**given)


def _let_ssh_end_first() -> None:
    """docker-py closes the ssh of a connection by writing to it, which fails if it has ended, as it
    has after each `exec`. (docker/transport/sshconn.py of docker-py 7.2)"""
    from docker.transport.sshconn import SSHSocket

    close = SSHSocket.close

    def close_if_open(self: SSHSocket) -> None:
        with contextlib.suppress(BrokenPipeError):
            close(self)

    if close.__name__ != close_if_open.__name__:
        SSHSocket.close = close_if_open  # type: ignore[method-assign]  # There is no other way in.


def client_of(endpoint: Endpoint, seconds: int) -> docker.DockerClient:
    """A client with a timeout of `seconds`; the caller closes it."""
    tls: TLSConfig | bool = False
    if given := endpoint.tls:
        pair = (str(given.certificate), str(given.key))
        tls = TLSConfig(
            client_cert=pair if given.certificate and given.key else None,
            ca_cert=str(given.ca) if given.ca else None,
            verify=given.verify,
        )
    if endpoint.host.startswith("ssh://"):
        _let_ssh_end_first()
    return _Client(base_url=endpoint.host, timeout=seconds, tls=tls, use_ssh_client=True)
