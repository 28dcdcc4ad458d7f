"""Solving conda's packages, against channels on loopback; no engine."""

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
import yaml

from imagematrix.environments.conda import (
    CondaLock,
    UnavailableError,
    channel_urls,
    lock_conda,
    rattler_python,
)
from imagematrix.environments.condarc import OFFICIAL, CondaSettings, read_conda_settings
from imagematrix.environments.specification import Entry, Environment
from imagematrix.errors import InputError, UserError, WorkError
from imagematrix.host.config import read_host_config
from tests.engine.conda_channel import Channel, File, served
from tests.unit.helpers import REPOSITORY

HOST = read_host_config(os.environ, Path.home())
FILE = PurePosixPath("env.yml")


def entries(*texts: str) -> tuple[Entry, ...]:
    return tuple(Entry(text, FILE, line, 5) for line, text in enumerate(texts, 1))


@dataclass(frozen=True)
class Site:
    """Channels that a server has in the place of the official ones."""

    folder: Path
    url: str

    @property
    def settings(self) -> CondaSettings:
        return CondaSettings(mirrors={OFFICIAL: (f"{self.url}/",)})

    def lock(
        self,
        *specs: str,
        channels: tuple[str, ...] = ("conda-forge",),
        pip: tuple[str, ...] = (),
        cuda: str = "",
        present: CondaLock | None = None,
    ) -> CondaLock:
        environment = Environment(
            FILE, channels=entries(*channels), conda=entries(*specs), pip=entries(*pip)
        )
        return lock_conda(
            REPOSITORY,
            environment,
            HOST,
            self.settings,
            glibc="2.41",
            image_python="3.12",
            cuda=cuda,
            present=present,
        )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("channels")
    forge = Channel(folder / "conda-forge")
    for version in ("3.11.8", "3.12.1"):
        forge.add("python", version, "0_cpython", depends=["__glibc >=2.17"])
    forge.add("foo", "1.0", depends=["python >=3.12"], noarch="python")
    forge.add("six", "1.17.0", depends=["python"], noarch="python")
    forge.add("old", "1.0", depends=["python", "foo <1"], noarch="python")
    forge.add("built", "1.0", "py312_0", depends=["python 3.12.*"])
    forge.add("mutex", "1.0", "cuda", depends=["__cuda >=12", "python"])
    forge.add("newest", "1.0", depends=["__glibc >=2.99", "python"])
    forge.write()
    other = Channel(folder / "other")
    other.add("foo", "2.0", depends=["python"], noarch="python")
    other.write()
    with served(folder) as url:
        yield Site(folder, url)


def packages(lock: CondaLock) -> dict[str, str]:
    return {package.name: package.version for package in lock.packages}


def test_lock_has_official_urls_and_hashes(site: Site) -> None:
    lock = site.lock("python=3.12", "foo")
    assert packages(lock) == {"python": "3.12.1", "foo": "1.0"}
    assert lock.series == "3.12"
    document = yaml.safe_load(lock.conda)
    rows = document["packages"]
    assert {row["conda"].rpartition("/")[0] for row in rows} == {
        f"{OFFICIAL}conda-forge/linux-64",
        f"{OFFICIAL}conda-forge/noarch",
    }
    assert all(len(row["sha256"]) == 64 for row in rows)
    assert document["environments"]["default"]["channels"] == [{"url": f"{OFFICIAL}conda-forge/"}]
    assert "127.0.0.1" not in lock.conda


def test_same_request_gives_the_same_lock(site: Site) -> None:
    assert site.lock("python=3.12", "foo") == site.lock("foo", "python=3.12")


def test_present_versions_are_kept(site: Site) -> None:
    present = site.lock("python=3.11")
    assert packages(site.lock("python"))["python"] == "3.12.1"
    assert packages(site.lock("python", present=present))["python"] == "3.11.8"


def test_every_package_that_linux_does_not_have(site: Site) -> None:
    with pytest.raises(InputError) as error:
        site.lock("python=3.12", "libcxx=4.0.1", "foo", "appnope")
    assert str(error.value).splitlines() == [
        "env.yml:2:5: libcxx: no channel has it for linux-64; an export of another system lists its"
        " own packages: `conda env export --from-history` lists those that were asked for",
        "env.yml:4:5: appnope: no channel has it for linux-64; an export of another system lists"
        " its own packages: `conda env export --from-history` lists those that were asked for",
        "2 errors; nothing was changed",
    ]


def test_builds_and_versions_that_do_not_exist(site: Site) -> None:
    with pytest.raises(InputError) as error:
        site.lock("python=3.9", "built=1.0=py36_0", "foo===")
    assert "env.yml:3:5: foo=== is no conda package" in str(error.value)
    with pytest.raises(InputError) as error:
        site.lock("python=3.9", "built=1.0=py36_0")
    first, second, _ = str(error.value).splitlines()
    assert first == (
        "env.yml:1:5: python=3.9: no such version for linux-64; there are 3.12.1, 3.11.8"
    )
    assert second.startswith("env.yml:2:5: built=1.0=py36_0: no such build of built ==1.0")
    assert "there are py312_0" in second


def test_no_solution_is_told_in_the_words_of_the_solver(site: Site) -> None:
    with pytest.raises(WorkError) as error:
        site.lock("python=3.11", "foo")
    assert "foo 1.0 would require" in str(error.value)
    assert "└─ python >=3.12" in str(error.value)


def test_virtual_packages(site: Site) -> None:
    with pytest.raises(WorkError, match=r"__glibc >=2\.99"):
        site.lock("newest")
    with pytest.raises(WorkError, match=r"__cuda >=12(.|\n)*`--accelerator cuda`"):
        site.lock("mutex=*=*cuda*")
    assert packages(site.lock("mutex=*=*cuda*", cuda="12.4"))["mutex"] == "1.0"


def test_first_channel_that_has_a_name_is_the_only_one(site: Site) -> None:
    both = ("conda-forge", "other")
    with pytest.raises(UserError, match=r"foo 2\.0 is only in https://conda\.anaconda\.org/other"):
        site.lock("foo=2.0", channels=both)
    assert packages(site.lock("foo", channels=both[::-1]))["foo"] == "2.0"
    assert packages(site.lock("other::foo=2.0", channels=both))["foo"] == "2.0"


def test_channel_that_does_not_exist_is_an_error(site: Site) -> None:
    with pytest.raises(UserError) as error:
        site.lock("foo", channels=("nosuch", "conda-forge", "neither"))
    assert not isinstance(error.value, UnavailableError)
    assert "there is no channel https://conda.anaconda.org/nosuch" in str(error.value)
    assert "there is no channel https://conda.anaconda.org/neither" in str(error.value)


def test_channel_that_cannot_be_reached_is_unavailable(site: Site) -> None:
    # The port of a server that has ended.
    with served(site.folder) as gone:
        pass
    settings = CondaSettings(mirrors={OFFICIAL: (gone.replace("//", "//user:secret@") + "/",)})
    environment = Environment(FILE, channels=entries("conda-forge"), conda=entries("foo"))
    with pytest.raises(UnavailableError) as error:
        lock_conda(REPOSITORY, environment, HOST, settings, glibc="2.41", image_python="3.12")
    assert "the channel https://conda.anaconda.org/conda-forge cannot be reached" in str(
        error.value
    )
    assert gone in str(error.value)
    assert "secret" not in str(error.value)


def test_password_of_a_channel_is_in_netrc(site: Site, tmp_path: Path) -> None:
    environment = Environment(FILE, channels=entries("conda-forge"), conda=entries("foo"))
    with served(site.folder, credentials="user:secret") as url:
        mirrors = {OFFICIAL: (f"{url}/",)}

        def lock(settings: CondaSettings) -> CondaLock:
            return lock_conda(
                REPOSITORY, environment, HOST, settings, glibc="2.41", image_python="3.12"
            )

        with pytest.raises(UserError, match=r"conda-forge wants a log-in(.|\n)*netrc"):
            lock(CondaSettings(mirrors))
        netrc = tmp_path / "netrc"
        netrc.write_text("machine 127.0.0.1 login user password secret\n")
        locked = lock(CondaSettings(mirrors, netrc=netrc))
    assert packages(locked)["foo"] == "1.0"
    assert "secret" not in locked.conda


def test_pip_adds_to_what_conda_brings(site: Site) -> None:
    lock = site.lock("python=3.12", "six", pip=("python-dateutil==2.9.0.post0",))
    pins = [line for line in lock.requirements.splitlines() if "==" in line]
    assert [pin.split()[0] for pin in pins] == ["python-dateutil==2.9.0.post0"]
    assert "--hash=sha256:" in lock.requirements


def test_pip_that_contradicts_conda(site: Site) -> None:
    with pytest.raises(WorkError) as error:
        site.lock("python=3.12", "six", pip=("six==1.16.0",))
    assert "six==1.16.0" in str(error.value)
    assert "six==1.17.0" in str(error.value)


def test_without_pip_nothing_is_asked(site: Site) -> None:
    assert site.lock("python=3.12", "six").requirements == ""


def test_another_python_than_the_image_needs_the_parser_of_the_server(site: Site) -> None:
    assert "httptools==" in site.lock("python=3.11", "six").requirements


def test_channels_are_taken_as_written() -> None:
    chosen = CondaSettings(defaults=("https://repo.anaconda.com/pkgs/main/",))
    urls = channel_urls(
        entries("defaults", "pytorch", "https://mirror.example/forge", "nodefaults", "pytorch"),
        chosen,
    )
    assert urls == [
        "https://repo.anaconda.com/pkgs/main/",
        f"{OFFICIAL}pytorch/",
        "https://mirror.example/forge/",
    ]
    with pytest.raises(InputError) as error:
        channel_urls(
            entries("defaults", "https://u:p@host/x", "https://host/t/token/x"), CondaSettings()
        )
    assert len(error.value.diagnostics) == 3
    assert "--channel defaults=conda-forge" in str(error.value)


def test_settings_of_the_host(tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / ".config" / "rattler").mkdir(parents=True)
    (home / ".condarc").write_text(
        "channel_alias: https://${CONDA_TEST_USER}@company.example/conda\n"
        "default_channels: [https://company.example/pkgs/main]\n"
        "custom_channels: {private: https://other.example/conda}\n"
        "proxy_servers: {https: http://proxy.example:3128}\n"
    )
    (home / ".config/rattler/config.toml").write_text(
        '[mirrors]\n"https://conda.anaconda.org/bioconda" = ["https://bio.example/x"]\n'
    )
    (home / ".netrc").write_text("")
    bundle = tmp_path / "ca.pem"
    bundle.write_text("")
    environ = {"CONDA_SSL_VERIFY": str(bundle)}
    os.environ["CONDA_TEST_USER"] = "someone"
    try:
        settings = read_conda_settings(environ, home, HOST, tmp_path)
    finally:
        del os.environ["CONDA_TEST_USER"]
    assert settings.mirrors == {
        OFFICIAL: ("https://someone@company.example/conda/",),
        "https://repo.anaconda.com/pkgs/main/": ("https://company.example/pkgs/main/",),
        f"{OFFICIAL}private/": ("https://other.example/conda/private/",),
        f"{OFFICIAL}bioconda/": ("https://bio.example/x/",),
    }
    assert settings.defaults == ("https://repo.anaconda.com/pkgs/main/",)
    assert settings.proxies == {"https": "http://proxy.example:3128"}
    assert settings.environ == {
        "SSL_CERT_FILE": str(bundle),
        "NETRC": str(home / ".netrc"),
        "https_proxy": "http://proxy.example:3128",
    }


def test_condarc_with_an_error(tmp_path: Path) -> None:
    (tmp_path / ".condarc").write_text("channel_alias: [\n")
    with pytest.raises(InputError, match=r"\.condarc"):
        read_conda_settings({}, tmp_path, HOST, tmp_path)


def install(lock: Path, prefix: Path, cache: Path) -> dict[str, Any]:
    """What the program that installs a lock answers, here and not in a build."""
    python = rattler_python(REPOSITORY, HOST)
    program = REPOSITORY / "imagematrix/environments/rattler.py"
    words = map(str, (program, "install", lock, prefix, cache))
    command = [str(python), "-P", *words]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    answer: dict[str, Any] = json.loads(result.stdout or json.dumps(result.stderr))
    return answer


@pytest.mark.parametrize("scheme", ["file", "http"])
def test_replaced_package_is_refused(tmp_path: Path, scheme: str) -> None:
    channel = Channel(tmp_path / "here")
    good = channel.add("tool", "1.0", files={"bin/tool": File(b"good", executable=True)})
    channel.add("python", "3.12.1")
    channel.write()
    with served(tmp_path) as url:
        base = tmp_path.as_uri() if scheme == "file" else url
        environment = Environment(
            FILE, channels=entries(f"{base}/here"), conda=entries("tool", "python")
        )
        locked = lock_conda(
            REPOSITORY, environment, HOST, CondaSettings(), glibc="2.41", image_python="3.12"
        )
        lock = tmp_path / "conda.lock"
        lock.write_text(locked.conda)
        wanted = next(p.sha256 for p in locked.packages if p.name == "tool")
        shutil.copy(good, tmp_path / "kept")
        bad = channel.add("tool", "1.0", files={"bin/tool": File(b"bad", executable=True)})
        answer = install(lock, tmp_path / "refused", tmp_path / "cache")
        (error,) = answer["errors"]
        assert error["kind"] == "mismatch"
        assert "tool-1.0-0.conda is not the package that is locked" in error["message"]
        assert wanted in error["message"]
        assert hashlib.sha256(bad.read_bytes()).hexdigest() in error["message"]
        assert not (tmp_path / "refused/bin/tool").exists()
        shutil.copy(tmp_path / "kept", bad)
        install(lock, tmp_path / "installed", tmp_path / "cache")
        assert (tmp_path / "installed/bin/tool").read_bytes() == b"good"
    # The cache is enough.
    if scheme == "http":
        install(lock, tmp_path / "again", tmp_path / "cache")
        assert (tmp_path / "again/bin/tool").read_bytes() == b"good"


def test_scripts_that_are_not_run_are_named(tmp_path: Path) -> None:
    channel = Channel(tmp_path / "here")
    channel.add("python", "3.12.1")
    channel.add("linked", "1", files={"bin/.linked-post-link.sh": File(b"touch ran")})
    channel.add("active", "1", files={"etc/conda/activate.d/active.sh": File(b"export A=1")})
    channel.write()
    with served(tmp_path) as url:
        environment = Environment(
            FILE, channels=entries(f"{url}/here"), conda=entries("python", "linked", "active")
        )
        locked = lock_conda(
            REPOSITORY, environment, HOST, CondaSettings(), glibc="2.41", image_python="3.12"
        )
        lock = tmp_path / "conda.lock"
        lock.write_text(locked.conda)
        answer = install(lock, tmp_path / "prefix", tmp_path / "cache")
    assert answer["link_scripts"] == ["linked"]
    assert answer["activation"] == ["active"]
