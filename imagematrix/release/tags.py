"""The tags of an image: the dated ones, which of them are supported, and what may be removed.

Nothing here reads a clock or asks a registry.
"""

import calendar
import datetime
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Self

from imagematrix.errors import UserError

LATEST = "latest"
SUPPORTED_MONTHS = 6
_DATED = re.compile(r"([0-9]{8})\.v([1-9][0-9]*)")
# https://github.com/opencontainers/distribution-spec/blob/main/spec.md#referrers-tag-schema
# cosign adds .sig, .att and .sbom.
_FALLBACK = re.compile(r"sha256-[0-9a-f]{64}(\..+)?")


@dataclass(frozen=True, order=True)
class DatedTag:
    """A tag `YYYYMMDD.vN`: the day in UTC, and which publication of that day it is."""

    day: datetime.date
    number: int

    def __str__(self) -> str:
        return f"{self.day.isoformat().replace('-', '')}.v{self.number}"

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """The tag in a text; None if that is another tag."""
        if (match := _DATED.fullmatch(text)) is None:
            return None
        try:
            day = datetime.datetime.strptime(match[1], "%Y%m%d").date()
        except ValueError:
            return None
        return cls(day, int(match[2]))

    @classmethod
    def of(cls, text: str) -> Self:
        """The tag in a text. Raises UserError if that is another tag."""
        if (tag := cls.parse(text)) is None:
            raise UserError(f"{text} is no dated tag, such as 20261128.v1")
        return tag


def next_tag(day: datetime.date, taken: Iterable[str]) -> DatedTag:
    """The tag of a publication on a day: after all that are taken, also if one between is free."""
    numbers = [tag.number for tag in map(DatedTag.parse, taken) if tag and tag.day == day]
    return DatedTag(day, max(numbers, default=0) + 1)


def newest_tag(tags: Iterable[str]) -> str:
    """The newest dated tag; empty if there is none."""
    return str(max(filter(None, map(DatedTag.parse, tags)), default=""))


def is_fallback(tag: str) -> bool:
    """Whether a tag only leads to what refers to an image, for registries that cannot list it."""
    return _FALLBACK.fullmatch(tag) is not None


def supported_since(latest: datetime.date) -> datetime.date:
    """The day of the oldest supported tags, where `latest` is of the given day."""
    return months_before(latest, SUPPORTED_MONTHS)


def months_before(day: datetime.date, months: int) -> datetime.date:
    """The day of the same number some months before; the last of its month if there is no such."""
    year, month = divmod(day.year * 12 + day.month - 1 - months, 12)
    last = calendar.monthrange(year, month + 1)[1]
    return datetime.date(year, month + 1, min(day.day, last))


@dataclass(frozen=True)
class TaggedImage:
    """A tag in a registry. `size` is the sum of the compressed layers in bytes, None if it is not
    known. `parts` are the digests of the images in an index."""

    tag: str
    digest: str
    size: int | None
    parts: tuple[str, ...] = ()


@dataclass(frozen=True)
class TagRow:
    """A tag, whether it is supported, and whether a clean-up would remove it. `day` is None for a
    tag without a date, `age` is in days, `why` says why it is kept."""

    tag: str
    day: datetime.date | None
    digest: str
    size: int | None
    age: int | None
    supported: bool
    removable: bool
    why: str


def tag_rows(
    tags: Sequence[TaggedImage],
    today: datetime.date,
    *,
    image_is_supported: bool = True,
) -> tuple[TagRow, ...]:
    """The tags of one image: `latest`, then the dated ones from the newest on, then all others.

    Supported are `latest`, and dated tags that are at most six months older than the newest dated
    tag with its digest; none if the image is not supported.
    A tag is removable if it is not among these, is older than six months, and if no tag that stays
    has its digest: a registry removes a manifest with all of its tags. Without a `latest` that has
    a dated tag, all tags stay.
    """
    images = [image for image in tags if not is_fallback(image.tag)]
    dated = {image.tag: tag for image in images if (tag := DatedTag.parse(image.tag))}
    latest = next((image.digest for image in images if image.tag == LATEST), None)
    days = [dated[i.tag].day for i in images if i.tag in dated and i.digest == latest]
    since = supported_since(max(days)) if days else None

    kept: dict[str, str] = {}
    for image in images:
        day = dated[image.tag].day if image.tag in dated else None
        kept[image.tag] = _why_kept(image, day, since, today, is_latest=image.digest == latest)
    # What one of them needs, the others with the same digest cannot do without.
    digests = {digest: i.tag for i in images if kept[i.tag] for digest in (*i.parts, i.digest)}

    rows = []
    for image in images:
        day = dated[image.tag].day if image.tag in dated else None
        within = image.digest == latest or (day is not None and since is not None and day >= since)
        why = kept[image.tag]
        if not why and image.digest in digests:
            why = f"is what {digests[image.digest]} is, or holds"
        rows.append(
            TagRow(
                image.tag,
                day,
                image.digest,
                image.size,
                (today - day).days if day else None,
                within and image_is_supported,
                not why,
                why,
            )
        )
    newest_first = sorted(rows, key=lambda row: dated.get(row.tag, _NEVER), reverse=True)
    return tuple(sorted(newest_first, key=lambda row: (row.tag != LATEST, row.day is None)))


_NEVER = DatedTag(datetime.date.min, 0)


def _why_kept(
    image: TaggedImage,
    day: datetime.date | None,
    since: datetime.date | None,
    today: datetime.date,
    *,
    is_latest: bool,
) -> str:
    """Why a tag stays, whatever the others are; empty if nothing speaks for it."""
    if image.tag == LATEST:
        return "is latest"
    if day is None:
        return "has no date"
    if is_latest:
        return "is what latest is"
    if since is None:
        return "latest is none of the dated tags"
    if day >= since:
        return f"at most {SUPPORTED_MONTHS} months older than latest"
    if day > months_before(today, SUPPORTED_MONTHS):
        return f"younger than {SUPPORTED_MONTHS} months"
    return ""


def removals(rows: Iterable[TagRow]) -> tuple[str, ...]:
    """The digests that a clean-up removes, each once, the oldest first."""
    oldest_first = sorted(
        (row for row in rows if row.removable), key=lambda row: row.day or datetime.date.max
    )
    return tuple(dict.fromkeys(row.digest for row in oldest_first))


def fallback_tags(digest: str, tags: Collection[str]) -> tuple[str, ...]:
    """Those tags that lead to what refers to a digest."""
    start = digest.replace(":", "-")
    return tuple(tag for tag in tags if is_fallback(tag) and tag.startswith(start))
