"""Requirements as pip reads them: lines, options and included files, each error at its place."""

import pytest

from imagematrix.environments.specification import Packages
from tests.unit.specifications import decisions, environment, errors_of, texts

DIGEST = f"sha256:{'a' * 64}"
OTHER = f"sha256:{'b' * 64}"
FILE = "requirements.txt"


def test_every_kind_of_line_is_read() -> None:
    text = f"""\
# What the service needs.
--index-url https://i.example/simple
-i https://j.example/simple --pre
--find-links=https://i.example/wheels

numpy[a,b] >=1.24 , <2   # newer ones fail
  scipy == 1.11.1 \\
    --hash={DIGEST} \\
    --hash {OTHER}
joblib; python_version < "3.13"
six @ https://i.example/six-1.16.0-py2.py3-none-any.whl
https://i.example/Foo_Bar-1.0-py3-none-any.whl#sha256={"c" * 64}
https://i.example/download?x=1#egg=odd
https://i.example/some-thing-2.0.tar.gz
"""
    read = environment(text, FILE)
    assert [(entry.text, entry.line, entry.column) for entry in read.pip] == [
        ("numpy[a,b]<2,>=1.24", 6, 1),
        ("scipy==1.11.1", 7, 3),
        ('joblib; python_version < "3.13"', 10, 1),
        ("six @ https://i.example/six-1.16.0-py2.py3-none-any.whl", 11, 1),
        (f"foo-bar @ https://i.example/Foo_Bar-1.0-py3-none-any.whl#sha256={'c' * 64}", 12, 1),
        ("odd @ https://i.example/download?x=1#egg=odd", 13, 1),
        ("some-thing @ https://i.example/some-thing-2.0.tar.gz", 14, 1),
    ]
    assert texts(read.pip_options) == [
        "--index-url https://i.example/simple",
        "--index-url https://j.example/simple",
        "--pre",
        "--find-links https://i.example/wheels",
    ]
    assert read.hashes == {"scipy==1.11.1": (DIGEST, OTHER)}
    assert (read.name, read.python, read.series, read.conda) == ("", "", "3.12", ())


def test_series_is_that_of_the_option() -> None:
    decided = decisions(Packages.PYPI, python="3.11")
    assert environment("six\n", FILE, decided=decided).series == "3.11"


def test_lines_of_windows_and_its_byte_order_mark() -> None:
    text = "\ufeffnumpy\r\nsix \\\r\n  ==1.16\r\n"
    read = environment(text, FILE)
    assert [(entry.text, entry.line) for entry in read.pip] == [("numpy", 1), ("six==1.16", 2)]


def test_included_files_have_their_own_places() -> None:
    files = {
        "in/a.txt": "idna\n-r b.txt\n-cpins.txt\n",
        "in/b.txt": "\nsix\nnumpy\n",
        "in/pins.txt": "urllib3<2\n-r more.txt\n",
        "in/more.txt": "certifi>1\n",
    }
    read = environment("numpy\n--requirement=in/a.txt\n", FILE, files)
    assert [(entry.text, str(entry.file), entry.line) for entry in read.pip] == [
        ("numpy", "requirements.txt", 1),
        ("idna", "in/a.txt", 1),
        # What the first file asks for already is left out.
        ("six", "in/b.txt", 2),
    ]
    assert [(entry.text, str(entry.file), entry.line) for entry in read.constraints] == [
        ("urllib3<2", "in/pins.txt", 1),
        ("certifi>1", "in/more.txt", 1),
    ]


def test_file_that_includes_itself() -> None:
    files = {"a.txt": "-r ./x/../requirements.txt\n"}
    assert errors_of(environment, "-r a.txt\n", FILE, files) == [
        "a.txt:1:1: ./x/../requirements.txt includes itself; remove one of the two lines"
    ]


def test_errors_of_all_files_come_at_once() -> None:
    files = {"a.txt": "six=1\n-e .\n", "b.txt": b"\xff"}
    text = "-r a.txt\n-r b.txt\n-r c.txt\nnumpy 2\n"
    assert errors_of(environment, text, FILE, files) == [
        "a.txt:1:1: 'six=1' is no valid requirement; write six==1",
        "a.txt:2:1: an installation from a working copy cannot be locked; publish it as a wheel on"
        " an index, or copy its code beside the entry script",
        "requirements.txt:2:1: b.txt is not UTF-8: byte 0 is 0xff; its path is relative to this"
        " file",
        "requirements.txt:3:1: c.txt cannot be read: No such file or directory; its path is"
        " relative to this file",
        "requirements.txt:4:1: 'numpy 2' is no valid requirement; write numpy==2",
    ]


PATH = "publish it as a wheel on an index, or copy its code beside the entry script"
NO_HASH = "what a repository holds has no hash"


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("-e .", f"an installation from a working copy cannot be locked; {PATH}"),
        (
            "--editable=git+https://g.example/a#egg=a",
            f"an installation from a working copy cannot be locked; {PATH}",
        ),
        (".", f". is a path of this machine; {PATH}"),
        ("./here", f"./here is a path of this machine; {PATH}"),
        ("../a.whl", f"../a.whl is a path of this machine; {PATH}"),
        ("/srv/a", f"/srv/a is a path of this machine; {PATH}"),
        ("a-1.0-py3-none-any.whl", f"a-1.0-py3-none-any.whl is a path of this machine; {PATH}"),
        ("file:///srv/a.whl", f"file:///srv/a.whl is a path of this machine; {PATH}"),
        ("a @ file:///srv/a.whl", f"file:///srv/a.whl is a path of this machine; {PATH}"),
        (r"C:\a", rf"C:\a is a path of this machine; {PATH}"),
        ("git+https://g.example/a", f"git+https://g.example/a: {NO_HASH}; {PATH}"),
        ("a @ git+https://g.example/a", f"git+https://g.example/a: {NO_HASH}; {PATH}"),
        (
            "https://i.example/x",
            "the address does not say which package it is; write the name of the package before"
            " it: name @ https://i.example/x",
        ),
        ("python==3.8", "Python is no package of an index; choose it with --python, or write a"
         " conda specification"),
        ("numpy=>2", "'numpy=>2' is no valid requirement; write numpy>=2"),
        (
            "a==0+unknown",
            "a==0+unknown: this version is that of a working copy, and on no index; name a version"
            " that was released, or remove it",
        ),
        ("--indx-url https://i.example", "unknown option --indx-url; did you mean --index-url?"),
        ("--index-url", "--index-url has no value; write one behind it"),
        ("--find-links ./wheels", "--find-links must be an address of http or https, is"
         " './wheels'; paths of this machine do not exist in the build"),
        (
            "--trusted-host i.example",
            "--trusted-host: the certificate of an index is always checked; remove it;"
            " SSL_CERT_FILE or PIP_CERT names the certificate of your own authority",
        ),
        ("-r a\0b", "'a\\x00b' is no path"),
        ("-r 'a", "has a quotation mark without its second; close or remove it"),
        (
            "-r https://i.example/a.txt",
            "https://i.example/a.txt is on another machine, and may change; download it, and name"
            " the file",
        ),
        (
            "--extra-index-url https://${TOKEN}@i.example",
            "variables of the environment are not put in; write the value; the password of an"
            " index belongs in a netrc file",
        ),
        ("six --hash=md5:1", "'md5:1' is no hash, such as sha256:…; copy it from the index, or"
         " remove --hash"),
        ("six --global-option=x", "--global-option cannot be kept; only --hash may stand behind a"
         " requirement"),
    ],
)  # fmt: skip
def test_each_error_has_its_place(line: str, error: str) -> None:
    assert errors_of(environment, f"\n  {line}\n", FILE) == [f"requirements.txt:2:3: {error}"]


def test_package_twice_in_a_file() -> None:
    assert errors_of(environment, "Foo.bar>1\nsix\nfoo-bar<2\n", FILE) == [
        "requirements.txt:3:1: foo-bar is here twice, first on line 1; keep one of them"
    ]
    text = 'a==1; python_version < "3.12"\na==2; python_version >= "3.12"\n'
    assert len(environment(text, FILE).pip) == 2


def test_ignored_options_are_noted() -> None:
    notes = environment("--require-hashes\n--use-feature x\nsix\n", FILE).notes
    assert [str(note) for note in notes] == [
        "requirements.txt:1:1: --require-hashes: every package is compared with its hash anyway;"
        " ignored",
        "requirements.txt:2:1: --use-feature: uv resolves the requirements, not pip; ignored",
    ]


@pytest.mark.parametrize(
    "line",
    [
        "--index-url https://me:s3cret@i.example/simple",
        "-f https://s3cret@i.example/",
        "six @ https://me:s3cret@i.example/six-1.0-py3-none-any.whl",
        "git+https://s3cret@g.example/a",
        "-e git+https://s3cret@g.example/a",
        "-r https://s3cret@g.example/a",
        "six ==1 https://s3cret@g.example/a",
    ],
)
def test_password_in_an_address_is_refused_and_not_repeated(line: str) -> None:
    (error,) = errors_of(environment, line, FILE)
    assert "s3cret" not in error


def test_empty_file() -> None:
    assert errors_of(environment, "# nothing\n\n", FILE) == ["requirements.txt:1:1: is empty"]
