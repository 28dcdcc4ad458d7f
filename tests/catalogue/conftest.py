"""A browser, and the catalogue on a web server on loopback."""

import functools
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from imagematrix.catalogue.published import published_text
from imagematrix.cli import main
from imagematrix.repository.project import Project
from tests.catalogue.made_up import SOURCE, TODAY, publications
from tests.engine.conftest import require
from tests.unit.helpers import REPOSITORY


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--screenshots DIR` keeps the pictures that the tests take."""
    parser.addoption("--screenshots", type=Path, metavar="DIR", help="keep pictures there")


@pytest.fixture(scope="session")
def screenshots(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where pictures are kept."""
    chosen: Path | None = request.config.getoption("--screenshots")
    folder = chosen or tmp_path_factory.mktemp("screenshots")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def browser_programs() -> tuple[str, str]:
    """The paths of Chromium and of its driver, installed where that is possible."""
    return require("chromium", "chromium"), require("chromedriver", "chromium-driver")


@pytest.fixture(scope="session")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a catalogue of made-up publications."""
    folder = tmp_path_factory.mktemp("catalogue")
    project = Project(REPOSITORY)
    published = folder / "published.json"
    published.write_text(published_text(publications(project.variants, project.budgets)))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(REPOSITORY)
        given = ["--published", str(published), "--date", str(TODAY), "--source", SOURCE]
        assert main(["catalogue", "--output", str(folder / "site"), *given]) == 0
    return folder / "site"


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Nothing: a log says no more than the tests."""


@pytest.fixture(scope="session")
def site(catalogue: Path) -> Iterator[str]:
    """The address of the catalogue, in a folder of a web server as on GitHub Pages."""
    handler = functools.partial(_Quiet, directory=str(catalogue.parent))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/site/"
        server.shutdown()
        thread.join()
