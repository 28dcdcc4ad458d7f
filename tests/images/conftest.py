"""Which images are checked: options like those of `nox -s build`, and one container for each."""

import argparse
import os
import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache
from pathlib import Path

import pytest

from imagematrix.checks import checks_of
from imagematrix.checks.running import RunningVariant, run_image, wait_until_healthy
from imagematrix.cli import parse
from imagematrix.commands.options import selection_of
from imagematrix.host.bootstrap import bootstrap_name
from imagematrix.host.config import read_host_config
from imagematrix.host.engine import Engine
from imagematrix.host.supply import resolve_supplies
from imagematrix.matrix.selection import select, with_parents
from imagematrix.matrix.variant import Variant
from imagematrix.plan.bake import image_tag
from imagematrix.repository.passed import (
    checks_digest,
    forget_results,
    has_passed,
    record_results,
)
from imagematrix.repository.project import Project
from tests.images.running import image_id, is_present

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


def options_of(config: pytest.Config) -> argparse.Namespace:
    """The options of `nox -s build` that the tests were given."""
    return parse(["build", *shlex.split(config.getoption("--selection"))])


def _selected(config: pytest.Config) -> tuple[Variant, ...]:
    variants = _project().variants
    return with_parents(select(variants, selection_of(options_of(config))), variants)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test for each check of each image; all of an image go to the same worker."""
    if "check" in metafunc.fixturenames:
        cases = [
            pytest.param(variant, check, id=f"{variant.name}-{check.__name__}")
            for variant in _selected(metafunc.config)
            for check in checks_of(variant)
        ]
        metafunc.parametrize(("image", "check"), cases, indirect=["image"])


@cache
def _pass_of(engine: Engine, variant: Variant) -> tuple[str, str]:
    """The image's ID and the digest of its checks, as both were when they were first asked for."""
    names = (variant.name, variant.parent or "")
    image, parent = (image_id(engine, image_tag(name)) if name else "" for name in names)
    return image, checks_digest(ROOT, variant, parent)


class Stage:
    """Holds one running image at a time: the next one that is asked for takes its place."""

    def __init__(self, engine: Engine, tell: Callable[[str, float], None]) -> None:
        self._engine = engine
        self._tell = tell
        self._exit = ExitStack()
        self._running: RunningVariant | None = None

    def show(self, variant: Variant) -> RunningVariant:
        """A container of the image that serves its example: the present one, if it is of it."""
        if self._running is None or self._running.variant != variant:
            self.clear()
            forget_results(ROOT, _pass_of(self._engine, variant)[0])
            started = time.monotonic()
            lock = _project().locks[variant.name]
            reference = image_tag(variant.name)
            context = run_image(self._engine, reference, variant, lock, ROOT)
            running = self._exit.enter_context(context)
            wait_until_healthy(running)
            running.seconds["start"] = time.monotonic() - started
            self._running = running
        return self._running

    def shows(self, variant: Variant) -> bool:
        """Whether the container is one of this image."""
        return self._running is not None and self._running.variant == variant

    def clear(self) -> None:
        """Removes the container, and records the results if all its checks were run; reports the
        seconds that are no work of its checks."""
        running, self._running = self._running, None
        self._exit.close()
        if running is None:
            return
        for what, seconds in running.seconds.items():
            self._tell(f"{running.variant.name} {what}", seconds)
        results = running.results
        if results.keys() == {check.__name__ for check in checks_of(running.variant)}:
            image, digest = _pass_of(self._engine, running.variant)
            record_results(ROOT, image, running.variant.name, digest, results)


@pytest.fixture(scope="session")
def stage(
    engine: Engine, record_testsuite_property: Callable[[str, object], None]
) -> Iterator[Stage]:
    """Where this worker's images run, one after the other."""
    stage = Stage(engine, record_testsuite_property)
    yield stage
    stage.clear()


@pytest.fixture
def image(request: pytest.FixtureRequest, engine: Engine, stage: Stage) -> RunningVariant:
    """A container of one image that serves its example; all checks of an image share it."""
    variant: Variant = request.param
    if stage.shows(variant):
        return stage.show(variant)
    options = options_of(request.config)
    found, digest = _pass_of(engine, variant)
    if not found:
        reason = _why_unavailable(variant, engine)
        if reason and not options.strict:
            pytest.skip(f"{variant.name} is unavailable: {reason}")
        pytest.fail(reason or f"{variant.name} is not built; run `nox -s build -- {variant.name}`")
    if has_passed(ROOT, found, digest) and not options.force:
        pytest.skip(
            f"{variant.name} passed its checks before, and neither it nor they changed;"
            " --force checks it again"
        )
    return stage.show(variant)


@cache
def _why_unavailable(variant: Variant, engine: Engine) -> str:
    for layer in with_parents([variant], _project().variants):
        for reference in layer.base_images:
            names = (reference, bootstrap_name(reference))
            if not any(is_present(engine, name) for name in names):
                return f"its base image {reference} could not be had"
    host = read_host_config(os.environ, Path.home())
    return resolve_supplies(_project().locks, [variant], host)[variant.name].unavailable
