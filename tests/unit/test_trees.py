"""Two images compared: every kind of difference is found, and nothing else is one."""

import io
import tarfile
from typing import Any

import pytest

from imagematrix.measure.trees import (
    MISSING,
    Difference,
    Tree,
    config_differences,
    layer_differences,
    merged,
    read_texts,
    read_tree,
    text_difference,
    tree_differences,
)


def member(name: str, content: bytes | None = None, **more: Any) -> tuple[tarfile.TarInfo, bytes]:
    """A file with content, else a folder, unless `more` says otherwise."""
    info = tarfile.TarInfo(name)
    info.type = tarfile.DIRTYPE if content is None else tarfile.REGTYPE
    info.mode = 0o755 if content is None else 0o644
    info.size = len(content or b"")
    for field, value in more.items():
        setattr(info, field, value)
    return info, content or b""


Member = tuple[tarfile.TarInfo, bytes]


def packed(*members: Member) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for info, content in members:
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def layer(*members: Member) -> Tree:
    return read_tree(io.BytesIO(packed(*members)))


def file(**more: Any) -> Member:
    return member("etc/motd", b"hello", **more)


def link(to: str) -> Member:
    return member("etc/motd", type=tarfile.SYMTYPE, linkname=to)


def device(minor: int) -> Member:
    return member("etc/motd", type=tarfile.CHRTYPE, devmajor=1, devminor=minor)


HELLO, WORLD = (
    "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824",
    "486ea46224d1bb4fb680f34f7c9ad96a8f24ec88be73ea8e5a6c65260e9cb8a7",
)


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (file(), member("etc/motd"), ("type", "file", "folder")),
        (file(), file(mode=0o4755), ("mode", "0644", "4755")),
        (file(), file(uid=1000), ("owner", "0:0", "1000:0")),
        (file(), file(gid=7), ("owner", "0:0", "0:7")),
        (
            file(mtime=1577836800),
            file(mtime=1577836800.5),
            ("mtime", "2020-01-01T00:00:00+00:00", "2020-01-01T00:00:00.500000+00:00"),
        ),
        (link("a"), link("b"), ("link", "a", "b")),
        (file(), member("etc/motd", b"world"), ("sha256", HELLO, WORLD)),
        (device(3), device(5), ("device", "1:3", "1:5")),
        (
            file(),
            file(pax_headers={"SCHILY.xattr.user.mark": "x"}),
            ("xattrs", "", "user.mark=x"),
        ),
    ],
    ids=lambda value: value[0] if isinstance(value[0], str) else "",
)
def test_each_property_of_a_path_is_compared(
    first: Member, second: Member, expected: tuple[str, str, str]
) -> None:
    assert tree_differences(layer(first), layer(second)) == [Difference(0, "/etc/motd", *expected)]


def test_a_file_of_another_length_differs_in_size_and_content() -> None:
    found = tree_differences(layer(file()), layer(member("etc/motd", b"hello!")), layer=4)

    assert [(one.layer, one.what) for one in found] == [(4, "size"), (4, "sha256")]
    assert (found[0].first, found[0].second) == ("5", "6")


def test_a_path_of_one_tree_alone_is_a_difference() -> None:
    one, both = layer(file()), layer(file(), member("opt"))

    assert tree_differences(one, both) == [Difference(0, "/opt", "type", MISSING, "folder")]
    assert tree_differences(both, one) == [Difference(0, "/opt", "type", "folder", MISSING)]


def test_times_and_order_count_only_on_request() -> None:
    one = layer(file(mtime=1), member("opt"))
    other = layer(member("opt"), file(mtime=2))

    assert [found.what for found in tree_differences(one, other)] == ["mtime"]
    assert tree_differences(one, other, times=False) == []
    same_times = layer(member("opt"), file(mtime=1))
    assert [d.what for d in tree_differences(one, same_times)] == ["order of the entries"]
    assert tree_differences(one, same_times, times=False) == []


def test_which_of_two_hard_links_holds_the_content_is_no_difference() -> None:
    def linked(name: str, other: str) -> Tree:
        return layer(member(name, b"x"), member(other, type=tarfile.LNKTYPE, linkname=name))

    assert tree_differences(linked("a", "b"), linked("b", "a"), times=False) == []
    copied = layer(member("a", b"x"), member("b", b"x"))
    assert tree_differences(linked("a", "b"), copied) == [Difference(0, "/b", "link", "/a", "")]


def test_paths_are_the_same_however_an_archive_writes_them() -> None:
    assert layer(member("./etc/", None)).keys() == layer(member("etc", None)).keys() == {"/etc"}


def test_only_short_texts_of_the_given_paths_are_read() -> None:
    archive = packed(
        member("a", b"one\n"), member("b", b"two\n"), member("c", b"\0"), member("d", b"\xff"),
        member("e", b"x" * (1 << 19)), member("f"),
    )  # fmt: skip
    paths = {f"/{name}" for name in "acdef"}

    assert read_texts(io.BytesIO(archive), paths) == {"/a": "one\n"}
    assert read_texts(io.BytesIO(b"no archive"), paths) == {}


def test_differing_lines_of_texts_are_shown() -> None:
    assert text_difference("same\none\n", "same\ntwo\n") == ("-one", "+two")
    many = text_difference("", "\n".join(map(str, range(20))))
    assert many == (*(f"+{number}" for number in range(8)), "… and 12 more lines")


def test_what_is_no_archive_has_no_entries() -> None:
    assert read_tree(io.BytesIO(b'{"config": {}}')) == {}
    assert read_tree(io.BytesIO(b"")) == {}


def test_layers_are_compared_one_by_one() -> None:
    base, more = layer(file()), layer(member("opt"))

    assert layer_differences([base, base], [base, more]) == [
        Difference(2, "/etc/motd", "type", "file", MISSING),
        Difference(2, "/opt", "type", MISSING, "folder"),
    ]
    assert layer_differences([base], [base, more]) == [
        Difference(2, "/opt", "type", MISSING, "folder")
    ]


def test_a_layer_hides_what_it_takes_away() -> None:
    low = layer(
        member("etc"), file(), member("opt"), member("opt/a"), member("opt/a/b", b""),
        member("srv"), member("srv/old", b""), member("var"), member("var/x", b""),
    )  # fmt: skip
    high = layer(
        member("opt"), member("opt/.wh.a", b""), member("srv"), member("srv/.wh..wh..opq", b""),
        member("srv/new", b""), member("var", b"", type=tarfile.SYMTYPE, linkname="srv"),
    )  # fmt: skip

    tree = merged([low, high])

    assert tree.keys() == {"/etc", "/etc/motd", "/opt", "/srv", "/srv/new", "/var"}
    assert tree["/var"].type == "symbolic link"


def test_of_a_configuration_the_values_are_compared_and_of_lists_the_items() -> None:
    first = {"User": "0", "Env": ["A=1", "B=2"], "Labels": {"a.b": "1", "c": "2"}, "Cmd": None}
    second = {"Env": ["B=2", "A=3"], "Labels": {"a.b": "2", "c": "2"}, "Cmd": []}

    assert config_differences(first, second) == [
        Difference(0, "", "Env", '["A=1"]', '["A=3"]'),
        Difference(0, "", "Labels.a.b", "1", "2"),
        Difference(0, "", "User", "0", MISSING),
    ]
    assert config_differences({"Cmd": ["a", "b"]}, {"Cmd": ["b", "a"]}) == [
        Difference(0, "", "Cmd", '["a", "b"]', '["b", "a"]')
    ]
