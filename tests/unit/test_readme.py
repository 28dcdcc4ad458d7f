"""README and docs: commands, links, names and tables are those of the repository."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

from examples import make
from imagematrix.matrix.schema import FrameworkSpec, MatrixSpec, Track
from imagematrix.matrix.slim import BaseSlim, FrameworkSlim
from imagematrix.repository.project import Project
from tests.unit.helpers import REPOSITORY
from tests.unit.sessions import calls_of, check_call, sessions
from tests.unit.test_workflows import WORKFLOWS

README = REPOSITORY / "README.md"
DOCS = sorted((REPOSITORY / "docs").glob("*.md"))
ADD_AN_IMAGE = REPOSITORY / "docs/add-an-image.md"

# The image that docs/add-an-image.md adds: it is in no matrix.
ADDED = "statsmodels0.15-py312-inference"

ABOUT = [REPOSITORY / name for name in ("CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")]

every_page = pytest.mark.parametrize("page", [README, *ABOUT, *DOCS], ids=lambda page: page.name)


def project() -> Project:
    return Project(REPOSITORY)


@pytest.mark.parametrize(
    "page", [README, *ABOUT, *DOCS, *WORKFLOWS, REPOSITORY / ".ci/run"], ids=lambda page: page.name
)
def test_sessions_and_their_options_exist(page: Path) -> None:
    for session, options in calls_of(page.read_text()):
        assert session in sessions(), f"the noxfile has no session {session}"
        try:
            if options:  # Without any, it is but the name of the session.
                check_call(session, options)
        except SystemExit:
            pytest.fail(f"`nox -s {session} -- {' '.join(options)}` is refused")


def test_readme_lists_every_session() -> None:
    table = re.findall(r"^\| `(\w+)` \| `nox -s (\w+)", README.read_text(), re.MULTILINE)
    assert [first for first, _ in table] == [second for _, second in table]
    assert {name for name, _ in table} == sessions().keys()


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
    explained = {part for text in code for part in re.split(r"[\[\].]+", text)}
    assert not keys - explained, f"{sorted(keys - explained)} are not explained"


def keys_of(schema: dict[str, Any]) -> set[str]:
    """The keys of a model and of all models inside it."""
    sections = [schema, *schema["$defs"].values()]
    return {key for section in sections for key in section.get("properties", {})}


def test_added_example_has_what_makes_it() -> None:
    """The script that the page shows defines what `examples/make.py` asks for."""
    _, script = re.findall(r"```python\n(.*?)```", ADD_AN_IMAGE.read_text(), re.DOTALL)
    asked = set(re.findall(r"`([A-Z]+(?=`)|[a-z]+(?=\())", make.__doc__ or ""))
    defined = re.findall(r"^(?:def )?(\w+)(?: = |\()", script, re.MULTILINE)
    assert set(defined) == asked == {"MODEL", "ROWS", "train", "weights", "respond"}


def test_added_image_pins_what_the_others_pin() -> None:
    """The page's entry is right where it is put, and takes the pins of the other frameworks."""
    (entry,) = re.findall(r"```yaml\n(  statsmodels:.*?)```", ADD_AN_IMAGE.read_text(), re.DOTALL)
    release = FrameworkSpec.model_validate(yaml.safe_load(entry)["statsmodels"]).releases[0]
    spec = project().matrix.spec
    assert set(release.sets) <= spec.sets.keys()
    assert {"numpy", "pandas"} <= {Requirement(p).name for s in release.sets for p in spec.sets[s]}
