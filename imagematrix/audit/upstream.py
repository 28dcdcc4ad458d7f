"""The newest releases of frameworks, from the index of their packages.

https://docs.pypi.org/api/json/#get-a-project
"""

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor

from packaging.requirements import Requirement
from packaging.version import InvalidVersion, Version

from imagematrix.audit.download import CONNECTIONS, Downloads
from imagematrix.console import say
from imagematrix.errors import WorkError
from imagematrix.matrix.schema import Track
from imagematrix.matrix.variant import Variant


def framework_packages(variants: Iterable[Variant]) -> dict[str, str]:
    """The package of each framework with a current image: the one whose pin has its version."""
    packages: dict[str, str] = {}
    for variant in variants:
        if variant.version is None or variant.track is not Track.CURRENT:
            continue
        for requirement in map(Requirement, variant.pins):
            pinned = [one.version for one in requirement.specifier if one.operator == "=="]
            if any(f"{version}.".startswith(f"{variant.version}.") for version in pinned):
                packages.setdefault(variant.framework, requirement.name)
                break
    return packages


def newest_releases(
    packages: Mapping[str, str], index_url: str, downloads: Downloads
) -> dict[str, str]:
    """The newest release of each of these packages, by framework; pre-releases do not count.

    One that cannot be asked is left out, with a message.
    """
    url = f"{index_url.rstrip('/').removesuffix('/simple')}/pypi"

    def newest(framework: str) -> str:
        try:
            page = downloads.json(f"{url}/{packages[framework]}/json")
            if page is None:
                raise WorkError("there is no page about it")
            version = str(page["info"]["version"])
            return "" if Version(version).is_prerelease else version
        except (InvalidVersion, KeyError, TypeError):
            why = "its page has another form"
        except WorkError as error:
            why = str(error)
        say(f"The newest release of {packages[framework]} is not known: {why}.")
        return ""

    with ThreadPoolExecutor(CONNECTIONS) as threads:
        found = dict(zip(packages, threads.map(newest, packages), strict=True))
    return {framework: version for framework, version in found.items() if version}
