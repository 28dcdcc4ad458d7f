"""What changed between two publications, and how that is written."""

import pytest

from imagematrix.release.changelog import changes, markdown, rows, summary
from imagematrix.release.statement import Change
from tests.unit.statements import STATEMENT, statement

NEW = statement(
    packages={"numpy": "2.5.5", "scipy": "1.18.0", "xgboost-cpu": None, "tzdata": "2026.3"},
    debian={"libssl3t64": "3.5.4-1", "openssl": "3.5.4-1", "zlib1g": None},
    python="3.12.14",
    base=f"minimal-py312-inference@sha256:{'e' * 64}",
    uncompressed=312_900_000,
    compressed=81_250_000,
)
FIXED = {
    "openssl": ["CVE-2026-9230", "CVE-2026-0001"],
    "libssl3t64": ("CVE-2026-9230", "CVE-2026-9230"),
    "zlib1g": ["CVE-2026-7777"],
    "absent": ["CVE-2026-8888"],
}
TRACKER = "https://security-tracker.debian.org/tracker"


@pytest.fixture(scope="module")
def found() -> tuple[Change, ...]:
    return changes(STATEMENT, NEW, FIXED)


def test_every_change_is_listed_once(found: tuple[Change, ...]) -> None:
    assert found == (
        Change("cve", "CVE-2026-0001", "", "openssl 3.5.4-1"),
        Change("cve", "CVE-2026-9230", "", "libssl3t64 3.5.4-1, openssl 3.5.4-1"),
        Change("python", "CPython", "3.12.13", "3.12.14"),
        Change("pypi", "numpy", "2.5.4", "2.5.5"),
        Change("pypi", "scipy", "1.19.0", "1.18.0"),
        Change("pypi", "tzdata", "", "2026.3"),
        Change("pypi", "xgboost-cpu", "3.4.1", ""),
        Change("deb", "libssl3t64", "3.5.1-1", "3.5.4-1"),
        Change("deb", "openssl", "3.5.1-1", "3.5.4-1"),
        Change("deb", "zlib1g", "1:1.3.1-1", ""),
        Change("base", "minimal-py312-inference", f"sha256:{'d' * 64}", f"sha256:{'e' * 64}"),
        Change("size", "compressed", "80000000", "81250000"),
        Change("size", "uncompressed", "313000000", "312900000"),
    )


def test_nothing_changed() -> None:
    assert changes(STATEMENT, statement(), FIXED) == ()
    assert markdown(()) == "The packages are those of the tag before.\n"
    assert summary(()) == "no package changed"
    assert rows(()) == ()


def test_another_base_image_is_named_with_both() -> None:
    new = statement(base="debian:forky-slim@sha256:1")
    assert changes(STATEMENT, new) == (
        Change("base", "debian:forky-slim", STATEMENT.base, new.base),
    )


def test_notes_of_a_release(found: tuple[Change, ...]) -> None:
    assert (
        markdown(found)
        == f"""\
### Security fixes

- [CVE-2026-0001]({TRACKER}/CVE-2026-0001) in `openssl 3.5.4-1`
- [CVE-2026-9230]({TRACKER}/CVE-2026-9230) in `libssl3t64 3.5.4-1`, `openssl 3.5.4-1`

### Python

- `CPython` `3.12.13` → `3.12.14`

### Python packages

- `numpy` `2.5.4` → `2.5.5`
- `scipy` `1.19.0` → `1.18.0` (an older version)
- `tzdata` `2026.3` is new
- `xgboost-cpu` `3.4.1` is gone

### Debian packages

- `libssl3t64` `3.5.1-1` → `3.5.4-1`
- `openssl` `3.5.1-1` → `3.5.4-1`
- `zlib1g` `1:1.3.1-1` is gone

### Base image

- `minimal-py312-inference` `sha256:dddddddddddd` → `sha256:eeeeeeeeeeee`

### Size

- compressed 80.0 MB → 81.2 MB (+1.2 MB)
- uncompressed 313.0 MB → 312.9 MB (-0.1 MB)
"""
    )
    assert markdown(found, level=2).startswith("## Security fixes")


def test_changes_in_a_terminal(found: tuple[Change, ...]) -> None:
    assert rows(found)[:4] == (
        ("Security fixes", "CVE-2026-0001 (openssl 3.5.4-1)"),
        ("Security fixes", "CVE-2026-9230 (libssl3t64 3.5.4-1, openssl 3.5.4-1)"),
        ("Python", "CPython 3.12.13 → 3.12.14"),
        ("Python packages", "numpy 2.5.4 → 2.5.5"),
    )
    assert len(rows(found)) == len(found)
    assert summary(found) == (
        "2 security fixes, 4 Python packages, 3 Debian packages, CPython 3.12.13 → 3.12.14,"
        " another base image"
    )
    assert summary(found[:1]) == "1 security fix"
