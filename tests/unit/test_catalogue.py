"""The catalogue: its pages, their links and words, its feed, and what it is made from."""

import itertools
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from html.parser import HTMLParser
from pathlib import Path, PurePosixPath
from xml.etree import ElementTree

import pytest

from imagematrix.audit.findings import Finding, Kind, Status
from imagematrix.catalogue.charts import Series, bar, columns
from imagematrix.catalogue.collected import checks_in, licences_in
from imagematrix.catalogue.entries import Entry, entries_of, is_newer, shared_layers
from imagematrix.catalogue.published import (
    Audit,
    Check,
    Publications,
    published_text,
    read_published,
)
from imagematrix.catalogue.settings import settings_of
from imagematrix.catalogue.site import Site, render_site
from imagematrix.cli import main
from imagematrix.errors import InputError
from imagematrix.matrix.schema import Track
from imagematrix.release.components import components_of
from imagematrix.release.contents import DebianPackage, Distribution, ImageContents
from imagematrix.release.cyclonedx import cyclonedx_document
from imagematrix.release.statement import Change
from imagematrix.release.test_results import check_results
from imagematrix.repository.passed import CheckResult, Outcome
from imagematrix.repository.project import Project
from tests.catalogue import made_up
from tests.unit.helpers import REPOSITORY, Repository

VOID = {"area", "base", "br", "col", "hr", "img", "input", "link", "meta", "source", "wbr"}
# In SVG every element may close itself.
CLOSED = {"path", "rect", "line"}
HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&amp; {{ 7 * 7 }}"


class Page(HTMLParser):
    """A page, read as a browser would; elements that are not closed are errors."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert not self._open, f"not closed: {self._open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), f"an attribute of {tag} stands twice: {names}"
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in CLOSED, f"<{tag}/> closes nothing in HTML"
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self._open, f"</{tag}> closes nothing"
        assert self._open.pop() == tag, f"</{tag}> is out of place"

    def handle_data(self, data: str) -> None:
        self.text += data

    def of(self, *tags: str) -> list[dict[str, str]]:
        """The attributes of all elements of these kinds."""
        return [attributes for tag, attributes in self.elements if tag in tags]

    def values(self, attribute: str) -> list[str]:
        """The values of an attribute, of all elements."""
        return [found[attribute] for _, found in self.elements if attribute in found]


@cache
def project() -> Project:
    return Project(REPOSITORY)


@cache
def publications() -> Publications:
    return made_up.publications(project().variants, project().budgets)


def site_of(published: Publications, **changes: object) -> Site:
    """The site of this repository's images."""
    variants = project().variants
    texts = {v.dockerfile: (REPOSITORY / v.dockerfile).read_text() for v in variants}
    site = Site(
        variants,
        texts,
        project().locks,
        project().budgets,
        published,
        made_up.TODAY,
        made_up.SOURCE,
    )
    return replace(site, **changes)  # type: ignore[arg-type]  # The fields of a test.


@cache
def rendered(kind: str) -> dict[PurePosixPath, str]:
    published = publications() if kind == "published" else Publications()
    return render_site(site_of(published))


@cache
def page(kind: str, path: str) -> Page:
    return Page(rendered(kind)[PurePosixPath(path)])


@cache
def entries(kind: str = "published") -> dict[str, Entry]:
    site = site_of(publications() if kind == "published" else Publications())
    found = entries_of(site.variants, site.dockerfiles, site.locks, site.budgets, site.publications)
    return {entry.name: entry for entry in found}


def pages_of(kind: str) -> Iterator[tuple[PurePosixPath, Page]]:
    for path in rendered(kind):
        if path.suffix == ".html":
            yield path, page(kind, str(path))


either = pytest.mark.parametrize("kind", ["published", "nothing"])


@either
def test_every_image_has_a_page_and_the_index_leads_there(kind: str) -> None:
    links = page(kind, "index.html").values("href")
    for variant in project().variants:
        assert f"images/{variant.name}.html" in links
        text = page(kind, f"images/{variant.name}.html").text
        assert variant.name in text
        for pin in variant.pins:
            assert pin in text


@either
def test_every_link_and_anchor_resolves(kind: str) -> None:
    files = rendered(kind)
    seen = 0
    for path, found in pages_of(kind):
        for link in [*found.values("href"), *found.values("src")]:
            if re.match(r"https?://|data:", link):
                continue
            seen += 1
            target, _, anchor = link.partition("#")
            parts: list[str] = []
            for part in (path.parent / target if target else path).parts:
                parts = parts[:-1] if part == ".." else [*parts, part]
            there = PurePosixPath(*parts)
            assert there in files, f"{path}: {link}"
            if anchor:
                assert anchor in page(kind, str(there)).values("id"), f"{path}: {link}"
    assert seen > 200


@either
def test_pages_are_sound_for_readers_of_all_kinds(kind: str) -> None:
    for path, found in pages_of(kind):
        ids = found.values("id")
        assert len(ids) == len(set(ids)), f"{path}: an id stands twice"
        named = [*found.values("aria-labelledby"), *found.values("aria-describedby")]
        for name in " ".join(named).split():
            assert name in ids, f"{path}: {name}"
        labels = {label["for"] for label in found.of("label")}
        for control in found.of("input", "select", "textarea"):
            assert control["id"] in labels, f"{path}: {control}"
        for chart in found.of("svg"):
            assert chart.get("aria-hidden") == "true" or chart["role"] == "img", path
        levels = [int(tag[1]) for tag, _ in found.elements if re.fullmatch("h[1-6]", tag)]
        assert levels.count(1) == 1, path
        assert levels[0] == 1, path
        assert all(b - a <= 1 for a, b in itertools.pairwise(levels)), (path, levels)
        assert found.of("html")[0]["lang"] == "en"
        assert found.of("a")[0]["href"] == "#main"
        assert "undefined" not in found.text.lower()


@either
def test_nothing_is_loaded_from_elsewhere(kind: str) -> None:
    for path, found in pages_of(kind):
        loaded = [element["href"] for element in found.of("link")]
        loaded += [element["src"] for element in found.of("script", "img", "iframe", "source")]
        assert not [link for link in loaded if re.match("https?:|//", link)], path
    style = rendered(kind)[PurePosixPath("style.css")]
    assert "@import" not in style
    assert "url(" not in style


def test_the_page_of_an_image_says_how_to_pull_and_verify_it() -> None:
    name = "scikit-learn1.9-py312-inference"
    entry = entries()[name]
    assert entry.tag
    copies = page("published", entry.page).values("data-copy")
    for command in (
        f"docker pull ghcr.io/example/{name}:latest",
        f"docker pull ghcr.io/example/{name}:20261126.v1",
        f"docker pull ghcr.io/example/{name}@{entry.tag.digest}",
    ):
        assert command in copies
    identity = f"--certificate-identity-regexp '^{made_up.SOURCE}/'"
    for start, end in (
        ("nox -s verify_published -- ", f"ghcr.io/example/{name}:20261126.v1"),
        ("cosign verify-attestation ", entry.pinned_reference),
    ):
        (verify,) = [copy for copy in copies if copy.startswith(start)]
        assert identity in verify
        assert verify.endswith(end)
    (run,) = [copy for copy in copies if copy.startswith("docker run")]
    assert "--publish 127.0.0.1:5001:5001" in run
    assert "/var/azureml-app:ro" in run
    text = page("published", entry.page).text
    assert "1000:1000" in text
    assert "AML_APP_ROOT" in text
    assert "CVE-2026-41288" in text
    for attachment in entry.attachments:
        assert any(attachment.content in copy for copy in copies)


def test_nothing_is_said_to_be_published_that_is_not() -> None:
    for path, found in pages_of("nothing"):
        assert "docker pull" not in found.text, path
    name = made_up.UNPUBLISHED
    assert "Not published yet." in page("nothing", f"images/{name}.html").text
    assert "Nothing is published yet." in page("nothing", "index.html").text
    feed = ElementTree.fromstring(rendered("nothing")[PurePosixPath("feed.xml")])
    assert not feed.findall("{http://www.w3.org/2005/Atom}entry")


def test_what_is_held_pending_or_not_audited_is_seen() -> None:
    held = page("published", f"images/{made_up.HELD}.html")
    assert "latest stays at 20261111.v2" in held.text
    assert "numpy jumped" in held.text
    assert f"docker pull ghcr.io/example/{made_up.HELD}:20261111.v2" in held.values("data-copy")
    pending = page("published", f"images/{made_up.PENDING}.html").text
    assert "2 pending" in pending
    assert "CVE-2026-43711" in pending
    assert "the fix of protobuf fails" in pending
    unknown = page("published", f"images/{made_up.NOT_AUDITED}.html").text
    assert "Not audited." in unknown
    assert "none pending" not in unknown
    upkeep = page("published", "maintainers.html").text
    for name in (made_up.HELD, made_up.PENDING, made_up.NOT_AUDITED, made_up.UNPUBLISHED):
        assert name in upkeep
    assert "cannot be reached (pypi.nvidia.com)" in upkeep
    assert "4.8.0" in upkeep
    assert "2.22.0" in upkeep
    assert "3.4.1" not in upkeep


def test_an_image_without_an_audit_is_never_green() -> None:
    images = tuple(replace(image, audit=None) for image in publications().images)
    files = render_site(site_of(replace(publications(), images=images)))
    assert "none pending" not in "".join(files.values())
    # What could be asked and what could not are both said.
    fix = Finding(Kind.DEB, "libc6", "1", Status.PENDING, "2", ("CVE-2026-1",))
    unknown = Finding(Kind.PYPI, "pip", "1", Status.NOT_AUDITED, detail="one index did not answer")
    audit = Audit("2026-11-28T00:00:00Z", (fix, unknown))
    images = tuple(replace(image, audit=audit) for image in publications().images)
    files = render_site(site_of(replace(publications(), images=images)))
    text = files[PurePosixPath(f"images/{made_up.HELD}.html")]
    assert "one index did not answer" in text
    assert "CVE-2026-1" in text
    assert "unknown (late)" in files[PurePosixPath("maintainers.html")]


def test_retired_images_lead_to_their_successor() -> None:
    retired = page("published", f"images/{made_up.RETIRED}.html")
    assert "scikit-learn1.9-py312-inference.html" in retired.values("href")
    assert "Retired." in retired.text
    assert "none pending" not in retired.text
    gone = page("published", f"images/{made_up.GONE}.html")
    assert "xgboost3.4-py312-inference.html" in gone.values("href")
    assert "no longer built" in gone.text
    for entry in entries().values():
        assert bool(entry.successor) == entry.is_retired


def _hostile(published: Publications) -> Publications:
    """The same, with a text in every place for free text that no page may take for its own."""
    images = []
    for image in published.images:
        tags = tuple(
            replace(
                tag,
                statement=replace(
                    tag.statement,
                    changes=(
                        *(Change(kind, HOSTILE, HOSTILE, HOSTILE) for kind in ("pypi", "cve")),
                        Change(HOSTILE, HOSTILE, "", HOSTILE),
                    ),
                    allowed={HOSTILE: HOSTILE},
                    packages={**tag.statement.packages, HOSTILE: HOSTILE},
                    debian={HOSTILE: HOSTILE},
                    base=HOSTILE,
                    key=HOSTILE,
                    platform=HOSTILE,
                    source=f"javascript:{HOSTILE}",
                    held=HOSTILE,
                ),
                checks=(Check(HOSTILE), Check("other", HOSTILE)),
                licences={"deb": {HOSTILE: (HOSTILE,)}},
            )
            for tag in image.tags
        )
        fix = Finding(Kind.DEB, HOSTILE, HOSTILE, Status.PENDING, HOSTILE, (HOSTILE,), hours=3)
        unknown = replace(fix, status=Status.NOT_AUDITED, detail=HOSTILE)
        audit = Audit("2026-11-28T00:00:00Z", (fix, unknown))
        # So that `latest` is held.
        latest = tags[1].tag if len(tags) > 1 else tags[0].tag
        images.append(replace(image, tags=tags, latest=latest, audit=audit))
    names = [variant.name for variant in project().variants]
    return replace(
        published,
        images=tuple(images),
        refused=dict.fromkeys(names, HOSTILE),
        upstream={variant.framework: HOSTILE for variant in project().variants},
    )


def test_hostile_texts_stay_texts() -> None:
    files = render_site(site_of(_hostile(publications())))
    shown = 0
    for path, text in files.items():
        if path.suffix == ".html":
            found = Page(text)
            assert len(found.of("script")) == (path.name != "404.html")
            assert not found.of("img")
            assert not [n for _, a in found.elements for n in a if n.startswith("on")]
            assert not [link for link in found.values("href") if link.startswith("javascript")]
            shown += found.text.count(HOSTILE)
    assert shown > 500
    feed = ElementTree.fromstring(files[PurePosixPath("feed.xml")])
    assert any(HOSTILE in (element.text or "") for element in feed.iter())


def test_feed_is_atom() -> None:
    files = rendered("published")
    feed = ElementTree.fromstring(files[PurePosixPath("feed.xml")])
    atom = "{http://www.w3.org/2005/Atom}"
    assert feed.tag == f"{atom}feed"
    found = feed.findall(f"{atom}entry")
    tags = sum(len(image.tags) for image in publications().images)
    assert len(found) == min(tags, 100)
    for element in (feed, *found):
        for name in ("title", "id", "updated"):
            assert (element.findtext(f"{atom}{name}") or "").strip()
    ids = [entry.findtext(f"{atom}id") for entry in found]
    assert len(set(ids)) == len(ids)
    assert all(id and id.startswith("urn:uuid:") for id in ids)
    updated = [entry.findtext(f"{atom}updated") or "" for entry in found]
    assert updated == sorted(updated, reverse=True)
    assert feed.findtext(f"{atom}updated") == updated[0]
    for entry in found:
        (link,) = entry.findall(f"{atom}link")
        path, _, anchor = link.attrib["href"].partition("#")
        assert anchor in page("published", path).values("id")
    # IDs never change, wherever the site is.
    moved = render_site(site_of(publications(), url="https://example.github.io/images/"))
    other = ElementTree.fromstring(moved[PurePosixPath("feed.xml")])
    assert [entry.findtext(f"{atom}id") for entry in other.findall(f"{atom}entry")] == ids
    links = [link.attrib["href"] for link in other.iter(f"{atom}link")]
    assert all(link.startswith("https://example.github.io/images/") for link in links)


def test_the_page_for_wrong_addresses_needs_nothing_beside_it() -> None:
    found = page("published", "404.html")
    assert not found.of("script")
    assert [e["rel"] for e in found.of("link")] == ["icon"]
    url = "https://example.github.io/images/"
    text = render_site(site_of(publications(), url=url))[PurePosixPath("404.html")]
    assert {a["href"] for a in Page(text).of("a")} == {"#main", url}


def test_programs_can_read_what_is_published() -> None:
    rows = json.loads(rendered("published")[PurePosixPath("images.json")])
    by_name = {row["name"]: row for row in rows}
    assert by_name[made_up.HELD]["tag"] == "20261111.v2"
    assert by_name[made_up.HELD]["reference"] == f"ghcr.io/example/{made_up.HELD}:latest"
    assert by_name[made_up.UNPUBLISHED]["reference"] is None


def test_published_is_read_as_it_was_written() -> None:
    text = published_text(publications())
    assert read_published(text, PurePosixPath("published.json")) == publications()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"prefix": "ghcr.io/example"', '"prefix": "ghcr.io/Example X"', "prefix: "),
        ('"prefix": "ghcr.io/example"', '"prefix": null', "does not say where"),
        ('"latest": "20261126.v1"', '"latest": "20261126.v9"', "none of its tags"),
        ('"tag": "20261126.v1"', '"tag": "$(reboot)"', "images.0.tags.0.tag: "),
        ('"name": "minimal-py311-inference"', '"name": "minimal-py999"', "another image"),
        ('"upstream"', '"upstraem"', "upstraem"),
        ('"published": "2026-11-26T03:14:44Z"', '"published": "yesterday"', "yesterday"),
        ('"commit": "', '"commit": "$(reboot)', "no full hash of a commit"),
        ("{", "[", "published.json: "),
    ],
)
def test_what_is_wrong_with_the_published_is_said(old: str, new: str, message: str) -> None:
    text = published_text(publications())
    assert old in text
    with pytest.raises(InputError) as error:
        read_published(text.replace(old, new, 1), PurePosixPath("published.json"))
    assert message in str(error.value)
    assert str(error.value).startswith("published.json: ")


def _render_in(seed: str, folder: Path) -> dict[str, bytes]:
    published = folder / "published.json"
    published.write_text(published_text(publications()))
    command = [sys.executable, "-m", "imagematrix", "catalogue", "--date", "2026-11-28"]
    command += ["--published", str(published), "--output", str(folder / seed)]
    environ = {"PYTHONHASHSEED": seed, "PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"}
    subprocess.run(command, cwd=REPOSITORY, env=environ, check=True, capture_output=True)
    return {
        str(path.relative_to(folder / seed)): path.read_bytes()
        for path in (folder / seed).rglob("*")
        if path.is_file()
    }


def test_the_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    first = _render_in("1", tmp_path)
    assert first == _render_in("2", tmp_path)
    assert first["index.html"]


def test_command_writes_a_site_and_replaces_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    repository = Repository.write(tmp_path / "repository")
    monkeypatch.chdir(repository.root)
    output = tmp_path / "site"
    assert main(["catalogue", "--output", str(output)]) == 0
    assert (output / "images/xgboost3.4-py312-inference.html").is_file()
    (output / "images/stale.html").write_text("old")
    assert main(["catalogue", "--output", str(output)]) == 0
    assert not (output / "images/stale.html").exists()
    # Nothing is left beside it.
    assert {path.name for path in tmp_path.iterdir()} == {"repository", "site"}
    assert capsys.readouterr().out.splitlines() == [str(output / "index.html")] * 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--output", "theirs"], "theirs holds other files"),
        (["--output", "file"], "file is no folder"),
        (["--published", "nowhere.json"], "nowhere.json: cannot be read"),
        (["--published", "wrong.json"], "wrong.json: "),
        (["--image-prefix", "ghcr.io/a b"], "--image-prefix: 'ghcr.io/a b'"),
        (["--source", "javascript:alert(1)"], "--source: 'javascript:alert(1)'"),
        (["--url", "example.org"], "--url: 'example.org'"),
    ],
)
def test_bad_input_writes_nothing(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    repository = Repository.write(tmp_path)
    repository.put("theirs/thesis.txt", "years of work")
    repository.put("file", "text")
    repository.put("wrong.json", "{")
    before = repository.files()
    monkeypatch.chdir(tmp_path)
    assert main(["catalogue", *arguments]) == 2
    assert message in capsys.readouterr().err
    assert repository.files() == before


def test_prefix_on_the_command_line_goes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    published = tmp_path / "published.json"
    published.write_text(published_text(publications()))
    monkeypatch.chdir(REPOSITORY)
    output = tmp_path / "site"
    # Names of owners have upper case at GitHub, those of images have none.
    given = ["--published", str(published), "--image-prefix", "ghcr.io/Other"]
    assert main(["catalogue", "--output", str(output), *given]) == 0
    text = (output / "index.html").read_text()
    assert "ghcr.io/other/" in text
    assert "ghcr.io/example/" not in text


def test_settings_of_an_image_are_those_of_its_dockerfiles() -> None:
    root = (
        "FROM debian AS first\nENV LOST=1\nUSER 0\n"
        "FROM scratch\n# A comment \\\nENV A=1 \\\n    B='two words'\nEXPOSE 5001\nUSER 1000:1000\n"
        'ENTRYPOINT ["tini", "--"]\nCMD ["python3", "-m", "server"]\nWORKDIR /app\n'
    )
    child = 'ARG BASE\nFROM ${BASE}\nUSER 0\nRUN true\nENV B=3\nLABEL a.b="c d"\nUSER 1000:1000\n'
    settings = settings_of([root, child])
    assert settings.environment == {"A": "1", "B": "3"}
    assert settings.labels == {"a.b": "c d"}
    assert settings.entrypoint + settings.command == ("tini", "--", "python3", "-m", "server")
    assert (settings.user, settings.folder, settings.ports) == ("1000:1000", "/app", ("5001",))


def test_layers_are_shared_by_digest_or_with_the_family() -> None:
    name, parent = "lightgbm4.7-py312-inference", "minimal-py312-inference"
    found = shared_layers(entries("nothing")[name], entries("nothing").values())
    (family,) = found
    assert parent in family.others
    assert "xgboost3.4-py312-inference" in family.others
    assert "minimal-py311-inference" not in family.others
    assert name not in family.others
    assert family.layers == project().budgets.measured[parent].layers
    # Its `latest` is of another day: it shares with those of that day only.
    published = shared_layers(entries()["xgboost3.4-py312-inference"], entries().values())
    (same,) = published
    assert parent in same.others
    assert name not in same.others
    assert same.layers == 2


def test_newer_releases() -> None:
    assert is_newer("2.22.0", "2.21")
    assert is_newer("3.0", "2.21")
    assert is_newer("1.10", "1.9")
    assert not is_newer("2.21.3", "2.21")
    assert not is_newer("2.20", "2.21")
    assert not is_newer("unknown", "2.21")


def test_support_of_an_image_that_is_not_published_is_that_of_the_matrix() -> None:
    variant = {v.name: v for v in project().variants}[made_up.UNPUBLISHED]
    assert entries()[made_up.UNPUBLISHED].supported_until == variant.supported_until is not None
    historical = [e for e in entries().values() if e.track is Track.HISTORICAL]
    assert historical
    assert not any(entry.supported_until for entry in historical)


def test_statements_give_checks_and_licences() -> None:
    results = {
        "b": CheckResult(Outcome.PASSED),
        "a": CheckResult(Outcome.SKIPPED, "this machine has no GPU"),
    }
    predicate = check_results(results, "https://example.org/images", "0" * 40)
    assert checks_in(predicate) == (Check("a", "this machine has no GPU"), Check("b"))
    contents = ImageContents(
        "3.12.1",
        "1.0",
        "trixie",
        (DebianPackage("libc6", "2.41", "amd64", "glibc", "2.41", ("LGPL-2.1+",)),),
        (Distribution("numpy", "2.5.5", ("BSD-3-Clause",)), Distribution("plain", "1", ())),
    )
    components = components_of(contents, {})
    document = json.loads(cyclonedx_document("x", f"sha256:{'0' * 64}", components))
    licences = licences_in(document)
    assert licences["deb"].keys() == {"libc6"}
    assert licences["deb"]["libc6"]
    assert licences["pypi"] == {"numpy": ("BSD-3-Clause",), "plain": ()}


def _rects(text: str) -> list[dict[str, float]]:
    elements = ElementTree.fromstring(text).iter("rect")
    keys = ("x", "y", "width", "height")
    return [{key: float(element.attrib[key]) for key in keys} for element in elements]


def test_columns_start_at_zero_and_are_as_tall_as_their_values() -> None:
    one, two = Series("one", "fill-main", [10, 20, 0]), Series("two", "fill-light", [5, 0, 0])
    drawn = columns("c", "Sizes", "10, 20, 0", ["a", "b", "c"], [one, two], "MB")
    chart = ElementTree.fromstring(drawn)
    assert [element.text for element in chart][:2] == ["Sizes", "10, 20, 0"]
    (a1, a2, b1, b2, c1, c2) = _rects(drawn)
    assert b1["height"] == pytest.approx(2 * a1["height"], abs=0.05)
    assert a1["height"] == pytest.approx(2 * a2["height"], abs=0.05)
    base = {round(rect["y"] + rect["height"]) for rect in (a1, a2, b1, b2, c1, c2)}
    assert len(base) == 1
    stacked = _rects(columns("c", "", "", ["a"], [one, two], stacked=True))
    assert stacked[1]["y"] + stacked[1]["height"] == pytest.approx(stacked[0]["y"], abs=0.05)
    # Nothing at all is no error.
    assert _rects(columns("c", "", "", ["a"], [Series("", "", [0])]))[0]["height"] == 0


def test_bars_are_shares_and_what_is_there_is_seen() -> None:
    first, second, third = _rects(bar([("a", 30), ("b", 70), ("c", 0)], 100))
    assert (first["width"], second["x"], second["width"], third["width"]) == (30, 30, 70, 0)
    (tiny,) = _rects(bar([("a", 1)], 100_000))
    assert tiny["width"] > 0.5


def _colours(style: str) -> tuple[dict[str, str], dict[str, str]]:
    """The colours of the light and of the dark scheme."""
    light, dark = re.findall(r":root \{(.*?)\}", style, re.DOTALL)[:2]
    found = dict(re.findall(r"(--[\w-]+): (#[0-9a-f]{6});", light))
    return found, {**found, **dict(re.findall(r"(--[\w-]+): (#[0-9a-f]{6});", dark))}


def _luminance(colour: str) -> float:
    """https://www.w3.org/TR/WCAG22/#dfn-relative-luminance"""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_text_has_contrast_in_both_schemes() -> None:
    grounds = ("ground", "surface", "sunken")
    pairs = [(text, ground) for text in ("ink", "muted") for ground in grounds]
    pairs += [(text, "surface") for text in ("accent", "good", "warn", "bad")]
    pairs += [("accent", "ground"), ("on-accent", "accent"), ("code-ink", "code")]
    pairs += [(text, f"{text}-soft") for text in ("accent", "good", "warn", "bad")]
    style = rendered("published")[PurePosixPath("style.css")]
    for scheme in _colours(style):
        for text, ground in pairs:
            a, b = sorted(_luminance(scheme[f"--{name}"]) for name in (text, ground))
            assert (b + 0.05) / (a + 0.05) >= 4.5, (text, ground)
