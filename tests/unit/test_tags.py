"""Dated tags: their order, which are supported, and what a clean-up may remove."""

import datetime
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagematrix.errors import UserError
from imagematrix.release.tags import (
    LATEST,
    DatedTag,
    TaggedImage,
    fallback_tags,
    is_fallback,
    months_before,
    newest_tag,
    next_tag,
    removals,
    supported_since,
    tag_rows,
)

TODAY = date(2026, 11, 28)


def digest(letter: str) -> str:
    return f"sha256:{letter * 64}"


def images(text: str) -> list[TaggedImage]:
    """`latest=a 20261128.v1=a`: tags and letters of their digests."""
    pairs = (item.split("=") for item in text.split())
    return [TaggedImage(tag, digest(letter), 1000) for tag, letter in pairs]


@pytest.mark.parametrize("text", ["20261128.v1", "20240229.v10", "00010101.v1", "20261231.v999"])
def test_dated_tag_is_read_as_it_is_written(text: str) -> None:
    assert str(DatedTag.of(text)) == text


@pytest.mark.parametrize(
    "text",
    ["latest", "", "20261128", "20261128.v0", "20261128.v01", "20261128.v1 ", "20261128.1",
     "20260229.v1", "20261301.v1", "00000101.v1", "v20261128.v1", "20261128.v1-rc",
     "\u0660\u0661261128.v1"],
)  # fmt: skip
def test_other_tags_have_no_date(text: str) -> None:
    assert DatedTag.parse(text) is None
    with pytest.raises(UserError, match="is no dated tag, such as"):
        DatedTag.of(text)


DATED = st.builds(DatedTag, st.dates(date(2000, 1, 1)), st.integers(1, 10**6))


@given(DATED, DATED)
def test_order_is_by_day_then_by_number(one: DatedTag, other: DatedTag) -> None:
    assert (one < other) == ((one.day, one.number) < (other.day, other.number))
    assert DatedTag.of(str(one)) == one
    assert newest_tag(["latest", str(one), str(other)]) == str(max(one, other))


@given(st.lists(DATED), st.dates(date(2000, 1, 1)))
def test_next_tag_is_after_all_of_its_day(taken: list[DatedTag], day: date) -> None:
    found = next_tag(day, [*map(str, taken), "latest", "sha256-1"])

    assert found.day == day
    assert all(found > tag for tag in taken if tag.day == day)
    assert found.number == 1 or DatedTag(day, found.number - 1) in taken


def test_next_tag_does_not_fill_a_gap() -> None:
    taken = ["20261128.v1", "20261128.v10", "20261127.v12", "latest"]
    assert str(next_tag(TODAY, taken)) == "20261128.v11"
    assert str(next_tag(date(2026, 11, 29), taken)) == "20261129.v1"
    assert newest_tag(["latest", "x"]) == ""


@pytest.mark.parametrize(
    ("day", "before"),
    [
        (date(2026, 11, 28), date(2026, 5, 28)),
        (date(2026, 8, 31), date(2026, 2, 28)),
        (date(2024, 8, 30), date(2024, 2, 29)),
        (date(2026, 3, 31), date(2025, 9, 30)),
        (date(2026, 6, 15), date(2025, 12, 15)),
        (date(2026, 7, 1), date(2026, 1, 1)),
    ],
)
def test_six_months_are_those_of_the_calendar(day: date, before: date) -> None:
    assert months_before(day, 6) == supported_since(day) == before


@pytest.mark.parametrize(
    ("tags", "supported", "removed"),
    [
        ("", "", ""),
        ("latest=a 20261128.v1=a", "latest 20261128.v1", ""),
        # Six months before latest, and a day more.
        (
            "latest=a 20261128.v1=a 20260528.v1=b 20260527.v1=c",
            "latest 20261128.v1 20260528.v1",
            "20260527.v1",
        ),
        # An old latest keeps old tags supported.
        (
            "latest=a 20260101.v1=a 20250701.v1=b 20250630.v1=c",
            "latest 20260101.v1 20250701.v1",
            "20250630.v1",
        ),
        # Held: tags after latest are supported.
        (
            "latest=a 20261101.v1=a 20261128.v1=b 20260101.v1=c",
            "latest 20261128.v1 20261101.v1",
            "20260101.v1",
        ),
        # The newest tag with latest's digest counts, and none with that digest goes.
        (
            "latest=a 20261128.v1=a 20250101.v1=a 20250101.v2=b",
            "latest 20261128.v1 20250101.v1",
            "20250101.v2",
        ),
        # What a supported tag is cannot go, and stays unsupported.
        (
            "latest=a 20261128.v1=a 20261001.v1=b 20250101.v1=b",
            "latest 20261128.v1 20261001.v1",
            "",
        ),
        # Nor what a tag without a date is.
        ("latest=a 20261128.v1=a stable=b 20250101.v1=b", "latest 20261128.v1", ""),
        # Two old tags of one image go together.
        (
            "latest=a 20261128.v1=a 20250101.v1=b 20250102.v1=b",
            "latest 20261128.v1",
            "20250102.v1 20250101.v1",
        ),
        # Without latest, or with one that no dated tag has, nothing goes.
        ("20250101.v1=b 20240101.v1=c", "", ""),
        ("latest=a 20250101.v1=b", "latest", ""),
    ],
)
def test_what_is_supported_and_what_goes(tags: str, supported: str, removed: str) -> None:
    rows = tag_rows(images(tags), TODAY)

    assert [row.tag for row in rows if row.supported] == supported.split()
    assert [row.tag for row in rows if row.removable] == removed.split()
    assert all(bool(row.why) != row.removable for row in rows)


def test_latest_is_first_then_the_newest_and_tags_without_date_last() -> None:
    tags = images("main=c 20261101.v2=c 20261101.v10=b latest=b 20261128.v1=a")
    rows = tag_rows([*tags, TaggedImage(f"sha256-{'a' * 64}", digest("f"), None)], TODAY)

    assert [(row.tag, row.age) for row in rows] == [
        ("latest", None),
        ("20261128.v1", 0),
        ("20261101.v10", 27),
        ("20261101.v2", 27),
        ("main", None),
    ]


def test_a_tag_younger_than_six_months_never_goes() -> None:
    """Also not where `latest` is from the future."""
    tags = images("latest=a 20280101.v1=a 20260529.v1=b 20260528.v1=c")

    assert [row.tag for row in tag_rows(tags, TODAY) if row.removable] == ["20260528.v1"]


def test_no_tag_of_an_unsupported_image_is_supported() -> None:
    rows = tag_rows(images("latest=a 20261128.v1=a"), TODAY, image_is_supported=False)

    assert not any(row.supported or row.removable for row in rows)


def test_what_is_in_an_index_that_stays_stays() -> None:
    index = TaggedImage("20261128.v1", digest("a"), 1000, (digest("b"), digest("c")))
    old = images("20250101.v1=b 20250102.v1=d")
    rows = tag_rows([index, TaggedImage(LATEST, index.digest, 1000, index.parts), *old], TODAY)

    assert [row.tag for row in rows if row.removable] == ["20250102.v1"]


TAGS = st.one_of(
    DATED.map(str),
    st.builds(lambda days, n: str(DatedTag(TODAY - datetime.timedelta(days), n)),
              st.integers(-400, 800), st.integers(1, 3)),
    st.sampled_from([LATEST, "main", "stable", f"sha256-{'a' * 64}"]),
)  # fmt: skip
IMAGES = st.dictionaries(
    TAGS, st.tuples(st.sampled_from("abcdef"), st.lists(st.sampled_from("abcdef"), max_size=2))
)


@given(IMAGES, st.booleans())
def test_clean_up_never_removes_what_somebody_may_rely_on(
    found: dict[str, tuple[str, list[str]]], image_is_supported: bool
) -> None:
    tags = [
        TaggedImage(tag, digest(own), 1000, tuple(map(digest, parts)))
        for tag, (own, parts) in found.items()
    ]
    rows = tag_rows(tags, TODAY, image_is_supported=image_is_supported)
    doomed = set(removals(rows))

    assert doomed == {row.digest for row in rows if row.removable}
    for image in tags:
        row = next((row for row in rows if row.tag == image.tag), None)
        if row is None:
            assert is_fallback(image.tag)
            continue
        day = row.day
        young = day is not None and day > date(2026, 5, 28)
        if row.supported or image.tag == LATEST or day is None or young:
            assert not doomed & {image.digest, *image.parts}
        if image.digest in doomed:
            assert row.removable


def test_removals_are_the_oldest_first_and_each_once() -> None:
    tags = "latest=a 20261128.v1=a 20250301.v1=b 20250201.v1=c 20250101.v1=b"

    assert removals(tag_rows(images(tags), TODAY)) == (digest("b"), digest("c"))


def test_fallback_tags_are_those_of_the_digest() -> None:
    own, other = f"sha256-{'a' * 64}", f"sha256-{'b' * 64}"
    tags = ["latest", own, f"{own}.sig", other, f"{own}0", "sha256-a"]

    assert fallback_tags(digest("a"), tags) == (own, f"{own}.sig")
