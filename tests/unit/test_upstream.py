"""The newest releases of frameworks, from an index on loopback."""

from pathlib import Path

import pytest

from imagematrix.audit.download import Downloads
from imagematrix.audit.upstream import framework_packages, newest_releases
from imagematrix.matrix.schema import MINIMAL, Track
from imagematrix.repository.project import Project
from tests.unit.archive import serving
from tests.unit.helpers import REPOSITORY, host_config


def test_every_framework_has_a_package() -> None:
    variants = Project(REPOSITORY).variants
    frameworks = {v.framework for v in variants if v.track is Track.CURRENT} - {MINIMAL}

    packages = framework_packages(variants)

    assert packages.keys() == frameworks
    assert packages["pytorch"] == "torch"
    assert packages["xgboost"] == "xgboost-cpu"


def test_newest_release_is_that_of_the_index_or_not_known(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving() as site:
        site.put("/pypi/torch/json", {"info": {"version": "2.14.0"}})
        site.put("/pypi/next/json", {"info": {"version": "3.0rc1"}})
        site.put("/pypi/strange/json", {"info": {}})
        packages = {"pytorch": "torch", "n": "next", "s": "strange", "m": "missing"}

        found = newest_releases(packages, f"{site.url}/simple", Downloads(tmp_path, host_config()))

    assert found == {"pytorch": "2.14.0"}
    said = capsys.readouterr().err
    assert "The newest release of strange is not known: its page has another form." in said
    assert "The newest release of missing is not known: there is no page about it." in said
    assert "next" not in said
