"""The checks of an environment's image: those of the matrix's images, in a running container."""

from typing import Any

from imagematrix.checks import Check, NoGpuError, checks_of
from imagematrix.checks.content import promised_pins_are_kept
from imagematrix.checks.cuda import cuda_only_where_declared
from imagematrix.checks.running import run_image, wait_until_healthy
from imagematrix.checks.size import size_is_within_budget
from imagematrix.environments.conda_checks import checks_instead
from imagematrix.errors import WorkError
from imagematrix.host.engine import Engine
from imagematrix.matrix.variant import Variant
from imagematrix.plan.bake import image_tag
from imagematrix.repository.passed import (
    CheckResult,
    Outcome,
    Results,
    checks_digest,
    read_results,
    record_results,
)
from imagematrix.repository.project import Project

# No size is recorded of an environment. Its requirements may be for other systems, or none at all:
# the lock has those that hold.
_NOT_OF_ENVIRONMENTS = (size_is_within_budget, promised_pins_are_kept)
# Many wheels of PyPI carry CUDA, and have no other form there.
_CHOICES_OF_THE_USER = (cuda_only_where_declared,)


def check_environment(
    project: Project, engine: Engine, variant: Variant, *, again: bool = False
) -> Results:
    """How each check of an environment's image ended; those that it passed before on this machine
    are not run a second time, unless `again` is set.

    `project` has the environment among its images. Raises WorkError where the image does not serve.
    """
    image, parent = image_tag(variant.name), image_tag(str(variant.parent))
    ids = engine.ids([image, parent])
    digest = checks_digest(project.root, variant, ids[parent] or "")
    recorded = read_results(project.root, str(ids[image]), digest)
    if recorded and not again and not failed_checks(recorded):
        return recorded
    results: dict[str, CheckResult] = {}
    try:
        with run_image(
            engine, image, variant, project.locks[variant.name], project.root
        ) as running:
            wait_until_healthy(running)
            for check in _checks_of(variant):
                results[check.__name__] = outcome_of(check, running)
    except AssertionError as error:
        raise WorkError(f"{variant.name} is built, but does not serve: {error}") from None
    record_results(project.root, str(ids[image]), variant.name, digest, results)
    return results


def outcome_of(check: Check, running: Any) -> CheckResult:
    """How a check of a running image ends. What is for the user to decide is no failure."""
    try:
        check(running)
    except NoGpuError as reason:
        return CheckResult(Outcome.SKIPPED, str(reason))
    except AssertionError as error:
        is_choice = check in _CHOICES_OF_THE_USER
        return CheckResult(Outcome.SKIPPED if is_choice else Outcome.FAILED, str(error))
    return CheckResult(Outcome.PASSED)


def _checks_of(variant: Variant) -> tuple[Check, ...]:
    others, own = checks_instead() if variant.conda else ((), ())
    left_out = (*_NOT_OF_ENVIRONMENTS, *others)
    return (*(check for check in checks_of(variant) if check not in left_out), *own)


def failed_checks(results: Results) -> dict[str, str]:
    """The checks that failed, with the reason of each."""
    return _of(results, Outcome.FAILED)


def remarks(results: Results) -> dict[str, str]:
    """What checks found that is for the user to decide, or why they did not run."""
    return _of(results, Outcome.SKIPPED)


def _of(results: Results, outcome: Outcome) -> dict[str, str]:
    return {name: one.reason for name, one in results.items() if one.outcome is outcome}
