"""What a build is given: settings of the host as secrets, wheels as folders of its own."""

import tomllib
from pathlib import Path
from typing import Any

import pytest

from imagematrix.build.inputs import build_environment, uv_config
from imagematrix.host.bases import Bases, BaseSource
from imagematrix.host.buildx import Builder
from imagematrix.host.config import HostConfig
from imagematrix.host.debian import DebianMirrors, debian_sources
from imagematrix.host.endpoint import Endpoint
from imagematrix.host.engine import Engine
from imagematrix.host.supply import Supply
from imagematrix.matrix.variant import Index
from imagematrix.plan.bake import BuildEnvironment
from tests.unit.helpers import MINIMAL, PYTORCH, XGBOOST, Repository, host_config

EXTRA = Index("extra", "https://wheels.example/cpu", ("torch",))
MIRROR = host_config(
    ca_bundle=Path("/etc/ca.crt"),
    index_url="https://user:wo%20rd@mirror.example/simple",
    extra_index_urls=("https://a.example",),
    find_links=("https://links.example",),
    trusted_hosts=("a.example",),
    proxies=("https_proxy",),
)
BASES = Bases(BaseSource.BOOTSTRAP, {"debian:trixie-slim": "bootstrap/debian:trixie-slim"}, {})


def given(
    repository: Repository,
    host: HostConfig,
    supplies: dict[str, Supply],
    mirrors: DebianMirrors | None = None,
) -> tuple[BuildEnvironment, dict[str, str]]:
    engine = Engine(Endpoint("unix:///nowhere"), "28.5", True, None)
    variants = [repository.variant(name) for name in supplies]
    mirrors = mirrors or DebianMirrors()
    return build_environment(
        repository.root, engine, Builder(), BASES, host, mirrors, variants, supplies
    )


def secrets_of(options: tuple[str, ...], variables: dict[str, str]) -> dict[str, str]:
    """The content of each secret that stands in a variable, by its id."""
    pairs = [dict(part.split("=", 1) for part in option.split(",")) for option in options]
    return {pair["id"]: variables[pair["env"]] for pair in pairs if "env" in pair}


@pytest.mark.parametrize(
    ("host", "supply", "settings"),
    [
        (host_config(), Supply(), {}),
        (host_config(), Supply(index=EXTRA), {"extra-index-url": ["https://wheels.example/cpu"]}),
        (host_config(), Supply((Path("/w/x.whl"),)), {"find-links": ["/wheels"]}),
        (
            MIRROR,
            Supply((Path("/w/x.whl"),), EXTRA),
            {
                "index-url": "https://user:wo%20rd@mirror.example/simple",
                "extra-index-url": ["https://a.example", "https://wheels.example/cpu"],
                "find-links": ["https://links.example", "/wheels"],
            },
        ),
    ],
)
def test_uv_is_configured_with_what_the_host_and_the_image_need(
    host: HostConfig, supply: Supply, settings: dict[str, Any]
) -> None:
    config = tomllib.loads(uv_config(host, supply))

    assert config["pip"] == {"index-strategy": "unsafe-best-match", **settings}
    assert config.get("allow-insecure-host", []) == list(host.trusted_hosts)


def test_quote_in_an_address_breaks_nothing() -> None:
    host = host_config(index_url='https://a.example/"\\x"')

    assert tomllib.loads(uv_config(host, Supply()))["pip"]["index-url"] == 'https://a.example/"\\x"'


def test_secrets_of_a_host_are_in_variables_and_in_no_file(
    repository: Repository, tmp_path: Path
) -> None:
    before = repository.files()
    supplies = {MINIMAL: Supply(), XGBOOST: Supply(), PYTORCH: Supply(index=EXTRA)}

    environment, variables = given(repository, MIRROR, supplies)

    assert environment.base_sources == BASES.images
    assert environment.uncompressed
    assert environment.proxies == ("https_proxy",)
    assert environment.secrets[0] == "id=ca-bundle,src=/etc/ca.crt"
    assert secrets_of(environment.secrets, variables) == {
        "pip-config": "[global]\nindex-url = https://user:wo%20rd@mirror.example/simple\n"
        "extra-index-url = https://a.example\ntrusted-host = a.example\n"
    }
    for name, supply in supplies.items():
        assert secrets_of(environment.image_secrets[name], variables) == {
            "uv-config": uv_config(MIRROR, supply)
        }
    assert "mirror.example" not in repr(environment)
    assert repository.files() == before


def test_mirrors_of_debian_are_passed_where_they_are_not_the_official_ones(
    repository: Repository,
) -> None:
    mirrors = DebianMirrors(main="https://debian.example/debian")

    environment, variables = given(repository, host_config(), {XGBOOST: Supply()}, mirrors)

    assert secrets_of(environment.secrets, variables).keys() == {"apt-config"}
    secrets = secrets_of(environment.suite_secrets["trixie"], variables)
    assert secrets["apt-sources"] == debian_sources("trixie", mirrors)


def test_image_is_given_its_own_wheels_and_no_older_ones(
    repository: Repository, tmp_path: Path
) -> None:
    wheel = tmp_path / "torch-2.0-py3-none-any.whl"
    wheel.write_bytes(b"a wheel")
    repository.put(f"build/wheels/{PYTORCH}/old.whl", "of an earlier build")

    environment, _ = given(
        repository, host_config(), {XGBOOST: Supply(), PYTORCH: Supply((wheel,))}
    )

    assert environment.wheel_folders == {PYTORCH: f"build/wheels/{PYTORCH}"}
    written = [path for path in (repository.root / "build").rglob("*") if path.is_file()]
    assert [(path.name, path.read_bytes()) for path in written] == [(wheel.name, b"a wheel")]


def test_host_without_settings_gives_builds_none(repository: Repository) -> None:
    environment, variables = given(repository, host_config(), {})

    assert (environment.secrets, environment.image_secrets, variables) == ((), {}, {})
