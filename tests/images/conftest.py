"""Which images are checked: options like those of `nox -s build`, and one container for each."""

import argparse
import os
import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from imagematrix.cli import parse
from imagematrix.commands.options import selection_of
from imagematrix.errors import UserError
from imagematrix.host.bootstrap import bootstrap_name
from imagematrix.host.config import read_host_config
from imagematrix.host.engine import Engine, find_engine
from imagematrix.host.supply import resolve_supplies
from imagematrix.matrix.selection import select, with_parents
from imagematrix.matrix.variant import Variant
from imagematrix.plan.bake import image_tag
from imagematrix.repository.project import Project
from tests.images.checks import checks_of
from tests.images.passed import Outcomes, evidence, passed_before
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


def options_of(config: pytest.Config) -> argparse.Namespace:
    """The options of `nox -s build` that the tests were given."""
    return parse(["build", *shlex.split(config.getoption("--selection"))])


def _selected(config: pytest.Config) -> tuple[Variant, ...]:
    variants = _project().variants
    return with_parents(select(variants, selection_of(options_of(config))), variants)


_EVIDENCE = pytest.StashKey[dict[str, str]]()
_OUTCOMES = pytest.StashKey[Outcomes]()


def _is_worker(config: pytest.Config) -> bool:
    return hasattr(config, "workerinput")


def pytest_configure(config: pytest.Config) -> None:
    """Looks once, before anything runs, at what a pass of each image holds for."""
    if not _is_worker(config):
        try:
            found = find_engine()
        except UserError as error:
            pytest.exit(str(error), returncode=error.exit_status)
        selected = _selected(config) if found else ()
        config.stash[_EVIDENCE] = evidence(ROOT, found, selected) if found else {}
        config.stash[_OUTCOMES] = Outcomes()
        config.pluginmanager.register(_Recorder(config))


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tells each worker of pytest-xdist what need not run, so that all collect the same."""
    node.workerinput["passed_before"] = sorted(_passed_before(node.config))


def _passed_before(config: pytest.Config) -> set[str]:
    """The images that passed these very checks before."""
    if _is_worker(config):
        return set(config.workerinput["passed_before"])  # type: ignore[attr-defined]
    if options_of(config).force:
        return set()
    now = config.stash[_EVIDENCE]
    return {image for image, value in passed_before(ROOT).items() if now.get(image) == value}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test for each check of each image; all of an image go to the same worker.

    An image that passed before, as it is, is one that is skipped.
    """
    if "check" not in metafunc.fixturenames:
        return
    before = _passed_before(metafunc.config)
    cases = []
    for variant in _selected(metafunc.config):
        checks = checks_of(variant)
        if variant.name in before:
            reason = (
                f"{variant.name} passed its {len(checks)} checks before, and neither it nor they"
                " changed; --force checks it again"
            )
            skip = pytest.mark.skip(reason=reason)
            cases.append(pytest.param(variant, checks[0], id=variant.name, marks=skip))
            continue
        cases += [
            pytest.param(
                variant,
                check,
                id=f"{variant.name}-{check.__name__}",
                marks=pytest.mark.xdist_group(variant.name),
            )
            for check in checks
        ]
    metafunc.parametrize(("image", "check"), cases, indirect=["image"])


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Has each report say of which image and which check it is."""
    before = _passed_before(config)
    for item in items:
        parameters = getattr(item, "callspec", None) and item.callspec.params  # type: ignore[attr-defined]
        if parameters and "check" in parameters and parameters["image"].name not in before:
            told = (parameters["image"].name, parameters["check"].__name__)
            item.user_properties.append(("check", told))


class _Recorder:
    """Notes, where all reports come together, which images passed."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Takes in one report."""
        told = dict(report.user_properties).get("check")
        outcomes = self._config.stash[_OUTCOMES]
        if isinstance(told, list | tuple):
            image, check = told
            outcomes.add(image, check, report.when or "", report.outcome)
        elif report.failed:
            outcomes.add("", "", "", report.outcome)

    def pytest_sessionfinish(self) -> None:
        """Writes the record."""
        now = self._config.stash[_EVIDENCE]
        expected = {
            variant.name: {check.__name__ for check in checks_of(variant)}
            for variant in _project().variants
            if variant.name in now
        }
        self._config.stash[_OUTCOMES].record(ROOT, expected, now)


@pytest.fixture(scope="session")
def engine() -> Engine:
    """The engine that holds the images."""
    found = find_engine()
    if found is None:
        pytest.fail("no Docker engine answers; run `nox -s build` first")
    return found


class Stage:
    """Holds one running image at a time: the next one that is asked for takes its place."""

    def __init__(self, engine: Engine, tell: Callable[[str, float], None]) -> None:
        self._engine = engine
        self._tell = tell
        self._exit = ExitStack()
        self._running: RunningImage | None = None

    def show(self, variant: Variant) -> RunningImage:
        """A container of the image that serves its example: the present one, if it is of it."""
        if self._running is None or self._running.variant != variant:
            self.clear()
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
        """Removes the container, and tells the seconds that are no work of its checks."""
        if self._running is not None:
            for what, seconds in self._running.seconds.items():
                self._tell(f"{self._running.variant.name} {what}", seconds)
        self._running = None
        self._exit.close()


@pytest.fixture(scope="session")
def stage(
    engine: Engine, record_testsuite_property: Callable[[str, object], None]
) -> Iterator[Stage]:
    """Where this worker's images run, one after the other."""
    stage = Stage(engine, record_testsuite_property)
    yield stage
    stage.clear()


@pytest.fixture
def image(request: pytest.FixtureRequest, engine: Engine, stage: Stage) -> RunningImage:
    """A container of one image that serves its example; all checks of an image share it."""
    variant: Variant = request.param
    if not stage.shows(variant) and not is_present(engine, image_tag(variant.name)):
        reason = _why_unavailable(variant, engine)
        if reason and not options_of(request.config).strict:
            pytest.skip(f"{variant.name} is unavailable: {reason}")
        pytest.fail(reason or f"{variant.name} is not built; run `nox -s build -- {variant.name}`")
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
