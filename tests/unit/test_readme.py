"""What README and docs tell: commands, links, names and tables are those of the repository."""

import re
from pathlib import Path
from typing import Any

import pytest
from packaging.utils import canonicalize_name

from examples import make
from imagematrix.cli import parse
from imagematrix.matrix.schema import MatrixSpec, Track
from imagematrix.matrix.slim import BaseSlim, FrameworkSlim
from imagematrix.repository.pages import image_table
from imagematrix.repository.project import Project
from tests.unit.helpers import REPOSITORY
from tests.unit.test_workflows import nox_sessions

README = REPOSITORY / "README.md"
DOCS = sorted((REPOSITORY / "docs").glob("*.md"))
ARCHITECTURE = REPOSITORY / "docs/architecture.md"
ADD_AN_IMAGE = REPOSITORY / "docs/add-an-image.md"

INSTALL = "python3 -m venv .venv && . .venv/bin/activate && pip install nox"
BUILD = "nox -s build                                   # builds the current CPU images"
TEST = "nox -s test                                    # unit tests, then every check in the running containers"  # noqa: E501

ABOUT = [REPOSITORY / name for name in ("CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")]

every_page = pytest.mark.parametrize("page", [README, *ABOUT, *DOCS], ids=lambda page: page.name)


def project() -> Project:
    return Project(REPOSITORY)


def test_every_page_is_here() -> None:
    assert {"architecture.md", "add-an-image.md", "use-the-images.md", "scoring-server.md"} <= {
        page.name for page in DOCS
    }


def test_the_two_commands_stand_in_the_readme() -> None:
    assert f"```\n{INSTALL}\n{BUILD}\n{TEST}\n```\n" in README.read_text()


def test_ci_runs_the_commands_of_the_readme() -> None:
    lines = (REPOSITORY / ".ci/run").read_text().splitlines()
    command = TEST.split("#")[0].strip()
    assert command in lines
    assert INSTALL.replace("pip install", "pip install --quiet") in lines
    assert sum("nox -s" in line for line in lines) == 1


@every_page
def test_sessions_exist(page: Path) -> None:
    named = set(re.findall(r"nox -s (\w+)", page.read_text()))
    unknown = named - nox_sessions().keys()
    assert not unknown, f"the noxfile has no session {unknown}"


@every_page
def test_options_exist(page: Path) -> None:
    text = page.read_text()
    for session, options in re.findall(
        r"nox -s (build|test|test_images|examples) -- ([^#`\n]+)", text
    ):
        words = options.split("&&")[0].replace("'", "").split()
        command = "examples" if session == "examples" else "build"
        parse([command, *words])  # Leaves with an error where one is unknown.


def test_readme_tells_every_session() -> None:
    table = re.findall(r"^\| `(\w+)` \| `nox -s (\w+)", README.read_text(), re.MULTILINE)
    assert [first for first, _ in table] == [second for _, second in table]
    assert {name for name, _ in table} == nox_sessions().keys()


@every_page
def test_links_lead_to_files(page: Path) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", page.read_text())
    for link in links:
        if link.startswith(("https://", "http://")):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{page.name} links to {link}, which does not exist"
        if anchor:
            assert anchor in anchors_of(target), f"{page.name} links to {link}: no such heading"


def test_readme_leads_to_every_page() -> None:
    links = re.findall(r"\]\((docs/[^)#\s]+)\)", README.read_text())
    assert set(links) == {f"docs/{page.name}" for page in DOCS}
    assert all(f"]({page.name})" in README.read_text() for page in ABOUT)


def anchors_of(page: Path) -> set[str]:
    """The headings of a page, as GitHub names them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {
        re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-") for heading in headings
    }


def test_table_is_that_of_the_matrix() -> None:
    match = re.search(r"<!-- images -->\n(.*?)<!-- /images -->", README.read_text(), re.DOTALL)
    assert match is not None
    assert match[1] == image_table(project().variants, project().sizes), "run `nox -s render`"


@every_page
def test_named_images_are_in_the_matrix(page: Path) -> None:
    pattern = r"[a-z][a-z0-9.-]*-py[\d.]+(?:-[a-z0-9.-]+)?-inference(?:-[a-z]+)?"
    named = set(re.findall(pattern, page.read_text()))
    names = {variant.name for variant in project().variants}
    assert named <= names, f"{sorted(named - names)} are not in the matrix"


def test_use_page_serves_every_framework() -> None:
    text = (REPOSITORY / "docs/use-the-images.md").read_text()
    served = set(re.findall(r"^try (\S+) ", text, re.MULTILINE))
    current = [variant for variant in project().variants if variant.track is Track.CURRENT]
    assert served == {str(variant.example) for variant in current}


def test_every_key_of_the_matrix_is_explained() -> None:
    """Each key of each section stands in the page, as code."""
    code = set(re.findall(r"`([^`\n]+)`", ADD_AN_IMAGE.read_text()))
    models = (MatrixSpec, BaseSlim, FrameworkSlim)
    keys = {key for model in models for key in keys_of(model.model_json_schema())}
    assert len(keys) > 20
    told = {part for text in code for part in re.split(r"[\[\].]+", text)}
    assert not keys - told, f"{sorted(keys - told)} are not explained"


def keys_of(schema: dict[str, Any]) -> set[str]:
    """The keys of a model and of all models inside it."""
    sections = [schema, *schema["$defs"].values()]
    return {key for section in sections for key in section.get("properties", {})}


def test_the_added_example_has_what_makes_it() -> None:
    """The script that the page shows defines what `examples/make.py` asks for."""
    _, script = re.findall(r"```python\n(.*?)```", ADD_AN_IMAGE.read_text(), re.DOTALL)
    asked = set(re.findall(r"`([A-Z]+(?=`)|[a-z]+(?=\())", make.__doc__ or ""))
    defined = re.findall(r"^(?:def )?(\w+)(?: = |\()", script, re.MULTILINE)
    assert set(defined) == asked == {"MODEL", "ROWS", "train", "weights", "respond"}


def test_the_added_image_is_like_the_others() -> None:
    """The pins that the page shows are still those of the frameworks, but for its own."""
    (block,) = re.findall(r"^ +pins: \[(.*)\]$", ADD_AN_IMAGE.read_text(), re.MULTILINE)
    own, *shared = block.split(", ")
    assert canonicalize_name(own.split("==")[0]) == "statsmodels"
    pinned = {pin for variant in project().variants for pin in variant.pins}
    assert set(shared) <= pinned, "take the pins that the other frameworks have"
