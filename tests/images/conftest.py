"""Which images are checked: options like those of `nox -s build`, and one container for each."""

import argparse
import os
import shlex
from collections.abc import Iterator
from contextlib import ExitStack
from functools import cache
from pathlib import Path

import pytest

from imagematrix.availability import find_supplies
from imagematrix.bake import image_tag
from imagematrix.cli import build_options, selection_of
from imagematrix.engine import Engine, find_engine
from imagematrix.hostconfig import read_host_config
from imagematrix.project import Project
from imagematrix.variant import Variant, select, with_parents
from tests.images.checks import checks_of
from tests.images.running import RunningImage, is_present, run_image, wait_until_healthy

ROOT = Path(__file__).resolve().parents[2]


def pytest_addoption(parser: pytest.Parser) -> None:
    """What is selected and how, in the words of `nox -s build`."""
    parser.addoption(
        "--selection",
        default="",
        metavar="OPTIONS",
        help="which images: what stands behind `nox -s build --`, as one argument",
    )


@cache
def _project() -> Project:
    return Project(ROOT)


def _options(config: pytest.Config) -> argparse.Namespace:
    return build_options(shlex.split(config.getoption("--selection")))


def _selected(config: pytest.Config) -> tuple[Variant, ...]:
    variants = _project().variants
    return with_parents(select(variants, selection_of(_options(config))), variants)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test for each check of each image; all of an image go to the same worker."""
    if "check" not in metafunc.fixturenames:
        return
    cases = [
        pytest.param(
            variant,
            check,
            id=f"{variant.name}-{check.__name__}",
            marks=pytest.mark.xdist_group(variant.name),
        )
        for variant in _selected(metafunc.config)
        for check in checks_of(variant)
    ]
    metafunc.parametrize(("image", "check"), cases, indirect=["image"])


@pytest.fixture(scope="session")
def engine() -> Engine:
    """The engine that holds the images."""
    found = find_engine()
    if found is None:
        pytest.fail("no Docker engine answers; run `nox -s build` first")
    return found


class Stage:
    """Holds one running image at a time: the next one that is asked for takes its place."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._exit = ExitStack()
        self._running: RunningImage | None = None

    def show(self, variant: Variant) -> RunningImage:
        """A container of the image that serves its example: the present one, if it is of it."""
        if self._running is None or self._running.variant != variant:
            self.clear()
            lock = _project().locks[variant.name]
            reference = image_tag(variant.name)
            context = run_image(self._engine, reference, variant, lock, ROOT)
            running = self._exit.enter_context(context)
            wait_until_healthy(running)
            self._running = running
        return self._running

    def clear(self) -> None:
        """Removes the container."""
        self._running = None
        self._exit.close()


@pytest.fixture(scope="session")
def stage(engine: Engine) -> Iterator[Stage]:
    """Where this worker's images run, one after the other."""
    stage = Stage(engine)
    yield stage
    stage.clear()


@pytest.fixture
def image(request: pytest.FixtureRequest, engine: Engine, stage: Stage) -> RunningImage:
    """A container of one image that serves its example; all checks of an image share it."""
    variant: Variant = request.param
    if not is_present(engine, image_tag(variant.name)):
        reason = _why_unavailable(variant, engine)
        if reason and not _options(request.config).strict:
            pytest.skip(f"{variant.name} is unavailable: {reason}")
        pytest.fail(reason or f"{variant.name} is not built; run `nox -s build -- {variant.name}`")
    return stage.show(variant)


@cache
def _why_unavailable(variant: Variant, engine: Engine) -> str:
    if variant.cuda_image and not is_present(engine, variant.cuda_image):
        return f"{variant.cuda_image}, which its libraries are only in, could not be pulled"
    host = read_host_config(os.environ, Path.home())
    return find_supplies(_project().locks, [variant], host)[variant.name].unavailable
