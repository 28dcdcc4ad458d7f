"""What is in an image, from layers that are made up, and files that no package has."""

import io
import json
from pathlib import Path
from typing import Any
from unittest.mock import Mock, patch

import docker.errors
import pytest

from imagematrix.errors import UserError, WorkError
from imagematrix.measure import contents
from imagematrix.measure.contents import (
    ImageFiles,
    LayerFiles,
    contents_of,
    image_of,
    read_contents,
    read_image,
    read_layer,
)
from imagematrix.measure.unowned import findings, server_files, unowned_files
from imagematrix.release.contents import DebianPackage, Distribution, ImageContents
from tests.unit.image_layers import (
    DEBIAN,
    HTTPTOOLS,
    LIBRARY,
    PYTHON,
    SERVER,
    SITE,
    STATUS,
    Files,
    archive,
    distribution,
    image,
    layer,
)

BASH = DebianPackage("bash", "5.2.37-2+b10", "amd64", "bash", "5.2.37-2", ("Expat", "GPL-3+"))
LIBGCC = DebianPackage("libgcc-s1", "14.2.0-19", "amd64", "gcc-14", "14.2.0-19", ("GPL-3",))
OWN = Distribution("http-tools", "0.9.0", ("MIT",))


def distributions(*layers: Files) -> dict[str, Distribution]:
    found = contents_of(image(*layers), "image").distributions
    assert len({one.name for one in found}) == len(found)
    return {one.name: one for one in found}


def test_contents_are_those_of_dpkg_and_of_the_metadata() -> None:
    assert contents_of(image(), "image") == ImageContents(
        python="3.12.1",
        server="1.0.0",
        suite="trixie",
        debian=(BASH, LIBGCC),
        distributions=(OWN,),
        server_bundled=(("werkzeug", "3.1.9", "pkg:pypi/werkzeug@3.1.9"),),
    )


def test_what_a_higher_layer_removes_or_replaces_is_not_there() -> None:
    other = distribution("numpy", "2.5", {"numpy/__init__.py": ""})
    newer = distribution("numpy", "2.6", {"numpy/__init__.py": ""})
    removed = {f"{SITE}/.wh.numpy-2.5.dist-info": ""}

    assert distributions(other).keys() == {"http-tools", "numpy"}
    assert distributions(other, removed).keys() == {"http-tools"}
    assert distributions(other, removed, other).keys() == {"http-tools", "numpy"}
    assert distributions(other, {**removed, **newer})["numpy"].version == "2.6"
    assert distributions({f"{SITE}/.wh..wh..opq": "", **newer}).keys() == {"numpy"}


def test_dpkg_of_the_highest_layer_counts() -> None:
    upgraded = STATUS.replace("Version: 14.2.0-19", "Version: 14.3.0-1")
    found = contents_of(image({"var/lib/dpkg/status": upgraded}), "image")

    assert found.debian_versions == {"bash": "5.2.37-2+b10", "libgcc-s1": "14.3.0-1"}
    assert found.python_versions == {"http-tools": "0.9.0"}


def test_images_without_dpkg_have_a_file_for_each_package() -> None:
    stanza = "Package: tzdata\nVersion: 2026a-1\nArchitecture: all\n"
    found = contents_of(image({"var/lib/dpkg/status.d/tzdata": stanza}), "image")

    assert DebianPackage("tzdata", "2026a-1", "all", "tzdata", "2026a-1") in found.debian


@pytest.mark.parametrize(
    ("metadata", "licences"),
    [
        ("License-Expression: MIT OR Zlib\nLicense: MIT\n", ("MIT OR Zlib",)),
        ("License: BSD\nClassifier: License :: OSI Approved :: MIT License\n", ("BSD",)),
        (
            "License: UNKNOWN\nClassifier: License :: OSI Approved :: MIT License\n",
            ("MIT License",),
        ),
        (
            "License: Copyright (c) the authors\n        All rights reserved\n"
            "Classifier: License :: B\nClassifier: License :: A\nClassifier: Topic :: C\n",
            ("A", "B"),
        ),
        (f"License: {'x' * 200}\n", ()),
        ("", ()),
    ],
)
def test_licences_are_those_of_the_metadata(metadata: str, licences: tuple[str, ...]) -> None:
    assert distributions(distribution("a", "1", {}, metadata))["a"].licences == licences


def test_libraries_of_a_wheel_are_listed_and_its_modules_are_not() -> None:
    files: Files = {
        "numpy.libs/openblas-1.so": "",
        "numpy.libs/libgfortran-1.so.5.0.0": "",
        "numpy/lib.cpython-312-x86_64-linux-gnu.so": "",
        "numpy/_core.abi3.so": "",
        "numpy/lib/libomp.so": "",
        "numpy/lib/removed/libgone.so": "",
    }
    gone = {f"{SITE}/numpy/lib/.wh.removed": ""}
    found = distributions(distribution("numpy", "2.5", files), gone)["numpy"]

    names = ["numpy.libs/libgfortran-1.so.5.0.0", "numpy.libs/openblas-1.so", "numpy/lib/libomp.so"]
    assert found.libraries == tuple(f"/{SITE}/{name}" for name in names)


def test_what_a_package_says_to_contain_is_bundled() -> None:
    inner = distribution("Zipp", "3.23", {"zipp.py": ""}, top="outer/_vendor")
    components: dict[str, Any] = {
        "components": [
            {"name": "openblas", "version": "0.3", "purl": "pkg:generic/openblas@0.3"},
            {"name": "requirement", "purl": "pkg:pypi/requirement"},
            {"components": [{"name": "deep", "version": "1", "purl": "pkg:generic/deep@1"}]},
            "no component",
        ]
    }
    files: Files = {
        **inner,
        "outer-1.dist-info/sboms/auditwheel.cdx.json": json.dumps(components),
        "outer-1.dist-info/sboms/broken.json": "{",
        "outer/_vendor/vendor.txt": "# vendored\nCacheControl==0.14.4\n    urllib3==2.8.0  # why\n",
    }
    found = distributions(distribution("outer", "1", files))

    assert found.keys() == {"http-tools", "outer"}
    assert found["outer"].bundled == (
        ("cachecontrol", "0.14.4", "pkg:pypi/cachecontrol@0.14.4"),
        ("deep", "1", "pkg:generic/deep@1"),
        ("openblas", "0.3", "pkg:generic/openblas@0.3"),
        ("urllib3", "2.8.0", "pkg:pypi/urllib3@2.8.0"),
        ("zipp", "3.23", "pkg:pypi/zipp@3.23"),
    )


def test_packages_of_the_old_kind_are_found() -> None:
    old: Files = {
        f"{SITE}/old.egg-info": "Name: old\nVersion: 1\n",
        f"{SITE}/older.egg-info/PKG-INFO": "Name: older\nVersion: 2\n",
    }
    assert {(d.name, d.version) for d in distributions(old).values()} == {
        ("http-tools", "0.9.0"), ("old", "1"), ("older", "2"),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("program", "version"),
    [
        (b"\x003.12.1\0", "3.12.1"),
        (b"\0/usr/local///3.12.10\0 3.12.9/lib\0", "3.12.10"),
        (b"\x003.12.0rc1+\0", "3.12.0rc1+"),
    ],
)
def test_version_of_cpython_is_that_in_its_library(program: bytes, version: str) -> None:
    changed = {"usr/local/lib/libpython3.12.so.1.0": program}
    assert contents_of(image(changed), "image").python == version


def test_hard_link_has_the_content_of_its_file() -> None:
    linked: Files = {
        "usr/local/lib/.wh.libpython3.12.so.1.0": "",
        "usr/local/bin/python3.12": b"\x003.12.7\0",
        "usr/local/bin/python3.12m": "=> usr/local/bin/python3.12",
    }
    assert "/usr/local/bin/python3.12m" in layer(linked).contents
    assert contents_of(image(linked), "image").python == "3.12.7"


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"var/lib/dpkg/.wh.status": ""}, "the layers of it do not show packages of Debian"),
        ({f"{LIBRARY}/.wh.site-packages": ""}, "packages of Python"),
        ({"usr/local/lib/.wh..wh..opq": ""}, r"one version of CPython \(found: none\)"),
        (
            {"usr/local/bin/python3.13": b"\x003.13.0\0"},
            r"one version of CPython \(found: 3.12.1, 3.13.0\)",
        ),
        ({"opt/.wh.inference-server": ""}, "a version of the server"),
        ({"etc/os-release": "ID=debian\n"}, "a Debian release"),
        (
            {f"{SITE}/a-1.dist-info/METADATA": "Name: a\n"},
            "a-1.dist-info/METADATA has no name or no version",
        ),
    ],
)
def test_image_that_does_not_show_its_contents_is_an_error(files: Files, message: str) -> None:
    with pytest.raises(WorkError, match=message):
        contents_of(image(files), "it")


def test_layers_are_read_once() -> None:
    client = Mock()
    client.api.inspect_image.return_value = {"RootFS": {"Layers": ["sha256:a", "sha256:b"]}}
    layers = {"sha256:a": layer({**DEBIAN, **PYTHON}), "sha256:b": layer(HTTPTOOLS)}
    known: dict[str, LayerFiles] = {"sha256:a": layers["sha256:a"]}
    with patch.object(contents, "read_layers") as read:
        read.side_effect = lambda client, image, lacking, how: {one: layers[one] for one in lacking}
        files = read_image(client, "image", known)
        assert contents_of(files, "image") == read_contents(client, "image")

    assert known.keys() == layers.keys()
    assert [call.args[2] for call in read.call_args_list] == [{"sha256:b"}, layers.keys()]


def test_image_that_the_engine_does_not_have_is_an_error() -> None:
    client = Mock()
    client.api.inspect_image.side_effect = docker.errors.ImageNotFound("absent")
    with pytest.raises(UserError, match="the engine has no image absent"):
        read_contents(client, "absent")


def test_what_is_no_archive_has_no_files() -> None:
    assert read_layer(io.BytesIO(b'{"config": {}}')) == LayerFiles({}, {})
    assert read_layer(archive({})) == LayerFiles({}, {})


def test_every_file_of_the_image_has_an_owner() -> None:
    assert findings(image(), SERVER) == ()


def test_what_official_bases_have_is_no_finding() -> None:
    """Beside what those have that the images here are built on."""
    files: Files = {
        "lib32": "-> usr/lib32",
        "libx32": "-> usr/libx32",
        "etc/hostname": "",
        "etc/machine-id": "",
        "etc/resolv.conf": "",
        "etc/apt/apt.conf.d/docker-clean": "",
        "etc/dpkg/dpkg.cfg.d/docker-apt-speedup": "",
        "usr/sbin/policy-rc.d": "",
        "usr/local/bin/2to3-3.12": "",
        "usr/local/bin/pydoc3.12": "",
        "usr/local/bin/python3.12-config": "",
        "usr/local/bin/python3-config": "-> python3.12-config",
        "usr/local/include/python3.12/Python.h": "",
        "usr/local/lib/pkgconfig/python-3.12-embed.pc": "",
        f"{LIBRARY}/LICENSE.txt": "",
        f"{LIBRARY}/config-3.12-x86_64-linux-gnu/Makefile": "",
        f"{LIBRARY}/lib-dynload/_testcapi.cpython-312-x86_64-linux-gnu.so": "",
        f"{LIBRARY}/lib-dynload/xxlimited_35.cpython-312-x86_64-linux-gnu.so": "",
        f"{LIBRARY}/turtledemo/__main__.py": "",
    }
    assert findings(image(files), SERVER) == ()


UNOWNED: dict[str, Files] = {
    "module without a package": {f"{SITE}/left_pad/__init__.py": ""},
    "file in a folder of a package": {f"{SITE}/httptools/hidden.py": ""},
    "bytecode without its source": {f"{SITE}/httptools/__pycache__/x.cpython-312.pyc": ""},
    "path file": {f"{SITE}/hidden.pth": "import hidden"},
    "module in the library of the interpreter": {f"{LIBRARY}/left_pad.py": ""},
    "compiled module in the library": {f"{LIBRARY}/lib-dynload/left_pad.abi3.so": ""},
    "program": {"usr/bin/left-pad": ""},
    "program beside Python": {"usr/local/bin/left-pad": ""},
    "program by its link": {"usr/bin/python3": "-> /opt/python/bin/python3"},
    "library": {"usr/lib/x86_64-linux-gnu/libleft.so.1": ""},
    "file beside the server": {"opt/inference-server/left_pad.py": ""},
    "file elsewhere": {"srv/left_pad.py": ""},
    "package of the user": {"home/dockeruser/.local/lib/python3.12/site-packages/a.py": ""},
    "record of a package that is not installed": {"var/lib/dpkg/info/gone.list": "/usr/bin/gone"},
    "settings of the loader": {"etc/ld.so.conf.d/other.conf": ""},
    "file as a device": {"dev/left": "data"},
}


@pytest.mark.parametrize("kind", UNOWNED)
def test_file_of_no_package_is_found(kind: str) -> None:
    (path,) = UNOWNED[kind]
    assert findings(image(UNOWNED[kind]), SERVER) == (f"in no package: /{path}",)


def test_files_of_a_package_without_its_metadata_are_found() -> None:
    removed = {f"{SITE}/.wh.HTTP_Tools-0.9.0.dist-info": ""}
    assert unowned_files(image(removed), SERVER) == (f"/{SITE}/httptools/__init__.py",)


def test_files_of_a_debian_package_that_is_not_installed_are_found() -> None:
    removed = {"var/lib/dpkg/status": STATUS.partition("\n\n")[0]}
    assert set(unowned_files(image(removed), SERVER)) == {
        "/usr/lib/libgcc_s.so.1",
        "/usr/share/doc/gcc-14-base/copyright",
        "/usr/share/doc/libgcc-s1",
        "/var/lib/dpkg/info/libgcc-s1:amd64.list",
    }


def test_bytecode_belongs_to_the_package_of_its_source() -> None:
    compiled = {f"{SITE}/httptools/__pycache__/__init__.cpython-312.pyc": ""}
    assert unowned_files(image(compiled), SERVER) == ()
    removed = {f"{SITE}/httptools/.wh.__init__.py": ""}
    assert len(unowned_files(image(compiled, removed), SERVER)) == 1


def test_what_is_copied_from_another_image_is_no_finding() -> None:
    copied = {"usr/local/cuda/lib64/libcudart.so.11.0": ""}
    assert unowned_files(image(copied), SERVER, ["/usr/local/cuda"]) == ()
    assert len(unowned_files(image(copied), SERVER)) == 1


def test_package_without_its_files_is_found() -> None:
    removed = {
        f"{SITE}/httptools/.wh.__init__.py": "",
        "usr/lib/.wh.libgcc_s.so.1": "",
        "usr/share/doc/.wh.libgcc-s1": "",
        "usr/share/doc/gcc-14-base/.wh.copyright": "",
    }
    assert findings(image(removed), SERVER) == (
        "installed, but none of its files is there: libgcc-s1:amd64, HTTP_Tools-0.9.0.dist-info",
    )


def test_of_many_files_the_first_are_named() -> None:
    many: Files = {f"srv/{number}": "" for number in range(10)}
    named = ", ".join(f"/srv/{number}" for number in range(8))
    assert findings(image(many), SERVER) == (f"in no package: {named} and 2 more",)


def test_links_of_folders_are_followed() -> None:
    files: ImageFiles = image_of(
        [layer({"a": "-> b", "b": "-> /c/d", "c/d/file": "", "loop": "-> loop"})]
    )
    assert files.place("/a/file") == "/c/d/file"
    assert files.place("/a") == "/a"
    assert files.resolved("/a") == "/c/d"
    assert files.text("/loop/file") == ""


def test_files_of_the_server_are_those_of_the_repository(tmp_path: Path) -> None:
    folder = tmp_path / "base" / "server" / "inference_server"
    folder.mkdir(parents=True)
    (folder / "app.py").touch()
    assert server_files(tmp_path) == {"/opt/inference-server/inference_server/app.py"}
