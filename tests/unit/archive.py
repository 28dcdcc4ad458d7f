"""What audits ask, on loopback: a web site of fixed answers, and an archive of Debian packages."""

import gzip
import hashlib
import io
import json
import lzma
import shutil
import subprocess
import tarfile
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
_INDEX = "main/binary-amd64/Packages.xz"


@dataclass
class Site:
    """Answers by path: a status, or a content. `asked` counts the requests."""

    url: str = ""
    answers: dict[str, int | bytes] = field(default_factory=dict)
    asked: Counter[str] = field(default_factory=Counter)

    def put(self, path: str, document: Any) -> None:
        """Answers with JSON."""
        self.answers[path] = json.dumps(document).encode()


@contextmanager
def serving() -> Iterator[Site]:
    """A site on loopback."""
    site = Site()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Nothing."""

        def do_GET(self) -> None:
            site.asked[self.path] += 1
            found = site.answers.get(self.path, 404)
            body = found if isinstance(found, bytes) else b""
            self.send_response(200 if isinstance(found, bytes) else found)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    site.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield site
    finally:
        server.shutdown()
        server.server_close()


def entry(source: str, version: str, day: datetime, text: str, urgency: str = "medium") -> str:
    """An entry of a changelog."""
    return (
        f"{source} ({version}) trixie; urgency={urgency}\n\n  * {text}\n\n"
        f" -- A Maintainer <a@example.org>  {format_datetime(day)}\n\n"
    )


def deb(name: str, changelog: str = "", link: str = "") -> bytes:
    """A package with a changelog, or with documentation that is a link."""
    files = io.BytesIO()
    with tarfile.open(fileobj=files, mode="w:xz") as tar:
        folders = ["./usr", "./usr/share", "./usr/share/doc"]
        for folder in [*folders, *([] if link else [f"./usr/share/doc/{name}"])]:
            info = tarfile.TarInfo(folder)
            info.type = tarfile.DIRTYPE
            tar.addfile(info)
        if link:
            info = tarfile.TarInfo(f"./usr/share/doc/{name}")
            info.type, info.linkname = tarfile.SYMTYPE, link
            tar.addfile(info)
        if changelog:
            data = gzip.compress(changelog.encode())
            info = tarfile.TarInfo(f"./usr/share/doc/{name}/changelog.Debian.gz")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    control = io.BytesIO()
    with tarfile.open(fileobj=control, mode="w:xz") as tar:
        data = f"Package: {name}\n".encode()
        info = tarfile.TarInfo("./control")
        info.size = len(data)
        tar.addfile(info, io.BytesIO(data))
    members = {
        "debian-binary": b"2.0\n",
        "control.tar.xz": control.getvalue(),
        "data.tar.xz": files.getvalue(),
    }
    content = b"!<arch>\n"
    for member, data in members.items():
        content += f"{member:<16}{0:<12}{0:<6}{0:<6}{0o644:<8o}{len(data):<10}`\n".encode()
        content += data + b"\n" * (len(data) % 2)
    return content


@dataclass
class DebianArchive:
    """An archive and its security archive at a site, signed with a key of its own."""

    site: Site
    home: Path
    stanzas: dict[str, str] = field(default_factory=dict)

    @property
    def keyring(self) -> Path:
        """The keyring with its key."""
        return self.home / "keyring.gpg"

    def make_key(self) -> None:
        """Makes the key; skips the test where there is no GnuPG."""
        if shutil.which("gpg") is None or shutil.which("gpgv") is None:
            pytest.skip("GnuPG is not installed, with which the archive is signed")
        self.home.mkdir(mode=0o700, exist_ok=True)
        self._gpg("--passphrase", "", "--quick-gen-key", "archive@example.org", "ed25519")
        self._gpg("--output", str(self.keyring), "--export")

    def _gpg(self, *arguments: str, given: bytes = b"") -> bytes:
        command = ["gpg", "--homedir", str(self.home), "--batch", "--quiet", *arguments]
        return subprocess.run(command, input=given, capture_output=True, check=True).stdout

    def add(self, suite: str, name: str, version: str, package: bytes, source: str = "") -> str:
        """Adds a package to the index of a suite; returns its path."""
        path = f"/{self._mirror(suite)}/pool/{name}_{version.rpartition(':')[2]}_amd64.deb"
        self.site.answers[path] = package
        own = f"Source: {source}\n" if source else ""
        self.stanzas[suite] = self.stanzas.get(suite, "") + (
            f"Package: {name}\n{own}Version: {version}\nArchitecture: amd64\n"
            f"Filename: {path.split('/', 2)[2]}\n"
            f"SHA256: {hashlib.sha256(package).hexdigest()}\n\n"
        )
        return path

    def publish(
        self, suite: str, *, codename: str = "", until: datetime | None = NOW + timedelta(days=7)
    ) -> None:
        """Writes the index of a suite and signs it."""
        packed = lzma.compress(self.stanzas.get(suite, "").encode())
        sha256 = hashlib.sha256(packed).hexdigest()
        folder = f"/{self._mirror(suite)}/dists/{suite}"
        by_hash = f"{_INDEX.rpartition('/')[0]}/by-hash/SHA256/{sha256}"
        self.site.answers[f"{folder}/{by_hash}"] = packed
        valid = f"Valid-Until: {_utc(until)}\n" if until else ""
        text = (
            f"Codename: {codename or suite}\nDate: {_utc(NOW - timedelta(days=1))}\n{valid}"
            f"Acquire-By-Hash: yes\nSHA256:\n {sha256} {len(packed)} {_INDEX}\n"
        )
        signed = self._gpg("--clearsign", given=text.encode())
        self.site.answers[f"{folder}/InRelease"] = signed

    def publish_all(self, suite: str = "trixie") -> None:
        """Writes the indexes that an audit of a release reads."""
        for name in (suite, f"{suite}-updates", f"{suite}-security"):
            self.publish(name)

    def _mirror(self, suite: str) -> str:
        return "debian-security" if suite.endswith("-security") else "debian"


def _utc(date: datetime) -> str:
    return date.strftime("%a, %d %b %Y %H:%M:%S UTC")
