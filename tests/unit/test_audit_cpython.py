"""The newest patch of CPython: from its releases and its base images, on loopback."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from imagematrix.audit.cpython import PythonReleases
from imagematrix.audit.download import Downloads
from imagematrix.audit.findings import Finding, Status
from imagematrix.host.oci import OCI_MANIFEST, compact, digest_of
from imagematrix.host.registry import Registry
from tests.unit.archive import NOW, Site, serving
from tests.unit.helpers import host_config

BASE = "python:3.12-slim-trixie"
RELEASES = "/releases"
OLD, NEW = "3.12.7", "3.12.9"


@pytest.fixture
def site() -> Iterator[Site]:
    with serving() as site:
        yield site


def finding(site: Site, tmp_path: Path, installed: str = OLD) -> Finding | None:
    downloads = Downloads(tmp_path, host_config())
    hub = Registry(site.url.removeprefix("http://"), None)
    return PythonReleases(downloads, hub, NOW, f"{site.url}{RELEASES}").finding(installed, BASE)


def release(site: Site, **hours: float) -> None:
    """Releases of that age: `v3_12_8=50`."""
    site.put(
        RELEASES,
        [
            {
                "name": f"Python {name.removeprefix('v').replace('_', '.')}",
                "release_date": (NOW - timedelta(hours=age)).strftime("%Y-%m-%dT%H:%M:%SZ"),
            }
            for name, age in {**hours, "v3_13_9": 1, "v3_12_7": 9000}.items()
        ],
    )


def base(site: Site, variables: Any) -> None:
    config = compact({"config": {"Env": variables}})
    site.answers[f"/v2/python/blobs/{digest_of(config)}"] = config
    manifest = {"mediaType": OCI_MANIFEST, "config": {"digest": digest_of(config)}}
    site.answers["/v2/python/manifests/3.12-slim-trixie"] = compact(manifest)


def test_newest_patch_has_no_finding(site: Site, tmp_path: Path) -> None:
    """The base image is not asked then."""
    release(site)

    assert finding(site, tmp_path) is None
    assert site.asked == {RELEASES: 1}


def test_newer_patch_is_pending_since_the_first_one(site: Site, tmp_path: Path) -> None:
    release(site, v3_12_9=5, v3_12_8=50)
    base(site, ["PATH=/", f"PYTHON_VERSION={NEW}"])

    found = finding(site, tmp_path)

    assert found is not None
    assert (found.status, found.fixed, found.hours) == (Status.PENDING, NEW, 50)
    assert found.rebuilt


def test_patch_that_no_base_image_has_needs_no_rebuild_yet(site: Site, tmp_path: Path) -> None:
    release(site, v3_12_9=5)
    base(site, [f"PYTHON_VERSION={OLD}"])

    found = finding(site, tmp_path)

    assert found is not None
    assert found.status is Status.PENDING
    assert not found.rebuilt


@pytest.mark.parametrize(
    "answer", [404, 500, b"<html></html>", b"[]", b"{}", b'[{"name": 1}]', b'[{"name": "x"}]']
)
def test_base_image_is_enough(answer: int | bytes, site: Site, tmp_path: Path) -> None:
    """Without the dates of releases, the age is not known, which is an error."""
    site.answers[RELEASES] = answer
    base(site, [f"PYTHON_VERSION={NEW}"])

    assert finding(site, tmp_path, NEW) is None
    found = finding(site, tmp_path)
    assert found is not None
    assert (found.fixed, found.hours, found.rebuilt) == (NEW, None, True)
    assert found.overdue


@pytest.mark.parametrize("variables", [None, [], ["PYTHON_VERSION=new"], "text", [1]])
def test_what_nobody_says_is_not_audited(variables: Any, site: Site, tmp_path: Path) -> None:
    if variables is not None:
        base(site, variables)

    found = finding(site, tmp_path)

    assert found is not None
    assert found.status is Status.NOT_AUDITED
    assert found.failed


@pytest.mark.parametrize("installed", ["", "three"])
def test_image_without_its_version_is_not_audited(
    installed: str, site: Site, tmp_path: Path
) -> None:
    release(site)

    found = finding(site, tmp_path, installed)

    assert found is not None
    assert found.status is Status.NOT_AUDITED
