"""What a host says of indexes, wheels and certificates, in pip's files and variables."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from imagematrix.host.config import PYPI, HostConfig, read_host_config

SYSTEM_BUNDLE = "etc/ssl/certs/ca-certificates.crt"


class Host:
    """A host in a folder: its root, a home, and environment variables."""

    def __init__(self, folder: Path) -> None:
        self.root, self.home = folder / "root", folder / "root/home/me"
        self.home.mkdir(parents=True)

    def put(self, path: str, text: str = "") -> Path:
        """Writes a file below the root."""
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    def folder(self, path: str) -> Path:
        """Makes a folder below the root."""
        folder = self.root / path
        folder.mkdir(parents=True)
        return folder

    def read(self, **environ: str | Path) -> HostConfig:
        """What is read of it."""
        variables: Mapping[str, str] = {name: str(value) for name, value in environ.items()}
        return read_host_config(variables, self.home, self.root)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_a_host_without_settings_asks_pypi(host: Host) -> None:
    assert host.read() == HostConfig(
        ca_bundle=None,
        index_url=PYPI,
        extra_index_urls=(),
        find_links=(),
        wheel_folders=(),
        proxies=(),
        ignored=(),
    )


# From the weakest to the strongest.
SOURCES = (
    "etc/xdg/pip/pip.conf",
    "etc/pip.conf",
    "home/me/.pip/pip.conf",
    "home/me/.config/pip/pip.conf",
    "PIP_INDEX_URL",
)


@pytest.mark.parametrize("strongest", range(len(SOURCES)))
def test_the_more_specific_file_wins_and_a_variable_over_all(strongest: int, host: Host) -> None:
    environ = {}
    for number, source in enumerate(SOURCES[: strongest + 1]):
        url = f"https://index{number}.example/simple"
        if source == "PIP_INDEX_URL":
            environ[source] = url
        else:
            host.put(source, f"[global]\nindex-url = {url}\n")

    assert host.read(**environ).index_url == f"https://index{strongest}.example/simple"


def test_settings_of_several_files_add_up(host: Host) -> None:
    host.put("etc/pip.conf", "[global]\nindex-url = https://a.example/simple\n")
    host.put("home/me/.config/pip/pip.conf", "[global]\nextra_index_url = https://b.example/x\n")

    config = host.read()

    assert config.index_url == "https://a.example/simple"
    assert config.extra_index_urls == ("https://b.example/x",)


def test_the_section_of_the_install_command_wins_and_others_do_not_count(host: Host) -> None:
    host.put(
        "etc/pip.conf",
        "[install]\nindex-url = https://b.example\n[global]\nindex-url = https://a.example\n"
        "[download]\nindex-url = https://c.example\n",
    )

    assert host.read().index_url == "https://b.example"


def test_a_configuration_home_takes_the_place_of_the_usual_one(host: Host) -> None:
    host.put("home/me/.config/pip/pip.conf", "[global]\nindex-url = https://a.example\n")
    host.put("else/pip/pip.conf", "[global]\nindex-url = https://b.example\n")

    assert host.read(XDG_CONFIG_HOME=host.root / "else").index_url == "https://b.example"


def test_a_file_that_is_named_replaces_those_of_the_user(host: Host) -> None:
    host.put("etc/pip.conf", "[global]\nextra-index-url = https://a.example\n")
    host.put("home/me/.config/pip/pip.conf", "[global]\nindex-url = https://b.example\n")
    named = host.put("named.conf", "[global]\nfind-links = https://c.example\n")

    config = host.read(PIP_CONFIG_FILE=named)

    assert config.extra_index_urls == ("https://a.example",)
    assert config.index_url == PYPI
    assert config.find_links == ("https://c.example",)


def test_a_named_file_that_does_not_exist_replaces_nothing(host: Host) -> None:
    host.put("home/me/.pip/pip.conf", "[global]\nindex-url = https://b.example\n")

    assert host.read(PIP_CONFIG_FILE=host.root / "none").index_url == "https://b.example"


def test_the_null_device_switches_all_files_off_but_no_variable(host: Host) -> None:
    host.put("etc/pip.conf", "[global]\nindex-url = https://a.example\n")

    config = host.read(PIP_CONFIG_FILE="/dev/null", PIP_EXTRA_INDEX_URL="https://b.example")

    assert config.index_url == PYPI
    assert config.extra_index_urls == ("https://b.example",)


@pytest.mark.parametrize(
    "text",
    [
        "index-url = https://a.example\n",
        "[global\n",
        "[global]\nindex-url\n",
        "[global]\na = 1\na = 2\n",
        "[global]\n[global]\n",
    ],
)
def test_a_malformed_file_says_nothing_and_hides_no_other(text: str, host: Host) -> None:
    host.put("etc/pip.conf", text)
    host.put("home/me/.pip/pip.conf", "[global]\nextra-index-url = https://b.example\n")

    config = host.read()

    assert config.index_url == PYPI
    assert config.extra_index_urls == ("https://b.example",)


def test_a_file_that_is_no_text_says_nothing(host: Host) -> None:
    host.put("etc/pip.conf").write_bytes(b"[global]\nindex-url = \xff\n")

    assert host.read().index_url == PYPI


def test_values_are_taken_as_they_stand(host: Host) -> None:
    """pip knows neither quotes nor interpolation in its files."""
    host.put("etc/pip.conf", "[global]\nindex-url = https://u:%40p%s@a.example/simple \n")

    assert host.read().index_url == "https://u:%40p%s@a.example/simple"


def test_several_values_stand_on_lines_or_between_spaces(host: Host) -> None:
    wheels = host.folder("wheels")
    host.put(
        "etc/pip.conf",
        "[global]\nextra-index-url =\n    https://a.example\n    https://b.example\n"
        f"find-links =\n    {wheels}\n    https://c.example/links\n",
    )

    config = host.read()

    assert config.extra_index_urls == ("https://a.example", "https://b.example")
    assert config.find_links == ("https://c.example/links",)
    assert config.wheel_folders == (wheels,)
    assert host.read(PIP_FIND_LINKS=f"https://d.example {wheels}").find_links == (
        "https://d.example",
    )


def test_a_wheel_folder_may_be_a_path_a_url_or_below_home(host: Host) -> None:
    plain, spaced, own = host.folder("a"), host.folder("b c"), host.folder("home/me/d")
    links = f"{plain} file://{str(spaced).replace(' ', '%20')} ~/d"

    assert host.read(PIP_FIND_LINKS=links).wheel_folders == (plain, spaced, own)


@pytest.mark.parametrize("link", ["/no/such/folder", "~someone-else/wheels", "file:///no/such"])
def test_a_wheel_folder_that_is_none_is_told(link: str, host: Host) -> None:
    config = host.read(PIP_FIND_LINKS=link)

    assert config.wheel_folders == ()
    assert config.ignored == (f"the wheel folder {link} is no folder of this host",)


def test_an_index_that_is_a_folder_is_told(host: Host) -> None:
    config = host.read(
        PIP_INDEX_URL="file:///srv/simple", PIP_EXTRA_INDEX_URL="/srv/more https://a.example"
    )

    assert config.index_url == PYPI
    assert config.extra_index_urls == ("https://a.example",)
    assert set(config.ignored) == {
        "the index file:///srv/simple is a folder of this host, which a build cannot ask",
        "the index /srv/more is a folder of this host, which a build cannot ask",
    }


def test_hosts_that_are_trusted_without_a_certificate_are_passed_on(host: Host) -> None:
    host.put("etc/pip.conf", "[global]\ntrusted-host = a.example\n    b.example:8443\n")

    assert host.read().trusted_hosts == ("a.example", "b.example:8443")


def test_an_empty_variable_is_none(host: Host) -> None:
    host.put("etc/pip.conf", "[global]\nindex-url = https://a.example\n")

    assert host.read(PIP_INDEX_URL="").index_url == "https://a.example"


def test_the_most_specific_certificates_win(host: Host) -> None:
    system = host.put(SYSTEM_BUNDLE)
    assert host.read().ca_bundle == system

    environ: dict[str, str | Path] = {}
    for name in ("CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "PIP_CERT"):
        environ[name] = host.put(f"{name}.crt")
        assert host.read(**environ).ca_bundle == environ[name]


def test_certificates_may_be_named_in_a_file_of_pip(host: Host) -> None:
    named = host.put("mine.crt")
    host.put("etc/pip.conf", f"[global]\ncert = {named}\n")

    assert host.read(SSL_CERT_FILE=host.put("other.crt")).ca_bundle == named


def test_certificates_that_are_not_there_are_passed_over(host: Host) -> None:
    fedora = host.put("etc/pki/tls/certs/ca-bundle.crt")

    assert host.read(SSL_CERT_FILE="/no/such/file", PIP_CERT=host.home).ca_bundle == fedora


def test_proxies_are_told_by_name_only(host: Host) -> None:
    config = host.read(https_proxy="http://user:word@p.example", NO_PROXY="", HTTP_PROXY="x")

    assert config.proxies == ("HTTP_PROXY", "https_proxy")
    assert "word" not in repr(config)
