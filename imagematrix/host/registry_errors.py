"""What a registry refuses, and why it cannot be used, in words: the cause, and what to do next."""

import re
from dataclasses import dataclass
from http import HTTPStatus

import requests

from imagematrix.errors import WorkError

# Their texts for "no room left", and docker-registry's number for it: ENOSPC.
_NO_ROOM = re.compile(r'no space left|disk full|insufficient storage|quota|"Err": ?28\b', re.I)
_LONGEST = 400
PULL, PUSH, DELETE = "pull", "pull,push", "delete"


@dataclass(frozen=True)
class Access:
    """What requests are for: a repository, what is done there, and where layers may come from.

    `actions` are those of a token's scope, one of the three above.
    https://distribution.github.io/distribution/spec/auth/scope/
    """

    repository: str
    actions: str = PULL
    mount_from: str = ""

    @property
    def scopes(self) -> list[str]:
        """The scopes of a token."""
        mounted = [f"repository:{self.mount_from}:pull"] if self.mount_from else []
        return [f"repository:{self.repository}:{self.actions}", *mounted]

    @property
    def verb(self) -> str:
        """What is done, in messages."""
        return {PULL: "read", PUSH: "push to", DELETE: "delete from"}[self.actions]


def own_words(answer: requests.Response) -> str:
    """The registry's own message: that of the OCI error body, else the status alone.

    https://github.com/opencontainers/distribution-spec/blob/main/spec.md#error-codes
    """
    status = f"{answer.status_code} {answer.reason or ''}".strip()
    try:
        body = answer.json()
        # Servers of tokens have other forms.
        errors = body.get("errors") or [{"message": body.get("details") or body["message"]}]
        texts = [f"{error.get('code', '')}: {error.get('message', '')}" for error in errors]
        details = [error.get("detail") for error in errors]
    except (ValueError, LookupError, TypeError, AttributeError):
        return status
    texts = [
        f"{text.strip(': ')} ({detail})" if isinstance(detail, str) and detail else text.strip(": ")
        for text, detail in zip(texts, details, strict=True)
    ]
    said = "; ".join(text for text in texts if text)
    return (f"{status}, {said}" if said else status)[:_LONGEST]


def is_page(answer: requests.Response) -> bool:
    """Whether a web page answers, and no registry."""
    return answer.headers.get("Content-Type", "").lower().startswith("text/html")


def has_no_room(answer: requests.Response) -> bool:
    """Whether the registry's disk is full, or a quota is used up."""
    full = answer.status_code == HTTPStatus.INSUFFICIENT_STORAGE
    return full or _NO_ROOM.search(answer.text) is not None


def refused(
    answer: requests.Response, host: str, access: Access, *, logged_in: bool, tries: int
) -> WorkError:
    """The error for an answer that is not the expected one. `tries` is how often it was asked."""
    registry, what, said = f"the registry {host}", access.repository, own_words(answer)
    status, login = answer.status_code, f"`docker login {host}`"
    if is_page(answer):
        return page(host, what, answer)
    if status == HTTPStatus.UNAUTHORIZED and not logged_in:
        text = f"{registry} wants credentials to {access.verb} {what} ({said}): run {login}"
    elif status == HTTPStatus.FORBIDDEN or (
        status == HTTPStatus.UNAUTHORIZED and _lacks_rights(answer)
    ):
        text = f"{registry} does not allow to {access.verb} {what} ({said}): " + (
            f"the account of {login} needs the right to {access.verb} it; grant it, or log in again"
            if logged_in
            else f"run {login}"
        )
    elif status == HTTPStatus.UNAUTHORIZED:
        text = (
            f"{registry} does not accept the credentials of `docker login` for {what} ({said}):"
            f" run {login} again"
        )
    elif status == HTTPStatus.NOT_FOUND and access.actions != PULL:
        text = f"{registry} has no repository {what} ({said}): {_create(host, what)}"
    elif has_no_room(answer):
        text = (
            f"{registry} has no room for {what} ({said}): free some, or raise its quota, and run"
            " this again"
        )
    elif status == HTTPStatus.METHOD_NOT_ALLOWED and access.actions == DELETE:
        text = (
            f"{registry} does not delete from {what} ({said}): its operator has to allow that"
            " (REGISTRY_STORAGE_DELETE_ENABLED=true for docker-registry)"
        )
    elif status == HTTPStatus.TOO_MANY_REQUESTS:
        more = "" if logged_in else f"; accounts have a higher limit: {login}"
        text = (
            f"{registry} limits the number of requests for {what} ({said}, asked {tries} times):"
            f" run this again later{more}"
        )
    elif status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        asked = f", asked {tries} times" if tries > 1 else ""
        text = f"{registry} fails for {what} ({said}{asked}): run this again later"
    else:
        text = f"{registry} answers {said} for {what}"
    return WorkError(text)


def page(host: str, what: str, answer: requests.Response) -> WorkError:
    """The error for a web page in the place of an answer."""
    return WorkError(
        f"a web page answers at {answer.url} ({answer.status_code} {answer.reason}) and no"
        f" registry: is {host} the registry of {what}, or is there a proxy between?"
    )


def _lacks_rights(answer: requests.Response) -> bool:
    """Whether a token was accepted, and only lacks the right.

    https://www.rfc-editor.org/rfc/rfc6750#section-3.1
    """
    challenge = answer.headers.get("WWW-Authenticate", "")
    return "insufficient_scope" in challenge or "DENIED" in own_words(answer)


def _create(host: str, repository: str) -> str:
    if ".dkr.ecr." in host:
        return f"run `aws ecr create-repository --repository-name {repository}`"
    return "create it there, and run this again"


def unreachable(error: requests.RequestException, host: str) -> WorkError:
    """The error for a registry that does not answer, or not by HTTPS that can be verified."""
    text = str(error)
    if isinstance(error, requests.exceptions.SSLError):
        if "mismatch" in text or "doesn't match" in text:
            return WorkError(
                f"the certificate of the registry {host} is for another name: use the name in it"
            )
        if "CERTIFICATE_VERIFY_FAILED" in text:
            reason = re.search(r"certificate verify failed: ([^(\"']+)", text)
            return WorkError(
                f"the certificate of the registry {host} is not accepted"
                f" ({reason[1].strip() if reason else text}): add the certificate of its authority"
                " to this host's, or name a file that has it in SSL_CERT_FILE"
            )
        return WorkError(
            f"the registry {host} does not answer by HTTPS ({system_words(text)}): without TLS,"
            " registries are used on loopback only"
        )
    if isinstance(error, requests.exceptions.ProxyError):
        return WorkError(
            f"the registry {host} cannot be reached through the proxy ({system_words(text)}):"
            " check HTTPS_PROXY, or name the registry in NO_PROXY"
        )
    return WorkError(
        f"the registry {host} cannot be reached: {system_words(text)}; check its name and the"
        " network, and run this again"
    )


def system_words(text: str) -> str:
    """The system's message, which requests wraps in its own."""
    found = re.findall(r"\[Errno -?\d+\] ([^'\")\]]+)|\[SSL: (\w+)\]|(timed out)", text)
    if found:
        return "".join(found[-1]).replace("_", " ").lower()
    if "BadStatusLine" in text:
        return "it does not answer by HTTP"
    quoted = re.findall(r"'([^']+)'", text)
    return (quoted[-1] if quoted else text)[:_LONGEST]
