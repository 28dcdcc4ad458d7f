"""The parts of an image, as both formats of its SBOM list them."""

import posixpath
from collections.abc import Iterable
from dataclasses import dataclass
from uuid import NAMESPACE_URL, UUID, uuid5

from packageurl import PackageURL

from imagematrix.matrix.lockfile import Lock
from imagematrix.matrix.platforms import PLATFORM
from imagematrix.release.contents import Bundled, DebianPackage, Distribution, ImageContents

# Licences of what has no metadata of its own.
_PYTHON_LICENCE = "Python-2.0"
_SERVER_LICENCE = "MIT"
SERVER = "inference-server"


@dataclass(frozen=True)
class Component:
    """A part of an image, and the parts that it bundles.

    `purl` is empty for a file. `licences` are the names that the part itself gives. `sha256` is the
    hash of the file that it was installed from, empty where the lock admits several. `version` is
    empty where it is not known.
    """

    name: str
    version: str
    purl: str
    licences: tuple[str, ...] = ()
    sha256: str = ""
    parts: tuple["Component", ...] = ()

    @property
    def is_file(self) -> bool:
        """Whether it is a file, of which nothing more is known."""
        return not self.purl


def components_of(contents: ImageContents, lock: Lock) -> tuple[Component, ...]:
    """The parts of an image. `lock` is what its Python packages were installed from."""
    own = [
        Component(
            "cpython",
            contents.python,
            _purl("generic", "", "cpython", contents.python),
            (_PYTHON_LICENCE,),
        ),
        Component(
            SERVER,
            contents.server,
            _purl("generic", "", SERVER, contents.server),
            (_SERVER_LICENCE,),
            parts=_bundled(contents.server_bundled),
        ),
    ]
    debian = [_debian(package, contents.suite) for package in contents.debian]
    return (*own, *debian, *(_python(package, lock) for package in contents.distributions))


def _debian(package: DebianPackage, suite: str) -> Component:
    qualifiers = {"arch": package.architecture, "distro": suite}
    if (package.source, package.source_version) != (package.name, package.version):
        qualifiers["upstream"] = f"{package.source}@{package.source_version}"
    purl = _purl("deb", "debian", package.name, package.version, qualifiers)
    return Component(package.name, package.version, purl, package.licences)


def _python(package: Distribution, lock: Lock) -> Component:
    locked = lock.get(package.name)
    hashes = locked.sha256 if locked and str(locked.version) == package.version else frozenset()
    libraries = (Component(posixpath.basename(path), "", "") for path in package.libraries)
    return Component(
        package.name,
        package.version,
        python_purl(package.name, package.version),
        package.licences,
        next(iter(hashes)) if len(hashes) == 1 else "",
        (*_bundled(package.bundled), *libraries),
    )


def _bundled(parts: Iterable[Bundled]) -> tuple[Component, ...]:
    return tuple(Component(*part) for part in parts)


def python_purl(name: str, version: str) -> str:
    """The package URL of a Python package, by its normalized name."""
    return _purl("pypi", "", name, version)


def debian_purl(package: DebianPackage, suite: str) -> str:
    """The package URL of a Debian package."""
    return _debian(package, suite).purl


def image_purl(name: str, digest: str) -> str:
    """The package URL of an image, whatever registry has it."""
    return _purl("oci", "", name, digest, {"arch": PLATFORM.rpartition("/")[2]})


def _purl(
    kind: str, namespace: str, name: str, version: str, more: dict[str, str] | None = None
) -> str:
    """https://github.com/package-url/purl-spec"""
    return PackageURL(kind, namespace or None, name, version, more or {}).to_string()


def document_id(name: str, digest: str) -> UUID:
    """The identity of an SBOM: the same for the same image."""
    return uuid5(NAMESPACE_URL, image_purl(name, digest))
