"""Every check of every selected image, in its running container."""

import pytest

from imagematrix.checks import Check, NoGpuError
from imagematrix.checks.running import RunningVariant
from imagematrix.repository.passed import CheckResult, Outcome
from tests.images.conftest import options_of


def test_image(image: RunningVariant, check: Check, request: pytest.FixtureRequest) -> None:
    """The image passes the check; one that needs a GPU is skipped without, or fails if strict."""
    name = check.__name__
    try:
        check(image)
    except NoGpuError as reason:
        image.results[name] = CheckResult(Outcome.SKIPPED, str(reason))
        if options_of(request.config).strict:
            pytest.fail(str(reason))
        pytest.skip(f"{image.variant.name}: {reason}")
    except BaseException as error:
        image.results[name] = CheckResult(Outcome.FAILED, str(error))
        raise
    image.results[name] = CheckResult(Outcome.PASSED)
