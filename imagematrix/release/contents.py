"""What is in an image: CPython, the server, packages of Debian and of Python."""

from dataclasses import dataclass

# Name, version and package URL of a part that another package bundles.
# https://github.com/package-url/purl-spec
Bundled = tuple[str, str, str]


@dataclass(frozen=True)
class DebianPackage:
    """An installed Debian package, as dpkg's status file has it; `licences` are those that its
    copyright file names."""

    name: str
    version: str
    architecture: str
    source: str
    source_version: str
    licences: tuple[str, ...] = ()


@dataclass(frozen=True)
class Distribution:
    """An installed Python package, with its normalized name.

    `libraries` are the files of shared libraries that its wheel bundles, `bundled` the name,
    version and package URL of what its own SBOMs (PEP 770) say that it contains, and of the Python
    packages inside of it.
    """

    name: str
    version: str
    licences: tuple[str, ...] = ()
    libraries: tuple[str, ...] = ()
    bundled: tuple[Bundled, ...] = ()


@dataclass(frozen=True)
class ImageContents:
    """The contents of an image. `python` is CPython's full version, `server` that of the scoring
    server, `suite` the Debian release, `server_bundled` what the server bundles."""

    python: str
    server: str
    suite: str
    debian: tuple[DebianPackage, ...]
    distributions: tuple[Distribution, ...]
    server_bundled: tuple[Bundled, ...] = ()

    @property
    def debian_versions(self) -> dict[str, str]:
        """The version of each Debian package."""
        return {package.name: package.version for package in self.debian}

    @property
    def python_versions(self) -> dict[str, str]:
        """The version of each Python package."""
        return {package.name: package.version for package in self.distributions}
