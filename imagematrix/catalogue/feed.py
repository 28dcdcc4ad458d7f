"""The feed of releases, in the form of Atom (RFC 4287)."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree import ElementTree

_ATOM = "http://www.w3.org/2005/Atom"
# Names the entries wherever the site is: an ID must never change.
_NAMESPACE = uuid.UUID("0d6f7c57-6b2b-5d1e-9a0e-3c9d0b6f5a11")


@dataclass(frozen=True)
class FeedEntry:
    """A release. `updated` is a date and time (RFC 3339), `link` relative to the feed, `key` what
    makes it the one it is, and never changes."""

    key: str
    title: str
    updated: str
    link: str
    summary: str


def atom_feed(title: str, url: str, updated: str, entries: Sequence[FeedEntry]) -> str:
    """The text of a feed. `url` is that of the site, empty where that is not known; links are then
    relative to where the feed is. `updated` is for a feed without entries."""
    ElementTree.register_namespace("", _ATOM)
    feed = ElementTree.Element(f"{{{_ATOM}}}feed")
    _text(feed, "title", title)
    _text(feed, "id", _id(f"feed {title}"))
    _text(feed, "updated", max((entry.updated for entry in entries), default=updated))
    _text(_child(feed, "author"), "name", title)
    if url:
        _child(feed, "link", rel="self", href=f"{url}feed.xml")
    _child(feed, "link", rel="alternate", type="text/html", href=f"{url}index.html")
    for item in entries:
        entry = _child(feed, "entry")
        _text(entry, "title", item.title)
        _text(entry, "id", _id(item.key))
        _text(entry, "updated", item.updated)
        _child(entry, "link", rel="alternate", type="text/html", href=url + item.link)
        _text(entry, "summary", item.summary)
    ElementTree.indent(feed)
    text = ElementTree.tostring(feed, encoding="unicode")
    return f'<?xml version="1.0" encoding="utf-8"?>\n{text}\n'


def _child(parent: ElementTree.Element, name: str, **attributes: str) -> ElementTree.Element:
    return ElementTree.SubElement(parent, f"{{{_ATOM}}}{name}", attributes)


def _text(parent: ElementTree.Element, name: str, text: str) -> None:
    # XML has no way to write most control characters.
    _child(parent, name).text = "".join(c for c in text if c.isprintable() or c in "\n\t")


def _id(key: str) -> str:
    return uuid.uuid5(_NAMESPACE, key).urn
