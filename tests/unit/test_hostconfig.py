"""What a host says of indexes, wheels and certificates, in pip's files and variables."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from imagematrix.host.config import PYPI, HostConfig, read_host_config

CASES = yaml.safe_load((Path(__file__).parent / "host_settings.yaml").read_text())
SYSTEM_BUNDLE = "etc/ssl/certs/ca-certificates.crt"
# From the weakest to the strongest.
SOURCES = (
    "etc/xdg/pip/pip.conf",
    "etc/pip.conf",
    "home/me/.pip/pip.conf",
    "home/me/.config/pip/pip.conf",
    "PIP_INDEX_URL",
)


class Host:
    """A host in a folder: its root, and a home below it."""

    def __init__(self, folder: Path) -> None:
        self.root, self.home = folder / "root", folder / "root/home/me"
        self.home.mkdir(parents=True)

    def put(self, path: str, text: str = "") -> Path:
        """Writes a file below the root, or makes a folder for a name that ends in a slash."""
        file = self.root / path
        (file if path.endswith("/") else file.parent).mkdir(parents=True, exist_ok=True)
        if not path.endswith("/"):
            file.write_text(text)
        return file

    def read(self, **environ: str | Path) -> HostConfig:
        """What is read of it."""
        variables: Mapping[str, str] = {name: str(value) for name, value in environ.items()}
        return read_host_config(variables, self.home, self.root)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


@pytest.mark.parametrize("case", CASES, ids=[case["case"] for case in CASES])
def test_settings_are_read_as_pip_reads_them(case: dict[str, Any], host: Host) -> None:
    def here(text: str | None) -> str:
        return (text or "").replace("ROOT", str(host.root))

    for path, text in case.get("files", {}).items():
        host.put(path, here(text))

    config = host.read(**{name: here(value) for name, value in case.get("environ", {}).items()})

    for name, expected in case["read"].items():
        found = getattr(config, name)
        if isinstance(expected, str):
            assert str(found) == here(expected)
        else:
            assert [str(one) for one in found] == [here(one) for one in expected]
    assert "word" not in repr(config)


def test_host_without_settings_asks_pypi(host: Host) -> None:
    assert host.read() == HostConfig(
        ca_bundle=None,
        index_url=PYPI,
        extra_index_urls=(),
        find_links=(),
        wheel_folders=(),
        proxies=(),
        ignored=(),
    )


@pytest.mark.parametrize("strongest", range(len(SOURCES)))
def test_most_specific_file_wins_and_a_variable_over_all(strongest: int, host: Host) -> None:
    environ = {}
    for number, source in enumerate(SOURCES[: strongest + 1]):
        url = f"https://index{number}.example/simple"
        if source == "PIP_INDEX_URL":
            environ[source] = url
        else:
            host.put(source, f"[global]\nindex-url = {url}\n")

    assert host.read(**environ).index_url == f"https://index{strongest}.example/simple"


@pytest.mark.parametrize(
    "text",
    [
        b"index-url = https://a.example\n",
        b"[global\n",
        b"[global]\nindex-url\n",
        b"[global]\na = 1\na = 2\n",
        b"[global]\n[global]\n",
        b"[global]\nindex-url = \xff\n",
    ],
)
def test_malformed_file_hides_no_other(text: bytes, host: Host) -> None:
    host.put("etc/pip.conf").write_bytes(text)
    host.put("home/me/.pip/pip.conf", "[global]\nextra-index-url = https://b.example\n")

    config = host.read()

    assert (config.index_url, config.extra_index_urls) == (PYPI, ("https://b.example",))


def test_most_specific_certificates_win(host: Host) -> None:
    system = host.put(SYSTEM_BUNDLE)
    assert host.read().ca_bundle == system

    environ: dict[str, str | Path] = {}
    for name in ("CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "PIP_CERT"):
        environ[name] = host.put(f"{name}.crt")
        assert host.read(**environ).ca_bundle == environ[name]
