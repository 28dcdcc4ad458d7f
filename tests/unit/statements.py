"""A release statement to test with."""

from dataclasses import replace
from typing import Any

from imagematrix.release.statement import ReleaseStatement

STATEMENT = ReleaseStatement(
    name="xgboost3.4-py312-inference",
    tag="20261120.v1",
    digest=f"sha256:{'a' * 64}",
    previous="20261101.v2",
    published="2026-11-20T03:00:00Z",
    platform="linux/amd64",
    source="https://github.example/owner/images",
    commit="c" * 40,
    key="b" * 64,
    framework="xgboost",
    track="current",
    python="3.12.13",
    cuda="",
    supported_until="2027-10-31",
    base=f"minimal-py312-inference@sha256:{'d' * 64}",
    pins=("xgboost-cpu==3.4.1", "numpy>=2", "Tabulate_Lib==0.9"),
    packages={
        "numpy": "2.5.4",
        "xgboost-cpu": "3.4.1",
        "tabulate-lib": "0.9.3",
        "scipy": "1.19.0",
    },
    debian={"libssl3t64": "3.5.1-1", "openssl": "3.5.1-1", "zlib1g": "1:1.3.1-1"},
    uncompressed=313_000_000,
    compressed=80_000_000,
    suite="trixie",
)


def statement(
    packages: dict[str, str | None] | None = None,
    debian: dict[str, str | None] | None = None,
    **fields: Any,
) -> ReleaseStatement:
    """A later statement, with other versions of packages (None for one that is gone) and fields."""
    return replace(
        STATEMENT,
        **{
            "tag": "20261128.v1",
            "previous": STATEMENT.tag,
            "packages": _updated(STATEMENT.packages, packages),
            "debian": _updated(STATEMENT.debian, debian),
            **fields,
        },
    )


def _updated(versions: Any, changes: dict[str, str | None] | None) -> dict[str, str]:
    merged = {**versions, **(changes or {})}
    return {name: version for name, version in merged.items() if version is not None}
