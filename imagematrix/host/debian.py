"""The distribution of this host, and its mirrors of Debian."""

import os
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from imagematrix.errors import WorkError

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"


@dataclass(frozen=True)
class DebianMirrors:
    """The URLs of Debian's main archive and of its security archive."""

    main: str = "http://deb.debian.org/debian"
    security: str = "http://deb.debian.org/debian-security"

    def are_custom(self) -> bool:
        """Whether these are not the official mirrors."""
        return self != DebianMirrors()


def os_release_ids(path: Path = Path("/etc/os-release")) -> set[str]:
    """The IDs of this host's distribution and of those that it is derived from."""
    fields = os_release(path)
    return {fields.get("ID", ""), *fields.get("ID_LIKE", "").split()} - {""}


def os_release(path: Path = Path("/etc/os-release")) -> dict[str, str]:
    """The fields of os-release, unquoted; none where there is no such file.

    https://www.freedesktop.org/software/systemd/man/os-release.html
    """
    if not path.is_file():
        return {}
    text = path.read_text(encoding="utf-8", errors="replace")
    pairs = (line.split("=", 1) for line in text.splitlines() if "=" in line)
    return {key.strip(): value.strip().strip("\"'") for key, value in pairs}


def apt_get(*arguments: str, folder: Path | None = None) -> None:
    """Runs apt-get non-interactively, in `folder` or the current one.

    Raises WorkError, with the end of its output, if it fails.
    """
    _run("apt-get", "--quiet", "--yes", *arguments, folder=folder)


def unpack_package(package: str, suite: str, folder: Path) -> None:
    """Unpacks a package of Debian's `suite` into `folder`, from this host's mirror.

    Nothing is installed, and apt's own lists and settings stay as they are. apt checks the package
    against the archive's signed index. The packages that it depends on are not unpacked. Raises
    WorkError where that fails.
    """
    with tempfile.TemporaryDirectory() as scratch:
        own = Path(scratch)
        for name in ("sources", "lists/partial", "cache/archives/partial", "package"):
            (own / name).mkdir(parents=True)
        (own / "status").touch()
        source = (
            f"Types: deb\nURIs: {debian_mirrors().main}\nSuites: {suite}\nComponents: main\n"
            f"Signed-By: {KEYRING}\n"
        )
        (own / "sources" / "debian.sources").write_text(source, encoding="utf-8")
        settings = {
            "Dir::Etc::SourceList": "/dev/null",
            "Dir::Etc::SourceParts": own / "sources",
            "Dir::Etc::Preferences": "/dev/null",
            "Dir::Etc::PreferencesParts": "/dev/null",
            "Dir::State::Lists": own / "lists",
            "Dir::State::Status": own / "status",
            "Dir::Cache": own / "cache",
            "Acquire::Languages": "none",
            # The user of apt's sandbox cannot write below a folder of this one.
            "APT::Sandbox::User": "root",
        }
        options = [f"--option={name}={value}" for name, value in settings.items()]
        apt_get(*options, "update")
        apt_get(*options, "download", package, folder=own / "package")
        (archive,) = (own / "package").glob("*.deb")
        _run("dpkg-deb", "--extract", str(archive), str(folder))


def _run(*command: str, folder: Path | None = None) -> None:
    environ = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    try:
        result = subprocess.run(
            command, env=environ, cwd=folder, capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        raise WorkError(f"{command[0]} is not on this host") from None
    if result.returncode != 0:
        last = "\n  ".join((result.stderr or result.stdout).strip().splitlines()[-5:])
        raise WorkError(f"{' '.join(command)} failed:\n  {last}")


def debian_mirrors() -> DebianMirrors:
    """The mirrors that apt uses on this host; the official ones if it is not Debian."""
    release = os_release()
    if release.get("ID") != "debian":
        return DebianMirrors()
    line = "$(ORIGIN)|$(CODENAME)|$(COMPONENT)|$(REPO_URI)"
    command = ["apt-get", "indextargets", "--format", line, "Created-By: Packages"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    return mirrors_among(result.stdout, release.get("VERSION_CODENAME", ""))


def mirrors_among(targets: str, codename: str) -> DebianMirrors:
    """The mirrors in apt's list of index targets, as lines of `origin|codename|component|url`."""
    official = DebianMirrors()
    rows = [row.split("|") for row in targets.splitlines()]
    debian = [row for row in rows if len(row) == 4 and row[0] == "Debian" and row[2] == "main"]
    urls = {row[1]: row[3].rstrip("/") for row in debian}
    return DebianMirrors(
        urls.get(codename, official.main), urls.get(f"{codename}-security", official.security)
    )


def debian_sources(suite: str, mirrors: DebianMirrors) -> str:
    """The /etc/apt/sources.list.d/debian.sources of debian:<suite>-slim, with these mirrors."""
    return (
        f"Types: deb\nURIs: {mirrors.main}\nSuites: {suite} {suite}-updates\nComponents: main\n"
        f"Signed-By: {KEYRING}\n\n"
        f"Types: deb\nURIs: {mirrors.security}\nSuites: {suite}-security\nComponents: main\n"
        f"Signed-By: {KEYRING}\n"
    )
