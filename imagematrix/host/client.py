"""docker-py's client, which holds the engine's certificate against the engine's authority alone.

Importing docker-py takes as long as all the rest of a plan: only what needs it imports this.
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
    """Takes the certificates that the docker command takes. From 3.13 on, Python by itself wants
    more of them than those have that are made as Docker's manual says."""

    def init_poolmanager(self, *given: Any, **named: Any) -> None:
        context = create_urllib3_context()
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        # urllib3 compares the name itself, where certificates are looked at.
        context.check_hostname = False
        super().init_poolmanager(*given, ssl_context=context, **named)


class _Api(docker.APIClient):
    def mount(self, prefix: str | bytes, adapter: BaseAdapter) -> None:
        """What the session of requests does for https:// before it asks anything."""
        super().mount(prefix, _Adapter() if prefix == "https://" else adapter)

    def merge_environment_settings(
        self,
        url: str | bytes | None,
        proxies: MutableMapping[str, str] | None,
        stream: bool | None,
        verify: bool | str | None,
        cert: str | tuple[str, str] | None,
    ) -> Any:
        """As requests has it, but REQUESTS_CA_BUNDLE, which is for indexes, says nothing here:
        https://github.com/psf/requests/issues/3829"""
        own = self.verify if verify is None else verify
        return super().merge_environment_settings(url, proxies, stream, own, cert)


class _Client(docker.DockerClient):
    def __init__(self, **given: Any) -> None:
        self.api = _Api(**given)


def _let_ssh_end_first() -> None:
    """docker-py closes the ssh of a connection by writing to it, and fails where it has ended: so
    after each `exec`. (docker/transport/sshconn.py of docker-py 7.2)"""
    from docker.transport.sshconn import SSHSocket

    close = SSHSocket.close

    def close_if_open(self: SSHSocket) -> None:
        with contextlib.suppress(BrokenPipeError):
            close(self)

    if close.__name__ != close_if_open.__name__:
        SSHSocket.close = close_if_open  # type: ignore[method-assign]  # There is no other way in.


def client_of(endpoint: Endpoint, seconds: int) -> docker.DockerClient:
    """A client that waits so long for an answer; the caller closes it."""
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
